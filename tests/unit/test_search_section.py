"""Section `search`: mistakes are named before anything is computed, and a value means what its own section makes of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateline.errors import WorkloadError
from gateline.tasks.forecasting import TASK
from gateline.workload import Workload
from gateline.workload.overrides import with_settings
from gateline.workload.search import Dimension, read_search
from tests.tiny import tiny_workload

RATE = {"low": 0.001, "high": 0.1, "log": True}


def workload(settings: dict[str, Any], **changes: Any) -> Workload:
    return Workload.read(json.dumps(tiny_workload(search={"settings": settings}, **changes)))


def dimension(key: str, setting: dict[str, Any], **changes: Any) -> Dimension:
    return read_search(workload({key: setting}, **changes), TASK.Model)[1][0]


@pytest.mark.parametrize(
    ("key", "setting", "words"),
    [
        ("training.learning_rat", RATE, "unknown key 'learning_rat'. Did you mean 'learning_rate'"),
        ("model.hiden_size", {"low": 4, "high": 16}, "Did you mean 'hidden_size'"),
        ("model.hidden_size.inner", {"low": 4, "high": 16}, "`hidden_size` has no settings inside"),
        ("model", {"choices": ["a", "b"]}, "a setting of `model` or `training`"),
        ("preprocess.windows.lookback", {"low": 12, "high": 48}, "each trial reads the same prepared data"),
        ("gates.min_examples", {"low": 12, "high": 48}, "a setting of `model` or `training`"),
        ("training.learning_rate", {"low": 0.1, "high": 0.01}, "low < high; found 0.1 >= 0.01"),
        ("training.learning_rate", {"low": 0.1, "high": 0.1}, "low < high"),
        ("training.learning_rate", {"low": 0.1}, "`low` and `high`, or `choices`"),
        ("training.learning_rate", {"low": 0.1, "high": 1, "choices": [1, 2]}, "either `choices`, or"),
        ("training.learning_rate", {"low": 0, "high": 0.1, "log": True}, "low > 0"),
        ("training.learning_rate", {"low": 0.01, "high": 0.1, "log": True, "step": 0.01}, "no `step`"),
        ("training.learning_rate", {"lo": 0.01, "high": 0.1}, "unknown key 'lo'"),
        ("training.learning_rate", {"low": -0.1, "high": 0.1}, "greater than 0; found -0.1"),
        ("model.dropout", {"low": 0, "high": 1}, "less than 1; found 1"),
        ("model.dropout", {"low": 0, "high": 0.5, "step": 0.2}, "a positive `step` that leads from `low` to `high`"),
        ("model.dropout", {"low": 0, "high": 0.5, "step": 0}, "a positive `step`"),
        ("model.hidden_size", {"low": 4, "high": 16.5}, "found 16.5"),
        ("model.hidden_size", {"low": 4, "high": 20, "step": 0.5}, "a whole `step`"),
        (
            "model.hidden_size",
            {"low": 4, "high": 16, "step": 3},
            "present one among them.*12.*found 4 to 16 in steps of 3",
        ),
        ("model.hidden_size", {"low": 16, "high": 32}, "present one among them"),
        ("training.learning_rate", {"choices": [0.02, True]}, "expected a number; found True"),
        ("model.attention", {"choices": ["none", "dott"]}, "'dot'.*found 'dott'"),
        ("model.attention", {"choices": ["dot"]}, "two or more choices"),
        ("model.attention", {"choices": ["dot", "none", "dot"]}, "two or more choices, each once"),
        ("model.attention", {"low": 0, "high": 1}, "found 0"),
        ("model.linear_path", {"low": 0, "high": 1}, "`choices` for what is no number"),
        ("training.monitor", {"choices": ["mae", "loss"]}, "the measure itself"),
    ],
)
def test_a_mistake_is_named_where_it_stands(key: str, setting: dict[str, Any], words: str) -> None:
    with pytest.raises(WorkloadError, match=words) as refusal:
        dimension(key, setting)
    assert str(refusal.value).startswith("workload: search.settings")
    assert "\n" not in str(refusal.value)


def test_a_grid_may_be_off_the_present_value_of_another_setting() -> None:
    with pytest.raises(WorkloadError, match="present one among them"):
        dimension("model.hidden_size", {"low": 4, "high": 16, "step": 4}, model__hidden_size=10)
    assert dimension("model.hidden_size", {"low": 4, "high": 16, "step": 4}, model__hidden_size=8).present == 8


def test_whole_numbers_are_floats_where_the_section_wants_floats() -> None:
    """`{low: 0, high: 0.5}` for a share must not become the choice between the two."""
    rate = dimension("training.clip_norm", {"low": 1, "high": 3}, training__clip_norm=2)
    size = dimension("model.hidden_size", {"low": 4, "high": 16})
    assert (rate.kind, rate.low, type(rate.low), rate.step) == ("float", 1.0, float, None)
    assert (size.kind, size.low, type(size.low), size.step) == ("integer", 4, int, 1)


def test_the_default_of_a_setting_that_the_file_leaves_out_is_the_present_one() -> None:
    assert dimension("training.weight_decay", {"low": 0.0, "high": 0.1}).present == 0.0


def test_the_loss_is_searched_only_where_something_else_is_the_measure() -> None:
    choices = {"choices": ["absolute", "squared"]}
    assert dimension("training.loss", choices).present == "absolute"
    with pytest.raises(WorkloadError, match="the measure itself"):
        dimension("training.loss", choices, training__monitor="loss")


def test_a_schedule_is_chosen_by_its_name_or_by_a_setting_inside_it() -> None:
    names = {"choices": ["cosine", "one_cycle"]}
    assert dimension("training.schedule", names).present == "cosine"
    assert dimension("training.schedule", names, training__schedule="one_cycle").present == "one_cycle"
    with pytest.raises(WorkloadError, match="present one among them"):
        dimension("training.schedule", names, training__schedule="constant")
    with pytest.raises(WorkloadError, match="found 'cosin'"):
        dimension("training.schedule", {"choices": ["cosine", "cosin"]})
    inside, written = {"choices": ["cosine", "one_cycle"]}, {"kind": "cosine"}
    assert dimension("training.schedule.kind", inside, training__schedule=written).present == "cosine"
    with pytest.raises(WorkloadError, match=r"`training\.schedule` written as keys and values; found 'cosine'"):
        dimension("training.schedule.kind", inside, training__schedule="cosine")


def test_true_is_no_number_among_choices() -> None:
    linear = dimension("model.linear_path", {"choices": [True, False]})
    assert True in linear
    assert 1 not in linear
    assert "none" not in linear


def test_values_on_a_grid_lose_their_rounding_error() -> None:
    dropout = dimension("model.dropout", {"low": 0.0, "high": 0.5, "step": 0.1})
    assert [dropout.tidy(0.1 * k) for k in range(6)] == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    assert 0.3 in dropout
    assert 0.35 not in dropout


def test_other_settings_do_not_touch_the_workload_they_come_from() -> None:
    present = workload({"training.learning_rate": RATE})
    changed = with_settings(present, {"training.learning_rate": 0.05, "training.weight_decay": 0.1})
    assert changed.sections["training"] == {**present.sections["training"], "learning_rate": 0.05, "weight_decay": 0.1}
    assert present.sections["training"]["learning_rate"] == 0.02
    assert changed.sections["model"] == present.sections["model"]
    assert changed.name == present.name


def test_no_step_sees_the_section() -> None:
    text = json.dumps(tiny_workload(search={"settings": {"training.learning_rate": RATE}}))
    for step in ("ingest", "validate", "preprocess", "train", "evaluate", "register"):
        assert "search" not in Workload.read(text, step=step).sections
