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

import yaml

from tests.conftest import ROOT

FOLDER = ROOT / "infra" / "kubernetes"
OVERLAYS = sorted(path.name for path in (FOLDER / "overlays").iterdir())
HOUSE = ROOT / "tests" / "infra" / "house"
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


def edited(scratch: Path, edit: Callable[[dict[str, Any]], object], name: str = "prod") -> Manifests:
    """Render a copy of an overlay whose kustomization somebody edited."""
    source, target = FOLDER / "overlays" / name, scratch.resolve() / "overlay"
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
    return rendered(target)


def named(manifests: Manifests, kind: str, name: str) -> dict[str, Any]:
    """Find a manifest."""
    return next(each for each in manifests if each["kind"] == kind and each["metadata"]["name"] == name)


def stores(manifests: Manifests) -> dict[str, str]:
    """What the ConfigMap of the stores, whose name ends in a hash, says."""
    [found] = [
        each for each in manifests if each["kind"] == "ConfigMap" and each["metadata"]["name"].startswith("stores-")
    ]
    return dict(found["data"])
