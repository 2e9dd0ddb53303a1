"""The pipeline compiled for the images of this machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from gateline.adapters.project import Project
from gateline.errors import WorkloadError

MAPPING = Path("build/images/images.json")
"""Written by `make images`: ``{STEP: {"image": NAME:TAG, "digest": "sha256:...", ...}, ...}``."""


def compiled_here(project: Project, images: Path | None, folder: Path) -> Path:
    """Compile the project's pipeline for images of this machine.

    Args:
        project: whose `pipelines` are compiled.
        images: which image a step has; None: what `make images` wrote.
        folder: where to write.

    Raises:
        WorkloadError: there are no images, or the pipeline cannot be compiled.
    """
    file = images or project.root / MAPPING
    try:
        named = {
            step: f"{made['image']}@{made['digest']}" for step, made in json.loads(file.read_text("utf-8")).items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WorkloadError(
            file,
            expected="image and digest of each step, as JSON",
            found=" ".join(str(error).split())[:160],
            do="Build the images with `make images`",
        ) from error
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    output = folder / "compiled.yaml"
    flags = [word for step, image in named.items() for word in ("--image", f"{step}={image}")]
    # A process of its own: what is compiled belongs to the project and is no part of the installed package.
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "pipelines.compile", *flags, "--output", str(output)],
        cwd=project.root,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise WorkloadError("python -m pipelines.compile", expected="a pipeline", found=last, do="Correct that")
    return output
