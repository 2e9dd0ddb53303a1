"""podman or docker, where one is at hand: which image it has, and what the image says of itself."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any, Literal

from gateline.errors import examples

ENGINES = ("podman", "docker")
ENGINE_SECONDS = 60
REVISION = "org.opencontainers.image.revision"


def engine_with(image: str) -> str | None:
    """Find the engine that has an image; None where there is none, as inside a container."""
    return next(
        (engine for engine in filter(None, map(shutil.which, ENGINES)) if _facts(engine, image) is not None), None
    )


def compare_image(image: str, commit: str | None) -> tuple[Literal["holds", "broken", "unchecked"], str]:
    """Compare an image with its name's digest, and with the commit that it says it was built of.

    Returns:
        How the comparison came out, and what was seen.
    """
    _, _, digest = image.partition("@")
    if not digest:
        return "unchecked", f"{image} names no digest, so that any image may bear the name"
    engine = engine_with(image)
    facts = None if engine is None else _facts(engine, image)
    if facts is None:
        return "unchecked", f"no podman or docker here has {image}"
    known = [str(name) for name in facts.get("RepoDigests") or ()]
    if not any(name.endswith(f"@{digest}") for name in known):
        return "broken", f"{image} is here under other digests: {examples(known or ['none'])}"
    labels = facts.get("Labels") or (facts.get("Config") or {}).get("Labels") or {}
    built_of = labels.get(REVISION)
    if built_of in (None, "", "unknown") or commit is None:
        whose = "the passport names no commit" if commit is None else f"{image} has no label {REVISION}"
        return "unchecked", f"it is here with its digest, and {whose}"
    if built_of != commit:
        return "broken", f"{image} was built of commit {str(built_of)[:12]}, the passport says {commit[:12]}"
    return "holds", image


def _facts(engine: str, image: str) -> Any:
    """What an engine says of an image; None if it has none, or does not answer."""
    try:
        done = subprocess.run(  # noqa: S603  (the engine that was found, and a name)
            [engine, "image", "inspect", image], check=True, capture_output=True, timeout=ENGINE_SECONDS
        )
        return json.loads(done.stdout)[0]
    except (OSError, subprocess.SubprocessError, ValueError, IndexError, KeyError):
        return None
