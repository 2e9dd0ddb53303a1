"""Several processes train what one trains, stop together when one is told to, and go on after one was killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from gateline.adapters.door import run_step
from gateline.manifest import open_artifact
from tests.sharing import CASES, NAMES
from tests.steps import ROOT, argv_of, run_until
from tests.tiny import prepare_tiny, write_tiny

pytestmark = pytest.mark.slow

COUNTS = (1, 2, 3)
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1", **more}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what 1, 2 and 3 processes made of every case."""
    folder = tmp_path_factory.mktemp("shared")
    prepare_tiny(folder / "prepared")
    for count in COUNTS:
        port = str(free_port())
        settings = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        started = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.sharing", str(folder)],
                env=environment(RANK=str(rank), LOCAL_RANK=str(rank), **settings),
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(count)
        ]
        for process in started:
            said = process.communicate(timeout=300)[1]
            assert process.returncode == 0, said
    return folder


def result(folder: Path, case: str, count: int, name: str) -> dict[str, Any]:
    return dict(torch.load(folder / f"{case}-{count}-{name}.pt", weights_only=True))


@pytest.mark.parametrize("count", COUNTS[1:])
@pytest.mark.parametrize("case", CASES)
def test_the_result_does_not_depend_on_the_number_of_processes(case: str, count: int, shared: Path) -> None:
    """With dropout, accumulated parts, clipping, an average and batches that do not divide: equal up to rounding."""
    alone, together = result(shared, case, 1, "undisturbed"), result(shared, case, count, "undisturbed")

    for name, value in alone["weights"].items():
        torch.testing.assert_close(together["weights"][name], value, rtol=1e-4, atol=2e-5)
    for one, other in zip(alone["history"], together["history"], strict=True):
        assert other == pytest.approx(one, rel=1e-5)


@pytest.mark.parametrize("name", NAMES[1:])
@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("case", CASES)
def test_stopped_by_one_of_them_all_go_on_to_the_same_bytes(case: str, count: int, name: str, shared: Path) -> None:
    undisturbed, resumed = result(shared, case, count, "undisturbed"), result(shared, case, count, name)

    assert resumed["history"] == undisturbed["history"]
    assert all(torch.equal(value, undisturbed["weights"][name]) for name, value in resumed["weights"].items())


@pytest.fixture
def prepared(tmp_path: Path, mlflow_database: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workload and its artifacts up to `prepared`; enough epochs to be killed in."""
    path = write_tiny(tmp_path, training__epochs=12, training__patience=12, model__hidden_size=24)
    assert run_until("preprocess", path, tmp_path) == ("preprocess", 0)
    return path


def command(workload: Path, model: Path, *more: str) -> list[str]:
    argv = argv_of("train", workload, model.parent)
    argv[argv.index("--model") + 1] = str(model)
    return ["-m", "components.train", *argv, *more]


def children_of(process: int) -> list[int]:
    tasks = Path(f"/proc/{process}/task/{process}/children")
    return [int(child) for child in tasks.read_text().split()]


def test_a_killed_process_ends_the_run_with_75_and_the_next_one_goes_on(prepared: Path) -> None:
    folder = prepared.parent
    undisturbed = subprocess.run(
        [sys.executable, *command(prepared, folder / "undisturbed"), "--processes", "2"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert undisturbed.returncode == 0, undisturbed.stderr
    running = subprocess.Popen(
        [sys.executable, *command(prepared, folder / "model"), "--processes", "2"],
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not list(folder.glob("model.checkpoint/*/last.pt")):
        assert time.monotonic() < deadline
        assert running.poll() is None
        time.sleep(0.05)
    os.kill(children_of(running.pid)[1], signal.SIGKILL)
    said = running.communicate(timeout=120)[1]

    assert running.returncode == 75, said
    assert "Traceback" not in said
    assert not (folder / "model").exists()
    again = subprocess.run(
        [sys.executable, *TORCHRUN, *command(prepared, folder / "model")],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert again.returncode == 0, again.stderr
    assert "(from the checkpoint)" in again.stderr
    first, second = (open_artifact(folder / name, "model") for name in ("undisturbed", "model"))
    assert first.facts["processes"] == second.facts["processes"] == 2
    assert first.digest == second.digest
    assert not (folder / "model.checkpoint").exists()


def test_a_refused_run_says_so_once_and_ends_with_2(prepared: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import components.train.__main__ as door

    argv = command(prepared, prepared.parent / "model", "--processes", "2", "--precision", "float17")[2:]

    assert run_step(door.parser(), door.step, argv) == 2
    assert capfd.readouterr().err.count("float17") == 1
