"""Clips and settings of a folder `prepared`, as frame prediction writes it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gateline.data.clips import ClipDataset, ClipSettings, open_clips
from gateline.data.prepared_windows import STATE
from gateline.data.splits import PARTS
from gateline.manifest import Artifact
from gateline.workload.section import Section


class ClipsOfWorkload(Section):
    """Section `preprocess` of a frame prediction workload."""

    past: Annotated[int, Field(ge=1)] = 10
    """Frames that are read."""
    future: Annotated[int, Field(ge=1)] = 10
    """Frames that are foretold."""
    clips: ClipSettings
    """Where clips come from: pictures that move (`kind: moving_digits`), or films (`kind: frames`)."""


def read_settings(prepared: Artifact) -> ClipsOfWorkload:
    """Read what a prepared folder was made by."""
    return ClipsOfWorkload.model_validate(prepared.read_json(STATE))


def open_dataset(prepared: Artifact, part: str) -> ClipDataset:
    """Open the clips of one part."""
    if part not in PARTS:
        raise ValueError(f"a part is one of {PARTS}, got {part!r}")
    settings = read_settings(prepared)
    clips = open_clips(prepared.path, settings.clips, settings.past + settings.future)
    return ClipDataset(clips, part, settings.past)
