"""Images, a container engine that Kubeflow's local runner can use, and the servers: made once, kept for the next run.

build/containers/
├── docker/         what a dockerd of ours keeps
└── stack/          of `python -m infra.local`
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from infra.local import processes

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "build" / "containers"
BASE_IMAGE = "localhost/python:3.11-slim-bookworm"
START_SECONDS = 60


@dataclass(frozen=True)
class Docker:
    """A dockerd that has the images of the steps.

    Args:
        images: image of each step.
        host: what DOCKER_HOST says.
    """

    images: Mapping[str, Mapping[str, Any]]
    host: str

    def __call__(self, *words: str, check: bool = True, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["docker", *words],
            env={**os.environ, "DOCKER_HOST": self.host},
            capture_output=True,
            text=True,
            check=check,
            timeout=timeout,
        )


@pytest.fixture(scope="session")
def images() -> Mapping[str, Mapping[str, Any]]:
    """The images of the steps, built with what this machine has; the base image, too, where no registry gives it."""
    engine = shutil.which("podman") or shutil.which("docker")
    assert engine is not None  # else skipped, see tests/conftest.py
    if os.getuid() == 0 and shutil.which("runc") and "CONTAINERS_CONF" not in os.environ:
        os.environ["CONTAINERS_CONF"] = str(ROOT / "infra" / "images" / "containers.conf")
    if subprocess.run([engine, "image", "inspect", BASE_IMAGE], capture_output=True).returncode != 0:
        if os.getuid() != 0 or not shutil.which("debootstrap", path=f"{os.environ['PATH']}:/usr/sbin"):
            pytest.skip("no base image, and none can be made without root and debootstrap")
        call(str(ROOT / "infra" / "images" / "debian_base.sh"), BASE_IMAGE)
    call(sys.executable, "-m", "infra.images", "build", "--engine", Path(engine).name)
    return dict(json.loads((ROOT / "build" / "images" / "images.json").read_text(encoding="utf-8")))


@pytest.fixture(scope="session")
def docker(
    images: Mapping[str, Mapping[str, Any]], tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Docker]:
    """The dockerd that answers, or one that is started here; the servers start while the images come to it."""
    if not shutil.which("docker"):
        pytest.skip("no docker command on this machine")
    usual = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if Docker(images, usual)("info", check=False).returncode == 0:
        with _with_images(Docker(images, usual)) as docker:
            request.getfixturevalue("stack")
        yield docker
        return
    dockerd = shutil.which("dockerd", path=f"{os.environ['PATH']}:/usr/sbin")
    if dockerd is None or os.getuid() != 0:
        pytest.skip("no dockerd answers, and none can be started without root and dockerd")
    folder = tmp_path_factory.mktemp("docker")
    host = f"unix://{folder}/docker.sock"
    command = [dockerd, "--data-root", str(KEPT / "docker"), "--exec-root", str(folder / "exec"), "-H", host]
    # Containers use the host's network, so dockerd needs no bridge, and no right to make one.
    command += ["--pidfile", str(folder / "pid"), "--bridge", "none", "--iptables=false"]
    with (folder / "log").open("w") as log:
        daemon = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        end = time.monotonic() + START_SECONDS
        while Docker(images, host)("info", check=False).returncode != 0:
            assert daemon.poll() is None, (folder / "log").read_text()[-2000:]
            assert time.monotonic() < end, (folder / "log").read_text()[-2000:]
            time.sleep(0.2)
        with _with_images(Docker(images, host)) as docker:
            request.getfixturevalue("stack")
        yield docker
    finally:
        daemon.terminate()
        daemon.wait(timeout=60)
        # dockerd leaves a mount there, which would keep the folder from being removed.
        subprocess.run(["umount", folder / "exec" / "netns" / "default"], capture_output=True)


@contextmanager
def _with_images(docker: Docker) -> Iterator[Docker]:
    """Bring the images over from the engine that built them; layers that several share travel once. They are there in the end."""
    names = [str(made["image"]) for made in docker.images.values()]
    absent = [name for name in names if docker("image", "inspect", name, check=False).returncode != 0]
    if not absent:
        yield docker
        return
    save = subprocess.Popen(["podman", "save", "--quiet", "--multi-image-archive", *absent], stdout=subprocess.PIPE)
    environment = {**os.environ, "DOCKER_HOST": docker.host}
    load = subprocess.Popen(["docker", "load", "--quiet"], stdin=save.stdout, env=environment)
    yield docker
    assert (save.wait(), load.wait()) == (0, 0)
    listed = docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}").stdout.split()
    old = [name for name in listed if name.startswith("localhost/gateline-") and name not in names]
    if old and str(KEPT) in docker("info", "--format", "{{.DockerRootDir}}").stdout:
        docker("image", "rm", *old, check=False)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """PostgreSQL, an object store and MLflow, and what a client's environment needs to use them."""
    if not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")) and not shutil.which("initdb"):
        pytest.skip("PostgreSQL is not installed")
    environment = {**os.environ, **free_ports()}
    folder = ("--folder", str(KEPT / "stack"))
    # An earlier run's registry would have this very model as its champion.
    call(sys.executable, "-m", "infra.local", "down", "--data", *folder, environment=environment)
    call(sys.executable, "-m", "infra.local", "up", *folder, environment=environment)
    try:
        said = call(sys.executable, "-m", "infra.local", "env", *folder, environment=environment)
        pairs = [line.removeprefix("export ").partition("=") for line in said.splitlines()]
        yield {name: value.strip("'") for name, _, value in pairs}
    finally:
        call(sys.executable, "-m", "infra.local", "down", *folder, environment=environment)


def free_ports() -> dict[str, str]:
    """Ports for the stack that nobody has; those of a developer's own stack stay theirs."""
    names = ("MLFLOW", "POSTGRES", "OBJECT_STORE")
    return {f"GATELINE_{name}_PORT": str(port) for name, port in zip(names, processes.free_ports(3), strict=True)}


def call(*words: str, environment: Mapping[str, str] | None = None, timeout: float = 1500) -> str:
    """Run a command of the project, and give what it prints."""
    done = subprocess.run(
        words, cwd=ROOT, env=with_project(environment or os.environ), capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def with_project(environment: Mapping[str, str]) -> dict[str, str]:
    """Let a new process find this project and its Python."""
    path = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
    return {**environment, "PATH": path, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
