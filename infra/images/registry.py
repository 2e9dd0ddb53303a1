"""Push images to a registry, and remember by which digest each is known there: that is how a cluster finds them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gateline.adapters.project import replace_text
from gateline.errors import WorkloadError
from infra.images.build import BUILD
from infra.images.engine import Engine

MAPPING = BUILD / "registry.json"


def push(
    root: Path, engine: Engine, registry: str, images: Mapping[str, Mapping[str, Any]], say: Callable[[str], None]
) -> dict[str, dict[str, str]]:
    """Push images, and write where each is; layers that the registry has are not sent again.

        build/images/
        └── registry.json       by step or server: image (REGISTRY/gateline-NAME@sha256:...) and the id of what was pushed

    Args:
        root: the project.
        engine: that has them.
        registry: host and path before the names, e.g. ``registry.example/team``.
        images: what was built.
        say: takes one line of progress.

    Returns:
        What is written.

    Raises:
        TryAgainError: the registry did not take one.
    """
    path = root / MAPPING
    known: dict[str, dict[str, str]] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for name, made in images.items():
        repository = f"{registry.rstrip('/')}/gateline-{name}"
        # Each time, since a registry may have lost what it once took.
        say(f"pushing {repository}")
        tag = made["image"].rpartition(":")[2]
        known[name] = {"image": f"{repository}@{engine.push(made['image'], f'{repository}:{tag}')}", "id": made["id"]}
        replace_text(path, json.dumps(known, indent=2, sort_keys=True) + "\n")
    return known


def pushed(root: Path, images: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Say under which address a cluster finds each image.

    Raises:
        WorkloadError: one was not pushed, or another was built since.
    """
    path = root / MAPPING
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if missing := [name for name, made in images.items() if known.get(name, {}).get("id") != made["id"]]:
        raise WorkloadError(
            path,
            expected="the images as they were built, in a registry",
            found=f"others or none of {', '.join(missing)}",
            do="Run `python -m infra.images push REGISTRY`",
        )
    return {name: known[name]["image"] for name in images}
