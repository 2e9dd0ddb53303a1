"""Run the compiled pipeline on this machine: Kubeflow's local Docker runner against dockerd or podman's socket.

ROOT/
├── pipeline.yaml                the pipeline as it was run, with the images of this machine
├── cache/                       which finished step has which folders; the next run takes them
├── checkpoints/                 of trainings that did not end
└── gateline-training-TIME/      a run; below it a folder for each step with its artifacts, `log.txt` and `outcome.json`
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from gateline.adapters.checkpoint_store import BESIDE
from gateline.adapters.door import stopped_as_by_hand
from gateline.adapters.kubeflow.arguments import pipeline_arguments
from gateline.adapters.kubeflow.server import pipeline_name
from gateline.adapters.kubeflow.step_containers import OF_THIS_MACHINE, StepContainers, StepRun, give_to
from gateline.adapters.project import replace_text
from gateline.errors import EXIT_DONE, GatelineError, UnreachableError, WorkloadError
from gateline.workload import Workload
from gateline.workload.address import without_users
from gateline.workload.gates import Gates
from gateline.workload.source import Source

USER, WORKING_FOLDER = 10001, "/app"  # as in infra/images/Dockerfile
PASSED = (
    "MLFLOW_TRACKING_URI",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "MLFLOW_TRACKING_INSECURE_TLS",
    "MLFLOW_S3_ENDPOINT_URL",
    "AWS_ENDPOINT_URL",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_DEFAULT_REGION",
    "AWS_REGION",
    "GATELINE_WEBHOOK",
)
"""What a pod has from the ConfigMap and the Secret, a container has from the environment of this process."""
MIRROR = "GATELINE_MIRROR"
SHARED_MEMORY = "2g"  # /dev/shm, as in the pods


@dataclass(frozen=True)
class LocalRun:
    """How a run on this machine ended.

    Args:
        exit_code: 0 done, 2 refused, 75 run again, 1 a bug.
        failed: the step that did not end well; None where all did.
        folders: complete artifacts, by kind.
        release: facts of the release and of its decision; empty where there is none.
    """

    exit_code: int
    failed: StepRun | None
    folders: Mapping[str, Path]
    release: Mapping[str, Any]


@dataclass(frozen=True)
class LocalSettings:
    """How containers are run on this machine.

    Args:
        root: folder for everything that a run writes.
        files: folder that local files of a source are relative to.
        mounts: more folders or files that every step may read, each ``PATH`` or ``PATH:PATH_IN_CONTAINER``.
        network: of the containers; `host` lets them reach what listens on this machine.
        cache: take finished steps from earlier runs.
    """

    root: Path
    files: Path
    mounts: Sequence[str] = ()
    network: str = "host"
    cache: bool = True


def run_locally(
    workload: Path, pipeline: Path, settings: Mapping[str, Any], local: LocalSettings, say: Callable[[str], None]
) -> LocalRun:
    """Run a workload once on this machine.

    Args:
        workload: its file.
        pipeline: what `python -m pipelines.compile` wrote.
        settings: run-wide settings, see `gateline.workload.run_wide.RUN_SETTINGS`.
        local: where and how.
        say: told what goes on, line by line.

    Raises:
        WorkloadError: the workload, the pipeline, an image or the tracking server is none that can be used.
        UnreachableError: no container engine answers.
    """
    root = local.root.resolve()
    checkpoints = root / "checkpoints"
    if settings["checkpoints"] == BESIDE:  # beside a folder of this run, which the next one would not find
        settings = {**settings, "checkpoints": str(checkpoints)}
    arguments = pipeline_arguments(workload, settings, files_here=True)
    pipeline_name(pipeline)
    content, retries = _for_this_machine(pipeline)
    whole = Workload.read(workload)
    environment = _environment(whole)
    engine = _engine()
    user = USER if os.getuid() == 0 else os.getuid()
    for folder in (root, checkpoints):
        folder.mkdir(parents=True, exist_ok=True)
        give_to(folder, user)
    replace_text(root / "pipeline.yaml", content)
    containers = StepContainers(retries, user, say)
    say(f"{whole.name}: {engine}, everything is written to {root}")
    with containers.in_place_of_kfp(), stopped_as_by_hand(), _quiet():
        from kfp import components
        from kfp import local as kfp_local

        kfp_local.init(
            runner=kfp_local.DockerRunner(
                environment=environment,
                mounts=_mounts(whole, local),
                network_mode=local.network,
                user=f"{user}:{os.getgid() if os.getuid() else USER}",
                read_only=True,
                tmpfs={"/tmp": "rw,exec,mode=1777"},  # noqa: S108  as in the pods
                shm_size=SHARED_MEMORY,
                cap_drop=["ALL"],
                security_opt=["no-new-privileges"],
            ),
            pipeline_root=str(root),
            raise_on_error=True,
            enable_caching=local.cache,
            cache_root=str(root / "cache"),
        )
        try:
            components.load_component_from_text(content)(**arguments)
        except GatelineError:
            raise
        except (RuntimeError, ValueError):  # kfp's own words for a failed step, which is known better here
            if all(run.exit_code == EXIT_DONE for run in containers.runs):
                raise
    return _ended(containers)


def _ended(containers: StepContainers) -> LocalRun:
    failed = next((run for run in containers.runs if run.exit_code != EXIT_DONE), None)
    release: dict[str, Any] = {}
    if failed is None and "release" in containers.folders:
        decision = containers.folders["release"] / "decision.json"
        release = json.loads(decision.read_text(encoding="utf-8"))
    return LocalRun(EXIT_DONE if failed is None else failed.exit_code, failed, dict(containers.folders), release)


def _for_this_machine(pipeline: Path) -> tuple[str, dict[str, int]]:
    """Take out of a compiled pipeline what the local runner cannot do.

    Retries: kfp's do not look at exit codes. Digests of images that no registry has: an engine knows those by name and
    tag, and the tag says what is in them; the digest is still what the steps write into the passport. The condition before
    the steps: kfp cannot read here what a task outside of its branch answered (it takes the answer for no), and a run that was
    asked for runs.

    Returns:
        The pipeline as text, and how often each step is tried again.
    """
    spec, *_ = yaml.safe_load_all(pipeline.read_text(encoding="utf-8"))
    for executor in spec["deploymentSpec"]["executors"].values():
        container = executor["container"]
        if container["image"].startswith(OF_THIS_MACHINE):
            container["image"] = container["image"].partition("@")[0]
    retries = {}
    for dag in (spec["root"], *spec["components"].values()):
        for name, task in dag.get("dag", {}).get("tasks", {}).items():
            task.get("triggerPolicy", {}).pop("condition", None)
            retries[name] = int(task.pop("retryPolicy", {}).get("maxRetryCount", 0))
    return yaml.safe_dump(spec, sort_keys=True), retries


def _environment(workload: Workload) -> dict[str, str]:
    """Say what every container has in its environment; secrets too, which are in no parameter, file or log.

    Raises:
        WorkloadError: no tracking server, or none that a container can reach.
    """
    address = os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    if urlsplit(address).scheme not in ("http", "https"):
        raise WorkloadError(
            "MLFLOW_TRACKING_URI",
            expected="the http address of a tracking server, which containers can reach",
            found=repr(without_users(address)) if address else "none",
            do="Start one (see docs/kubeflow.md) and set the variable",
        )
    webhook = workload.section("gates", Gates).notify.webhook_env
    names = (*PASSED, *((webhook,) if webhook else ()))
    passed = {name: os.environ[name] for name in names if os.environ.get(name)}
    if mirror := os.environ.get(MIRROR):
        passed[MIRROR] = str(Path(mirror).resolve())
    return {**passed, "HOME": "/tmp", "PYTHONUNBUFFERED": "1"}  # noqa: S108


def _mounts(workload: Workload, local: LocalSettings) -> list[Any]:
    """Mount the mirror, the local files of the source and what is asked for, all to be read only.

    Raises:
        WorkloadError: what is asked for is not there.
    """
    from docker.types import Mount

    paths: dict[str, Path] = {}
    if mirror := os.environ.get(MIRROR):
        paths[str(Path(mirror).resolve())] = Path(mirror)
    for file in workload.section("source", Source).files:
        for path in (file.listing, None if file.package else file.path):
            if path is not None and (local.files / path).exists():
                paths[os.path.normpath(Path(WORKING_FOLDER) / path)] = local.files / path
    for asked in local.mounts:
        source, _, target = asked.partition(":")
        if not Path(source).exists():
            raise WorkloadError(f"--mount {asked}", expected="a folder or file", found="none", do="Correct the path")
        paths[target or str(Path(source).absolute())] = Path(source)
    return [Mount(target, str(path.resolve()), type="bind", read_only=True) for target, path in paths.items()]


def _engine() -> str:
    """Name the container engine that answers.

    Raises:
        UnreachableError: none does.
    """
    import docker

    try:
        client = docker.from_env()
        try:
            found = client.version()
        finally:
            client.close()
    except (docker.errors.DockerException, OSError) as error:
        raise UnreachableError(
            os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock"),
            expected="dockerd, or podman's socket",
            found=" ".join(str(error).split())[:160],
            do="Start dockerd, or `podman system service --time=0 unix://SOCKET`, and name the socket in DOCKER_HOST",
        ) from error
    return f"{found['Components'][0]['Name']} {found['Version']}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep kfp from printing: what the steps say, `StepContainers` says in our words."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
