"""Links that the project's folder can check: raw data, report, prepared data, DVC, workload, commit, lock file, pipeline, image.

What a registered model came from may have moved on since: another workload file, another run's artifacts. So a link holds
where the thing that the passport names is found, in the folder, in DVC's cache or at the commit; it is broken where a place
that should hold it holds something else; and it is unchecked where there is no such place.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gateline.adapters.container_engine import compare_image
from gateline.adapters.dvc_cache import look_into_cache
from gateline.adapters.object_store import find_by_digest, installed_file
from gateline.adapters.project import ARTIFACTS, WORKLOADS
from gateline.adapters.provenance import dvc_md5_of, files_of_commit, run_git
from gateline.adapters.registry.links import Link, broken, holds, short, unchecked
from gateline.errors import ArtifactError, DataError, GatelineError, examples
from gateline.manifest import MANIFEST, Json, open_artifact
from gateline.passport import LOCK_FILE, code_version, version_of, version_of_files
from gateline.workload import Workload
from gateline.workload.source import File, Source
from gateline.workload.training import WITHOUT_EFFECT, Training

NAMES = {"raw": "raw data", "report": "report", "prepared": "prepared data"}
PACKAGE = "src/gateline"
RAW_SECTIONS = ("schema", "preprocess", "evaluation", "gates")


@dataclass(frozen=True)
class ProjectLinks:
    """Looks at the project for what a passport names.

    Args:
        root: the project; None where there is none.
        passport: of the registered model.
        workload: of the registered model.
        manifests: bytes of each folder's manifest, by kind.
    """

    root: Path | None
    passport: Json
    workload: Json
    manifests: Mapping[str, bytes]

    @property
    def commit(self) -> str | None:
        """The commit, if the passport names one that git has here."""
        commit = self.passport["code"].get("commit")
        if commit is None or self.root is None:
            return None
        return commit if run_git("cat-file", "-e", f"{commit}^{{commit}}", folder=self.root) is not None else None

    def folder(self, kind: str) -> Link:
        """Find a folder in the project's artifacts, in DVC's cache, or, of raw data, the files at their source."""
        name, digest = NAMES[kind], self.passport["artifacts"][kind]["digest"]
        if hashlib.sha256(self.manifests[kind]).hexdigest() != digest:
            return broken(
                name, f"the manifest inside the model is not the one that the passport names ({short(digest)})"
            )
        if kind == "raw" and (problem := self._raw_files()):
            return broken(name, problem)
        if self.root is None:
            return unchecked(name, "this is no project, so there is no folder to look at")
        folder = self.root / ARTIFACTS / self.workload["name"] / kind
        manifest = folder / MANIFEST
        if manifest.is_file() and hashlib.sha256(manifest.read_bytes()).hexdigest() == digest:
            try:
                open_artifact(folder, kind)
            except ArtifactError as error:
                return broken(name, f"{_shown(folder, self.root)}: {error.found}")
            return holds(name, f"{_shown(folder, self.root)}: {short(digest)}")
        cached = self._in_cache(kind)
        if cached is not None and cached.state != "unchecked":
            return cached
        if kind == "raw" and (found := self._at_source()) is not None:
            return found
        if manifest.is_file():
            return unchecked(name, f"{_shown(folder, self.root)} holds those of another run now")
        return cached or unchecked(name, f"{_shown(folder, self.root)} does not hold it, and DVC never kept it")

    def dvc(self) -> Link:
        """See that the md5 under which DVC keeps a folder is the md5 of that folder."""
        name, recorded = "DVC md5", self.passport["dvc_md5"]
        if not recorded:
            return unchecked(name, "DVC did not keep these folders when the model was registered")
        if self.root is None:
            return unchecked(name, "this is no project, so there is no folder to look at")
        seen = []
        for kind, md5 in recorded.items():
            folder = self.root / ARTIFACTS / self.workload["name"] / kind
            manifest = folder / MANIFEST
            if manifest.is_file() and manifest.read_bytes() == self.manifests[kind]:
                if (actual := dvc_md5_of(folder)) != md5:
                    return broken(name, f"{kind} has {actual}, the passport says {md5}")
                seen.append(kind)
            elif (cached := self._in_cache(kind)) is not None:
                if cached.state == "broken":
                    return broken(name, cached.words)
                if cached.state == "holds":
                    seen.append(kind)
        if not seen:
            return unchecked(name, "neither the artifacts nor DVC's cache hold these folders")
        missing = [kind for kind in recorded if kind not in seen]
        if missing:
            return unchecked(name, f"{', '.join(seen)}: as recorded; {', '.join(missing)}: not here")
        return holds(name, f"of {', '.join(seen)}")

    def workload_file(self) -> Link:
        """Find the workload's file as it was: here, or at the commit."""
        name = "workload file"
        if self.root is None:
            return unchecked(name, "this is no project, so there is no file to look at")
        workload = self.workload["name"]
        paths = [Path(WORKLOADS) / f"{workload}.yaml", Path(ARTIFACTS) / workload / f"{workload}.yaml"]
        differing = untold = None
        for path in paths:
            texts = {"here": _text(self.root / path), "at the commit": self._at_commit(path.as_posix())}
            for place, text in texts.items():
                if text is None:
                    continue
                changed, left_out = self._changes(text)
                if not changed and not left_out:
                    return holds(name, f"{path} {place}")
                if changed:
                    differing = differing or f"{path} has another {' and '.join(changed)}"
                else:
                    untold = (
                        untold or f"{path} {place}, in which another Gateline than this one read {examples(left_out)}"
                    )
        if untold is not None:
            return unchecked(name, untold)
        if differing is None:
            return unchecked(name, f"{paths[0]} is not here")
        return broken(name, f"{differing}, here and at the commit of the passport" if self.commit else differing)

    def commit_link(self) -> Link:
        """See that the commit holds the code."""
        code, name = self.passport["code"], "commit"
        said = code.get("commit")
        if said is None:
            return unchecked(name, "there was no git where the model was registered")
        if self.root is None or run_git("rev-parse", "HEAD", folder=self.root) is None:
            return unchecked(name, f"there is no git here to ask for {short(said)}")
        if self.commit is None:
            return broken(name, f"this repository has no commit {short(said)}")
        if version_of_files(files_of_commit(said, PACKAGE, self.root).items()) == code["version"]:
            changes = " (files outside the library had changes)" if code.get("dirty") == "true" else ""
            return holds(name, f"{short(said)} holds the code {short(code['version'])}{changes}")
        if code.get("dirty") == "true":
            here = " it is the code that stands here" if version_of(self.root / PACKAGE) == code["version"] else ""
            return unchecked(
                name, f"{short(said)} with changes that no commit holds;{here or ' nothing here holds it'}"
            )
        return broken(name, f"{short(said)} holds other code than {short(code['version'])}")

    def lock_file(self) -> Link:
        """Find the lock file as it was."""
        if self.passport["lock_file"] is None:
            return unchecked("lock file", "there was none where the model was registered")
        return self._file("lock file", LOCK_FILE, self.passport["lock_file"])

    def pipeline(self) -> Link:
        """Find the file of the door that registered the model as it was."""
        said = self.passport["pipeline"]
        if said["digest"] is None:
            return unchecked("pipeline", f"{said['door']}: no file says what it ran")
        if said["file"] is None:
            return unchecked("pipeline", f"{said['door']} ran {short(said['digest'])}; compile it again to compare")
        return self._file("pipeline", said["file"], said["digest"])

    def image(self, noted: Mapping[str, str]) -> Link:
        """Compare the images with what the registry noted of the version, and with what a container engine knows of them.

        Args:
            noted: image by step, as a tag of the version has them.
        """
        said: dict[str, str] = self.passport["images"]
        for step in sorted({*said, *noted}):
            if said.get(step) != noted.get(step):
                return broken(
                    "image",
                    f"the registry says {noted.get(step) or 'none'} of {step}, the passport {said.get(step) or 'none'}",
                )
        if not said:
            return unchecked("image", "none: the steps ran outside an image")
        commit = self.passport["code"].get("commit")
        for step, image in sorted(said.items()):
            state, words = compare_image(image, commit)
            if state != "holds":
                return Link("image", state, f"{step}: {words}")
        return holds("image", f"{', '.join(sorted(set(said.values())))}, built of the commit")

    def _raw_files(self) -> str | None:
        listed = {name: entry["sha256"] for name, entry in json.loads(self.manifests["raw"])["files"].items()}
        wrong = [name for name, sha256 in self.passport["raw"]["files"].items() if listed.get(name) != sha256]
        return f"the passport names other bytes of {examples(wrong)} than the manifest" if wrong else None

    def _at_source(self) -> Link | None:
        """Look for the raw files where the workload takes them from, as far as this machine has them."""
        mirror = os.environ.get("GATELINE_MIRROR")
        seen = []
        for file in Source.model_validate(self.workload["source"]).files:
            path = _local(file, Path(mirror) if mirror else None, self.root or Path())
            if path is None:
                return None
            with path.open("rb") as content:
                actual = hashlib.file_digest(content, "sha256").hexdigest()
            if actual != file.sha256:
                return broken(
                    NAMES["raw"], f"{path} has sha256 {short(actual)}, the workload pins {short(file.sha256)}"
                )
            seen.append(str(path))
        return holds(NAMES["raw"], f"at its source, {examples(seen)}")

    def _in_cache(self, kind: str) -> Link | None:
        """Look into DVC's cache, file by file; None if DVC did not keep the folder."""
        md5 = self.passport["dvc_md5"].get(kind)
        if md5 is None or self.root is None:
            return None
        wanted = {name: entry["sha256"] for name, entry in json.loads(self.manifests[kind])["files"].items()}
        wanted[MANIFEST] = hashlib.sha256(self.manifests[kind]).hexdigest()
        return Link(NAMES.get(kind, kind), *look_into_cache(self.root, md5, wanted))

    def _changes(self, text: bytes) -> tuple[list[str], list[str]]:
        """Compare a workload's file with the workload of the registered model.

        The registered sections `source`, `model` and `training` hold the defaults of the library of that day. Where the one here is
        another, a setting that the file does not write may differ by that alone.

        Returns:
            Names of the sections that are others, and of settings that only another library may explain.
        """
        import yaml

        from gateline.tasks import task_named

        another_library = self.passport["code"]["version"] != code_version()
        changed: list[str] = []
        try:
            content = yaml.safe_load(text)
            file = Workload(content["name"], content["task"], str(content["description"]).strip(), "", content)
            as_written = {
                **{name: json.loads(text) for name, text in file.recorded(*RAW_SECTIONS).items()},
                "task": file.task,
                "description": file.description,
            }
            changed = [name for name, value in as_written.items() if self.workload[name] != value]
            task = task_named(file.task)
            with_defaults = {
                "source": file.section("source", Source).model_dump(mode="json"),
                "model": file.section("model", task.Model).model_dump(mode="json"),
                "training": file.section("training", Training).model_dump(mode="json", exclude=WITHOUT_EFFECT),
            }
        except (yaml.YAMLError, KeyError, TypeError, GatelineError) as error:
            form = [f"form ({' '.join(str(error).split())[:120]})"]
            return (changed, form) if another_library and isinstance(error, GatelineError) else ([*changed, *form], [])
        left_out: list[str] = []
        for name, value in with_defaults.items():
            found = dict(_differences(value, self.workload[name], content[name], name))
            if any(found.values()) or (found and not another_library):
                changed.append(name)
            else:
                left_out += found
        return changed, left_out

    def _file(self, name: str, path: str, digest: str) -> Link:
        if self.root is None:
            return unchecked(name, "this is no project, so there is no file to look at")
        places = {"here": _text(self.root / path), "at the commit": self._at_commit(path)}
        found = {place: hashlib.sha256(text).hexdigest() for place, text in places.items() if text is not None}
        for place, actual in found.items():
            if actual == digest:
                return holds(name, f"{path} {place}: {short(digest)}")
        if not found:
            return unchecked(name, f"{path} is not here")
        seen = ", ".join(f"{short(actual)} {place}" for place, actual in found.items())
        return broken(name, f"{path} is {seen}, the passport says {short(digest)}")

    def _at_commit(self, path: str) -> bytes | None:
        return run_git("show", f"{self.commit}:./{path}", folder=self.root) if self.commit else None


def _text(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _differences(now: Json, then: Json, written: Json, name: str) -> Iterator[tuple[str, bool]]:
    """Name the settings that differ, and whether the file writes them; what it does not write is a default of the library."""
    if now == then:
        return
    if isinstance(now, dict) and isinstance(then, dict):
        for key in {**now, **then}:
            inner = written.get(key) if isinstance(written, dict) else None
            yield from _differences(now.get(key), then.get(key), inner, f"{name}.{key}")
    elif isinstance(now, list) and isinstance(then, list) and isinstance(written, list) and len(now) == len(then):
        for place, (one, other, inner) in enumerate(zip(now, then, written, strict=False)):
            yield from _differences(one, other, inner, f"{name}[{place}]")
    else:
        yield name, written is not None


def _shown(path: Path, root: Path) -> str:
    return str(path.relative_to(root))


def _local(file: File, mirror: Path | None, root: Path) -> Path | None:
    if file.is_folder:
        return None
    try:
        if mirror is not None and (mirrored := find_by_digest(mirror, file.sha256)) is not None:
            return mirrored
        if file.url is not None:
            return None
        path = installed_file(file, "source") if file.package else root / str(file.path)
    except DataError:
        return None
    return path if path.is_file() else None
