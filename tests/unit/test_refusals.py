"""A training that was refused is refused again before its first step, and only that one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from gateline.errors import TrainingError, UnreachableError
from gateline.manifest import Artifact
from gateline.training import RunSettings, train
from gateline.training.checkpoints import FolderStore
from gateline.training.refusals import REFUSED, not_refused, refused_once
from gateline.workload import Workload
from tests.tiny import prepare_tiny, tiny_workload

DIVERGES = {"training__learning_rate": 1e30, "training__clip_norm": None}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return prepare_tiny(tmp_path_factory.mktemp("refused") / "prepared")


def attempt(prepared: Artifact, folder: Path, steps: list[Any], seed: int = 3, **changes: Any) -> None:
    workload = Workload.read(json.dumps(tiny_workload(**DIVERGES | changes), default=str), "train")

    def counted() -> bool:
        steps.append(None)
        return False

    train(workload, prepared, folder / "model", RunSettings(seed), stop=counted)


def test_the_same_training_is_refused_again_without_a_step(prepared: Artifact, tmp_path: Path) -> None:
    first: list[Any] = []
    with pytest.raises(TrainingError) as refusal:
        attempt(prepared, tmp_path, first)
    assert first, "it diverges while it trains"
    (note,) = tmp_path.glob(f"model.checkpoint/*/{REFUSED}")

    again: list[Any] = []
    with pytest.raises(TrainingError) as repeated:
        attempt(prepared, tmp_path, again)
    assert again == []
    assert (repeated.value.where, repeated.value.expected) == (refusal.value.where, refusal.value.expected)
    assert "in an earlier run of this very training" in str(repeated.value)
    assert f"remove {note}" in str(repeated.value)

    note.unlink()
    with pytest.raises(TrainingError, match=r"found (nan|inf)\."):
        attempt(prepared, tmp_path, again)
    assert again, "without the note it is tried"


def test_another_seed_or_setting_is_tried(prepared: Artifact, tmp_path: Path) -> None:
    for changes in ({}, {"seed": 4}, {"training__learning_rate": 2e30}):
        steps: list[Any] = []
        with pytest.raises(TrainingError, match=r"found (nan|inf)\."):
            attempt(prepared, tmp_path, steps, **changes)
        assert steps
    attempt(prepared, tmp_path, [], training__learning_rate=0.01)
    assert (tmp_path / "model" / "manifest.json").is_file()


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"where": "epoch 1"}'])
def test_a_damaged_note_is_not_heeded(content: bytes, tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    store.write(REFUSED, content)
    assert not_refused(store) is store


def test_what_another_torch_refused_is_tried(
    prepared: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in (torch.__version__, "1.0"):
        monkeypatch.setattr(torch, "__version__", version)
        steps: list[Any] = []
        with pytest.raises(TrainingError, match=r"found (nan|inf)\."):
            attempt(prepared, tmp_path, steps)
        assert steps


def refuse(store: FolderStore) -> None:
    with pytest.raises(TrainingError), refused_once(store):
        raise TrainingError("epoch 1, batch 2", expected="a finite loss", found="nan", do="Lower the rate")


def test_a_store_that_is_away_hides_no_refusal(tmp_path: Path) -> None:
    class Away(FolderStore):
        def write(self, *_: object) -> None:
            raise UnreachableError("store", expected="an answer", found="none", do="Wait")

    refuse(Away(tmp_path / "store"))


def test_what_can_be_run_again_is_not_noted(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    with pytest.raises(UnreachableError), refused_once(store):
        raise UnreachableError("MLflow", expected="an answer", found="none", do="Wait")
    assert not_refused(store) is store
