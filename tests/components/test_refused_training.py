"""Kubeflow runs a refused step again: in another pod, so what it needs to know lies with the checkpoints."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from components.train.__main__ import parser, step
from gateline.adapters.door import run_step
from tests.steps import argv_of, run_until
from tests.tiny import write_tiny

HEARD = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def test_the_next_pod_refuses_before_it_trains_or_asks_anybody(
    tmp_path: Path, mlflow_database: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    workload = write_tiny(tmp_path, training__learning_rate=1e30, training__clip_norm=None)
    assert run_until("preprocess", workload, tmp_path) == ("preprocess", 0)

    def pod(name: str, processes: int) -> tuple[int, str]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "prepared").symlink_to(tmp_path / "prepared")
        argv = [*argv_of("train", workload, tmp_path / name), "--processes", str(processes)]
        capfd.readouterr()
        try:
            code = run_step(parser(), step, [*argv, "--checkpoints", f"file://{tmp_path}/store"])
        except SystemExit as end:  # of the processes that it started
            code = int(end.code or 0)
        return code, capfd.readouterr().err

    for processes in (1, 2):
        before = [signal.getsignal(number) for number in HEARD]
        code, said = pod(f"first-of-{processes}", processes)
        assert [signal.getsignal(number) for number in HEARD] == before, (
            "a signal would end who starts a step in its own process"
        )
        assert (code, "expected a finite" in said) == (2, True), said
        assert "earlier" not in said
    # Whoever asks MLflow now waits for it, and says so.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    for processes in (1, 2):
        code, said = pod(f"second-of-{processes}", processes)
        assert code == 2
        (line,) = said.splitlines()
        assert "in an earlier run of this very training" in line
        assert f"remove file://{tmp_path}/store" in line
