"""Raw files from DVC's remote: the same artifact as from the folder, and one line when the remote is not what it says."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.repo import Repo

from gateline.adapters.folder_store import listing_of, local_files
from gateline.adapters.ingestion import ingest
from gateline.adapters.kubeflow.dvc_objects import with_dvc_objects
from gateline.errors import DataError, WorkloadError
from gateline.workload import Workload
from gateline.workload.source import Source
from tests.tiny_speech import write_recordings

TABLE = "time,value\n2024-01-01T00:00:00,1\n2024-01-01T01:00:00,2\n"


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def project(folder: Path, files: list[dict[str, Any]]) -> Path:
    """A project that a workload of these files lies in, with a DVC remote beside it."""
    (folder / "workloads").mkdir(parents=True)
    (folder / "params.yaml").write_text("workloads: [rides]\n")
    (folder / "data").mkdir()
    workload = folder / "workloads" / "rides.yaml"
    workload.write_text(
        yaml.safe_dump(
            {
                "name": "rides",
                "task": "forecasting",
                "description": "Rides.",
                "source": {"licence": "CC0-1.0", "files": files},
            }
        )
    )
    Repo.init(str(folder), no_scm=True).close()
    (folder / ".dvc" / "config").write_text(
        "[core]\n    no_scm = True\n    remote = store\n    autostage = false\n"
        f"['remote \"store\"']\n    url = {folder.parent / 'store'}\n"
    )
    return workload


def push(folder: Path, name: str) -> None:
    with Repo(str(folder)) as repo:
        repo.add(str(folder / name))
        repo.push()


def of_table(folder: Path) -> Path:
    workload = project(folder, [{"name": "table", "path": "data/rides.csv", "sha256": sha256(TABLE)}])
    (folder / "data" / "rides.csv").write_text(TABLE)
    push(folder, "data/rides.csv")
    return workload


def source_of(workload: Path) -> Source:
    return with_dvc_objects(Workload.read(workload), workload).section("source", Source)


def test_a_pushed_file_makes_the_same_artifact_where_there_is_no_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workload = of_table(tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    here = ingest(Workload.read(workload).section("source", Source), tmp_path / "here")
    source = source_of(workload)
    assert source.files[0].dvc is not None
    assert source.files[0].dvc.remote == (tmp_path / "store").as_uri()

    (tmp_path / "pod").mkdir()
    monkeypatch.chdir(tmp_path / "pod")
    there = ingest(source, tmp_path / "there")

    assert there.digest == here.digest


def test_a_pushed_folder_makes_the_same_artifact_where_there_is_no_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_recordings(recordings := tmp_path / "recordings")
    (recordings / ".hidden").write_text("left alone")
    digest = sha256(listing_of(local_files(recordings, "")))
    files = [{"name": "calls", "path": "data/recordings/", "format": "audio", "sha256": digest}]
    workload = project(tmp_path / "project", files)
    shutil.copytree(recordings, tmp_path / "project" / "data" / "recordings")
    push(tmp_path / "project", "data/recordings")
    monkeypatch.chdir(tmp_path / "project")
    here = ingest(Workload.read(workload).section("source", Source), tmp_path / "here")
    source = source_of(workload)
    told: list[tuple[int, int]] = []

    monkeypatch.chdir(tmp_path)
    there = ingest(source, tmp_path / "there", on_file=lambda *now: told.append(now))

    assert there.digest == here.digest
    assert told[-1][0] == told[-1][1] > 0


def test_what_the_remote_does_not_have_or_has_damaged_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source_of(of_table(tmp_path / "project"))
    kept = source.files[0].dvc
    assert kept is not None
    stored = Path(kept.address().removeprefix("file://"))
    monkeypatch.chdir(tmp_path)

    stored.chmod(0o644)
    stored.write_text("other bytes")
    with pytest.raises(DataError, match=r"bytes with md5 .* `dvc push` again"):
        ingest(source, tmp_path / "raw")
    stored.unlink()
    with pytest.raises(DataError, match=r"was it pushed"):
        ingest(source, tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


def test_a_file_that_changed_since_it_was_added_is_refused_before_anything_is_submitted(tmp_path: Path) -> None:
    workload = of_table(tmp_path / "project")
    (tmp_path / "project" / "data" / "rides.csv").unlink()
    (tmp_path / "project" / "data" / "rides.csv").write_text("time,value\n")

    with pytest.raises(WorkloadError, match=r"source\.files\.table: .*found other bytes"):
        source_of(workload)


def test_without_a_remote_one_line_says_how_to_add_one(tmp_path: Path) -> None:
    workload = of_table(tmp_path / "project")
    (tmp_path / "project" / ".dvc" / "config").write_text("[core]\n    no_scm = True\n")

    with pytest.raises(WorkloadError, match=r"dvc remote add"):
        source_of(workload)


def test_a_file_that_dvc_does_not_keep_is_left_as_it_is(tmp_path: Path) -> None:
    workload = project(tmp_path, [{"name": "table", "path": "data/rides.csv", "sha256": sha256(TABLE)}])

    assert source_of(workload).files[0].dvc is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dvc": {"remote": "store", "md5": "0" * 32}}, "the address of a DVC remote"),
        ({"dvc": {"remote": "s3://key:secret@bucket/store", "md5": "0" * 32}}, "without a user, a password"),
        ({"dvc": {"remote": "https://token@store.example/x", "md5": "0" * 32}}, "without a user, a password"),
        ({"dvc": {"remote": "s3://bucket/store", "md5": "0" * 32 + ".dir"}}, "ends in .dir"),
        ({"path": None, "url": "https://example.com/a.csv"}, "`dvc` with a `path`"),
    ],
)
def test_what_dvc_says_must_fit_the_path(change: dict[str, Any], message: str) -> None:
    file = {"name": "table", "path": "a.csv", "sha256": "0" * 64, "dvc": {"remote": "s3://b/s", "md5": "0" * 32}}
    sections = {"source": {"licence": "CC0-1.0", "files": [{**file, **change}]}}
    text = json.dumps({"name": "rides", "task": "forecasting", "description": "Rides.", **sections})

    with pytest.raises(WorkloadError, match=message):
        Workload.read(text).section("source", Source)
