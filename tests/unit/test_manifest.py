"""Artifacts: there whole or not at all, and every byte checked by whoever opens them."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateline.errors import ArtifactError
from gateline.manifest import Artifact, check_made_from, digest_of, open_artifact, write_artifact


def make(folder: Path, text: str = "x", inputs: dict[str, Artifact] | None = None) -> Artifact:
    with write_artifact(folder, "raw", inputs) as draft:
        (draft.path / "deep").mkdir()
        (draft.path / "deep" / "file.txt").write_text(text)
        draft.facts["rows"] = 1
    return open_artifact(folder, "raw")


def test_the_digest_names_the_content(tmp_path: Path) -> None:
    assert make(tmp_path / "a").digest == make(tmp_path / "b").digest
    assert make(tmp_path / "a").digest != make(tmp_path / "c", "y").digest
    assert make(tmp_path / "a").facts == {"rows": 1}


def test_a_failure_half_way_leaves_nothing_and_keeps_what_was_there(tmp_path: Path) -> None:
    before = make(tmp_path / "a")

    def fail_half_way() -> None:
        with write_artifact(tmp_path / "a", "raw") as draft:
            (draft.path / "file").write_text("half")
            raise RuntimeError("disk")

    with pytest.raises(RuntimeError, match="disk"):
        fail_half_way()

    assert open_artifact(tmp_path / "a", "raw") == before
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_a_kill_left_is_cleared_away(tmp_path: Path) -> None:
    for name in ("a.tmp", "a.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").write_text("written")

    make(tmp_path / "a")

    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_folder_that_no_step_wrote_is_not_destroyed(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("x")

    for name in ("home", "file"):
        with pytest.raises(ArtifactError, match="Name another folder"), write_artifact(tmp_path / name, "raw"):
            pass
    assert (tmp_path / "home" / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: (f / "deep" / "file.txt").write_text("y"), "deep/file.txt changed"),
        (lambda f: (f / "deep" / "file.txt").unlink(), "deep/file.txt missing"),
        (lambda f: (f / "new").write_text("z"), "new not in the manifest"),
        (lambda f: (f / "manifest.json").write_text("{"), "text that is none"),
        (lambda f: (f / "manifest.json").write_text("[]"), "text that is none"),
        (lambda f: (f / "manifest.json").unlink(), "no manifest.json"),
    ],
)
def test_every_change_is_found(change: object, words: str, tmp_path: Path) -> None:
    make(tmp_path / "a")
    change(tmp_path / "a")  # type: ignore[operator]

    with pytest.raises(ArtifactError, match=words):
        open_artifact(tmp_path / "a", "raw")


def test_another_kind_and_another_version_are_refused(tmp_path: Path) -> None:
    make(tmp_path / "a")
    with pytest.raises(ArtifactError, match="Swap the paths"):
        open_artifact(tmp_path / "a", "model")
    path = tmp_path / "a" / "manifest.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(ArtifactError, match="format version 1"):
        open_artifact(tmp_path / "a", "raw")


def test_folders_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    first, second = make(tmp_path / "first"), make(tmp_path / "second", "y")
    child = make(tmp_path / "child", inputs={"raw": first})

    check_made_from(child, first)
    with pytest.raises(ArtifactError, match="another 'raw'"):
        check_made_from(child, second)


def test_a_digest_of_a_value_does_not_depend_on_the_order_of_keys() -> None:
    assert digest_of({"a": 1, "b": [1.5]}) == digest_of({"b": [1.5], "a": 1})
    assert digest_of({"a": 1}) != digest_of({"a": 2})
    with pytest.raises(ValueError, match="JSON"):
        digest_of({"a": float("nan")})
