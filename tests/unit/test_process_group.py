"""What is refused before processes start, and how their end is read."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch

from gateline.adapters.process_group import joined_processes, start_processes
from gateline.errors import WorkloadError


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize("device", ["cuda", "auto"])
def test_more_processes_than_gpus_are_refused_before_they_start(device: str) -> None:
    assert joined_processes(2, device) == 2
    with pytest.raises(WorkloadError, match=r"^processes: expected at most 2 on this machine.*found 3"):
        joined_processes(3, device)


@pytest.mark.usefixtures("two_gpus")
def test_under_torchrun_those_of_one_machine_count(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WORLD_SIZE": "6", "RANK": "5", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert joined_processes(1, "cuda") == 6
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    with pytest.raises(WorkloadError, match="expected at most 2 on this machine"):
        joined_processes(1, "cuda")


@pytest.mark.usefixtures("two_gpus")
def test_processors_take_any_number_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert joined_processes(3, "cpu") == 3
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert joined_processes(3, "auto") == 3


@pytest.mark.parametrize(("ends", "code"), [(-signal.SIGABRT, 75), (1, 1)])
def test_processes_that_nccl_aborted_go_on_with_the_next_run(
    ends: int, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It aborts those that lost another, which the machine they ran on does not see."""
    lines = ["import os, resource, sys", "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))"]
    lines += ["number = int(sys.argv[1])", "sys.exit(number) if number > 0 else os.kill(os.getpid(), -number)"]
    (tmp_path / "ending.py").write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    assert start_processes("ending", [str(int(ends))], 2) == code
