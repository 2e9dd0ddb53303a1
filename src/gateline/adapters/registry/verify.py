"""Verify: walk every link from the raw data to the registered model, and name the first one that does not hold."""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gateline.adapters.mlflow_server import Connection, connected
from gateline.adapters.registry.inputs import judged, read_errors
from gateline.adapters.registry.kept_decision import digest_in, read_kept
from gateline.adapters.registry.ledger import DECISION_TAG, in_words, lost, read_both, read_ledger
from gateline.adapters.registry.links import Link, Verification, broken, compared, holds, short, unchecked
from gateline.adapters.registry.package import (
    PACKAGE_TAG,
    PACKAGES_FOLDER,
    first_difference,
    package_digest,
    package_files,
)
from gateline.adapters.registry.project_links import ProjectLinks
from gateline.adapters.registry.reference import read_reference
from gateline.adapters.registry.registered import Registered, registered, version_of_reference
from gateline.adapters.registry.run_files import fetch_of_run
from gateline.adapters.registry.serving_check import CHECK_TAG, PASSED
from gateline.adapters.registry.versions import (
    IMAGES_TAG,
    LIBRARY_TAG,
    METRICS,
    PASSPORT_TAG,
    REGISTRATION_TAG,
    WEIGHTS_TAG,
    WORKLOAD,
    registration_of,
)
from gateline.adapters.tracking import LOGGED_TAG, numbers_of
from gateline.errors import ArtifactError, GatelineError, RegistryError, TryAgainError, examples
from gateline.judgement import first_other_outcome
from gateline.manifest import MANIFEST, Json, digest_of, file_digest, open_artifact
from gateline.paired_errors import ERRORS
from gateline.passport import FORMAT_VERSION, SETTINGS, version_of
from gateline.workload import Workload
from gateline.workload.address import without_users
from gateline.workload.gates import Gates

if TYPE_CHECKING:
    from mlflow.entities import Run

KINDS = ("raw", "report", "prepared", "model", "evaluation")
LINKS_OF_FILES = {"weights.pt": "weights", "preprocessing.json": "preprocessing state"}
SECTIONS_OF = {"raw": ("source",), "report": ("schema",), "prepared": ("preprocess",), "model": ("model", "training")}


def verify(reference: str, root: Path | None) -> Verification:
    """Check every link of a registered version.

    Args:
        reference: see `version_of_reference`.
        root: the project, whose data and commits are looked at; None where there is none.

    Raises:
        RegistryError: there is no such version, its files are gone, or it has no passport.
        UnreachableError: MLflow does not answer.
    """
    with connected(read_reference(reference).name, create=False) as to:
        version = version_of_reference(to, reference)
        with registered(version) as found:
            links = _Chain(to, found, *_papers(found), root)
            return Verification(found.name, found.number, list(links.walk()))


def _papers(found: Registered) -> tuple[Json, Json, dict[str, bytes]]:
    try:
        passport, workload = found.passport(), found.workload()
        manifests = {kind: (found.papers / "manifests" / f"{kind}.json").read_bytes() for kind in KINDS}
        if passport["format"] != FORMAT_VERSION:
            raise ValueError(f"format {passport['format']}")  # noqa: TRY301
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RegistryError(
            f"{found.name} version {found.number}",
            expected=f"a passport of format {FORMAT_VERSION} with workload and manifests",
            found=f"{type(error).__name__}: {error}"[:200],
            do="Its papers were damaged; restore the model's files, or register it again",
        ) from error
    return passport, workload, manifests


def _listing(to: Connection, run: Run, package: str) -> Json:
    """Fetch what `package_files` said of a package when it was registered; nothing where that is gone or unreadable."""
    with tempfile.TemporaryDirectory() as scratch:
        file = fetch_of_run(to, run.info.run_id, f"{PACKAGES_FOLDER}/{package}.json", Path(scratch))
        try:
            listed: Json = {} if file is None else json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
    return listed


@dataclass(frozen=True)
class _Chain:
    """The links of one version."""

    to: Connection
    found: Registered
    passport: Json
    workload: Json
    manifests: dict[str, bytes]
    root: Path | None

    def walk(self) -> Iterator[Link]:
        """Look at each link, in the order of the data."""
        from mlflow.exceptions import MlflowException

        run = self._run()
        project = ProjectLinks(self.root, self.passport, self.workload, self.manifests)
        looks: list[tuple[str, Callable[[], Link]]] = [
            ("raw data", lambda: project.folder("raw")),
            ("report", lambda: project.folder("report")),
            ("prepared data", lambda: project.folder("prepared")),
            ("DVC md5", project.dvc),
            ("workload", self._workload),
            ("workload file", project.workload_file),
            ("code", self._code),
            ("commit", project.commit_link),
            ("lock file", project.lock_file),
            ("image", lambda: project.image(json.loads(self.found.version.tags[IMAGES_TAG]))),
            ("pipeline", project.pipeline),
            ("settings", self._settings),
            ("preprocessing state", lambda: self._file_of_model("preprocessing.json")),
            ("weights", lambda: self._file_of_model("weights.pt")),
            ("model", self._model),
            ("evaluation", lambda: self._evaluation(run)),
            ("verdict", self._verdict),
            ("requirements", self._requirements),
            ("signature", self._signature),
            ("package", lambda: self._package(run)),
            ("serving check", self._serving_check),
            ("ledger", self._ledger),
            ("decision", self._decision),
            ("champion", self._champion),
            ("tags", self._tags),
            ("passport", self._passport),
        ]
        for name, look in looks:
            try:
                yield look()
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                yield broken(name, f"MLflow has lost it ({' '.join(without_users(error.message).split())[:160]})")
            except TryAgainError:
                raise
            except (OSError, LookupError, AttributeError, TypeError, ValueError, GatelineError) as error:
                yield broken(name, f"it cannot be read ({type(error).__name__}: {' '.join(str(error).split())[:160]})")

    def _run(self) -> Run | None:
        from mlflow.exceptions import MlflowException

        try:
            return self.to.client.get_run(str(self.found.version.run_id))
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise

    def _workload(self) -> Link:
        if file_digest(self.found.papers / WORKLOAD) != self.passport["workload"]["digest"]:
            return broken("workload", "workload.json inside the model is not the one that the passport names")
        for kind, sections in SECTIONS_OF.items():
            facts = json.loads(self.manifests[kind])["facts"]
            said = facts | {name: json.loads(text) for name, text in facts.get("sections", {}).items()}
            for section in sections:
                if said[section] != self.workload[section]:
                    return broken("workload", f"{kind} was made by another `{section}` than workload.json says")
        return holds("workload", short(self.passport["workload"]["digest"]))

    def _code(self) -> Link:
        name, version = "code", self.passport["code"]["version"]
        actual = version_of(self.found.package)
        if actual != version:
            return compared(name, "the package inside the model", actual, version)
        trained = json.loads(self.manifests["model"])["facts"].get("code")
        if trained != self.passport["code"]["trained"]:
            return compared(name, "the model folder, of its training,", trained, self.passport["code"]["trained"])
        if trained != version:
            by = short(trained) if trained else "code that it does not name"
            return unchecked(name, f"{short(version)} is inside the model, and it was trained by {by}")
        return holds(name, short(version))

    def _settings(self) -> Link:
        facts = json.loads(self.manifests["model"])["facts"]
        for name in SETTINGS:
            if facts.get(name) != self.passport["settings"][name]:
                return compared("settings", f"the model's {name}", facts.get(name), self.passport["settings"][name])
        return compared("settings", "seed", facts["seed"], self.passport["seed"])

    def _file_of_model(self, file: str) -> Link:
        listed = json.loads(self.manifests["model"])["files"][file]["sha256"]
        return compared(LINKS_OF_FILES[file], f"{file} inside the model", file_digest(self.found.model / file), listed)

    def _model(self) -> Link:
        digest = self.passport["artifacts"]["model"]["digest"]
        if hashlib.sha256(self.manifests["model"]).hexdigest() != digest:
            return broken("model", "its manifest among the papers is not the one that the passport names")
        actual = open_artifact(self.found.model, "model").digest
        if actual == digest:
            for kind, made_from in self.passport["artifacts"]["model"]["inputs"].items():
                if self.passport["artifacts"][kind]["digest"] != made_from:
                    return broken("model", f"it was made from another {kind} than the passport names")
        return compared("model", "the model folder", actual, digest)

    def _evaluation(self, run: Run | None) -> Link:
        """Check the metrics inside the model, and the report that MLflow shows, if it is still that of this evaluation."""
        name, digest = "evaluation", self.passport["artifacts"]["evaluation"]["digest"]
        if hashlib.sha256(self.manifests[name]).hexdigest() != digest:
            return broken(name, "its manifest among the papers is not the one that the passport names")
        listed = json.loads(self.manifests[name])["files"]
        for file in (METRICS, ERRORS):
            there = self.found.papers / file
            if (file_digest(there) if there.exists() else None) != listed.get(file, {}).get("sha256"):
                return broken(name, f"{file} inside the model is not what evaluate wrote")
        if run is None:
            return unchecked(name, f"its numbers hold ({short(digest)}); the MLflow run with the report is gone")
        with tempfile.TemporaryDirectory() as scratch:
            try:
                folder = fetch_of_run(self.to, run.info.run_id, name, Path(scratch))
                if folder is None:
                    return broken(name, "MLflow has lost its report")
                if (logged := file_digest(folder / MANIFEST)) != digest:
                    # Register logged this evaluation to the run, so one that was logged last and is another came later.
                    if logged != run.data.tags.get(f"{LOGGED_TAG}{name}"):
                        return broken(name, f"MLflow shows {short(logged)}, which Gateline did not log")
                    return unchecked(name, f"its numbers hold ({short(digest)}); MLflow shows a later evaluation")
                open_artifact(folder, name)
                if (overwritten := self._other_number(run)) is not None:
                    return broken(name, overwritten)
            except ArtifactError as error:
                return broken(name, f"in MLflow: {error.found}")
            except OSError as error:
                return broken(name, f"in MLflow: {' '.join(without_users(error).split())[:160]}")
        return holds(name, short(digest))

    def _other_number(self, run: Run) -> str | None:
        """Find a metric of the run that is other than the evaluation's; a key that was logged twice says nothing."""
        logged: dict[str, set[float]] = {}
        for key, _, value in numbers_of(json.loads((self.found.papers / METRICS).read_text(encoding="utf-8"))):
            logged.setdefault(key, set()).add(value)
        for key, (value, *others) in logged.items():
            seen = run.data.metrics.get(key, value)
            if not others and not math.isclose(seen, value):
                return f"MLflow shows {key} {seen:.6g}, and it is {value:.6g}"
        return None

    def _verdict(self) -> Link:
        """Judge again: the numbers under the gates must give the verdict that let the model in."""
        said = {key: value for key, value in self.passport["verdict"].items() if key != "digest"}
        if digest_of(said) != self.passport["verdict"]["digest"]:
            return broken("verdict", "the passport's verdict is not the one that its digest names")
        gates = Workload(self.found.name, "", "", "workload.json", self.workload).section("gates", Gates)
        metrics = json.loads((self.found.papers / METRICS).read_text(encoding="utf-8"))
        again = judged(metrics, gates, read_errors(self.found.papers))
        if again.passed != said["passed"]:
            return broken("verdict", f"judged again, these numbers say: {'; '.join(again.reasons)}"[:300])
        # What an earlier Gateline wrote has sentences only, whose words are no outcome.
        if "checks" in said and (differing := first_other_outcome(again, said["checks"])) is not None:
            return broken("verdict", f"judged again, these numbers say otherwise: {differing}"[:300])
        for kind in ("report", "evaluation"):
            if not json.loads(self.manifests[kind])["facts"]["verdict"]["passed"]:
                return broken("verdict", f"the {kind} said no")
        return holds("verdict", f"judged again: yes, by {len(again.checks)} checks")

    def _requirements(self) -> Link:
        listed = (self.found.top / "requirements.txt").read_text(encoding="utf-8").split()
        said = self.passport["served"]["requirements"]
        return compared("requirements", "requirements.txt", " ".join(sorted(listed)), " ".join(sorted(said)))

    def _signature(self) -> Link:
        actual, said = self.found.mlmodel.get("signature") or {}, self.passport["served"]["signature"]
        for part in said:
            if actual.get(part) != said[part]:
                return broken("signature", f"MLmodel has other {part} than the model was registered with")
        return holds(
            "signature", f"{len(json.loads(said['inputs']))} columns in, {len(json.loads(said['outputs']))} out"
        )

    def _package(self, run: Run | None) -> Link:
        """Compare every file of the model with what was registered: whoever loads it runs code of it."""
        name, logged = "package", self.to.client.get_logged_model(str(self.found.mlmodel["model_id"]))
        said = self.found.version.tags.get(PACKAGE_TAG)
        if said is None or logged.tags.get(PACKAGE_TAG) != said:
            return broken(
                name,
                f"the version says {short(said)} of all its files, the logged model {short(logged.tags.get(PACKAGE_TAG))}",
            )
        files = package_files(self.found.top)
        if digest_of(files) == said:
            return holds(name, f"{len(files)} files: {short(said)}")
        listed = {} if run is None else _listing(self.to, run, said)
        differing = first_difference(files, listed) if digest_of(listed) == said else None
        return broken(name, differing or f"its files have {short(digest_of(files))}, the registry says {short(said)}")

    def _serving_check(self) -> Link:
        words = self.found.version.tags.get(CHECK_TAG)
        if words is None:
            return unchecked("serving check", "the registry does not say that the registered files were tried")
        return holds("serving check", words[:160]) if words.startswith(PASSED) else broken("serving check", words[:300])

    def _ledger(self) -> Link:
        """See that no entry is gone or was changed since a later one was written, nor a decision beside one."""
        name, ledger = "ledger", read_ledger(self.to, self.found.name)
        if lost(self.to, self.found.name, ledger) is not None:
            return broken(name, "there is none any more, and versions of the model say what it decided")
        if ledger.missing:
            return broken(name, f"it has no entry {examples(ledger.missing)}, deleted or damaged")
        if edits := ledger.edits():
            return broken(name, "; ".join(edits))
        if all(entry.seen is None for entry in ledger.entries):
            return unchecked(name, f"{len(ledger.entries)} entries, and none says what it had seen of the others")
        last = max(entry.seen or 0 for entry in ledger.entries)
        up_to = f", those up to {last} as later ones had seen them" if last else ""
        return holds(name, f"entries 1 to {ledger.entries[-1].number}{up_to}")

    def _decision(self) -> Link:
        """Compare the decision on the version with the last one that the ledger has about it; one without effect is none."""
        name, text = "decision", self.found.version.tags.get(DECISION_TAG)
        ledger = read_ledger(self.to, self.found.name)
        steps = [step for step in ledger.steps if step.entry.version == self.found.number]
        about = [step.entry for step in steps if not step.conflict]
        if steps and not about:
            return unchecked(
                name, f"that of entry {steps[-1].entry.number} was overtaken; register decides again when it is run"
            )
        decisions = [entry.decision for entry in about if entry.decision]
        if text is None and not decisions:
            return unchecked(name, "register decided nothing about this version, or its ledger began later")
        if text is None:
            return broken(name, f"the ledger has one ({short(decisions[-1])}), the version none")
        if decisions:
            link = compared(name, "the version's tag", digest_in(text), decisions[-1])
            if link.state == "holds":
                read_kept(self.to, text, "its file", decisions[-1])
            return link
        if about:
            return unchecked(name, f"the ledger knows the version as {about[-1].kind}, and no decision of register")
        return broken(name, "the version has one, and the ledger no entry about it")

    def _champion(self) -> Link:
        """See that the alias says what the ledger says: whoever serves reads the alias."""
        name = "champion"
        ledger, alias = read_both(self.to, self.found.name)
        if alias != ledger.champion:
            return broken(name, f"{in_words(alias)} by its alias, {in_words(ledger.champion)} by the ledger")
        return holds(name, f"{in_words(alias)}, by its alias and by the ledger")

    def _tags(self) -> Link:
        library = package_digest(self.found.package)
        said = {
            **{
                f"gateline.{kind}_digest": self.passport["artifacts"][kind]["digest"]
                for kind in ("model", "evaluation", "raw")
            },
            "gateline.workload_digest": self.passport["workload"]["digest"],
            "gateline.code": self.passport["code"]["version"],
            "gateline.seed": str(self.passport["seed"]),
            WEIGHTS_TAG: json.loads(self.manifests["model"])["files"]["weights.pt"]["sha256"],
            LIBRARY_TAG: library,
            REGISTRATION_TAG: registration_of(self.passport, library),
            **{f"gateline.git_{key}": self.passport["code"].get(key) for key in ("commit", "dirty")},
        }
        for tag, value in said.items():
            if self.found.version.tags.get(tag) != value:
                return compared("tags", f"the version's {tag}", self.found.version.tags.get(tag), value)
        return holds("tags", f"{len(said)} of the version")

    def _passport(self) -> Link:
        """Compare with the two places beside the file where its digest stands: the version and the logged model."""
        logged = self.to.client.get_logged_model(str(self.found.mlmodel["model_id"]))
        digest, places = digest_of(self.passport), {"version": self.found.version.tags, "logged model": logged.tags}
        for place, tags in places.items():
            if tags.get(PASSPORT_TAG) != digest:
                return broken(
                    "passport", f"passport.json is {short(digest)}, the {place} says {short(tags.get(PASSPORT_TAG))}"
                )
        return holds("passport", short(digest))
