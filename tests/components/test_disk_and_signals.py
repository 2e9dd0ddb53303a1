"""A full disk, a folder that cannot be written, a link, a signal: one line, the right exit code, nothing half-written."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.steps import run_here, run_until, start
from tests.tiny import write_tiny


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path) -> Path:
    """Artifacts up to `model`, with the workload beside them."""
    folder = tmp_path_factory.mktemp("trained")
    shutil.copy(mlflow_template, folder / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        assert run_until("train", write_tiny(folder), folder / "artifacts") == ("train", 0)
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("mounting a small disk needs root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("step", ["ingest", "preprocess", "train", "evaluate"])
def test_a_full_disk_is_named(
    step: str, trained: Path, small_disk: Path, mlflow_database: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for kind in ("raw", "report", "prepared", "model"):
        (small_disk / kind).symlink_to(trained / "artifacts" / kind)
    written = {"ingest": "raw", "preprocess": "prepared", "train": "model", "evaluate": "evaluation"}[step]
    (small_disk / written).unlink(missing_ok=True)

    code = run_here(step, trained / "tiny.yaml", small_disk)

    said = capfd.readouterr().err
    assert code == 2, said
    assert "a full disk" in said
    assert "Traceback" not in said
    assert not list(small_disk.glob("*.tmp"))
    assert not (small_disk / written).exists()


def test_a_folder_that_cannot_be_is_named(trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("no folder")

    assert run_here("ingest", trained / "tiny.yaml", tmp_path / "file") == 2
    assert "a file where a folder should be" in capfd.readouterr().err


def test_a_link_to_a_folder_stays_a_link(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "big").mkdir()
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "raw").symlink_to(tmp_path / "big" / "raw")
    for _ in range(2):
        assert run_here("ingest", trained / "tiny.yaml", tmp_path / "artifacts") == 0

    assert (tmp_path / "artifacts" / "raw").is_symlink()
    assert (tmp_path / "big" / "raw" / "manifest.json").exists()
    assert sorted(path.name for path in (tmp_path / "big").iterdir()) == ["raw"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("step", ["validate", "train"])
def test_a_signal_is_no_verdict(step: str, number: signal.Signals, trained: Path, tmp_path: Path) -> None:
    """Whenever it comes, the step ends with 75 or was done before; never with a rejection of good data."""
    kind = {"validate": "report", "train": "model"}[step]
    for moment in (2.0, 2.5, 3.0, 3.5, 4.0):
        folder = tmp_path / f"{moment}"
        shutil.copytree(trained, folder)
        shutil.rmtree(folder / "artifacts" / kind)
        process = start(
            step, trained / "tiny.yaml", folder / "artifacts", {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
        )
        time.sleep(moment)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
        assert process.returncode in (0, 75, -number), said
        if process.returncode == 75:
            assert "Run the same command again" in said
        manifest = folder / "artifacts" / kind / "manifest.json"
        if process.returncode == 0:
            assert manifest.read_bytes() == (trained / "artifacts" / kind / "manifest.json").read_bytes()
        assert not list((folder / "artifacts").glob("*.tmp")) or process.returncode == -number
