"""Reading workloads: unknown keys get a suggestion, mistakes are named where they stand, steps see only their part."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateline.errors import GatelineError, WorkloadError, did_you_mean, examples
from gateline.tasks.forecasting import TASK
from gateline.workload import SECTIONS, SECTIONS_OF_STEP, Workload
from gateline.workload.gates import Gates
from gateline.workload.schema import Schema
from gateline.workload.search import Search
from gateline.workload.section import format_span, parse_span
from gateline.workload.source import Source
from gateline.workload.training import Training
from tests.tiny import tiny_workload


def write(folder: Path, text: str) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_and_its_json_text_read_the_same(tmp_path: Path) -> None:
    content = tiny_workload()
    from_file = Workload.read(write(tmp_path, yaml.safe_dump(content)))
    from_text = Workload.read(json.dumps(content))

    for name, kind in (("schema", Schema), ("training", Training), ("preprocess", TASK.Preprocess)):
        assert from_file.section(name, kind) == from_text.section(name, kind)


@pytest.mark.parametrize("step", SECTIONS_OF_STEP)
def test_a_step_sees_only_its_sections(step: str) -> None:
    workload = Workload.read(json.dumps(tiny_workload()), step=step)

    assert set(workload.sections) == set(SECTIONS_OF_STEP[step])
    hidden = next(name for name in SECTIONS if name not in SECTIONS_OF_STEP[step])
    with pytest.raises(WorkloadError, match=f"a section `{hidden}`"):
        workload.section(hidden, Training)


def test_every_section_is_read_by_some_step_but_those_that_the_command_line_reads() -> None:
    assert {name for names in SECTIONS_OF_STEP.values() for name in names} == set(SECTIONS) - {
        "resources",
        "search",
        "budgets",
        "variants",
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: tiny\n\ttask: x\n", "found while scanning"),
        ("name: tiny\nname: other\n", "stands twice"),
        ("- a\n- b\n", "found list"),
        ("", "found NoneType"),
        ("name: Tiny Workload\ntask: forecasting\n", "lower-case letters"),
        ("name: ../../etc\ntask: forecasting\n", "lower-case letters"),
        ("name: tiny\n", "the name of a task"),
        ("name: tiny\ntask: forecasting\n", "a sentence that says what is solved"),
        ("name: tiny\ntask: forecasting\ngate: {}\n", "Did you mean 'gates'"),
        ("name: !!python/object/apply:os.system [ls]\ntask: x\n", "python/object"),
    ],
)
def test_a_file_that_is_no_workload_says_why(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match=words):
        Workload.read(write(tmp_path, text))


def test_a_missing_file_suggests_a_neighbour(tmp_path: Path) -> None:
    write(tmp_path, "name: tiny\n")

    with pytest.raises(WorkloadError, match="Did you mean 'tiny'"):
        Workload.read(tmp_path / "tniy.yaml")


@pytest.mark.parametrize(
    ("changes", "name", "kind", "words"),
    [
        (
            {"training__epochs": 0},
            "training",
            Training,
            "training.epochs: expected greater than or equal to 1; found 0",
        ),
        ({"training__learning_rate": float("inf")}, "training", Training, "training.learning_rate"),
        ({"schema__time": {"column": "when", "frequency": "1h"}}, "schema", Schema, "time.column"),
        (
            {"schema__time": {"column": "time", "frequency": "hourly"}},
            "schema",
            Schema,
            "schema.time.frequency.*span of time",
        ),
        (
            {"schema__time": {"column": "time", "frequency": "1h", "timezone": "Mars/Base"}},
            "schema",
            Schema,
            "Europe/Berlin",
        ),
        ({"schema__keys": ["store"]}, "schema", Schema, "keys.*store"),
        (
            {"schema__columns__price": {"type": "float", "min": 3, "max": 1}},
            "schema",
            Schema,
            "columns.price.*min <= max",
        ),
        ({"schema__columns__price": {"type": "flaot"}}, "schema", Schema, "columns.price.type.*flaot"),
        ({"schema__columns__price": {"type": "float", "maximum": 1}}, "schema", Schema, "Did you mean 'max'"),
        ({"schema__columns__price": {"type": "float", "max_violations": 3}}, "schema", Schema, "violation: missing"),
        ({"gates__baselines": {}}, "gates", Gates, "gates.baselines"),
        (
            {"gates__baselines__last_value": {"confidence": 0.999}},
            "gates",
            Gates,
            "`champion.resamples` of at least 10000, or a lower `baselines.last_value.confidence`",
        ),
        ({"gates__champion": {"confidence": 1.0}}, "gates", Gates, "gates.champion.confidence"),
        ({"source__files": []}, "source", Source, "source.files"),
        ({"source__files": [{"name": "a", "path": "a", "sha256": "123"}]}, "source", Source, "sha256"),
        ({"source__files": [{"name": "a b", "path": "a", "sha256": "0" * 64}]}, "source", Source, r"files\.0\.name"),
        ({"source__files": [{"name": "a", "sha256": "0" * 64}]}, "source", Source, "one of `url` and `path`"),
        ({"evaluation__baselines": ["last_vaue"]}, "evaluation", TASK.Evaluation, "last_vaue"),
    ],
)
def test_a_mistake_is_named_where_it_stands(changes: dict[str, Any], name: str, kind: Any, words: str) -> None:
    text = yaml.safe_dump(tiny_workload(**changes))
    workload = Workload("tiny", "forecasting", "", "tiny.yaml", yaml.safe_load(text))

    with pytest.raises(WorkloadError, match=words) as refusal:
        workload.section(name, kind)
    assert str(refusal.value).startswith(f"tiny.yaml: {name}")
    assert "\n" not in str(refusal.value)


def test_sections_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Training().epochs = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("1h", timedelta(hours=1)),
        ("15min", timedelta(minutes=15)),
        ("2d", timedelta(days=2)),
        ("1.5h", timedelta(minutes=90)),
    ],
)
def test_spans_of_time_are_read_and_written(text: str, span: timedelta) -> None:
    assert parse_span(text) == span
    assert parse_span(format_span(span)) == span


@pytest.mark.parametrize("text", ["", "h", "-1h", "0h", "1 fortnight", "1h30"])
def test_what_is_no_span_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="span of time"):
        parse_span(text)


def test_an_error_has_four_parts_and_five_examples() -> None:
    error = GatelineError("here", expected="this", found="that", do="Do so")

    assert str(error) == "here: expected this; found that. Do so."
    assert examples(list(range(10))) == "0, 1, 2, 3, 4 and 5 more"
    assert did_you_mean("lokback", ["lookback", "horizon"]) == "Did you mean 'lookback'?"


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (
            {"cell": "slstm", "cell_options": {"num_heads": 2.5}},
            r"model.cell_options.num_heads: .* integer; found 2.5\.",
        ),
        (
            {"cell": "slstm", "cell_options": {"num_heads": True}},
            r"model.cell_options.num_heads: .* integer; found True\.",
        ),
        ({"cell": "slstm", "cell_options": {"num_heads": 5}}, r"num_heads: expected a divisor of the hidden size 12"),
        (
            {"cell": "slstm", "cell_options": {"heads": 2}},
            r"cell_options: .* the cell slstm; .* Did you mean 'num_heads'",
        ),
        ({"cell_options": {"weight_drop": 0.5}}, r"weight_drop: .* Write it one level up, as `model.weight_drop`"),
        ({"cell_options": {"hidden_size": 4}}, r"hidden_size: .* Write it one level up, as `model.hidden_size`"),
        ({"cell_options": {"input_size": 4}}, r"input_size: .* Leave it out: it follows from the data"),
        ({"cell": "gruu"}, r"model.cell: .* found 'gruu'. Did you mean 'gru'"),
        ({"cell": "conv_lstm"}, r"model.cell: expected a cell whose steps are vectors; found 'conv_lstm'"),
    ],
)
def test_a_cell_that_cannot_be_built_is_refused_when_the_section_is_read(model: dict[str, Any], words: str) -> None:
    workload = Workload.read(json.dumps(tiny_workload(model={"hidden_size": 12, **model})))

    with pytest.raises(WorkloadError, match=words):
        workload.section("model", TASK.Model)


def test_the_options_of_a_cell_are_those_that_only_it_has() -> None:
    workload = Workload.read(
        json.dumps(tiny_workload(model={"cell": "slstm", "cell_options": {"num_heads": 3}, "hidden_size": 12}))
    )

    assert workload.section("model", TASK.Model).stack().cell_options == {"num_heads": 3}


@pytest.mark.parametrize(
    ("section", "content", "message"),
    [
        (
            "model",
            {"hidden_size": 12, "mode": "segment", "segment": 6, "attention": "dot"},
            "model: expected `attention: none` where no decoder goes step by step; found `attention: dot`. ",
        ),
        (
            "model",
            {"hidden_size": 12, "mode": "direct", "segment": 6},
            "model: expected `segment` only with `mode: segment`; found it with `mode: direct`. ",
        ),
        (
            "model",
            {"hidden_size": 12, "mode": "segment", "segment": 6, "bidirectional": True},
            "where encoder and decoder are one; found `bidirectional: True`, `mode: segment`. ",
        ),
        (
            "model",
            {"hidden_size": 12, "mode": "segment", "segment": 6, "series": "one_hot"},
            "`series: none` with `mode: segment`; found `series: one_hot`, `mode: segment`. ",
        ),
        (
            "training",
            {"schedule": "one_cycle", "warm_up": 0.1},
            "`rise` says how long the rate rises; found 0.1. ",
        ),
        (
            "training",
            {"schedule": {"kind": "plateau", "patience": 3}, "patience": 3},
            "of a plateau below `patience` (3), with which training stops before the rate falls; found 3. ",
        ),
        (
            "training",
            {"schedule": "cosinus"},
            "training.schedule: expected one of constant, cosine, one_cycle, step, plateau; found 'cosinus'. "
            "Did you mean 'cosine'?",
        ),
        (
            "training",
            {"schedule": None},
            "training.schedule: expected a name, or keys with `kind` among them; found null. ",
        ),
        (
            "training",
            {"schedule": {"every": 5}},
            "schedule: expected a name, or keys with `kind` among them; found {'every': 5}. ",
        ),
        ("training", {"epochs": 0, "patience": 0}, "; found 0 (also look at tiny.yaml: training.patience). "),
        (
            "source",
            {"licence": "CC0-1.0", "files": [{"name": "a", "sha256": "0" * 64}]},
            "source.files.0: expected one of `url` and `path`; found no `url`, no `path`. ",
        ),
        ("search", {"settings": {}}, "search.settings: expected at least 1 in it; found {}. "),
        (
            "search",
            {"settings": {"a": {"choices": [1, [2]]}}},
            "search.settings.a.choices.1: expected a valid boolean, or ",
        ),
        ("search", {"settings": {"a": {"choices": [1, [2]]}}}, "; found [2]. Correct the workload file."),
    ],
)
def test_a_message_shows_the_values_that_are_wrong_and_no_others(
    section: str, content: dict[str, Any], message: str
) -> None:
    kinds: dict[str, Any] = {"model": TASK.Model, "training": Training, "search": Search, "source": Source}
    workload = Workload("tiny", "forecasting", "", "tiny.yaml", tiny_workload(**{section: content}))

    with pytest.raises(WorkloadError) as refusal:
        workload.section(section, kinds[section])
    assert message in str(refusal.value)
