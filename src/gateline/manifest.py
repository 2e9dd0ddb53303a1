"""Artifacts: folders that explain themselves, are complete or not there, and are refused when they changed.

    DIR/
    ├── manifest.json      kind, inputs (digests of the folders it was made from), files (sha256, bytes), facts
    └── ...                the files that the manifest names, and no others

A folder is written as ``DIR.tmp`` and renamed, the manifest last: a folder with a manifest is complete, whatever
happened to the process that wrote it. The digest of an artifact is the sha256 of its manifest, which holds the sha256
of every file; so it names the content to the byte.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateline.errors import ArtifactError, examples

FORMAT_VERSION = 1
MANIFEST = "manifest.json"

Json = Any  # what json.loads gives


@dataclass(frozen=True)
class Artifact:
    """A complete folder whose content was checked against its manifest.

    Args:
        path: the folder.
        kind: what it is, e.g. ``prepared``.
        digest: sha256 of ``manifest.json``, 64 hexadecimal digits.
        inputs: digest of each artifact it was made from, by kind.
        facts: what its step added (shapes, verdict, ...).
    """

    path: Path
    kind: str
    digest: str
    inputs: Mapping[str, str]
    facts: Mapping[str, Json]

    def read_json(self, name: str) -> Json:
        """Read one of its JSON files."""
        return json.loads((self.path / name).read_text(encoding="utf-8"))


@dataclass
class Draft:
    """A folder being written: put files under `path`, and what its reader should know into `facts`."""

    path: Path
    facts: dict[str, Json] = field(default_factory=dict)

    def write_json(self, name: str, value: Json) -> None:
        """Write one JSON file, the same bytes for the same value."""
        (self.path / name).write_text(dump_json(value), encoding="utf-8")


def dump_json(value: Json) -> str:
    """Turn a value into JSON text with sorted keys; NaN and infinity are refused, since JSON has no word for them."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def digest_of(value: Json) -> str:
    """sha256 of a JSON value, independent of key order and layout."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def write_artifact(folder: Path, kind: str, inputs: Mapping[str, Artifact] | None = None) -> Iterator[Draft]:
    """Write an artifact so that it is there whole or not at all.

    An artifact that was there before is replaced only when the new one is complete.

    Args:
        folder: where it shall stand; its parents are made.
        kind: what it is.
        inputs: the artifacts it is made from, by kind.

    Raises:
        ArtifactError: `folder` is a file, or a folder that no step wrote (it would be destroyed).
    """
    folder = Path(folder).resolve()  # behind a link, so that the link stays one
    if folder.exists() and not folder.is_dir():
        raise ArtifactError(folder, expected="a folder to write", found="a file", do="Name another folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MANIFEST).exists():
        raise ArtifactError(
            folder,
            expected=f"a new folder, or one with a {MANIFEST}",
            found="a folder with other files in it",
            do="Name another folder, or empty this one",
        )
    draft_path, old_path = folder.with_name(folder.name + ".tmp"), folder.with_name(folder.name + ".old")
    if (old_path / MANIFEST).exists() and not folder.exists():
        old_path.rename(folder)  # a kill came between the two renames below: what was there is still what is there
    for left_by_a_kill in (draft_path, old_path):
        shutil.rmtree(left_by_a_kill, ignore_errors=True)
    draft_path.mkdir(parents=True)
    draft = Draft(draft_path)
    try:
        yield draft
        manifest = {
            "format": FORMAT_VERSION,
            "kind": kind,
            "inputs": {name: artifact.digest for name, artifact in (inputs or {}).items()},
            "files": {
                path.relative_to(draft_path).as_posix(): {"sha256": file_digest(path), "bytes": path.stat().st_size}
                for path in _files(draft_path)
            },
            "facts": draft.facts,
        }
        (draft_path / MANIFEST).write_text(dump_json(manifest), encoding="utf-8")
    except BaseException:
        shutil.rmtree(draft_path, ignore_errors=True)
        raise
    if folder.exists():
        folder.rename(old_path)
    draft_path.rename(folder)
    shutil.rmtree(old_path, ignore_errors=True)


def open_artifact(folder: Path, kind: str) -> Artifact:
    """Open an artifact and check every byte of it against its manifest.

    Raises:
        ArtifactError: the folder is missing, incomplete, of another kind or format version, or a file in it was
            changed, removed or added since it was written.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    again = f"Run the step that writes {kind!r} again"
    if not path.is_file():
        found = "no such folder" if not folder.exists() else f"no {MANIFEST} in it"
        raise ArtifactError(folder, expected=f"a complete {kind!r} folder", found=found, do=again)
    text = path.read_bytes()
    try:
        manifest = json.loads(text)
        version, actual_kind = manifest["format"], manifest["kind"]
        files = {str(name): str(entry["sha256"]) for name, entry in manifest["files"].items()}
        inputs, facts = dict(manifest["inputs"]), dict(manifest["facts"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(path, expected="a manifest", found=f"text that is none ({error})", do=again) from error
    if version != FORMAT_VERSION:
        raise ArtifactError(path, expected=f"format version {FORMAT_VERSION}", found=f"version {version}", do=again)
    if actual_kind != kind:
        raise ArtifactError(
            folder, expected=f"a {kind!r} folder", found=f"a {actual_kind!r} folder", do="Swap the paths of the flags"
        )
    present = {file.relative_to(folder).as_posix() for file in _files(folder)} - {MANIFEST}
    _refuse_if(folder, sorted(set(files) - present), "every file of its manifest", "missing", again)
    _refuse_if(folder, sorted(present - set(files)), "only files of its manifest", "not in the manifest", again)
    changed = [name for name, sha256 in files.items() if file_digest(folder / name) != sha256]
    _refuse_if(folder, sorted(changed), "the files as their step wrote them", "changed since", again)
    return Artifact(folder, kind, hashlib.sha256(text).hexdigest(), inputs, facts)


def check_made_from(artifact: Artifact, *inputs: Artifact) -> None:
    """Refuse an artifact that was made from other folders than the ones given beside it.

    Raises:
        ArtifactError: a digest that the artifact names is not the digest of the folder given.
    """
    for given in inputs:
        if artifact.inputs.get(given.kind) != given.digest:
            raise ArtifactError(
                artifact.path,
                expected=f"a {artifact.kind!r} made from {given.path} ({given.digest[:12]})",
                found=f"one made from another {given.kind!r} ({str(artifact.inputs.get(given.kind))[:12]})",
                do=f"Run the step that writes {artifact.kind!r} again",
            )


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _refuse_if(folder: Path, names: list[str], expected: str, what: str, do: str) -> None:
    if names:
        raise ArtifactError(folder, expected=expected, found=f"{examples(names)} {what}", do=do)
