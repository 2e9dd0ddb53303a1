"""What an image is made of, as one digest: the same content, the same tag, nothing to build."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from gateline.manifest import digest_of, file_digest

STEPS = ("ingest", "validate", "preprocess", "train", "evaluate", "register")
DOCKERFILE, RECIPE, LOCK = "infra/images/Dockerfile", "infra/images/install.py", "requirements.lock"
OF_ALL = (DOCKERFILE, RECIPE, LOCK, "pyproject.toml", "README.md", "LICENSE", "components/__init__.py", "src")
OF_INGEST = ("components/ask", "components/conclude", "workloads/listings")
"""What runs in its image beside the step, and what names the files of a folder at an address."""


def inputs(step: str) -> tuple[str, ...]:
    """Files and folders of the repository that go into a step's image."""
    return (*OF_ALL, f"components/{step}", *(OF_INGEST if step == "ingest" else ()))


def digest_of_files(root: Path, paths: Iterable[str]) -> str:
    """sha256 over names and bytes of files, and of all files in folders but those that Python makes."""
    files = [file for path in paths for file in _files(root / path)]
    return digest_of({file.relative_to(root).as_posix(): file_digest(file) for file in files})


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return [file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts]


def tag_of(root: Path, step: str, arguments: Mapping[str, str], base_id: str) -> str:
    """Tag of a step's image: 16 digits over all that it is made of."""
    content = {"files": digest_of_files(root, inputs(step)), "arguments": dict(arguments), "base": base_id}
    return digest_of(content)[:16]


def commit_of(root: Path, step: str) -> str:
    """The last commit that changed what a step's image is made of, see `last_commit`."""
    return last_commit(root, inputs(step))


def last_commit(root: Path, paths: Sequence[str]) -> str:
    """The last commit that changed files that an image is made of; ``unknown`` with changes in them, or without git.

    So an image is not built again for a commit that it does not hold.
    """
    try:
        answers = [
            subprocess.run(  # noqa: S603  (fixed words)
                ["git", *words, "--", *paths],  # noqa: S607  (wherever git is)
                cwd=root,
                capture_output=True,
                text=True,
                check=True,
                timeout=60,
            ).stdout.strip()
            for words in (("log", "-1", "--format=%H"), ("status", "--porcelain"))
        ]
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return answers[0] if answers[0] and not answers[1] else "unknown"
