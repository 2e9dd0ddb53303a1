"""What one step, one average and one validation compute, against the same arithmetic written out by hand."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn

from gateline.data.prepared_windows import open_store, read_windows
from gateline.data.series_encoding import Encoding
from gateline.data.splits import TimeSplit, window_runs
from gateline.errors import TrainingError
from gateline.manifest import Artifact
from gateline.metrics import forecast_metrics
from gateline.tasks import Task
from gateline.tasks.forecasting import TASK
from gateline.training import RunSettings, train
from gateline.training.loop import TrainingLoop
from gateline.training.optimisation import WeightAverage, learning_rate, make_optimiser
from gateline.workload import Workload
from gateline.workload.schema import Schema
from gateline.workload.training import Training
from tests.tiny import prepare_tiny, tiny_table, tiny_workload


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return prepare_tiny(tmp_path_factory.mktemp("tiny") / "prepared")


def loop(prepared: Artifact, **settings: Any) -> TrainingLoop:
    torch.manual_seed(0)
    network = TASK.build(TASK.Model(hidden_size=5), TASK.shapes(prepared))
    training = Training(batch_size=64, epochs=2, **settings)
    return TrainingLoop(cast(Task, TASK), network, training, prepared, 0, torch.device("cpu"), torch.float32)


def by_hand(
    prepared: Artifact, *, clip: float | None, decay: float, rate: float, warm_up: float
) -> dict[str, torch.Tensor]:
    """One epoch of plain SGD with momentum, clipping and decay, from the formulas."""
    made = loop(prepared)
    network, steps = made.network, len(made.order)
    momentum = {name: torch.zeros_like(value) for name, value in network.named_parameters()}
    for step in range(steps):
        batch = made.train_set.__getitems__(made.order.batch(0, step))
        total, count, _ = TASK.loss(network, batch, "absolute", None)
        gradients = torch.autograd.grad(total / count, list(network.parameters()))
        norm = math.sqrt(sum(float((gradient**2).sum()) for gradient in gradients))
        scale = min(1.0, clip / (norm + 1e-6)) if clip else 1.0
        with torch.no_grad():
            for (name, value), gradient in zip(network.named_parameters(), gradients, strict=True):
                force = gradient * scale + (decay * value if value.ndim > 1 else 0.0)
                momentum[name] = force if step == 0 else 0.9 * momentum[name] + force
                share = learning_rate(Training(epochs=2, warm_up=warm_up, learning_rate=1.0), step, steps, [])
                value.sub_(rate * share * momentum[name])
    return network.state_dict()


@pytest.mark.parametrize(
    ("clip", "decay", "warm_up"), [(None, 0.0, 0.0), (0.05, 0.0, 0.0), (None, 0.1, 0.0), (0.05, 0.1, 0.5)]
)
def test_an_epoch_equals_the_formulas(clip: float | None, decay: float, warm_up: float, prepared: Artifact) -> None:
    made = loop(prepared, optimiser="sgd", learning_rate=0.05, clip_norm=clip, weight_decay=decay, warm_up=warm_up)

    made.train_epoch(None, None, lambda: False)

    expected = by_hand(prepared, clip=clip, decay=decay, rate=0.05, warm_up=warm_up)
    for name, value in made.network.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-5)


def test_the_train_loss_is_the_mean_over_all_observed_elements(prepared: Artifact) -> None:
    made = loop(prepared, optimiser="sgd", learning_rate=1e-12)
    total = count = 0.0
    for step in range(len(made.order)):
        batch = made.train_set.__getitems__(made.order.batch(0, step))
        loss, elements, _ = TASK.loss(made.network, batch, "absolute", None)
        total, count = total + float(loss.detach()), count + float(elements)

    made.train_epoch(None, None, lambda: False)
    made.keep({"loss": 1.0, "mae": 1.0})

    assert made.history[0]["train_loss"] == pytest.approx(total / count, rel=1e-5)


def test_weight_decay_is_for_matrices_only() -> None:
    decays = {
        parameter.ndim: group["weight_decay"]
        for group in make_optimiser(nn.LSTM(3, 4), Training(weight_decay=0.3)).param_groups
        for parameter in group["params"]
    }

    assert decays == {2: 0.3, 1: 0.0}


def test_the_average_of_the_weights_follows_its_recurrence() -> None:
    network = nn.Linear(2, 1)
    average = WeightAverage(network, 0.8)
    expected = None
    for update in range(12):
        with torch.no_grad():
            network.weight.fill_(float(update**2))
        average.update(network)
        decay = min(0.8, (update + 1) / (update + 10))
        expected = float(update**2) if expected is None else decay * expected + (1 - decay) * update**2

    assert expected is not None
    assert float(average.network.get_parameter("weight")[0, 0]) == pytest.approx(expected, rel=1e-6)


def test_what_is_kept_is_the_average_and_what_is_validated_is_what_is_kept(prepared: Artifact, tmp_path: Path) -> None:
    """The validation error in the history is that of the saved weights, in raw units, in eval mode."""
    content = tiny_workload(model__dropout=0.5)
    whole = Workload("tiny", "forecasting", "", "test", content)
    model = train(whole, prepared, tmp_path / "model", RunSettings(1))
    predictor = TASK.load_predictor(model.path)
    store, origins = open_store(prepared), read_windows(prepared, "validation")
    forecast = predictor.forecast(store, origins)
    target = np.asarray(store.arrays["raw_target"])[origins[:, None] + np.arange(predictor.horizon)]

    best = model.read_json("history.json")[model.facts["best_epoch"] - 1]

    deviation = np.array(predictor.encoding.target_deviation)[store.static("series", origins)]
    ours = forecast_metrics(forecast, target, deviation)
    for metric in ("mae", "mae_scaled", "mse_scaled"):
        assert best[f"validation_{metric}"] == pytest.approx(ours[metric], rel=1e-5)
    np.testing.assert_array_equal(predictor.forecast(store, origins[:5]), predictor.forecast(store, origins[:5]))
    other = train(
        Workload("tiny", "forecasting", "", "test", tiny_workload(model__dropout=0.5, training__weight_average=0.0)),
        prepared,
        tmp_path / "other",
        RunSettings(1),
    )
    assert other.read_json("history.json")[0]["train_loss"] == model.read_json("history.json")[0]["train_loss"]
    assert (other.path / "weights.pt").read_bytes() != (model.path / "weights.pt").read_bytes()


def test_a_gradient_that_is_no_number_stops_before_the_step(prepared: Artifact) -> None:
    made = loop(prepared)
    before = {name: value.clone() for name, value in made.network.state_dict().items()}
    next(made.network.parameters()).register_hook(lambda gradient: gradient * float("inf"))

    with pytest.raises(TrainingError, match="norm of the gradient"):
        made.train_epoch(None, None, lambda: False)
    assert all(torch.equal(value, before[name]) for name, value in made.network.state_dict().items())


def test_the_decoder_knows_how_far_ahead_a_step_is(prepared: Artifact) -> None:
    """With nothing known ahead and a constant past, steps still differ."""
    torch.manual_seed(0)
    network = TASK.build(TASK.Model(hidden_size=5), TASK.shapes(prepared))

    assert network.get_buffer("position").flatten().tolist() == pytest.approx([-1, -0.6, -0.2, 0.2, 0.6, 1], abs=1e-6)


def origins_of(hours: int, **changes: Any) -> dict[str, np.ndarray]:
    begin = datetime(2024, 1, 1, tzinfo=UTC)
    times = np.arange(hours) * 3600 + int(begin.timestamp())
    split = TimeSplit(
        begin + timedelta(hours=100), begin + timedelta(hours=150), begin + timedelta(hours=changes.pop("until", hours))
    )
    observed = changes.pop("observed", np.ones(hours, dtype=bool))
    runs = window_runs(times, np.array([0, hours]), observed, split, lookback=10, horizon=5, **changes)
    return {part: found.rows() for part, found in runs.items()}


def test_a_stride_thins_the_training_part_only() -> None:
    plain, strided = origins_of(200), origins_of(200, stride=4)

    assert strided["train"].tolist() == plain["train"].tolist()[::4]
    for part in ("validation", "test"):
        assert strided[part].tolist() == plain[part].tolist()


def test_nothing_is_tested_after_the_end_of_the_test_part() -> None:
    assert origins_of(200, until=180)["test"].tolist() == list(range(150, 176))


def test_windows_without_a_target_are_left_out() -> None:
    observed = np.ones(200, dtype=bool)
    observed[160:170] = False

    assert origins_of(200, observed=observed)["test"].tolist() == [*range(150, 160), *range(166, 196)]


def test_a_series_that_training_has_not_seen_is_refused() -> None:
    from gateline.data.calendar import Calendar
    from gateline.data.series_encoding import regular_table
    from gateline.errors import DataError

    schema = Schema.model_validate(tiny_workload()["schema"])
    table = regular_table(tiny_table(), schema)
    early = (table["shop"] == "east").to_numpy()
    fitted = Encoding.fit(
        table, early, schema=schema, target="sales", past=(), known=(), calendar=Calendar(), transforms={}
    )

    assert fitted.series == ("east",)
    with pytest.raises(DataError, match="found west"):
        fitted.encode(table)
