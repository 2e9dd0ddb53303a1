"""What train would refuse is refused before: settings that do not fit, and values to search whose every trial would fail."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateline.adapters.settings_check import check_settings
from gateline.errors import WorkloadError
from gateline.tasks import task_named
from gateline.tasks.forecasting import TASK
from gateline.workload import Workload
from gateline.workload.search import read_search
from gateline.workload.section import read_section
from tests.tiny import tiny_workload


def check(settings: dict[str, list[Any]], **changes: Any) -> None:
    search = {"search": {"settings": {key: {"choices": values} for key, values in settings.items()}}}
    workload = Workload.read(json.dumps(tiny_workload(**(search if settings else {}), **changes)))
    searched = read_search(workload, TASK.Model)[1] if settings else ()
    check_settings(workload, workload.section("preprocess", TASK.Preprocess), searched)


@pytest.mark.parametrize(
    "task",
    [
        "classification",
        "forecasting",
        "frame_prediction",
        "labelling",
        "language_modelling",
        "transcription",
        "translation",
    ],
)
def test_a_size_that_fits_no_memory_is_refused_before_a_network_is_built(task: str) -> None:
    kind = task_named(task).Model
    largest = {"hidden_size": 2**16, "num_layers": 1000, "beam_width": 100 if task == "transcription" else 64}
    for key, most in largest.items():
        if key not in kind.model_fields:
            continue
        with pytest.raises(
            WorkloadError, match=f"model.{key}: expected less than or equal to {most}; found {most + 1}"
        ):
            read_section("model", kind, {"hidden_size": 8, key: most + 1})


def test_the_workload_of_the_tests_is_ready() -> None:
    check({})
    check({"model.cell": ["lstm", "gru", "slstm"], "training.batch_size": [32, 64]})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"training__monitor": "rmsee"}, "training.monitor: expected something that the task computes; found 'rmsee'"),
        ({"training__loss": "pinball"}, "training.loss: expected `pinball` with `model.quantiles`"),
        *(
            ({"training__loss": name}, f"training.loss: expected one of absolute, squared, huber, or .*; found {name}")
            for name in ("ctc", "cross_entropy", "binary_cross_entropy")
        ),
        ({"training__batch_tokens": 100}, "training.batch_tokens: expected .* since all windows are of one length"),
        ({"model": {"mode": "segment", "segment": 7}}, "model.segment: expected a divisor of .*lookback, 24; found 7"),
        (
            {"model": {"mode": "segment", "segment": 6, "ridge_path": {"lags": 30, "penalty": 1}}},
            "model.ridge_path.lags: expected at most .*lookback, 24; found 30",
        ),
    ],
)
def test_settings_that_train_refuses(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(WorkloadError, match=words):
        check({}, **changes)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model.cell": ["lstm", "gruu"]}, "model.cell: expected the name of a cell; found 'gruu'. Did you mean 'gru'"),
        (
            {"model.cell": ["lstm", "conv_lstm"]},
            "model.cell: expected a cell whose steps are vectors; found 'conv_lstm'",
        ),
        ({"model.decoder": ["recurrent", "linear"]}, "model.decoder: expected values that train takes; found 'linear'"),
        (
            {"training.accumulate": [1, 100], "training.batch_size": [32, 64]},
            "training.accumulate: .* takes; found 100",
        ),
    ],
)
def test_a_value_whose_every_trial_would_fail(settings: dict[str, list[Any]], words: str) -> None:
    with pytest.raises(WorkloadError, match=f"search.settings.{words}"):
        check(settings)


def test_a_value_that_goes_with_some_of_the_others_may_be_tried() -> None:
    check({"model.decoder": ["recurrent", "linear"], "model.attention": ["none", "dot"]})
    check({"training.accumulate": [1, 100], "training.batch_size": [32, 64, 128]})
