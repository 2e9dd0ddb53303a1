"""The wheels of all steps, in one folder, as this machine's own pip finds them.

An image is then built without network, and whatever pip is told here (an index of one's own, folders, a certificate) need not
be told again inside the build.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from gateline.adapters.project import replace_text
from gateline.errors import TryAgainError, WorkloadError
from gateline.manifest import digest_of, file_digest
from infra.images.content import LOCK, STEPS
from infra.images.install import builds_of_torch, requirements

PYTHON = (3, 11)
"""Of the images."""
STAMP = "complete"


def collect(root: Path, folder: Path, torch: str) -> Path:
    """Fill a folder with the wheels that the steps need, unless it holds them.

    Args:
        root: the project.
        folder: of the wheels.
        torch: cpu or cuda.

    Returns:
        The folder.

    Raises:
        WorkloadError: this is another Python than that of the images.
        TryAgainError: pip did not find them all.
    """
    wanted = builds_of_torch(requirements(STEPS, root / "pyproject.toml"), torch)
    stamp = digest_of([sorted(wanted), file_digest(root / LOCK)])
    if (folder / STAMP).is_file() and (folder / STAMP).read_text(encoding="utf-8") == stamp:
        return folder
    if sys.version_info[:2] != PYTHON:
        raise WorkloadError(
            "wheels",
            expected=f"Python {PYTHON[0]}.{PYTHON[1]}, that of the images",
            found=f"{sys.version_info.major}.{sys.version_info.minor}",
            do="Use that one, or give a folder with --wheels, or let the build ask an index with --pip-conf",
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Whole or not at all, also where two builds collect at once; and a wheel that is no longer wanted would be taken for one that is.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}-") as scratch:
        draft = Path(scratch) / folder.name
        command = [sys.executable, "-m", "pip", "wheel", "-qq", "--disable-pip-version-check", "--no-input"]
        done = subprocess.run(  # noqa: S603
            [*command, "--wheel-dir", str(draft), "--constraint", str(root / LOCK), *wanted, "hatchling"],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["nothing"]
            raise TryAgainError(
                "wheels",
                expected="wheels of all that the steps need",
                found=f"pip says {lines[0][:240]}",
                do="See to it that pip's settings name an index with these versions, for torch one with builds for CPU",
            )
        replace_text(draft / STAMP, stamp)
        shutil.rmtree(folder, ignore_errors=True)
        draft.rename(folder)
    return folder


def digest_of_wheels(folder: Path) -> str:
    """Name what is in a folder of wheels, to the byte: two builds of one version may have the same name."""
    return digest_of({file.name: file_digest(file) for file in folder.glob("*.whl")})
