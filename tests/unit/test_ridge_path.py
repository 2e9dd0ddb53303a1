"""The linear forecast beside the cells, against least squares that is written out row by row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from gateline.batch import ForecastBatch
from gateline.errors import WorkloadError
from gateline.models.forecaster import ForecasterNetwork, ForecasterSettings, Shapes, build_forecaster

LOOKBACK, HORIZON, SERIES = 12, 6, 3
LEVELS = (0.1, 0.25, 0.5, 0.9)
SEGMENT = {"mode": "segment", "segment": 3}
MODES: list[dict[str, Any]] = [SEGMENT, {"mode": "direct"}, {"mode": "direct", "decoder": "linear"}]
SHAPES = Shapes(4, 2, SERIES, LOOKBACK, HORIZON, past_categories=(3,), known_categories=(4,), units=(0, 1, 0))
EVERYTHING = {"lags": 5, "covariate_lags": 2, "known": True, "weights": "series"}


def batch_of(rng: np.random.Generator, series: list[int]) -> ForecastBatch:
    rows = len(series)
    past = torch.from_numpy(rng.normal(size=(rows, LOOKBACK, 4)))
    past[:, :, 1] = torch.from_numpy((rng.random((rows, LOOKBACK)) > 0.1).astype(np.float64))
    past[:, :, 0] *= past[:, :, 1]
    return ForecastBatch(
        past=past,
        known=torch.from_numpy(rng.normal(size=(rows, HORIZON, 2))),
        series=torch.tensor(series),
        target=torch.from_numpy(rng.normal(size=(rows, HORIZON))),
        observed=torch.from_numpy(rng.random((rows, HORIZON)) > 0.2),
        past_codes=torch.from_numpy(rng.integers(0, (3, 4), (rows, LOOKBACK, 2)).astype(np.int32)),
        known_codes=torch.from_numpy(rng.integers(0, 4, (rows, HORIZON, 1)).astype(np.int32)),
    )


def network_of(**settings: Any) -> ForecasterNetwork:
    torch.manual_seed(0)
    return build_forecaster(SHAPES, ForecasterSettings.model_validate({"hidden_size": 8} | settings)).double()


def rows_of(batch: ForecastBatch, settings: dict[str, Any], row: int, step: int, past: list[float]) -> list[float]:
    """What the regression of a step reads of one window, number by number."""
    read = past[-settings["lags"] :]
    assert batch.past_codes is not None
    assert batch.known_codes is not None
    newest = settings.get("covariate_lags", 0)
    for back in range(LOOKBACK - newest, LOOKBACK):
        read += batch.past[row, back, 1:].tolist()
        read += [float(batch.past_codes[row, back, 0] == code) for code in range(3)]
        read += [float(batch.past_codes[row, back, 1] == code) for code in range(4)]
    if settings.get("known"):
        read += batch.known[row, step].tolist()
        read += [float(batch.known_codes[row, step, 0] == code) for code in range(4)]
    return read


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: "-".join(map(str, mode.values())))
@pytest.mark.parametrize(
    "reads",
    [
        {"lags": 5},
        {"lags": 5, "covariate_lags": 2},
        {"lags": 1, "known": True},
        {"lags": 5, "weights": "series"},
        {"lags": 5, "weights": "unit"},
        EVERYTHING,
    ],
    ids=lambda reads: "-".join(map(str, reads.values())),
)
def test_it_is_for_each_step_least_squares_with_a_penalty_over_the_windows_whose_target_is_there(
    reads: dict[str, Any], mode: dict[str, Any], rng: np.random.Generator
) -> None:
    penalty = 3.0
    network = network_of(**mode, normalisation="last_value", ridge_path={**reads, "penalty": penalty})
    batches = [batch_of(rng, series) for series in ([0] * 40, [0] * 10 + [1] * 30, [1] * 20 + [2] * 40)]
    assert not all(batch.observed.all() for batch in batches)

    with torch.no_grad():
        network.fit_in_closed_form(batches)
        # Before the first step the cells add nothing, so the whole forecast is the ridge's.
        forecast = torch.cat([network.eval()(batch)[:, :, 0] for batch in batches]).numpy()

    levels = [last.item() for batch in batches for last in _last_observed(batch)]
    windows = [(batch, row) for batch in batches for row in range(len(batch.series))]
    series = np.array([int(batch.series[row]) for batch, row in windows])
    weights = {
        "all": [series >= 0],
        "unit": [series != 1, series == 1],
        "series": [series == one for one in range(SERIES)],
    }
    groups = weights[reads.get("weights", "all")]
    for step in range(HORIZON):
        rows = np.array(
            [
                rows_of(batch, reads, row, step, _carried(batch.past[row], level))
                for (batch, row), level in zip(windows, levels, strict=True)
            ]
        )
        there = np.array([bool(batch.observed[row, step]) for batch, row in windows])
        target = np.array([float(batch.target[row, step]) for batch, row in windows]) - levels
        for group in groups:
            expected = _ridge(rows[group & there], target[group & there], penalty, intercept=len(reads) > 1)(
                rows[group]
            )
            np.testing.assert_allclose(forecast[group, step], expected + np.array(levels)[group], atol=1e-6)


def _carried(past: torch.Tensor, level: float) -> list[float]:
    """The past target less its level, the value before in place of a missing one."""
    read, before = [], 0.0
    for value, there in past[:, :2].tolist():
        before = value - level if there else before
        read.append(before)
    return read


def _last_observed(batch: ForecastBatch) -> list[torch.Tensor]:
    return [row[row[:, 1] > 0][-1, 0] for row in batch.past]


def _ridge(rows: np.ndarray, target: np.ndarray, penalty: float, intercept: bool) -> Any:
    """Least squares with one more row per weight, sqrt(penalty) times it and 0; the intercept by centring, and so without penalty."""
    middle, level = (rows.mean(axis=0), target.mean()) if intercept else (np.zeros(rows.shape[1]), 0.0)
    size = rows.shape[1]
    weights = np.linalg.lstsq(
        np.concatenate([rows - middle, np.sqrt(penalty) * np.eye(size)]),
        np.concatenate([target - level, np.zeros(size)]),
        rcond=None,
    )[0]
    return lambda asked: (asked - middle) @ weights + level


def test_it_is_held_while_the_cells_learn_and_travels_with_the_weights(rng: np.random.Generator) -> None:
    settings = {**SEGMENT, "ridge_path": {**EVERYTHING, "penalty": 1.0}}
    network, copied = network_of(**settings), network_of(**settings)
    assert network.ridge_path is not None
    batch = batch_of(rng, [0] * 10 + [1] * 10 + [2] * 10)
    with torch.no_grad():
        network.fit_in_closed_form([batch])
    weight = network.ridge_path.weight.clone()

    optimiser = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    (network(batch)[:, :, 0] - batch.target).square().mean().backward()
    optimiser.step()
    copied.load_state_dict(network.state_dict())

    assert torch.equal(network.ridge_path.weight, weight)
    assert torch.equal(copied(batch), network(batch))
    assert weight.abs().sum() > 0
    assert network.head.linear.weight.abs().sum() > 0


def test_weights_from_before_there_were_groups_are_read(rng: np.random.Generator) -> None:
    settings = {**SEGMENT, "ridge_path": {"lags": 4, "penalty": 1.0}}
    network, read = network_of(**settings), network_of(**settings)
    batch = batch_of(rng, [0, 1, 2] * 10)
    with torch.no_grad():
        network.fit_in_closed_form([batch])
    state = network.state_dict()
    state["ridge_path.weight"] = state["ridge_path.weight"][0]  # (U, lags)

    read.load_state_dict(state)

    assert torch.equal(read(batch), network(batch))


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: "-".join(map(str, mode.values())))
@pytest.mark.parametrize("quantiles", [(), LEVELS], ids=["point", "quantiles"])
def test_with_a_share_it_is_averaged_into_the_median_and_left_out_of_training(
    quantiles: tuple[float, ...], mode: dict[str, Any], rng: np.random.Generator
) -> None:
    share = 0.3
    alone = network_of(**mode, quantiles=quantiles)
    network = network_of(**mode, quantiles=quantiles, ridge_path={"lags": 4, "penalty": 1.0, "share": share})
    assert network.ridge_path is not None
    batch = batch_of(rng, [0, 1, 2] * 10)
    with torch.no_grad():
        network.fit_in_closed_form([batch])
        cells = alone(batch)
        linear = (
            torch.tensor([_carried(past, 0.0)[-4:] for past in batch.past]).double() @ network.ridge_path.weight[0].T
        )  # (B, U)
        median = quantiles.index(0.5) if quantiles else 0

        assert linear.abs().sum() > 0
        assert torch.equal(network.train()(batch), cells)
        joined = network.eval()(batch)

    assert torch.allclose(joined[:, :, median], (1 - share) * cells[:, :, median] + share * linear)
    assert torch.allclose(joined - joined[:, :, median, None], cells - cells[:, :, median, None])


@pytest.mark.parametrize("name", ["lags", "covariate_lags"])
def test_one_that_looks_back_further_than_a_window_is_refused(name: str) -> None:
    with pytest.raises(WorkloadError, match=rf"ridge_path\.{name}.*at most.*12.*found 13"):
        network_of(ridge_path={"lags": 4, "penalty": 1.0, name: LOOKBACK + 1})


@pytest.mark.parametrize(("series", "absent"), [([1, 2], 0), ([0, 2], 1), ([0, 1], 2)])
def test_series_without_training_windows_have_no_weights_of_their_own_and_are_named(
    series: list[int], absent: int, rng: np.random.Generator
) -> None:
    network = network_of(ridge_path={**EVERYTHING, "penalty": 1.0})
    with (
        pytest.raises(WorkloadError, match=rf"ridge_path\.weights: series.*found none of series {absent}"),
        torch.no_grad(),
    ):
        network.fit_in_closed_form([batch_of(rng, [one] * 5) for one in series])
