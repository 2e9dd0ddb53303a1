"""Where a training run keeps what it needs to go on: in a folder, or in any store that reads and writes bytes.

    STORE/
    ├── last.pt        everything that the next step depends on
    ├── best-E.pt      the best weights so far, of epoch E
    └── refused.json   why this training cannot go on, see `gateline.training.refusals`

`last.pt` names the epoch of the best weights, which are written before it and removed after the next ones are.
"""

from __future__ import annotations

import io
import logging
import os
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from gateline.errors import ArtifactError, UnreachableError

LAST = "last.pt"

log = logging.getLogger("gateline.training")


class CheckpointStore(Protocol):
    """A place for a few files of one training run.

    Writing is whole or not at all. What cannot be reached raises `UnreachableError`.
    """

    @property
    def place(self) -> str:
        """Say where it is, for people; without credentials."""

    def read(self, name: str) -> bytes | None:
        """Read a file; None if it is not there."""

    def write(self, name: str, content: bytes) -> None:
        """Write a file, or replace it."""

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""

    def clear(self) -> None:
        """Remove everything of this run."""

    def others(self) -> int:
        """Count the runs of other data, settings or code whose checkpoints lie beside."""


class FolderStore:
    """Checkpoints in a local folder.

    Args:
        folder: made when something is written.
        all_of_it: the folder to remove when the run is over, with what other settings left there; None: `folder`.
    """

    def __init__(self, folder: Path, all_of_it: Path | None = None) -> None:
        self.folder = folder
        self._all_of_it = all_of_it or folder

    @property
    def place(self) -> str:
        """The folder."""
        return str(self.folder)

    def read(self, name: str) -> bytes | None:
        """Read a file; None if it is not there."""
        path = self.folder / name
        return path.read_bytes() if path.is_file() else None

    def write(self, name: str, content: bytes) -> None:
        """Write a file beside its place, then move it there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = self.folder / f"{name}.tmp"
        try:
            with draft.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())  # else the name may reach the disk before the content, and a crash come between
        except OSError as error:
            draft.unlink(missing_ok=True)
            error.filename = error.filename or str(draft)  # a full disk does not say where
            raise
        draft.replace(self.folder / name)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        (self.folder / name).unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self._all_of_it, ignore_errors=True)

    def others(self) -> int:
        """Count the folders beside this one that hold a checkpoint."""
        around = self.folder.parent
        beside = [path for path in around.iterdir() if path != self.folder] if around.is_dir() else []
        return sum((path / LAST).is_file() for path in beside)


class Checkpoint:
    """Writes and reads the state of one training run.

    Args:
        store: where.
        key: digest of everything that shapes the weights; a checkpoint of another key is refused.
    """

    def __init__(self, store: CheckpointStore, key: str) -> None:
        self.store, self.key = store, key
        self.is_there = False  # whether the store holds a state that this run saved, or went on from
        self._best_epoch: int | None = None

    def save(self, state: Mapping[str, Any], best_epoch: int, best_weights: Mapping[str, torch.Tensor]) -> bool:
        """Write the state; the best weights too when they are new. Say whether it was possible.

        A store that does not answer costs the checkpoint and not the training: the next one is tried as if nothing had been.
        """
        try:
            known, new = self._best_epoch, best_epoch or None
            if new is not None and new != known:
                self.store.write(_best(new), _pack(dict(best_weights)))
            self.store.write(LAST, _pack({"key": self.key, "best_epoch": best_epoch, "state": dict(state)}))
            self._best_epoch, self.is_there = new, True
            if known is not None and known != new:
                self.store.remove(_best(known))
        except UnreachableError as error:
            log.warning("%s Training goes on without a checkpoint.", error)
            return False
        return True

    def load(self) -> tuple[dict[str, Any], int, dict[str, torch.Tensor]] | None:
        """Read state, best epoch (0: none yet) and best weights; None where there is nothing to go on from.

        A damaged checkpoint costs time, not the run: it is as if there were none.

        Raises:
            ArtifactError: it belongs to other data, settings or code, or to another torch.
            UnreachableError: the store did not answer.
        """
        content = self._read(LAST)
        if content is None:
            if others := self.store.others():
                log.warning("%s: starting anew; what is there is of other settings (%d).", self.store.place, others)
            return None
        if content.keys() != {"key", "best_epoch", "state"}:
            log.warning("%s/%s is no checkpoint of a training; starting anew.", self.store.place, LAST)
            return None
        if content["key"] != self.key:
            raise ArtifactError(
                f"{self.store.place}/{LAST}",
                expected=f"a checkpoint of these data, settings and code, by torch {torch.__version__} ({self.key[:12]})",
                found=f"one of others ({str(content['key'])[:12]})",
                do="Remove it, or give another --checkpoints",
            )
        best_epoch: int = content["best_epoch"]
        best_weights = self._read(_best(best_epoch)) if best_epoch else {}
        if best_weights is None:
            log.warning(
                "%s: the best weights, of epoch %s, are not there; starting anew.", self.store.place, best_epoch
            )
            return None
        self._best_epoch, self.is_there = best_epoch or None, True
        return content["state"], best_epoch, best_weights

    def _read(self, name: str) -> dict[str, Any] | None:
        content = self.store.read(name)
        if content is None:
            return None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch says at length what the line below says in short
                value = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except Exception as error:  # noqa: BLE001  torch raises many kinds for damaged files
            log.warning("%s/%s is damaged (%s); starting anew.", self.store.place, name, type(error).__name__)
            return None
        return value if isinstance(value, dict) else {}


def _best(epoch: int) -> str:
    return f"best-{epoch}.pt"


def _pack(value: Any) -> bytes:
    content = io.BytesIO()
    torch.save(value, content)
    return content.getvalue()
