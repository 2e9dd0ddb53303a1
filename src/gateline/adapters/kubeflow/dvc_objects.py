"""Tell a workload where DVC keeps its local files, so that a pod without a checkout finds them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from gateline.adapters.project import find_root
from gateline.errors import WorkloadError
from gateline.manifest import file_digest
from gateline.workload import Workload
from gateline.workload.source import File, Source

SUFFIX = ".dvc"


def with_dvc_objects(workload: Workload, place: Path) -> Workload:
    """Fill in `source.files[].dvc` of each `path` that has a file PATH.dvc beside it.

    Args:
        workload: as its file has it.
        place: of the file; paths are relative to its project.

    Returns:
        The same workload where DVC keeps none of its files.

    Raises:
        WorkloadError: DVC has no remote for a file, or the file is no longer the one that DVC keeps.
    """
    source, root = workload.section("source", Source), find_root(place.parent) or Path.cwd()
    given: list[dict[str, Any]] = [dict(file) for file in workload.sections["source"]["files"]]
    for file, entry in zip(source.files, given, strict=True):
        if file.path is not None and file.package is None and file.dvc is None:
            path = root / file.path.rstrip("/")
            if path.with_name(path.name + SUFFIX).is_file():
                entry["dvc"] = _object(root, path, file)
    sections = {**workload.sections, "source": {**workload.sections["source"], "files": given}}
    return dataclasses.replace(workload, sections=sections)


def _object(root: Path, path: Path, file: File) -> dict[str, str]:
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    where = f"source.files.{file.name}"
    try:
        with Repo(str(root)) as repo:
            out = repo.find_outs_by_path(str(path))[0]
            store = repo.cloud.get_remote_odb(out.remote, "push")
            address, md5 = str(store.fs.unstrip_protocol(store.path)), str(out.hash_info.value)
    except DvcException as error:
        raise WorkloadError(
            where,
            expected=f"a DVC remote that {path.name} is pushed to",
            found=" ".join(str(error).split())[:160],
            do="Add one (`dvc remote add --default NAME s3://...`) and `dvc push`",
        ) from error
    if path.is_file() and file_digest(path) != file.sha256:
        raise WorkloadError(
            where,
            expected=f"a file with sha256 {file.sha256} at {file.path}",
            found="other bytes",
            do="Run `dvc checkout`, or write the digest of the new file into the workload, `dvc add` and `dvc push` it",
        )
    remote = address.removesuffix("/files/md5")
    return {"remote": remote if "://" in remote else Path(remote).as_uri(), "md5": md5}
