"""The committed `dvc.lock` is that of the committed code: a clone may take the artifacts from a remote as they are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_dvc_lock_matches_code_and_settings(root: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "dvc", "repro", "--dry", "--allow-missing", "--pull"],
        cwd=root,
        capture_output=True,
        text=True,
    )

    assert result.returncode == 0, result.stdout + result.stderr
    assert "Running stage" not in result.stdout, f"run `dvc repro` and commit dvc.lock:\n{result.stdout}"
