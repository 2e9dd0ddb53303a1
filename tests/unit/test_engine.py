"""Windows, losses, metrics, attention and the network, against independent arithmetic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import mean_absolute_error, mean_squared_error, root_mean_squared_error

from gateline.batch import ForecastBatch
from gateline.data.inputs import Inputs
from gateline.data.store import SequenceStore
from gateline.data.windows import WindowDataset
from gateline.errors import ArtifactError
from gateline.losses import summed_loss
from gateline.metrics import by_step, forecast_metrics
from gateline.models.forecaster import ForecasterSettings, Shapes, build_forecaster
from gateline.models.forecaster.normalisation import last_observed

INPUTS = Inputs(num_values=4, encoder=[0, 4, 1, 2, 3], decoder=[2, 6, 3])


def store(rng: np.random.Generator, rows: int = 120) -> SequenceStore:
    values = rng.normal(size=(rows, 4)).astype(np.float32)
    values[rng.random((rows, 4)) < 0.2] = np.nan
    return SequenceStore({"values": values}, np.array([0, rows // 2, rows]), {"series": np.array([1, 0])})


def windows(store: SequenceStore, origins: np.ndarray, lookback: int = 8, horizon: int = 4) -> WindowDataset:
    return WindowDataset(store, origins, inputs=INPUTS, lookback=lookback, horizon=horizon)


def test_a_store_whose_arrays_differ_in_length_is_refused(rng: np.random.Generator) -> None:
    with pytest.raises(ValueError, match="needs 5 rows"):
        SequenceStore({"target": np.zeros(4)}, np.array([0, 5]))
    with pytest.raises(ValueError, match="needs 2 rows"):
        SequenceStore({}, np.array([0, 5, 9]), {"series": np.zeros(3)})


def test_a_damaged_array_is_refused(rng: np.random.Generator, tmp_path: Path) -> None:
    store(rng).save(tmp_path)
    (tmp_path / "arrays" / "values.npy").write_bytes(b"nothing of numpy")

    with pytest.raises(ArtifactError, match=r"values\.npy"):
        SequenceStore.load(tmp_path)


def test_the_summed_loss_does_not_depend_on_how_batches_are_cut(rng: np.random.Generator) -> None:
    dataset = windows(store(rng), np.arange(8, 50))
    network = build_forecaster(Shapes(5, 3, 2, 8, 4), ForecasterSettings(hidden_size=6)).double()

    def total(size: int) -> tuple[float, int]:
        sums = counts = 0.0
        for batch in (dataset.__getitems__(rows) for rows in np.split(np.arange(42), range(size, 42, size))):
            double = ForecastBatch(
                batch.past.double(), batch.known.double(), batch.series, batch.target.double(), batch.observed
            )
            loss, count = summed_loss("absolute", network(double)[:, :, 0], double.target, double.observed)
            sums, counts = sums + float(loss.detach()), counts + int(count)
        return sums, int(counts)

    assert total(5) == pytest.approx(total(42), rel=1e-12)


@pytest.mark.parametrize("kind", ["absolute", "squared", "huber"])
def test_what_is_not_observed_changes_neither_loss_nor_gradient(kind: str, rng: np.random.Generator) -> None:
    prediction = torch.tensor(rng.normal(size=(6, 4)), requires_grad=True)
    observed = torch.tensor(rng.random((6, 4)) < 0.5)
    results = []
    for fill in (0.0, 1e30):
        target = torch.where(observed, torch.ones(6, 4, dtype=torch.float64), fill)
        total, count = summed_loss(kind, prediction, target, observed)
        (gradient,) = torch.autograd.grad(total, prediction)
        results.append((float(total.detach()), int(count), gradient))

    assert results[0][:2] == results[1][:2]
    assert torch.equal(results[0][2], results[1][2])
    assert (results[0][2][~observed] == 0).all()


def test_metrics_equal_scikit_learns(rng: np.random.Generator) -> None:
    forecast, target = rng.normal(size=(30, 5)), rng.normal(size=(30, 5))
    target[rng.random((30, 5)) < 0.3] = np.nan
    there = np.isfinite(target)

    deviation = rng.uniform(1, 3, 30)
    scaled = (forecast / deviation[:, None], target / deviation[:, None])

    ours = forecast_metrics(forecast, target, deviation)

    assert ours["mae"] == pytest.approx(mean_absolute_error(target[there], forecast[there]))
    assert ours["rmse"] == pytest.approx(root_mean_squared_error(target[there], forecast[there]))
    assert ours["bias"] == pytest.approx((forecast - target)[there].mean())
    assert ours["mae_scaled"] == pytest.approx(mean_absolute_error(scaled[1][there], scaled[0][there]))
    assert ours["mse_scaled"] == pytest.approx(mean_squared_error(scaled[1][there], scaled[0][there]))
    assert by_step(forecast, target)[2] == pytest.approx(np.nanmean(np.abs(forecast - target)[:, 2]))


def test_a_forecast_that_is_no_number_shows_in_the_metric() -> None:
    assert np.isnan(forecast_metrics(np.array([[np.nan, 1.0]]), np.array([[1.0, 1.0]]), np.ones(1))["mae"])
    assert np.isnan(forecast_metrics(np.zeros((0, 3)), np.zeros((0, 3)), np.ones(0))["mae"])


def test_the_last_observed_value_is_found() -> None:
    values = torch.tensor([[1.0, 2.0, 0.0], [3.0, 0.0, 0.0], [0.0, 0.0, 0.0], [4.0, 5.0, 6.0]])
    observed = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])

    assert last_observed(values, observed).tolist() == [2, 3, 0, 6]


@pytest.mark.parametrize(
    "settings",
    [{}, {"attention": "dot"}, {"linear_path": True}, {"num_layers": 2, "attention": "dot"}, {"decoder": "linear"}],
)
def test_a_row_does_not_depend_on_its_batch_and_gradients_are_right(
    settings: dict[str, object], rng: np.random.Generator
) -> None:
    torch.manual_seed(0)
    network = build_forecaster(Shapes(5, 3, 2, 3, 2), ForecasterSettings(hidden_size=2, **settings)).double()
    batch = windows(store(rng), np.array([10, 70]), 3, 2).__getitems__(np.array([0, 1]))

    def forecast(past: torch.Tensor, known: torch.Tensor, rows: slice = slice(None)) -> torch.Tensor:
        return network(
            ForecastBatch(past[rows], known[rows], batch.series[rows], batch.target[rows], batch.observed[rows])
        )

    past, known = batch.past.double(), batch.known.double()
    assert torch.allclose(forecast(past, known)[1:2], forecast(past, known, slice(1, 2)))
    past[:, :, 1] = 1.0  # the mask of the target is no number to differentiate by
    inputs = (past.requires_grad_(), known.requires_grad_())
    assert torch.autograd.gradcheck(forecast, inputs, eps=1e-6, atol=1e-5)
