"""`gateline new` for a folder of recordings with transcripts: find what is said in each, and write a transcription workload.

Transcripts stand in NAME.txt beside NAME.wav, or in one table (csv or tsv) in the folder, with a column of file names and one
of texts.
"""

from __future__ import annotations

import hashlib
import math
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from gateline.adapters.folder_store import listing_of, local_files, write_archive
from gateline.adapters.ingestion import make_table
from gateline.adapters.new_workload.checked import add_checked
from gateline.adapters.new_workload.drawn_split import DrawnSplit, draw_split, epochs_for
from gateline.adapters.new_workload.pinned_file import as_name, make_whole, pin, workload_path
from gateline.adapters.new_workload.settings import enough_blocks
from gateline.adapters.new_workload.text import flow, scalar, search_section, share_with_room
from gateline.adapters.new_workload.time_formats import quoted
from gateline.adapters.project import Project
from gateline.data.audio import SUFFIXES
from gateline.errors import DataError, did_you_mean, examples
from gateline.intervals import MIN_BLOCKS, block_length
from gateline.table import read_table
from gateline.workload.source import File, Source

TABLES = (".csv", ".tsv")
TEXT_HINTS = ("text", "sentence", "transcript", "transcription", "words", "utterance", "prompt", "label", "said")
SPEAKER_HINTS = ("speaker", "client", "reader", "voice", "user", "person")
FEWEST = 40
"""Recordings below which a split could leave a part without any."""
FEWEST_SPEAKERS = 10
"""Speakers from which on whole speakers are put into one part."""
MOST_WORDS = 60
"""Different words up to which words themselves are the labels, if each is said often enough."""
OFTEN = 5
RATE = 16_000  # Hz: higher holds little of speech
STEP = 0.010  # seconds, of a frame
SMALL = 600  # seconds of sound below which batches are small
SPEEDS = (0.9, 1.0, 1.1)
STEPS = 400
"""Steps of the optimiser below which CTC has hardly begun to write labels: at first it answers with blanks alone."""
MOST_EPOCHS = 120
SEARCHED = """
model.hidden_size: {low: 64, high: 256, step: 64}
model.output_dropout: {low: 0.0, high: 0.5}
training.learning_rate: {low: 0.0005, high: 0.01, log: true}
"""
"""What `gateline tune` may try; the proposed settings are among it, as every search asks."""


@dataclass(frozen=True)
class Transcripts:
    """Where the transcripts were found.

    Args:
        file: the table; None: a text beside each recording.
        name: column of the table that names files.
        text: column of the texts.
        speaker: column of the speakers; None: unknown.
        match: SQL that makes of a name what both sides are joined by, with ``{}`` for the name.
        unheard: names in the table that no recording has.
    """

    file: File | None
    name: str
    text: str
    speaker: str | None
    match: str
    unheard: tuple[str, ...] = ()


@dataclass(frozen=True)
class FoundRecordings:
    """A workload of recordings that was written.

    Args:
        path: of the file.
        table: of the recordings that have a transcript, without their bytes.
        transcripts: where those were found.
        tokens: ``word`` or ``character``.
        rate: Hz at which they are heard.
        reduction: frames of an output step.
        split: how the recordings are divided.
        without: recordings without a transcript.
    """

    path: Path
    table: pd.DataFrame
    transcripts: Transcripts
    tokens: str
    rate: int
    reduction: int
    split: DrawnSplit
    without: int

    @property
    def seconds(self) -> float:
        """Length of all of them."""
        return float(self.table["duration_seconds"].sum())


def new_recordings(
    project: Project, name: str, folder: Path, *, text: str | None = None, force: bool = False
) -> FoundRecordings:
    """Write ``workloads/NAME.yaml`` for a folder of recordings, and add NAME to ``params.yaml``.

    Args:
        project: where to write.
        name: of the workload.
        folder: of the recordings, with their transcripts.
        text: column of the transcripts; None: found.
        force: replace a workload of that name.

    Raises:
        WorkloadError: the name cannot be one, or is taken.
        DataError: there are no recordings, too few, or no transcripts that belong to them.
    """
    path = workload_path(project, name, force)
    files = local_files(folder, folder)
    recordings = [each for each in files if PurePosixPath(each).suffix.lower() in SUFFIXES]
    if not recordings:
        raise DataError(folder, expected=f"recordings ({', '.join(SUFFIXES)})", found="none", do="Name their folder")
    transcripts = _find_transcripts(project, folder, files, recordings, text)
    pinned = _pin_folder(project, folder, files)
    source = Source(
        licence="unknown",
        files=(pinned,) if transcripts.file is None else (pinned, transcripts.file),
        query=_query(transcripts),
    )
    with tempfile.TemporaryDirectory() as scratch:
        archive, made = Path(scratch) / pinned.file_name, Path(scratch) / "table.parquet"
        write_archive(files, archive)
        paths = {pinned.name: archive}
        if transcripts.file is not None:
            paths[transcripts.file.name] = files[_inside(folder, Path(transcripts.file.path or ""), project)]
        make_table(source, paths, made)
        table = read_table(made).drop(columns="audio")
    split = _check(folder, table, transcripts)
    found = FoundRecordings(
        path=path,
        table=table,
        transcripts=transcripts,
        tokens=_tokens_for(table["text"]),
        rate=min(RATE, int(table["sampling_rate"].mode().iloc[0])),
        reduction=_reduction_for(folder, table, _tokens_for(table["text"])),
        split=split,
        without=len(recordings) - len(table),
    )
    add_checked(project, name, _workload_text(name, source, found), folder, with_data=False)
    return found


def in_words(written: FoundRecordings) -> Iterator[tuple[str, str]]:
    """Say what was found and decided: labels and words."""
    table, transcripts = written.table, written.transcripts
    rates = sorted({f"{rate:,}" for rate in table["sampling_rate"]})
    yield "recordings", f"{len(table):,}, {_time_in_words(written.seconds)} in all, {examples(rates)} Hz"
    where = (
        "NAME.txt beside NAME.wav" if transcripts.file is None else f"`{transcripts.text}` of {transcripts.file.path}"
    )
    yield "transcripts", where
    if written.without:
        yield "left out", f"{written.without:,} recordings without a transcript"
    if transcripts.unheard:
        named = examples(transcripts.unheard)
        yield "left out", f"{len(transcripts.unheard):,} transcripts without a recording: {named}"
    words = Counter(word for text in table["text"] for word in text.lower().split())
    yield "words", f"{len(words):,} different ones ({examples([word for word, _ in words.most_common(6)], len(words))})"
    yield "labels", f"{written.tokens}s"
    if transcripts.speaker is not None:
        yield "speakers", f"{table['speaker'].nunique():,} ({transcripts.speaker})"
    yield "split", written.split.in_words()
    if transcripts.speaker is not None:
        yield "", _why_split(table)


def _pin_folder(project: Project, folder: Path, files: Mapping[str, Path]) -> File:
    place = folder.resolve()
    inside = place.relative_to(project.root).as_posix() if place.is_relative_to(project.root) else place.as_posix()
    return File(
        name="recordings",
        path=f"{inside}/",
        sha256=hashlib.sha256(listing_of(files).encode()).hexdigest(),
        format="audio",
    )


def _inside(folder: Path, path: Path, project: Project) -> str:
    return (project.root / path).resolve().relative_to(folder.resolve()).as_posix()


def _find_transcripts(
    project: Project, folder: Path, files: Mapping[str, Path], recordings: list[str], text: str | None
) -> Transcripts:
    beside = sum(PurePosixPath(name).with_suffix(".txt").as_posix() in files for name in recordings)
    if beside and text is None:
        return Transcripts(None, "path", "transcript", None, "{}")
    for name in sorted(each for each in files if PurePosixPath(each).suffix.lower() in TABLES):
        found = _in_table(project, files[name], recordings, text)
        if found is not None:
            return found
    tables = [each for each in files if PurePosixPath(each).suffix.lower() in TABLES]
    raise DataError(
        folder,
        expected="transcripts: NAME.txt beside NAME.wav, or a csv with a column of file names and one of texts",
        found=f"{examples(sorted(tables))}, where no column names the recordings" if tables else "neither",
        do=f"Put e.g. a transcripts.csv with the columns file and text into it; a file is {recordings[0]}",
    )


MATCHES: Mapping[str, Callable[[str], str]] = {
    "{}": lambda name: name,
    "regexp_replace({}, '^.*/', '')": lambda name: PurePosixPath(name).name,
    r"regexp_replace({}, '^.*/|\.[^./]*$', '', 'g')": lambda name: PurePosixPath(name).stem,
}
"""How names in a table and paths of recordings are compared, in SQL and in Python: as they are, without folders, without suffix."""


def _in_table(project: Project, file: Path, recordings: list[str], text: str | None) -> Transcripts | None:
    pinned = pin(project, file).model_copy(update={"name": "transcripts"})
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch) / "whole.parquet"
        make_whole(file, Source(licence="unknown", files=(pinned,)), whole)
        frame = read_table(whole)
    if text is not None and text not in frame.columns:
        do = did_you_mean(text, [str(column) for column in frame.columns])
        raise DataError(f"--text {text}", expected=f"a column of {file.name}", found="none of that name", do=do)
    named = _name_column(frame, recordings)
    if named is None:
        return None
    name, match = named
    said = text or _text_column(frame.drop(columns=name))
    if said is None:
        return None
    speakers = [str(each) for each in frame.columns if each not in (name, said) and _hints(str(each), SPEAKER_HINTS)]
    heard = {MATCHES[match](path) for path in recordings}
    names = frame.loc[frame[said].notna(), name].dropna().astype(str)
    unheard = tuple(each for each in names if MATCHES[match](each) not in heard)
    return Transcripts(pinned, name, said, speakers[0] if speakers else None, match, unheard)


def _name_column(frame: pd.DataFrame, recordings: list[str]) -> tuple[str, str] | None:
    """Find the column whose values name the most recordings, and how the two are compared."""
    best: tuple[int, str, str] | None = None
    for column in frame.columns:
        values = {str(value) for value in frame[column].dropna()}
        for match, short in MATCHES.items():
            paths = Counter(short(path) for path in recordings)
            hits = sum(paths.get(value, 0) == 1 for value in {short(value) for value in values})
            if hits >= 0.5 * min(len(recordings), len(values)) and (best is None or hits > best[0]):
                best = (hits, str(column), match)
    return None if best is None else best[1:]


def _text_column(frame: pd.DataFrame) -> str | None:
    """Find the column of texts: a telling name comes first, then the longest texts."""
    ranked = [
        (not _hints(str(name), TEXT_HINTS), -float(values.dropna().astype(str).str.len().mean()), place, str(name))
        for place, (name, values) in enumerate(frame.items())
        if pd.api.types.is_string_dtype(values.dtype) and values.notna().any()
    ]
    return min(ranked)[-1] if ranked else None


def _hints(name: str, hints: tuple[str, ...]) -> bool:
    words = re.split(r"[^a-z]+", name.lower())
    return any(word.rstrip("s") in hints or word in hints for word in words)


def _query(transcripts: Transcripts) -> str:
    columns = "duration_seconds,\n  sampling_rate,\n  channels,\n  size_bytes,\n  audio"
    if transcripts.file is None:
        return (
            f"SELECT\n  path,\n  trim(transcript) AS text,\n  {columns}\nFROM recordings\n"
            "WHERE trim(transcript) <> ''\nORDER BY path\n"
        )
    text, name = quoted(transcripts.text), f"transcripts.{quoted(transcripts.name)}"
    # An empty cell of a parquet or quoted csv is a text, and nobody's name.
    named = f"nullif(trim(CAST({quoted(transcripts.speaker or '')} AS VARCHAR)), '')"
    speaker = f"  {named} AS speaker,\n" if transcripts.speaker else ""
    left, right = transcripts.match.format("recordings.path"), transcripts.match.format(f"CAST({name} AS VARCHAR)")
    return (
        f"SELECT\n  recordings.path AS path,\n  trim(CAST({text} AS VARCHAR)) AS text,\n{speaker}  {columns}\n"
        f"FROM recordings JOIN transcripts\n  ON {left} = {right}\n"
        f"WHERE trim(CAST({text} AS VARCHAR)) <> ''\nORDER BY path\n"
    )


def _check(folder: Path, table: pd.DataFrame, transcripts: Transcripts) -> DrawnSplit:
    where = f"{folder} ({transcripts.file.path if transcripts.file else 'NAME.txt beside NAME.wav'})"
    twice = table["path"][table["path"].duplicated()].tolist()
    if twice:
        raise DataError(
            where, expected="one transcript of a recording", found=f"several of {examples(twice)}", do="Leave one"
        )
    if len(table) < FEWEST:
        raise DataError(
            where, expected=f"{FEWEST} recordings with a transcript", found=str(len(table)), do="Bring more recordings"
        )
    by = _split_by(table)
    return draw_split({by: table[by].to_numpy(dtype=object)}, by)  # says where a part would be empty


def _split_by(table: pd.DataFrame) -> str:
    many = "speaker" in table and table["speaker"].nunique() >= FEWEST_SPEAKERS
    return "speaker" if many else "path"


def _why_split(table: pd.DataFrame) -> str:
    """Say what the split keeps apart, and what it cannot."""
    if "speaker" not in table:
        return "with a column of speakers, say it here, so that nobody speaks in two parts"
    if _split_by(table) == "path":
        return (
            f"{table['speaker'].nunique():,} speakers are too few to give each part its own: each may speak in several"
        )
    unknown = int(table["speaker"].isna().sum())
    apart = "nobody speaks in two parts"
    return f"{apart}, as far as is known: {unknown:,} recordings of nobody known stay together" if unknown else apart


def _tokens_for(texts: pd.Series) -> str:
    words = Counter(word for text in texts for word in text.lower().split())
    return "word" if len(words) <= MOST_WORDS and min(words.values()) >= OFTEN else "character"


def _reduction_for(folder: Path, table: pd.DataFrame, tokens: str) -> int:
    """Say how many frames an output step may join, so that each label of every recording has a step; at most 4."""
    labels = [text.lower().split() if tokens == "word" else list(text.lower()) for text in table["text"]]
    needed = np.array([len(row) + sum(a == b for a, b in pairwise(row)) for row in labels])
    # Frames for each step, of recordings that are heard at the highest speed; a few are lost at the end.
    room = np.floor(table["duration_seconds"].to_numpy() / max(SPEEDS) / STEP - 2) / needed
    if (room < 1).any():
        fast = table["path"][room < 1].tolist()
        raise DataError(
            folder,
            expected=f"recordings with at least {1000 * STEP:g} ms for each {tokens} of their transcript",
            found=f"less in {examples(fast)}",
            do="Are these their transcripts? Correct or remove them",
        )
    return next(factor for factor in (4, 2, 1) if room.min() >= factor)


def _time_in_words(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"


def _characters(texts: pd.Series) -> str:
    """Write a regular expression of the characters that occur."""
    seen = sorted(set("".join(texts)))
    letters = "".join(re.escape(each) for each in seen)
    return f"[{letters}]+" if len(seen) <= 120 else ".+"


def _workload_text(name: str, source: Source, found: FoundRecordings) -> str:
    table = found.table
    longest, rates = float(table["duration_seconds"].max()), table["sampling_rate"]
    small = found.seconds < SMALL
    single = table["text"][~table["text"].str.contains(" ")].str.lower()
    segments = found.tokens == "word" and single.nunique() >= 2 and bool((single.value_counts() >= OFTEN).all())
    # Segments cut where it is quiet and compared with whole words: a model that is worse earns its place by nothing.
    segments_gate = "\n    segments: {rule: non_inferior, margin: 0.1}" if segments else ""
    speakers = "speaker" in table
    said_by = f", by {table['speaker'].nunique():,} speakers" if speakers else ""
    query = "".join(f"    {line}\n" for line in str(source.query).splitlines())
    by, tested = _split_by(table), found.split.counts["test"]
    batch_tokens = max(2_000 if small else 16_000, math.ceil(1.2 * longest / min(SPEEDS) / STEP))
    heard = float(table["duration_seconds"][found.split.part_of == "train"].sum()) * sum(1 / speed for speed in SPEEDS)
    batches = heard / STEP / batch_tokens
    epochs = epochs_for(batches, 25 if small else 40, STEPS, MOST_EPOCHS)
    split = "".join(f"    {line}\n" for line in found.split.lines())
    voices = found.split.groups["test"]  # what one of them says is no sample of what others will
    sure = enough_blocks(voices, 1)
    confidence = ", confidence: 0.95" if sure else ""
    tested_on = f"{voices:,} {'speakers' if by == 'speaker' else 'recordings'} in the test part"
    few = f"as measured: {tested_on} tell no more"
    untold = voices < MIN_BLOCKS * block_length(voices, 1)
    never = f" # not to be shown on {tested_on}: no second model is promoted before there are more" if untold else ""
    why = "shown with this confidence, not only measured" if sure else few
    return f"""\
# Written by `gateline new` from the data, and yours from here on: every value is a guess that runs, with its reason.
# `gateline check {name}` says what it would do, `gateline run {name}` does it.

# Names the artifacts, the MLflow experiment and the registered model.
name: {name}
# The kind of problem: a file in gateline/tasks.
task: transcription
# One paragraph for people; it stands on the model card.
description: >-
  Write down what is said in a recording, learnt from {len(table):,} recordings, {_time_in_words(found.seconds)} in all{said_by}.

# Where the raw data come from. Ingest refuses files whose bytes are not those that were seen here.
source:
  # What one may do with the data, e.g. CC-BY-4.0. Not known here: say it before you share a model.
  licence: unknown
  citation: ""
  homepage: ""
  files:
{"".join(_file_text(file) for file in source.files)}\
  # One row per recording that has a transcript. The columns beside the sound say what can be checked of it.
  query: |
{query}
# What the table must look like; another run with other data is refused where it does not.
schema:
  keys: [path] # each recording once
  rows: {{min: {max(FEWEST, len(table) // 2)}}}
  columns:
    path: {{type: text}}
    text: {{type: text, min_length: 1, max_length: {2 * int(table["text"].str.len().max())}, pattern: {scalar(_characters(table["text"]))}}}
{_speaker_text(table["speaker"]) if speakers else ""}\
    duration_seconds: {{type: float, unit: s, min: {max(0.01, 0.5 * table["duration_seconds"].min()):.2g}, max: {math.ceil(1.5 * longest)}}}
    sampling_rate: {{type: integer, unit: Hz, min: {rates.min()}, max: {rates.max()}}}
    channels: {{type: integer, min: {table["channels"].min()}, max: {table["channels"].max()}}}
    size_bytes: {{type: integer, unit: B, min: 45}}
    audio: {{type: bytes}}

# From recordings to features and labels. What is fitted, is fitted on the training part.
preprocess:
  audio: audio
  text: text
  # word where few different ones are said, each of them often; character for a language; bpe (say a `size`, e.g. 500) for much of it.
  tokenizer: {{kind: {found.tokens}, lowercase: true{", words: spaces" if found.tokens == "word" else ""}}}
  features:
    sampling_rate: {found.rate} # Hz; what has another rate is brought to it
    step_seconds: {STEP}
    bands: 40
    lowest_hz: 60
    longest_seconds: {max(10, math.ceil(1.5 * longest))} # the longest has {longest:.1f}
    normalisation: utterance # less the mean of the recording itself: its microphone and its level
  # strings: joins recordings to longer ones, see workloads/spoken_digits.yaml; say it where requests are longer than recordings.
  speeds: {flow(SPEEDS)} # training recordings are heard at each of them: three times the voices
  split:
    rule: hash # by a digest: what is added later changes no part of what is there
    by: [{by}] # {_why_split(table)}
{split}
# The network: convolutions that join frames, a bidirectional LSTM, and CTC.
model:
  cell: lstm # or gru
  hidden_size: {64 if small else 192}
  num_layers: {1 if small else 2}
  bidirectional: true # false: an answer needs nothing of what comes later
  dropout: {0.0 if small else 0.3}
  output_dropout: {0.1 if small else 0.3}
  time_reduction: {found.reduction} # {found.reduction * 1000 * STEP:g} ms per output step; each {found.tokens} of a transcript needs one
  channels: {64 if small else 128}
  spec_augment: {{frequency_masks: 2, frequency_width: 8, time_masks: 2, time_width: 15, time_share: 0.2}} # of 40 bands
  beam_width: 8

# How the weights are found. Seed, device and precision are run-wide, in params.yaml.
training:
  loss: ctc
  optimiser: adamw # or adam, sgd
  learning_rate: 0.003 # the highest
  weight_decay: 0.01 # pulls the weights towards 0; more if validation gets worse as training goes on
  schedule: {{kind: one_cycle, rise: 0.2}} # the learning rate rises for a fifth of training, then falls; or constant, cosine, step, plateau
  batch_tokens: {batch_tokens} # frames of a batch
  epochs: {epochs} # of about {max(1, round(batches)):,} batches: a few hundred steps go by before CTC writes anything
  patience: {epochs} # epochs in a row without a better validation before training stops
  monitor: word_error_rate # what tells the best epoch, on the validation part
  clip_norm: 1.0 # largest norm of the gradient; null does not clip

# What is measured on the test part, and beside what.
evaluation:
  baselines: [most_frequent{", segments" if segments else ""}]
  slices: [{"speaker" if speakers and by != "speaker" else ""}]

# What a model must pass before anyone relies on it.
gates:
  metric: word_error_rate
  min_examples: {found.split.min_examples} # half of the {tested:,} that there are
  baselines:
    most_frequent: {{rule: superior, margin: 0.1{confidence}}} # {why}{segments_gate}
  champion: {{rule: superior, confidence: 0.95}}{never}

{search_section(SEARCHED)}
# Smaller runs, e.g. `gateline run {name} --budget smoke`: does everything work?
budgets:
  smoke:
    training.epochs: 3
    preprocess.speeds: [1.0]
    gates.metric: sentence_error_rate # at most 1; a network that has just begun to learn babbles, and is wrong more than once a word
    gates.baselines: {{most_frequent: {{rule: non_inferior, margin: 0.9}}}}
"""


def _speaker_text(speakers: pd.Series) -> str:
    unknown = float(speakers.isna().mean())
    missing = f", missing_share: {share_with_room(unknown):g}" if unknown else ""
    named = f" # {unknown:.3%} have none" if unknown else ""
    return f"    speaker: {{type: text{missing}}}{named}\n"


def _file_text(file: File) -> str:
    what = "all files of the folder, hidden ones aside" if file.is_folder else "what is said in which"
    digest = "of the list of its files, `NAME SHA256` a line" if file.is_folder else f"sha256sum {file.path}"
    return f"""\
    - name: {scalar(as_name(file.name))}
      path: {scalar(file.path)} # {what}
      sha256: {file.sha256} # {digest}
      format: {file.format}
"""
