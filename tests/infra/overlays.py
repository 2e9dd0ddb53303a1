"""What `kubectl kustomize` makes of an overlay, as it stands or edited as docs/operations.md says."""

from __future__ import annotations

import copy
import functools
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT
from tests.infra.policy import ADDRESSES, EXAMPLE

FOLDER = ROOT / "infra" / "kubernetes"
OVERLAYS = sorted(path.name for path in (FOLDER / "overlays").iterdir())
HOUSE = ROOT / "tests" / "infra" / "house"
PLACEHOLDER = f"sha256:{0:064x}"
AS_THEY_COME = {
    "dev": {"postgres", "object-store", "backup", "several-nodes"},
    "prod": {"postgres", "backup", "several-nodes", "alarms"},
}
"""Components of the overlays that others copy and edit."""
SETTINGS = {
    "dev": set(),
    "prod": {"MLFLOW_ARTIFACTS_DESTINATION", "BACKUP_BUCKET", "BACKUPS_KEPT", "MODEL", "WORKERS"},
}
"""What they set in ConfigMaps, as they come."""
Manifests = list[dict[str, Any]]


def rendered(folder: Path) -> Manifests:
    """Render a folder; every caller gets a copy of its own."""
    return copy.deepcopy(_rendered(folder))


def overlay(name: str) -> Manifests:
    """Render an overlay."""
    return rendered(FOLDER / "overlays" / name)


@functools.cache
def _rendered(folder: Path) -> Manifests:
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def production() -> Manifests:
    """Render production as it comes; an overlay of one's own is judged by schema and policy alone."""
    require_as_it_comes("prod")
    return overlay("prod")


def is_edited(name: str, folder: Path | None = None) -> bool:
    """Say whether somebody has edited an overlay: its components, its images, or where its database and its buckets are."""
    file = (folder or FOLDER / "overlays" / name) / "kustomization.yaml"
    kustomization = yaml.safe_load(file.read_text(encoding="utf-8"))
    components = {each.rpartition("/")[2] for each in kustomization["components"]}
    digests = {image.get("digest") for image in kustomization["images"]}
    literals = [text for each in kustomization.get("configMapGenerator", []) for text in each.get("literals", [])]
    settings = {key: value for key, _, value in (text.partition("=") for text in literals)}
    buckets = [settings[key] for key in ADDRESSES & settings.keys()]
    return (
        components != AS_THEY_COME[name]
        or digests != {PLACEHOLDER}
        or settings.keys() != SETTINGS[name]
        or not all(EXAMPLE.search(bucket) for bucket in buckets)
    )


def require_as_it_comes(name: str) -> None:
    """Skip what is about an overlay as it comes, where somebody has edited it."""
    if is_edited(name):
        pytest.skip(f"overlays/{name} is edited, and this is about the one that comes with Gateline")


def edited(scratch: Path, edit: Callable[[dict[str, Any]], object], name: str = "prod") -> Manifests:
    """Render a copy of an overlay as it comes, with its kustomization edited."""
    return rendered(write_edited(scratch / "overlay", edit, name))


def write_edited(target: Path, edit: Callable[[dict[str, Any]], object], name: str = "prod") -> Path:
    """Write a copy of an overlay as it comes, with its kustomization edited."""
    require_as_it_comes(name)
    source, target = FOLDER / "overlays" / name, target.resolve()
    shutil.copytree(source, target)
    file = target / "kustomization.yaml"
    kustomization = yaml.safe_load(file.read_text(encoding="utf-8"))
    edit(kustomization)
    for key in ("resources", "components"):
        kustomization[key] = [
            os.path.relpath((source / each).resolve(), target) if each.startswith("..") else each
            for each in kustomization[key]
        ]
    file.write_text(yaml.safe_dump(kustomization), encoding="utf-8")
    return target


def named(manifests: Manifests, kind: str, name: str) -> dict[str, Any]:
    """Find a manifest."""
    return next(each for each in manifests if each["kind"] == kind and each["metadata"]["name"] == name)


def stores(manifests: Manifests) -> dict[str, str]:
    """What the ConfigMap of the stores, whose name ends in a hash, says."""
    [found] = [
        each for each in manifests if each["kind"] == "ConfigMap" and each["metadata"]["name"].startswith("stores-")
    ]
    return dict(found["data"])
