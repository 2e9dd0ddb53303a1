"""The workload `etth1` with a few settings changed, and its data prepared by the project's own steps."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import ROOT
from gateline.adapters.expectations import validate
from gateline.adapters.ingestion import ingest
from gateline.data.inputs import TARGET
from gateline.data.prepared_windows import open_store, read_windows
from gateline.data.store import VALUES
from gateline.manifest import Artifact, open_artifact
from gateline.preprocessing import preprocess
from gateline.workload import Workload
from gateline.workload.source import Source

WORKLOAD = ROOT / "workloads" / "etth1.yaml"


def workload(changes: Mapping[str, Mapping[str, Any]], model: Mapping[str, Any] | None = None) -> str:
    """Return the workload as JSON text, with settings of its sections replaced.

    Args:
        changes: by section, then by key; a mapping within replaces only the keys that it holds.
        model: another section `model` in place of the workload's.
    """
    read = Workload.read(WORKLOAD)
    sections = {name: merged(section, changes.get(name, {})) for name, section in read.sections.items()}
    if model is not None:
        sections["model"] = dict(model)
    return json.dumps({"name": read.name, "task": read.task, "description": read.description, **sections})


def merged(section: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Replace values, mapping by mapping."""
    both = dict(section)
    for key, value in changes.items():
        both[key] = merged(both.get(key, {}), value) if isinstance(value, Mapping) else value
    return both


def prepare(text: str, folder: Path) -> Artifact:
    """Run ingest, validate and preprocess."""
    mirror = os.environ.get("GATELINE_MIRROR")
    source = Workload.read(text, "ingest").section("source", Source)
    raw = ingest(source, folder / "raw", mirror=Path(mirror) if mirror else None)
    validate(Workload.read(text, "validate"), folder / "raw", folder / "report", as_of=datetime.now(UTC))
    report = open_artifact(folder / "report", "report")
    return preprocess(Workload.read(text, "preprocess"), raw, report, folder / "prepared")


def scaled_channels(prepared: Artifact, until: str) -> np.ndarray:
    """Read the scaled target, channel by channel, up to the end of a part: float32 (C, N)."""
    store = open_store(prepared)
    values, offsets = store.arrays[VALUES][:, TARGET], store.offsets
    channels = np.stack([values[begin:end] for begin, end in pairwise(offsets)])
    horizon = prepared.read_json("state.json")["windows"]["horizon"]
    origins = read_windows(prepared, until)
    return channels[:, : origins[origins < offsets[1]].max() + horizon]


def scratch(name: str) -> Path:
    """Make an empty folder for a benchmark."""
    folder = Path(tempfile.gettempdir()) / f"gateline-benchmark-{name}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
