"""Replay: make a registered model again from its passport, in a clean clone of its commit, and compare link by link."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from gateline.adapters.mlflow_server import connected
from gateline.adapters.project import ARTIFACTS, Project
from gateline.adapters.provenance import IMAGE, PIPELINE_DIGEST, run_git
from gateline.adapters.registry.links import short
from gateline.adapters.registry.package import PACKAGE_TAG, package_digest
from gateline.adapters.registry.reference import read_reference
from gateline.adapters.registry.registered import registered, version_of_reference
from gateline.adapters.registry.replay_comparison import Recipe, Replay, compare
from gateline.adapters.registry.versions import METRICS, MODEL_TAG, PASSPORT_TAG
from gateline.errors import EXIT_TRY_AGAIN, ArtifactError, RegistryError, TryAgainError
from gateline.manifest import MANIFEST, Json, digest_of, open_artifact
from gateline.passport import version_of, workload_text
from gateline.table import TABLE, as_utc, read_table
from gateline.workload import Workload
from gateline.workload.schema import Schema

STEPS = {
    "ingest": ("raw",),
    "validate": ("raw", "report"),
    "preprocess": ("raw", "report", "prepared"),
    "train": ("prepared", "model"),
    "evaluate": ("prepared", "model", "evaluation"),
}
"""Each step and the folders that its command line names; it writes the last."""
KINDS = tuple(folders[-1] for folders in STEPS.values())
SAYS = "gateline: "


def replay(
    reference: str,
    project: Project,
    say: Callable[[str], None],
    *,
    seed: int | None = None,
    tolerance: float = 0.01,
    allow_dirty: bool = False,
) -> Replay:
    """Run the steps from ingest to evaluate as the passport says, and compare what comes out.

    Args:
        reference: see `version_of_reference`.
        project: its repository has the commit, its artifacts may have the raw files.
        say: takes lines of progress.
        seed: instead of the passport's, to see that another one makes another model.
        tolerance: relative difference of a metric that is let pass where the machine or a library is another.
        allow_dirty: use the files as they stand here where the model was made of a tree with changes.

    Raises:
        RegistryError: there is no such version or no passport, its files are not those that were registered, the commit is not here,
            or a step refused.
        TryAgainError: a step could not be finished for now.
    """
    recipe = _recipe(reference)
    with tempfile.TemporaryDirectory(prefix="gateline-replay-") as scratch:
        top = Path(scratch)
        code = _code(recipe, project.root, top / "clone", allow_dirty=allow_dirty)
        say(f"{recipe.name} version {recipe.version}: {_where(recipe, code, project.root)}")
        settings = recipe.passport["settings"] | ({} if seed is None else {"seed": seed})
        (top / "workload.yaml").write_text(workload_text(recipe.workload), encoding="utf-8")  # JSON is YAML
        environment = _environment(code, top, _mirror(recipe, project.root, top / "mirror"))
        for step, folders in STEPS.items():
            began = time.monotonic()
            _run(
                _command(step, folders, top, settings),
                code,
                environment,
                say,
                step,
            )
            say(f"{step}: {time.monotonic() - began:.0f} s")
        made = {kind: open_artifact(top / kind, kind) for kind in KINDS}
        return compare(recipe, made, version_of(code / "src" / "gateline"), tolerance)


def _recipe(reference: str) -> Recipe:
    with (
        connected(read_reference(reference).name, create=False) as to,
        registered(version_of_reference(to, reference)) as found,
    ):
        manifests = {
            kind: json.loads((found.papers / "manifests" / f"{kind}.json").read_text(encoding="utf-8"))
            for kind in KINDS
        }
        # What is run, and compared with, is what was registered.
        model, tags = open_artifact(found.model, "model"), found.version.tags
        actual = {MODEL_TAG: model.digest, PASSPORT_TAG: digest_of(found.passport())}
        if PACKAGE_TAG in tags:  # none of a version from before there was such a tag
            actual[PACKAGE_TAG] = package_digest(found.top)
        changed = [tag for tag, digest in actual.items() if tags.get(tag) != digest]
        if changed or manifests["model"] != model.read_json(MANIFEST):
            raise RegistryError(
                reference,
                expected="the model and the papers that were registered",
                found=f"others in their place ({', '.join(changed) or MANIFEST})",
                do="See with `gateline verify` which link is broken",
            )
        metrics = json.loads((found.papers / METRICS).read_text(encoding="utf-8"))
        return Recipe(found.name, found.number, found.passport(), found.workload(), manifests, metrics)


def _code(recipe: Recipe, root: Path, clone: Path, *, allow_dirty: bool) -> Path:
    """Check the commit out into a folder of its own.

    Raises:
        RegistryError: there is no commit, it is not here, or it does not hold all that the model was made of.
    """
    code, where = recipe.passport["code"], f"{recipe.name} version {recipe.version}"
    commit = code.get("commit")
    if commit is None or code.get("dirty") == "true":
        if allow_dirty:
            return root
        raise RegistryError(
            where,
            expected="a model that was made of a commit",
            found=f"{short(commit)} with changes that were not committed"
            if commit
            else "one that was made without git",
            do="Say --allow-dirty to use the files as they stand here; commit before the next run",
        )
    prefix = (run_git("rev-parse", "--show-prefix", folder=root) or b"").decode().strip()
    if (
        run_git("cat-file", "-e", f"{commit}^{{commit}}", folder=root) is None
        or run_git("clone", "--quiet", "--shared", "--no-checkout", str(root / ("../" * prefix.count("/"))), str(clone))
        is None
        or run_git("checkout", "--quiet", "--detach", commit, folder=clone) is None
    ):
        raise RegistryError(
            where,
            expected=f"its commit {short(commit)} in {root}",
            found="none",
            do="Fetch it (`git fetch --all`), and run again",
        )
    return clone / prefix


def _where(recipe: Recipe, code: Path, root: Path) -> str:
    place = (
        "in the files that stand here" if code == root else f"in a clone of {short(recipe.passport['code']['commit'])}"
    )
    return f"the steps from ingest to evaluate, {place}"


def _mirror(recipe: Recipe, root: Path, mirror: Path) -> Path | None:
    """Put the raw files that this project has, by their digest, where ingest looks first; None if it has none."""
    folder = root / ARTIFACTS / recipe.name / "raw"
    try:
        raw = open_artifact(folder, "raw")
    except ArtifactError:
        return None
    folders = [file for file in recipe.workload["source"]["files"] if (file["url"] or file["path"]).endswith("/")]
    if (
        raw.digest != recipe.passport["raw"]["digest"] or folders
    ):  # a folder is fetched file by file, and kept as one zip
        return None
    mirror.mkdir()
    for place, name in enumerate(recipe.passport["raw"]["files"]):
        target = mirror / f"{place}-{Path(name).name}"
        try:
            os.link(raw.path / name, target)
        except OSError:  # another file system
            shutil.copyfile(raw.path / name, target)
    return mirror


def _environment(code: Path, top: Path, mirror: Path | None) -> dict[str, str]:
    """What the steps see: the clone's code, a tracking database of their own, nothing of the door that runs us."""
    inherited = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("DVC_", "MLFLOW_")) and key not in (IMAGE, PIPELINE_DIGEST)
    }
    if mirror is not None:
        inherited["GATELINE_MIRROR"] = str(mirror)
    return inherited | {
        "PYTHONPATH": os.pathsep.join([str(code / "src"), str(code)]),
        "MLFLOW_TRACKING_URI": f"sqlite:///{top}/mlflow.db",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PYTHONUNBUFFERED": "1",
    }


def _command(step: str, folders: tuple[str, ...], top: Path, settings: Json) -> list[str]:
    """The command line of a step, the same that every door calls."""
    command = [sys.executable, "-m", f"components.{step}", "--workload", str(top / "workload.yaml")]
    for kind in folders:
        command += [f"--{kind}", str(top / kind)]
    if step == "validate" and (moment := _newest(top)) is not None:
        command += ["--as-of", moment]
    if step == "train":
        for name in ("seed", "device", "precision", "processes"):
            command += [f"--{name}", str(settings[name])]
    return command


def _newest(top: Path) -> str | None:
    """Say when the data were fresh, whatever the clock says now: at their newest row; None where their age does not matter."""
    schema = Workload.read(top / "workload.yaml").section("schema", Schema)
    if schema.freshness.max_age is None or schema.time is None:
        return None
    times = as_utc(read_table(top / "raw" / TABLE)[schema.time.column], schema.time.timezone)
    return str(times.max().isoformat())


def _run(command: list[str], code: Path, environment: Mapping[str, str], say: Callable[[str], None], step: str) -> None:
    """Run a step; what it says meanwhile is passed on.

    Raises:
        RegistryError: it refused.
        TryAgainError: it can be run again.
    """
    last = ""
    with subprocess.Popen(  # noqa: S603  (this very Python)
        command,
        cwd=code,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        for line in process.stdout or ():
            last = line.decode("utf-8", errors="replace").rstrip("\r\n").rpartition("\r")[2]
            if last.strip():
                say(f"  {last.removeprefix(SAYS)}")
    if process.returncode != 0:
        kind = TryAgainError if process.returncode == EXIT_TRY_AGAIN else RegistryError
        raise kind(
            f"replay, {step}",
            expected="the step to do again what it did",
            found=f"exit code {process.returncode}: {last.removeprefix(SAYS)}"[:400],
            do="Correct what it says, or see that everything the passport names is here with `gateline verify --all`",
        )
