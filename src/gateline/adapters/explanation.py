"""`gateline check`: read every section of a workload, see that they fit together, and say in words what each step would do.

Nothing is written into the project: where the raw files are at hand, the first three steps are tried in a scratch folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from math import gcd
from pathlib import Path
from typing import Any

import pandas as pd

from gateline.adapters.ingestion import ingest
from gateline.adapters.object_store import find_by_digest
from gateline.adapters.project import WORKLOADS, Project
from gateline.adapters.settings_check import check_settings
from gateline.errors import ArtifactError, WorkloadError, did_you_mean, examples
from gateline.judgement import more_is_better
from gateline.manifest import Artifact, open_artifact, write_artifact
from gateline.readout import read_out
from gateline.table import TABLE, read_table
from gateline.tasks import Task, task_named
from gateline.tasks.forecasting import ForecastingPreprocess
from gateline.validation import rules
from gateline.workload import OPTIONAL, SECTIONS, Workload
from gateline.workload.budgets import read_budgets, with_budget
from gateline.workload.gates import Gates
from gateline.workload.resources import read_resources
from gateline.workload.schema import Schema
from gateline.workload.search import Dimension, read_search
from gateline.workload.section import format_span
from gateline.workload.source import File, Source
from gateline.workload.training import Training

DAY = timedelta(days=1)

RULES_IN_WORDS = {
    "rows": "number of rows",
    "absent": "absent columns",
    "extra": "extra columns",
    "type": "types",
    "missing": "missing values",
    "range": "ranges",
    "values": "allowed texts",
    "constant": "constant columns",
    "duplicate": "repeated rows",
    "length": "lengths of texts",
    "pattern": "characters of texts",
    "order": "order of rows",
    "gaps": "absent time stamps",
    "grid": "time stamps off the grid",
    "local_time": "hours that a clock change skips or repeats",
    "newest": "newest row",
    "age": "age of the newest row",
}


@dataclass(frozen=True)
class Explanation:
    """What a workload would do.

    Args:
        name: of the workload.
        steps: lines for people, by step.
        notes: what a person should know before running it.
    """

    name: str
    steps: Mapping[str, list[str]]
    notes: list[str]


@dataclass(frozen=True)
class _Sections:
    source: Source
    schema: Schema
    preprocess: Any
    model: Any
    training: Training
    evaluation: Any
    gates: Gates
    searched: tuple[Dimension, ...]


def explain(project: Project, reference: str) -> Explanation:
    """Check a workload and explain it.

    Args:
        project: where it would run.
        reference: name or path of the workload.

    Raises:
        WorkloadError: a section is missing or wrong, or two do not fit together.
        DataError: the raw files are at hand, and cannot be made into the windows that the workload asks for.
    """
    path = project.resolve(reference)
    workload = Workload.read(path)
    task = task_named(workload.task)
    sections = _read(workload, task)
    _check_together(workload, task, sections)
    budgets = {"budgets": lines} if (lines := list(_budgets(workload))) else {}
    notes = list(_hours_left_out(workload, task))
    if path.parent != project.root / WORKLOADS or path.stem != workload.name:
        notes.append(f"`gateline run` needs it as {WORKLOADS}/{workload.name}.yaml")
    with contextlib.chdir(project.root), tempfile.TemporaryDirectory() as scratch:
        raw = _raw_data(project, workload, sections.source, Path(scratch))
        if raw is None:
            words = _in_words(task, sections, None, None, None) | budgets
            return Explanation(
                workload.name,
                words,
                [*notes, _not_fetched(sections.source), *_absent(project, workload, sections.source)],
            )
        frame = read_table(raw.path / TABLE)
        _check_slices(workload, sections.gates, frame)
        demanded = Counter[str](
            rule.kind for rule in rules(read_out(frame, sections.schema), sections.schema, datetime.now(UTC))
        )
        folder = Path(scratch) / "prepared"
        with write_artifact(folder, "prepared") as draft:
            task.prepare(frame, sections.schema, sections.preprocess, draft)
        prepared = open_artifact(folder, "prepared")
        task.check_data(sections.model, prepared)
        task.check_scoring(prepared, sections.evaluation, sections.gates)
        weights = sum(weight.numel() for weight in task.build(sections.model, task.shapes(prepared)).parameters())
    found = prepared.facts["examples"].get("test", 0)
    if found < sections.gates.min_examples:
        raise WorkloadError(
            f"{workload.place}: gates.min_examples",
            expected=f"at most the {found:,} test {task.examples_are} that there are",
            found=f"{sections.gates.min_examples:,}",
            do="Lower it, or let the test part begin earlier",
        )
    words = _in_words(task, sections, raw, (demanded, prepared.facts), weights)
    return Explanation(workload.name, words | budgets, notes)


def check_sections(workload: Workload) -> None:
    """Read every section that a step will read, and see that they fit together.

    Raises:
        WorkloadError: one is missing or wrong, or two do not fit together.
    """
    task = task_named(workload.task)
    _check_together(workload, task, _read(workload, task))


def _budgets(workload: Workload) -> Iterator[str]:
    """Check the budgets and say what each would change."""
    for name, settings in read_budgets(workload).items():
        smaller = with_budget(workload, name)
        check_sections(smaller)
        changes = ", ".join(f"{key} {json.dumps(value, ensure_ascii=False)}" for key, value in settings.items())
        yield f"`gateline run {workload.name} --budget {name}` runs it as {smaller.name} with {changes}"


def _hours_left_out(workload: Workload, task: Task) -> Iterator[str]:
    """Note a stride, of the workload itself or of a budget, that trains on some times of the day only; evaluate asks at all of them."""
    for each in (workload, *(with_budget(workload, name) for name in read_budgets(workload))):
        preprocess = each.section("preprocess", task.Preprocess)
        if not isinstance(preprocess, ForecastingPreprocess):
            return
        stride, frequency = preprocess.windows.stride, each.section("schema", Schema).grid.frequency
        steps = max(1, round(DAY / frequency))
        if (common := gcd(stride, steps)) > 1:
            yield (
                f"{each.name}: with `preprocess.windows.stride: {stride}` every training window begins at one of {steps // common} "
                f"of the day's {steps} steps, and the model is asked at all of them; take a stride that has no factor in "
                f"common with {steps}, or 1 and `training.examples_per_epoch`"
            )


def _read(workload: Workload, task: Task) -> _Sections:
    read_resources(workload)
    needed = [name for name in SECTIONS if name not in OPTIONAL]
    for name in needed:
        if name not in workload.sections:
            raise WorkloadError(
                f"{workload.place}: {name}",
                expected=f"the sections {', '.join(needed)}",
                found=f"no `{name}`",
                do="Add it; `gateline new` writes all of them",
            )
    return _Sections(
        workload.section("source", Source),
        workload.section("schema", Schema),
        workload.section("preprocess", task.Preprocess),
        workload.section("model", task.Model),
        workload.section("training", Training),
        workload.section("evaluation", task.Evaluation),
        workload.section("gates", Gates),
        read_search(workload, task.Model)[1] if "search" in workload.sections else (),
    )


def _check_together(workload: Workload, task: Task, sections: _Sections) -> None:
    """Refuse sections that do not fit together: what the task knows of that, and what DVC cannot keep."""
    for key in _unquoted_times(dict(workload.sections)):
        raise WorkloadError(
            f"{workload.place}: {key}",
            expected='a quoted time stamp, e.g. "2024-03-01T00:00:00Z"',
            found="one without quotes, which DVC cannot keep in dvc.lock",
            do="Put it in quotes",
        )
    task.check(sections.schema, sections.preprocess, sections.evaluation, sections.gates)
    task.check_evaluation(sections.model, sections.evaluation)
    check_settings(workload, sections.preprocess, sections.searched)


def _check_slices(workload: Workload, gates: Gates, frame: pd.DataFrame) -> None:
    """Refuse a gate on a slice that no row is in: evaluate would, when all training is done."""
    for name in gates.named_metrics():
        key, _, value = name.rpartition("/")[0].partition("=")
        if key not in frame or not pd.api.types.is_string_dtype(frame[key]):
            continue
        known = sorted(frame[key].dropna().unique())
        if value not in known:
            raise WorkloadError(
                f"{workload.place}: gates, {name}",
                expected=f"a slice {key}=VALUE of a value in the data",
                found=value,
                do=did_you_mean(value, known),
            )


def _unquoted_times(value: Any, place: str = "") -> Iterator[str]:
    """Name the keys whose value YAML read as a date or time stamp."""
    if isinstance(value, date):  # a datetime is one
        yield place
    pairs = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield from _unquoted_times(inner, f"{place}.{key}" if place else str(key))


def _raw_data(project: Project, workload: Workload, source: Source, scratch: Path) -> Artifact | None:
    """Find the table that ingest made of this very source, or make it, unless that means opening an address."""
    mirror = os.environ.get("GATELINE_MIRROR")
    try:
        raw = open_artifact(project.artifacts(workload.name) / "raw", "raw")
        if raw.facts["source"] == source.model_dump(mode="json"):
            return raw
    except ArtifactError:
        pass  # ingest has not run, or will run again
    if any(file.url for file in source.files) and (not mirror or list(_absent(project, workload, source))):
        return None
    return ingest(source, scratch / "raw", mirror=Path(mirror) if mirror else None)


def _absent(project: Project, workload: Workload, source: Source) -> Iterator[str]:
    """Say of each local file that is nowhere what a person has to do before ingest can read it."""
    mirror = os.environ.get("GATELINE_MIRROR")
    page = f"docs/workloads/{workload.name}.md"
    how = f"; {page} says how to get it" if (project.root / page).is_file() else ""
    for file in source.files:
        if file.path is None or file.package or file.dvc or (project.root / file.path).exists():
            continue
        if mirror and not file.is_folder and find_by_digest(Path(mirror), file.sha256) is not None:
            continue
        yield (
            f"{file.path} (source.files.{file.name}) is not there, and no address has it: put it there before `gateline run "
            f"{workload.name}`, or into a folder that GATELINE_MIRROR names{how}"
        )


def _not_fetched(source: Source) -> str:
    addresses = [str(file.url) for file in source.files if file.url]
    return f"Rows, windows and weights are not counted: {examples(addresses)} is fetched by the first run only"


def _in_words(
    task: Task,
    sections: _Sections,
    raw: Artifact | None,
    counted: tuple[Mapping[str, int], Mapping[str, Any]] | None,
    weights: int | None,
) -> dict[str, list[str]]:
    demanded, facts = counted or ({}, {})
    return {
        "ingest": list(_ingest(sections.source, raw)),
        "validate": list(_validate(sections.schema, demanded)),
        "preprocess": list(task.explain(sections.schema, sections.preprocess, facts)),
        "train": list(_train(sections, facts, weights)),
        "evaluate": list(_evaluate(task, sections)),
        "register": list(_register(task, sections.gates)),
    } | ({"tune": list(_tune(sections))} if sections.searched else {})


def _ingest(source: Source, raw: Artifact | None) -> Iterator[str]:
    for file in source.files:
        yield f"fetch {_place(file)}, sha256 {file.sha256[:12]}"
    made = f"{raw.facts['rows']:,} rows of {len(raw.facts['columns'])} columns" if raw else "the table"
    yield f"make {made} " + (
        f"by the query ({len(source.query.splitlines())} lines of SQL)" if source.query else "of it as it is"
    )
    yield f"licence: {source.licence}"


def _place(file: File) -> str:
    if file.url:
        return file.url
    inside = f"{file.member} in " if file.member else ""
    return f"{inside}{file.path}" + (f" of the installed distribution {file.package}" if file.package else "")


def _validate(schema: Schema, demanded: Mapping[str, int]) -> Iterator[str]:
    keys = f" for each {' and '.join(schema.keys)}" if schema.keys else ""
    if schema.time is None:
        per = f"one row per {' and '.join(schema.keys)}" if schema.keys else "one row per example"
    elif schema.time.frequency is None:
        per = f"rows in order of `{schema.time.column}`{keys}"
    else:
        per = f"one row every {format_span(schema.time.frequency)} of `{schema.time.column}`{keys}"
    yield f"expect {len(schema.columns)} columns, {per}"
    if demanded:
        kinds = ", ".join(f"{RULES_IN_WORDS.get(kind, kind)} {count}" for kind, count in demanded.items())
        yield f"run {sum(demanded.values())} checks: {kinds}"
    lenient = [name for name, column in schema.columns.items() if column.violation == "missing"]
    if lenient:
        yield f"take values out of range as missing in {examples(lenient)}; refuse the data for any other violation"
    else:
        yield "refuse the data if one fails"


def _train(sections: _Sections, facts: Mapping[str, Any], weights: int | None) -> Iterator[str]:
    settings = ", ".join(
        f"{key} {value}"
        for key, value in sections.model.model_dump(mode="json").items()
        if key != "mode" and value is not None
    )
    counted = f" with {weights:,} weights" if weights is not None else ""
    yield f"{getattr(sections.model, 'mode', 'network')}{counted}: {settings}"
    training = sections.training
    drawn = facts.get("examples", {}).get("train", 0) * training.examples_per_epoch
    by_length = training.batch_tokens is not None  # how many batches those are, only the lengths say
    batches = f" of {max(1, -(-int(drawn) // training.batch_size)):,} batches" if drawn and not by_length else ""
    yield (
        f"{training.loss} loss, {training.optimiser} at {training.learning_rate:g}, at most {training.epochs} epochs{batches}, "
        f"stopping after {training.patience} without a better validation"
    )


def _evaluate(task: Task, sections: _Sections) -> Iterator[str]:
    evaluation = sections.evaluation
    yield f"compare with {', '.join(evaluation.baselines)} on the test {task.examples_are}"
    if evaluation.slices:
        yield f"and for each {' and '.join(evaluation.slices)}"


def _register(task: Task, gates: Gates) -> Iterator[str]:
    for name, baseline in gates.baselines.items():
        margin = f"{baseline.margin:.1%}"
        for metric in (gates.metric, *baseline.metrics):
            sure = baseline.confidence is not None and metric == gates.metric
            shown = f", shown with {baseline.confidence:.0%} confidence" if sure else ""
            better, worse = ("above", "below") if more_is_better(metric) else ("below", "above")
            if baseline.rule == "superior":
                yield (
                    f"demand {metric} {better} that of {name}"
                    + (f" by more than {margin}" if baseline.margin else "")
                    + shown
                )
            else:
                yield f"demand {metric} at most {margin} {worse} that of {name}{shown}"
    for name, limit in gates.limits.items():
        bounds = [
            f"at least {limit.min:g}" if limit.min is not None else "",
            f"at most {limit.max:g}" if limit.max is not None else "",
        ]
        yield f"demand {name} {' and '.join(filter(None, bounds))}"
    yield f"demand at least {gates.min_examples:,} test {task.examples_are}"
    rule = "better" if gates.champion.rule == "superior" else f"at most {gates.champion.margin:.1%} worse"
    yield f"replace a champion if {rule} with {gates.champion.confidence:.0%} confidence, and no slice over {gates.slice_margin:.0%} worse"


def _tune(sections: _Sections) -> Iterator[str]:
    yield f"`gateline tune` looks for the lowest {sections.training.monitor} of the validation part among"
    for dimension in sections.searched:
        yield f"{dimension.key} {dimension.in_words()} (now {dimension.present})"
