"""Variants: which apply to a model, what each sets, and how one that does not is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateline.errors import WorkloadError
from gateline.tasks import task_named
from gateline.workload import Workload
from gateline.workload.variants import PRESENT, own_variants, variants_of, with_variant
from tests.tiny import tiny_workload

FORECASTER = task_named("forecasting").Model
CLASSIFIER = task_named("classification").Model


def workload(variants: Any = None, **changes: Any) -> Workload:
    more = {} if variants is None else {"variants": variants}
    return Workload.read(json.dumps(tiny_workload(**changes) | more))


def classifier(**model: Any) -> Workload:
    return Workload("texts", "classification", "Texts.", "workload", {"model": {"hidden_size": 8, **model}})


@pytest.mark.parametrize(
    ("name", "differs"),
    [
        ("lstm", {}),
        ("gru", {"cell": "gru"}),
        ("bidirectional", {"bidirectional": True}),
        ("stacked", {"num_layers": 2}),
        ("attention", {"attention": "dot"}),
    ],
)
def test_a_standard_variant_differs_from_a_plain_network_in_one_thing(name: str, differs: dict[str, Any]) -> None:
    of = workload(model={"hidden_size": 12, "cell": "gru", "num_layers": 3, "attention": "additive", "dropout": 0.1})

    model = with_variant(of, name, FORECASTER)[0].section("model", FORECASTER).model_dump()

    plain = {"cell": "lstm", "num_layers": 1, "bidirectional": False, "attention": "none"}
    kept = {"hidden_size": 12, "dropout": 0.1}
    assert {key: model[key] for key in (*plain, *kept)} == {**plain, **differs, **kept}
    assert of.sections["model"]["num_layers"] == 3


def test_of_a_classifier_attention_is_a_pooling() -> None:
    model = with_variant(classifier(pooling="mean"), "attention", CLASSIFIER)[0].section("model", CLASSIFIER)
    assert model.model_dump()["pooling"] == "attention"
    plain = with_variant(classifier(pooling="mean"), "lstm", CLASSIFIER)[0].section("model", CLASSIFIER)
    assert plain.model_dump()["pooling"] == "last"


def test_the_present_one_is_the_workload_as_it_is() -> None:
    of = workload()
    assert with_variant(of, PRESENT, FORECASTER) == (of, {})


def test_those_that_apply_follow_from_the_model() -> None:
    everything = ["present", "lstm", "gru", "bidirectional", "stacked", "attention"]
    assert variants_of(workload({"wide": {"model.hidden_size": 30}}), FORECASTER) == [*everything, "wide"]
    segment = workload(model={"mode": "segment", "segment": 6, "hidden_size": 8})
    assert variants_of(segment, FORECASTER) == ["present", "lstm", "gru", "stacked"]
    translator = task_named("translation").Model
    of_texts = Workload("x", "translation", "X.", "workload", {"model": {"hidden_size": 8}})
    assert "attention" not in variants_of(of_texts, translator), "every translator attends"
    pictures = Workload("x", "frame_prediction", "X.", "workload", {"model": {"hidden_size": 8}})
    assert variants_of(pictures, task_named("frame_prediction").Model)[0] == "present"
    assert "gru" not in variants_of(pictures, task_named("frame_prediction").Model), "its cells read pictures"


def test_one_that_does_not_apply_is_refused_with_what_stands_against_it() -> None:
    segment = workload(model={"mode": "segment", "segment": 6, "hidden_size": 8})
    with pytest.raises(
        WorkloadError, match=r"variant bidirectional: .*encoder and decoder are one.*lstm, gru, stacked apply"
    ):
        with_variant(segment, "bidirectional", FORECASTER)
    with pytest.raises(WorkloadError, match="Did you mean 'stacked'"):
        with_variant(workload(), "staked", FORECASTER)


def test_own_variants_change_the_workload_as_it_is() -> None:
    of = workload({"slow": {"training.learning_rate": 0.001, "model.dropout": 0.4}})
    changed, settings = with_variant(of, "slow", FORECASTER)
    assert changed.sections["training"] == {**of.sections["training"], "learning_rate": 0.001}
    assert changed.sections["model"] == {**of.sections["model"], "dropout": 0.4}
    assert settings == {"training.learning_rate": 0.001, "model.dropout": 0.4}


@pytest.mark.parametrize(
    ("variants", "words"),
    [
        ([], "settings by name of a variant"),
        ({"gru": {"model.cell": "gru"}}, "Rename it"),
        ({"present": {"model.cell": "gru"}}, "Rename it"),
        ({"Big!": {"model.cell": "gru"}}, "lower-case letters"),
        ({"wide": {}}, "Write at least one"),
        ({"wide": {"preprocess.windows.lookback": 9}}, "all variants read the same prepared data"),
        ({"wide": {"model": {"hidden_size": 9}}}, "a setting of `model` or `training`"),
    ],
)
def test_a_section_that_cannot_be_used_is_refused(variants: Any, words: str) -> None:
    with pytest.raises(WorkloadError, match=words):
        own_variants(Workload("tiny", "forecasting", "Sales.", "workload", {"variants": variants}))


def test_of_every_workload_some_variants_apply(root: Path) -> None:
    for path in sorted((root / "workloads").glob("*.yaml")):
        of = Workload.read(path)
        model = task_named(of.task).Model
        for name in variants_of(of, model):
            with_variant(of, name, model)[0].section("model", model)
