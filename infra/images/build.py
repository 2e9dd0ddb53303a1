"""Build the images of the steps: each once, named by what it is made of, with a list of all that is in it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateline.adapters.project import replace_text
from gateline.errors import WorkloadError
from gateline.manifest import digest_of, file_digest
from infra.images import sbom
from infra.images.content import DOCKERFILE, LOCK, RECIPE, STEPS, commit_of, digest_of_files, tag_of
from infra.images.engine import Engine
from infra.images.wheels import collect, digest_of_wheels

BUILD = Path("build/images")
MAPPING = BUILD / "images.json"
BASE_IMAGE = "python:3.11-slim-bookworm"
LOCAL_BASE = f"localhost/{BASE_IMAGE}"
"""What `debian_base.sh` makes; taken where it is there, and no other is named."""
MAX_BYTES = {"validate": 10**9}
"""Validate runs for every batch of data, on the smallest node."""


@dataclass(frozen=True)
class Settings:
    """How to build.

    Args:
        base: base image; None takes `LOCAL_BASE` where it is there, else `BASE_IMAGE`.
        torch: cpu or cuda, for train alone; None keeps what its image was built with last, cpu at first.
        wheels: folder of wheels; None fills one by this machine's pip.
        pip_conf: pip's settings for the build, which then asks an index instead of wheels.
        certificate: of that index.
    """

    base: str | None = None
    torch: str | None = None
    wheels: Path | None = None
    pip_conf: Path | None = None
    certificate: Path | None = None


def build(
    root: Path, engine: Engine, settings: Settings, steps: Sequence[str], say: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    """Build what is not there, and write the mapping of steps to images.

        build/images/
        ├── images.json         image, digest, id and bytes of each step, and of train for what torch is built
        ├── STEP.cdx.json       bill of materials: packages of Python and Debian (CycloneDX)
        └── wheels-cpu/         what pip installed from

    Args:
        root: the project.
        engine: that builds.
        settings: how.
        steps: which.
        say: takes one line of progress.

    Returns:
        The mapping.

    Raises:
        TryAgainError: a base image, a wheel or a build failed.
        WorkloadError: an image is larger than it may be.
    """
    base, base_id = base_of(engine, settings)
    (root / BUILD).mkdir(parents=True, exist_ok=True)
    images = read_mapping(root) if (root / MAPPING).is_file() else {}
    of_train = settings.torch or images.get("train", {}).get("torch", "cpu")
    # What this machine's pip collects, files of the repository name; what lies in a folder of wheels, nothing else does.
    given = {"wheels": digest_of_wheels(settings.wheels)} if settings.wheels else {}
    for step in steps:
        torch = of_train if step == "train" else "cpu"
        shapes = {"COMMIT": commit_of(root, step), "TORCH": torch}
        name = f"localhost/gateline-{step}:{tag_of(root, step, {**shapes, **given}, base_id)}"
        facts = engine.inspect(name)
        if facts is None:
            say(f"building {name}")
            _build_one(root, engine, settings, step, name, {**shapes, "BASE_IMAGE": base})
            facts = engine.inspect(name) or {}
        images[step] = entry(engine, name, facts) | ({"torch": torch} if step == "train" else {})
        bill = bill_of(root, engine, step, images[step])
        if images[step]["bytes"] > MAX_BYTES.get(step, images[step]["bytes"]):
            raise WorkloadError(
                name,
                expected=f"at most {MAX_BYTES[step] / 1e6:,.0f} MB",
                found=f"{images[step]['bytes'] / 1e6:,.0f} MB",
                do=f"Look in {bill} for what came in with it",
            )
        replace_text(root / MAPPING, json.dumps(images, indent=2, sort_keys=True) + "\n")
    return images


def base_of(engine: Engine, settings: Settings) -> tuple[str, str]:
    """Name the base image, which is fetched where it is not here, and its id: a renewed base is another one.

    Raises:
        TryAgainError: no registry gave it.
    """
    base = settings.base or (LOCAL_BASE if engine.inspect(LOCAL_BASE) else BASE_IMAGE)
    return base, str((engine.inspect(base) or engine.pull(base))["Id"])


def bill_of(root: Path, engine: Engine, of: str, made: Mapping[str, Any]) -> Path:
    """Write an image's bill of materials unless it is there, and say where."""
    bill = root / BUILD / f"{of}.cdx.json"
    if not (bill.is_file() and sbom.describes(bill, made["id"])):
        sbom.write(bill, engine, made["image"], made["id"])
    return bill


def _build_one(
    root: Path, engine: Engine, settings: Settings, step: str, name: str, arguments: Mapping[str, str]
) -> None:
    torch = arguments["TORCH"]
    secrets = {"pipconf": settings.pip_conf, "ca": settings.certificate}
    if settings.pip_conf is None:
        wheels = settings.wheels or collect(root, root / BUILD / f"wheels-{torch}", torch)
        packages = digest_of_wheels(wheels)
    else:
        wheels, packages = None, digest_of_files(root, (LOCK, "pyproject.toml"))
    engine.build(
        name,
        file=root / DOCKERFILE,
        context=root,
        target=step,
        arguments={
            **arguments,
            "LOCK_DIGEST": file_digest(root / LOCK),
            "PACKAGES_DIGEST": digest_of([packages, file_digest(root / RECIPE)]),
        },
        wheels=wheels,
        secrets={key: path for key, path in secrets.items() if path is not None},
    )


def entry(engine: Engine, name: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Say of an image what the mapping keeps."""
    digests = [str(known).partition("@")[2] for known in facts.get("RepoDigests") or ()]
    image_id = f"sha256:{str(facts['Id']).removeprefix('sha256:')}"
    # What docker builds has no digest before it is pushed.
    return {
        "image": name,
        "digest": digests[0] if digests else image_id,
        "id": image_id,
        "bytes": int(facts["Size"]),
        "engine": engine.name,
    }


def read_mapping(root: Path) -> dict[str, dict[str, Any]]:
    """Read which image each step has.

    Raises:
        WorkloadError: no images were built.
    """
    path = root / MAPPING
    if not path.is_file():
        raise WorkloadError(path, expected="the images of the steps", found="no such file", do="Run `make images`")
    return dict(json.loads(path.read_text(encoding="utf-8")))


def require_all(images: Mapping[str, Any]) -> None:
    """Refuse a mapping without an image for each step.

    Raises:
        WorkloadError: says which are missing.
    """
    if missing := [step for step in STEPS if step not in images]:
        raise WorkloadError(
            MAPPING, expected="an image for each step", found=f"none for {', '.join(missing)}", do="Run `make images`"
        )
