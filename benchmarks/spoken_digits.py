"""How well a voice is understood that training has never heard: ``python -m benchmarks.spoken_digits [--speakers george theo]``.

Holds one speaker out of the workload `spoken_digits` at a time: all of that speaker's recordings test, and those of the other five
train and validate as in the workload. Settings differ where a new voice asks for it (`SETTINGS`). Six trainings; a speaker that was
measured with these very settings is not measured again. Writes `benchmarks/results/spoken_digits_speakers.json` and the table of
`docs/workloads/spoken_digits.md` between ``<!-- speakers -->`` and ``<!-- /speakers -->``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import command
from benchmarks.machine import ROOT, shown_commits
from benchmarks.scoring_code import scoring_code
from benchmarks.tables import markdown, read_result, write_json, write_table
from benchmarks.workload import PAGES, measure, prepare, settings_key, short
from gateline.training import RunSettings
from gateline.workload import Workload
from gateline.workload.overrides import with_settings

NAME, RESULT, TABLE = "spoken_digits", "spoken_digits_speakers", "speakers"
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
SETTINGS: Mapping[str, Any] = {
    "preprocess.features.normalisation": "utterance",  # another microphone, another level
    "preprocess.speeds": [0.9, 1.0, 1.1],  # other voices than those five
    "preprocess.strings.per_recording": {"train": 2, "validation": 1, "test": 2},
    "training.batch_tokens": 4000,  # half the strings, and as many steps: at 16,000 eight epochs learned nothing, on the validation part
    "training.epochs": 10,
    "training.patience": 10,
    "gates.limits": {},
    "gates.baselines": {"most_frequent": {"rule": "superior"}},
}


def without(workload: Workload, speaker: str) -> Workload:
    """Make the workload in which one speaker is the test part."""
    source = dict(workload.sections["source"])
    source["query"] = (
        f"SELECT * REPLACE (CASE WHEN speaker = '{speaker}' THEN 'test' WHEN part = 'test' THEN 'train' ELSE part END AS part)\n"
        f"FROM ({source['query']})\nORDER BY speaker, digit, number"
    )
    return with_settings(replace(workload, sections={**workload.sections, "source": source}), SETTINGS)


def table_of(runs: Mapping[str, Mapping[str, Any]]) -> str:
    """Write a line for each speaker, and their mean."""
    names = ("string_word_error_rate", "recording_word_error_rate", "word_error_rate", "character_error_rate")
    rows = []
    for speaker, run in runs.items():
        measured = [f"{run['test'][name]:.1%}" for name in names]
        segments = f"{run['baselines']['segments']['word_error_rate']:.1%}"
        rows.append([speaker, *measured, segments, f"{run['train_seconds']:.0f} s"])
    if len(runs) == len(SPEAKERS):
        means = [sum(run["test"][name] for run in runs.values()) / len(runs) for name in names]
        baseline = sum(run["baselines"]["segments"]["word_error_rate"] for run in runs.values()) / len(runs)
        rows.append(["**mean**", *(f"**{mean:.1%}**" for mean in means), f"{baseline:.1%}", ""])
    machine = next(iter(runs.values()))["where"]
    said = (
        f"`python -m benchmarks.spoken_digits` prints this: {machine['cores']} cores of {machine['cpu']}, torch {machine['torch']}, "
        f"{shown_commits(run['where'] for run in runs.values())}, seed {next(iter(runs.values()))['seed']}."
    )
    head = ["held out", "strings", "single digits", "all words", "characters", "all words, `segments`", "trained in"]
    return f"{said}\n\n{markdown(head, rows)}"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure the speakers that are missing; write after each."""
    flags = argparse.ArgumentParser(prog="python -m benchmarks.spoken_digits", description=__doc__)
    flags.add_argument("--speakers", nargs="+", default=SPEAKERS, choices=SPEAKERS)
    flags.add_argument("--seed", type=command.seed, default=7)
    flags.add_argument("--device", default="cpu")
    flags.add_argument("--precision", default="auto")
    flags.add_argument("--again", action="store_true", help="measure again what stands in the result")
    given = flags.parse_args(argv)
    workload, run = (
        Workload.read(ROOT / "workloads" / f"{NAME}.yaml"),
        RunSettings(given.seed, given.device, given.precision),
    )
    key, before, code = settings_key(without(workload, ""), run), read_result(RESULT), scoring_code(workload.task)
    runs = dict(before["runs"]) if before.get("settings") == key and not given.again else {}
    runs = {speaker: one for speaker, one in runs.items() if one["scored_with"] == code}
    for speaker in given.speakers:
        if speaker in runs:
            continue
        with tempfile.TemporaryDirectory() as scratch:
            held_out = without(workload, speaker)
            runs[speaker] = measure(held_out, prepare(held_out, Path(scratch)), Path(scratch), run)
        print(f"{speaker}: word error rate {short(runs[speaker]['test']['word_error_rate'])}", flush=True)
        write_json(RESULT, {"settings": key, "changed": dict(SETTINGS), "runs": runs})
    write_table(PAGES / f"{NAME}.md", TABLE, table_of({name: runs[name] for name in SPEAKERS if name in runs}))


if __name__ == "__main__":
    sys.exit(command.in_one_line(main))
