"""`gateline new` for a table of texts and labels: find the two columns, and write a classification workload that runs."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd

from gateline.adapters.ingestion import make_table
from gateline.adapters.new_workload.checked import add_checked
from gateline.adapters.new_workload.column_names import free_name, in_both, why_renamed
from gateline.adapters.new_workload.drawn_split import DrawnSplit, draw_split, epochs_for
from gateline.adapters.new_workload.pinned_file import make_whole, pin, workload_path
from gateline.adapters.new_workload.settings import enough_blocks
from gateline.adapters.new_workload.text import flow, scalar, search_section
from gateline.adapters.new_workload.time_columns import find_time
from gateline.adapters.new_workload.time_formats import quoted
from gateline.adapters.project import Project
from gateline.errors import DataError, GatelineError, did_you_mean, examples
from gateline.predictors import BESIDE_CLASSES
from gateline.table import read_table
from gateline.workload.source import File, Source

LABEL_HINTS = (
    "label",
    "class",
    "category",
    "sentiment",
    "target",
    "topic",
    "intent",
    "rating",
    "stars",
    "language",
    "spam",
)
TEXT_HINTS = ("text", "sentence", "review", "comment", "message", "title", "body", "content", "tweet", "utterance")
MOST_CLASSES = 50
FEWEST_OF_A_CLASS = 10
"""Texts of a class below which a split could leave a part without it."""
ENOUGH_WRONG = 50
"""Test texts in which the most frequent class alone is wrong, from which on a model must be shown to be better than it."""
FEWEST_TEXTS = 60
MEAN_WORDS = 2.0
"""Words of a text in the mean, below which a column is taken for names rather than texts."""
SPACED = 12.0
"""Characters between two spaces in the mean, above which a language is taken for one that is written without them."""
LONGEST = 400  # tokens
STEPS = 300
"""Steps of the optimiser that a small table is given at least, in at most MOST_EPOCHS."""
MOST_EPOCHS = 60
SEARCHED = """
model.hidden_size: {low: 32, high: 128, step: 32}
model.input_dropout: {low: 0.0, high: 0.6}
model.output_dropout: {low: 0.2, high: 0.7}
training.learning_rate: {low: 0.0005, high: 0.01, log: true}
"""
"""What `gateline tune` may try; the proposed settings are among it, as every search asks."""


@dataclass(frozen=True)
class LabelledTexts:
    """A workload of texts that was written.

    Args:
        path: of the file.
        text: column of the texts.
        label: column of the classes.
        in_file: what the file calls both.
        counts: texts of each class, the most frequent first.
        tokens: ``word`` or ``character``.
        max_length: tokens of a text that are read.
        longest: characters of the longest text.
        rows: texts that have a label.
        number: column that numbers them.
        split: how the texts are divided.
        left_out: what is not read, and why.
    """

    path: Path
    text: str
    label: str
    in_file: tuple[str, str]
    counts: dict[str, int]
    tokens: str
    max_length: int
    longest: int
    rows: int
    number: str
    split: DrawnSplit
    left_out: dict[str, str] = field(default_factory=dict)


def is_labelled_text(file: Path) -> bool:
    """Say whether a table reads as texts with labels: a column of texts, one of few values, and no series of numbers in time."""
    pinned = pin(None, file)
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch) / "whole.parquet"
        make_whole(file, Source(licence="unknown", files=(pinned,)), whole)
        frame = read_table(whole)
        if _has_series(whole, frame):
            return False
    text = _text_column(frame, None)
    return text is not None and (_label_column(frame, text, None) or _only_class(frame, text)) is not None


def new_labelled_texts(
    project: Project, name: str, file: Path, *, text: str | None = None, label: str | None = None, force: bool = False
) -> LabelledTexts:
    """Write ``workloads/NAME.yaml`` for a table of texts and labels, and add NAME to ``params.yaml``.

    Args:
        project: where to write.
        name: of the workload.
        file: csv or parquet.
        text: column of the texts; None: found.
        label: column of the classes; None: found.
        force: replace a workload of that name.

    Raises:
        WorkloadError: the name cannot be one, or is taken.
        DataError: the file is no table, a column is not there or cannot be found, or there are too few texts.
    """
    path = workload_path(project, name, force)
    pinned = pin(project, file)
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch) / "whole.parquet"
        make_whole(file, Source(licence="unknown", files=(pinned,)), whole)
        frame = read_table(whole)
        for flag, column in (("--text", text), ("--label", label)):
            if column is not None and column not in frame.columns:
                raise DataError(
                    f"{flag} {column}", expected="a column of the file", found="none of that name",
                    do=did_you_mean(column, [str(each) for each in frame.columns]),
                )  # fmt: skip
        text = text or _required(_text_column(frame, label), file, "a column of texts", "--text COLUMN")
        found_label = _label_column(frame, text, None) or _only_class(frame, text)  # which is refused below
        label = label or _required(found_label, file, "a column of classes", "--label COLUMN")
        in_file = (text, label)
        text, label = (
            free_name(text, (), frame.columns, "text"),
            free_name(label, BESIDE_CLASSES, frame.columns, "label"),
        )
        number = "line" if "line" not in (text.lower(), label.lower()) else "row_number"
        query = _query(pinned.name, in_file, (text, label), number, whole=_are_whole(frame[in_file[1]]))
        make_table(
            Source(licence="unknown", files=(pinned,), query=query),
            {pinned.name: file},
            Path(scratch) / "table.parquet",
        )
        table = read_table(Path(scratch) / "table.parquet")
    counts = {str(value): int(count) for value, count in sorted(table[label].value_counts().items(), key=_by_count)}
    _check(file, in_file[1], counts, len(table))
    left_out = {str(column): "not asked for" for column in frame.columns if column not in in_file}
    if lost := len(frame) - len(table):
        left_out[f"{lost:,} rows"] = "without a text or a label"
    spaced = table[text].str.len().sum() / max(table[text].str.count(r"\s").sum(), 1) < SPACED
    lengths = table[text].map(_num_words) * 1.3 if spaced else table[text].str.len()
    found = LabelledTexts(
        path=path,
        text=text,
        label=label,
        in_file=in_file,
        counts=counts,
        tokens="word" if spaced else "character",
        max_length=int(min(LONGEST, max(10, np.ceil(np.quantile(lengths, 0.99) / 10) * 10))),
        longest=int(table[text].str.len().max()),
        rows=len(table),
        number=number,
        split=draw_split({text: table[text].to_numpy(dtype=object)}, text, table[label].to_numpy(dtype=object)),
        left_out=left_out,
    )
    add_checked(project, name, _workload_text(name, pinned, query, found), file)
    return found


def in_words(written: LabelledTexts) -> Iterator[tuple[str, str]]:
    """Say what was found and decided: labels and words."""
    yield "rows", f"{written.rows:,} texts of at most {written.longest:,} characters"
    text, label = map(in_both, written.in_file, (written.text, written.label))
    yield "text", text
    yield (
        "label",
        f"{label}: " + ", ".join(f"{value} {count:,}" for value, count in list(written.counts.items())[:8]),
    )
    yield "tokens", f"{written.tokens}s, the first {written.max_length} of a text"
    for what, why in written.left_out.items():
        yield "left out", f"{what}: {why}"
    yield (
        "split",
        f"{written.split.in_words()}, so that no copy of a text is in two parts",
    )


def _has_series(whole: Path, frame: pd.DataFrame) -> bool:
    """Say whether there are times, in whatever form, and numbers beside them."""
    with duckdb.connect(":memory:", config={"threads": 1}) as database:
        database.execute("CREATE TABLE raw AS SELECT * FROM read_parquet(?)", [str(whole)])
        try:
            time = find_time(database, None)
        except GatelineError:
            return False
    return any(pd.api.types.is_numeric_dtype(values) for name, values in frame.items() if name not in time.made_from)


def _by_count(pair: tuple[object, int]) -> tuple[int, str]:
    return -pair[1], str(pair[0])


def _required(found: str | None, file: Path, what: str, flag: str) -> str:
    if found is None:
        raise DataError(file, expected=what, found="none that looks like one", do=f"Name it: {flag}")
    return found


def _text_column(frame: pd.DataFrame, label: str | None) -> str | None:
    """Find the column of texts: of several words, hardly ever the same; a telling name comes first, then the longest."""
    ranked = []
    for place, (name, values) in enumerate(frame.items()):
        if name == label or not pd.api.types.is_string_dtype(values.dtype):
            continue
        there = values.dropna().astype(str)
        if not len(there) or there.nunique() < 0.5 * len(there):
            continue
        words = float(there.map(_num_words).mean())
        length = float(there.str.len().mean())
        if words >= MEAN_WORDS or length >= SPACED:
            ranked.append((not _hints(str(name), TEXT_HINTS), -length, place, str(name)))
    return min(ranked)[-1] if ranked else None


def _label_column(frame: pd.DataFrame, text: str, label: str | None) -> str | None:
    """Find the column of classes: few values that come again; a telling name comes first, then the fewest values."""
    ranked = []
    for place, (name, values) in enumerate(frame.items()):
        if name == text or pd.api.types.is_datetime64_any_dtype(values.dtype):
            continue
        if pd.api.types.is_float_dtype(values.dtype) and not _are_whole(values):
            continue
        classes = values.dropna().nunique()
        if 2 <= classes <= min(MOST_CLASSES, len(values) // FEWEST_OF_A_CLASS):
            ranked.append((not _hints(str(name), LABEL_HINTS), classes, place, str(name)))
    return label or (min(ranked)[-1] if ranked else None)


def _only_class(frame: pd.DataFrame, text: str) -> str | None:
    """Find a column that is called as classes are, and holds one alone."""
    called = [str(name) for name in frame if name != text and _hints(str(name), LABEL_HINTS)]
    return next((name for name in called if frame[name].nunique() == 1), None)


def _are_whole(values: pd.Series) -> bool:
    """Say whether floats are whole numbers, as they are read where one of them is missing."""
    return bool(pd.api.types.is_float_dtype(values.dtype) and (values.dropna() % 1 == 0).all())


def _hints(name: str, hints: tuple[str, ...]) -> bool:
    words = re.split(r"[^a-z]+", name.lower())
    return any(word.rstrip("s") in hints or word in hints for word in words)


def _check(file: Path, label: str, counts: dict[str, int], rows: int) -> None:
    if not 2 <= len(counts) <= MOST_CLASSES:
        raise DataError(
            f"{file}: column {label}",
            expected=f"2 to {MOST_CLASSES} classes",
            found=f"{len(counts)}: {examples(list(counts))}",
            do="Name another column with --label",
        )
    rare = [f"{value} ({count})" for value, count in counts.items() if count < FEWEST_OF_A_CLASS]
    if rare or rows < FEWEST_TEXTS:
        raise DataError(
            f"{file}: column {label}",
            expected=f"{FEWEST_TEXTS} texts, and {FEWEST_OF_A_CLASS} of every class",
            found=f"{rows} texts" + (f", and few of {examples(rare)}" if rare else ""),
            do="Bring more texts, or leave rare classes out of the file",
        )


def _query(name: str, in_file: tuple[str, str], called: tuple[str, str], number: str, *, whole: bool) -> str:
    text, label = in_file
    value = f"CAST({quoted(label)} AS BIGINT)" if whole else quoted(label)  # 2, and not 2.0
    read = f"trim(CAST({value} AS VARCHAR))"  # "good " is no class of its own
    return (
        f"SELECT\n  row_number() OVER () AS {number},\n  {_named(text, called[0])},\n  {read} AS {quoted(called[1])}\n"
        f"FROM \"{name}\"\nWHERE trim({quoted(text)}) <> '' AND {read} <> ''\n"
    )


def _named(name: str, called: str) -> str:
    return quoted(name) if name == called else f"{quoted(name)} AS {quoted(called)}"


def _workload_text(name: str, file: File, query: str, found: LabelledTexts) -> str:
    indented = "".join(f"    {line}\n" for line in query.splitlines())
    left_out = "".join(f"#   {what}: {why}\n" for what, why in found.left_out.items())
    text, label, classes = scalar(found.text), scalar(found.label), flow(sorted(found.counts))
    share, tested = max(found.counts.values()) / found.rows, found.split.counts["test"]
    batch_size, usual = (64, 8) if found.rows > 3000 else (16, 20)
    epochs = epochs_for(found.split.counts["train"] / batch_size, usual, STEPS, MOST_EPOCHS)
    split = "".join(f"    {line}\n" for line in found.split.lines())
    renamed = "" if found.label == found.in_file[1] else f" # {why_renamed(found.in_file[1])}"
    # Of few wrong answers, chance alone makes a large share more or less.
    sure = enough_blocks(found.split.groups["test"], 1) and tested * (1 - share) >= ENOUGH_WRONG
    confidence = ", confidence: 0.95" if sure else ""
    why = (
        "shown with this confidence, not only measured"
        if sure
        else f"as measured: too few of {tested:,} texts can be wrong"
    )
    return f"""\
# Written by `gateline new` from the data, and yours from here on: every value is a guess that runs, with its reason.
# `gateline check {name}` says what it would do, `gateline run {name}` does it.
{"# Not read:" + chr(10) + left_out if left_out else ""}
# Names the artifacts, the MLflow experiment and the registered model.
name: {name}
# The kind of problem: a file in gateline/tasks.
task: classification
# One paragraph for people; it stands on the model card.
description: >-
  Tell {found.label} from {found.text}, one of {len(found.counts)} classes, learnt from {found.rows:,} texts.

# Where the raw data come from. Ingest refuses a file whose bytes are not those that were seen here.
source:
  # What one may do with the data, e.g. CC-BY-4.0. Not known here: say it before you share a model.
  licence: unknown
  citation: ""
  homepage: ""
  files:
    - name: {scalar(file.name)}
      # Relative to the project where the file lies in it. A `url` (https, s3, gs) could stand here instead.
      path: {scalar(file.path)}
      # Digest of its bytes. After a change on purpose, write the new one: sha256sum {file.path}
      sha256: {file.sha256}
      format: {file.format}
  # One row per text that has a label, numbered as it stands in the file; spaces around a label are no part of it.
  query: |
{indented}
# What the table must look like; another run with other data is refused where it does not.
schema:
  keys: [{found.number}] # each text once
  rows: {{min: {max(FEWEST_TEXTS, found.rows // 2)}}}
  columns:
    {found.number}: {{type: integer, min: 1}}
    {text}: {{type: text, min_length: 1, max_length: {2 * found.longest}}} # the longest had {found.longest:,} characters
    {label}: {{type: text, values: {classes}}}{renamed}

# From texts to sequences. The vocabulary is made of the training part alone.
preprocess:
  inputs:
    kind: text
    column: {text}
    tokenizer:
      kind: {found.tokens} # word, character, or bpe (pieces of words; say a `size`, e.g. 4000)
      lowercase: true
      min_count: 2 # what is seen once says little, and is `unknown`
      max_length: {found.max_length} # 99 of 100 texts are no longer; what is cut is counted in the report
  label: {label}
  split:
    rule: hash # by a digest of the text: a copy of a text, now or later, goes where the text went
    by: [{text}]
{split}
# The network: a bidirectional LSTM over learnt vectors of the tokens, and attention that weighs its steps.
model:
  cell: lstm # or gru
  hidden_size: 64
  bidirectional: true
  embedding_size: 64
  embedding_dropout: 0.2 # of the vocabulary: keeps it from leaning on single words
  input_dropout: 0.3
  output_dropout: 0.5
  pooling: attention # the report shows the weights; or last, mean, max

# How the weights are found. Seed, device and precision are run-wide, in params.yaml.
training:
  loss: cross_entropy
  optimiser: adamw # or adam, sgd
  learning_rate: 0.003
  weight_decay: 0.01 # pulls the weights towards 0; more if validation gets worse as training goes on
  schedule: cosine # how the learning rate falls; or constant, one_cycle, step, plateau
  warm_up: 0.1 # share of training in which it rises first
  batch_size: {batch_size} # texts in one step of the optimiser
  epochs: {epochs} # passes over the training texts, at most
  patience: {epochs} # epochs in a row without a better validation before training stops
  monitor: loss # what tells the best epoch, on the validation part
  weight_average: {0.99 if found.rows > 3000 else 0.9} # decay of a moving average of the weights that is validated and kept; 0: the weights themselves

# What is measured on the test part, and beside what.
evaluation:
  baselines: [majority, naive_bayes, logistic_regression]
  slices: [{label}]

# What a model must pass before anyone relies on it.
gates:
  metric: error_rate # the most frequent class alone is wrong in {1 - share:.0%}
  min_examples: {found.split.min_examples} # half of the {tested:,} that there are
  baselines:
    majority: {{rule: superior, margin: 0.1{confidence}}} # {why}
    # Naive Bayes is strong where texts are few. A model that is worse than it earns its place by nothing: `rule: superior` then.
    naive_bayes: {{rule: non_inferior, margin: 0.1}}
  champion: {{rule: superior, confidence: 0.95}}

{search_section(SEARCHED)}
# Smaller runs, e.g. `gateline run {name} --budget smoke`: does everything work?
budgets:
  smoke:
    training.epochs: 1
    gates.baselines: {{majority: {{rule: non_inferior, margin: 0.9}}}}
"""


def _num_words(text: str) -> int:
    return len(text.split())
