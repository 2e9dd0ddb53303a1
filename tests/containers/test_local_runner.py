"""What Kubeflow's local runner gets wrong, and ours must not: containers that fail, are killed, or leave nothing, on podman's socket.

The steps are a shell script in an image without anything else, so that each case takes a second or two.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateline.adapters.kubeflow import step_containers
from gateline.cli import app
from pipelines.compile import compile_pipeline
from pipelines.compile import parser as compile_parser
from pipelines.training import STEPS
from tests.tiny import write_tiny

pytestmark = pytest.mark.containers

ROOT = Path(__file__).resolve().parents[2]
NAME = "localhost/gateline-test-runner"
OF_THE_SYSTEM = ("/bin", "/lib", "/lib64", "/usr")
PYTHON = """#!/bin/sh
step=${2#components.}
case $step in
ask)
    while [ $# -gt 0 ]; do [ "$1" = --go ] && mkdir -p "${2%/*}" && printf yes > "$2"; shift; done ;;
conclude)
    echo "conclude was told: $*" ;;
*)
    . "/case/$step" ;;
esac
"""


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Podman's socket, and an image in which `python` is a shell script."""
    if not shutil.which("podman"):
        pytest.skip("no podman on this machine")
    folder = tmp_path_factory.mktemp("podman")
    environment = dict(os.environ)
    if os.getuid() == 0 and shutil.which("runc"):
        environment.setdefault("CONTAINERS_CONF", str(ROOT / "infra" / "images" / "containers.conf"))
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name in ("app", "case", "fake", *(path.lstrip("/") for path in OF_THE_SYSTEM)):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        entry = tarfile.TarInfo("fake/python")
        entry.size, entry.mode = len(PYTHON), 0o755
        tar.addfile(entry, io.BytesIO(PYTHON.encode()))
    words = [
        "podman",
        "import",
        "--change",
        "ENV PATH=/fake:/usr/bin:/bin",
        "--change",
        "WORKDIR /app",
        "-",
        f"{NAME}:1",
    ]
    subprocess.run(words, input=archive.getvalue(), env=environment, check=True, capture_output=True)
    host = f"unix://{folder}/podman.sock"
    service = subprocess.Popen(["podman", "system", "service", "--time=0", host], env=environment)
    try:
        while not (folder / "podman.sock").exists():
            assert service.poll() is None
            time.sleep(0.1)
        yield host
    finally:
        service.terminate()
        service.wait(timeout=60)
        subprocess.run(["podman", "image", "rm", f"{NAME}:1"], env=environment, capture_output=True)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pipeline, compiled once for that image."""
    file = tmp_path_factory.mktemp("compiled") / "training.yaml"
    image = f"{NAME}:1@sha256:{'0' * 64}"
    compile_pipeline(compile_parser().parse_args(["--image", image, "--output", str(file)]))
    return file


Argv = Callable[..., list[str]]
Submit = Callable[..., Result]


@pytest.fixture
def argv(podman: str, compiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Argv:
    """The command that runs the pipeline with `ingest` doing what a shell text says."""
    (tmp_path / "data").mkdir()
    (tmp_path / "case").mkdir()
    workload = write_tiny(tmp_path / "data")
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("DOCKER_HOST", podman)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # nobody asks it here
    monkeypatch.setattr(step_containers, "WAIT_SECONDS", 0.1)
    mounts = [f"{tmp_path / 'case'}:/case", *OF_THE_SYSTEM]

    def argv(case: str, *pipeline: str) -> list[str]:
        (tmp_path / "case" / "ingest").write_text(case)
        words = ["submit", str(workload), "--local", "--no-cache", "--output", str(tmp_path / "out")]
        words += pipeline or ("--pipeline", str(compiled))
        return [*words, *(word for each in mounts for word in ("--mount", each))]

    return argv


@pytest.fixture
def submit(argv: Argv) -> Submit:
    """Run the pipeline with `ingest` doing what a shell text says."""
    return lambda *case: CliRunner().invoke(app, argv(*case), catch_exceptions=False)


def test_a_container_that_fails_is_reported_every_time_with_its_last_lines(submit: Submit, tmp_path: Path) -> None:
    """kfp's own function reported exit code 3 as success in 5 of 5 runs here."""
    for _ in range(2):
        failed = submit("for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14; do echo line $i; done; exit 3")
        assert failed.exit_code == 1, failed.output
        assert "ingest: its container ended with 3: line 14" in failed.output
        assert "conclude was told: " in failed.output
        assert '"state": "FAILED"' in failed.output
        assert "ingest ... again" not in failed.output
    log = next((tmp_path / "out").glob("gateline-training-*/ingest/log.txt"))
    assert log.read_text().splitlines()[0] == "line 1"
    assert not list((tmp_path / "out").glob("gateline-training-*/validate"))


def test_a_container_that_ends_well_and_leaves_nothing_has_failed(submit: Submit) -> None:
    failed = submit("echo fine")
    assert failed.exit_code == 1
    assert "its container ended with 0, but" in failed.output
    assert "a complete 'raw' folder" in failed.output


def test_a_refusal_is_no_reason_to_try_again(submit: Submit) -> None:
    refused = submit("echo 'gateline: source: expected a file; found none.' >&2; exit 2")
    assert refused.exit_code == 2
    assert "ingest: its container ended with 2: source: expected a file; found none." in refused.output
    assert "again" not in refused.output


@pytest.mark.parametrize(("how", "code"), [("exit 75", 75), ("exit 137", 137)])
def test_what_was_killed_is_started_again_and_goes_on_in_its_folder(how: str, code: int, submit: Submit) -> None:
    """The second try finds what the first one saved; killed for good, the whole command asks to be run again. 137: SIGKILL."""
    place = 'for word; do case $word in */raw) folder=${word%/raw};; esac; done; mkdir -p "$folder"; '
    killed = submit(f'{place} if [ -e "$folder/saved" ]; then echo found; exit 3; fi; touch "$folder/saved"; {how}')
    assert "ingest ... again, 2 of 4" in killed.output
    assert "ingest: its container ended with 3: found" in killed.output

    killed = submit(how)
    assert killed.exit_code == 75, killed.output
    assert "ingest ... again, 4 of 4" in killed.output
    assert f"ended with {code}" in killed.output


def test_an_image_that_is_not_there_is_no_failed_step(submit: Submit, tmp_path: Path) -> None:
    images = {step: {"image": f"{NAME}:2", "digest": "sha256:" + "0" * 64} for step in STEPS}
    (tmp_path / "images.json").write_text(json.dumps(images))
    absent = submit("exit 0", "--images", str(tmp_path / "images.json"))
    assert absent.exit_code == 2
    assert "expected an image on this machine; found none. Build the images with `make images`." in absent.output


def test_who_is_told_to_stop_tells_the_step_and_asks_to_be_run_again(argv: Argv, tmp_path: Path) -> None:
    words = argv("trap 'echo saved; exit 75' TERM; echo begun; while :; do sleep 0.1; done")
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    stopped = subprocess.Popen(
        [sys.executable, "-c", "from gateline.cli import app; app()", *words],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert stopped.stdout is not None
    said = ""
    while "begun" not in said:
        line = stopped.stdout.readline()
        assert line, said
        said += line
    stopped.terminate()
    said += stopped.communicate(timeout=120)[0]

    assert stopped.returncode == 75, said
    assert "ingest: is told to stop" in said
    assert "Run the same command again" in said
    left = subprocess.run(["podman", "ps", "--all", "--filter", f"ancestor={NAME}:1", "--quiet"], capture_output=True)
    assert left.stdout == b""
