"""What an image holds, what it lacks, and that nothing is built twice."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gateline.manifest import file_digest
from infra.images.content import STEPS, commit_of, tag_of
from infra.images.install import requirements
from tests.containers.conftest import ROOT, call

pytestmark = [pytest.mark.containers, pytest.mark.slow]
Images = Mapping[str, Mapping[str, Any]]

LOOK = """
import importlib.metadata, importlib.util, json, os, shutil
def writable(path):
    try:
        open(os.path.join(path, "probe"), "w").close()
    except OSError:
        return False
    return True
print(json.dumps({
    "user": [os.getuid(), os.getgid()],
    "packages": sorted({d.metadata["Name"].lower() for d in importlib.metadata.distributions()}),
    "installers": [name for name in ("pip", "pip3", "uv", "easy_install") if shutil.which(name)]
        + [name for name in ("pip", "ensurepip") if importlib.util.find_spec(name)],
    "steps": sorted(name for name in os.listdir("/app/components") if not name.startswith("_")),
    "lock": os.path.isfile("requirements.lock"),
    "writable": {path: writable(path) for path in ("/", "/app", "/venv", "/tmp")},
}))
"""
TORCH = {"preprocess", "train", "evaluate", "register"}
BESIDE = {"ingest": ["ask", "conclude"]}
"""What runs in the image of a step beside it: it needs as little."""


def engine(images: Images, *words: str) -> str:
    return subprocess.run(
        [str(images["train"]["engine"]), *words], check=True, capture_output=True, text=True, timeout=300
    ).stdout


@pytest.fixture(scope="module")
def seen(images: Images) -> dict[str, Any]:
    """What is in each image."""
    flags = ("run", "--rm", "--network", "none", "--read-only", "--tmpfs", "/tmp")
    return {step: json.loads(engine(images, *flags, images[step]["image"], "python", "-c", LOOK)) for step in STEPS}


@pytest.mark.parametrize("step", STEPS)
def test_an_image_runs_one_step_as_a_plain_user_with_a_read_only_root_and_nothing_to_install_with(
    images: Images, seen: dict[str, Any], step: str
) -> None:
    here = seen[step]
    assert here["user"] == [10001, 10001]
    assert here["installers"] == []
    assert here["steps"] == sorted([step, *BESIDE.get(step, [])])
    assert here["lock"]
    assert here["writable"] == {"/": False, "/app": False, "/venv": False, "/tmp": True}
    assert ("torch" in here["packages"]) == (step in TORCH)
    assert not {"kfp", "dvc", "pytest", "optuna"} & set(here["packages"])
    command = ["run", "--rm", "--read-only", "--tmpfs", "/tmp", images[step]["image"]]
    assert "usage: python -m components." in engine(images, *command, "python", "-m", f"components.{step}", "--help")


@pytest.mark.parametrize("step", STEPS)
def test_an_image_says_what_it_was_made_of(images: Images, step: str) -> None:
    (facts,) = json.loads(engine(images, "image", "inspect", images[step]["image"]))
    config = facts["Config"]

    assert not config.get("Entrypoint")
    assert config["Labels"]["gateline.lock-digest"] == file_digest(ROOT / "requirements.lock")
    assert config["Labels"]["org.opencontainers.image.revision"] == commit_of(ROOT, step)
    assert f"GATELINE_COMMIT={commit_of(ROOT, step)}" in config["Env"]


def test_validate_is_small(images: Images) -> None:
    assert images["validate"]["bytes"] < 10**9
    assert {name: round(made["bytes"] / 1e6) for name, made in images.items() if made["bytes"] > 2.1e9} == {}


def test_the_bill_of_materials_names_every_package_and_its_version(images: Images, seen: dict[str, Any]) -> None:
    for step in STEPS:
        bill = json.loads((ROOT / "build" / "images" / f"{step}.cdx.json").read_text())
        assert bill["bomFormat"] == "CycloneDX"
        assert bill["metadata"]["component"]["version"] == images[step]["id"]
        named = {part["purl"] for part in bill["components"]}
        assert {part.partition(":")[2].partition("/")[0] for part in named} == {"pypi", "deb"}
        python = {part["name"].lower() for part in bill["components"] if part["purl"].startswith("pkg:pypi/")}
        assert python == set(seen[step]["packages"])


def test_nothing_is_built_again_when_nothing_changed(images: Images) -> None:
    said = call(sys.executable, "-m", "infra.images", "build", "--engine", str(images["train"]["engine"]))

    assert "building" not in said
    assert json.loads(call(sys.executable, "-m", "infra.images", "show")) == images


def test_the_tag_changes_with_what_the_image_is_made_of_and_with_nothing_else(tmp_path: Path) -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in listed.splitlines():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)

    def tags(base: str = "base", **arguments: str) -> dict[str, str]:
        return {step: tag_of(tmp_path, step, arguments, base) for step in STEPS}

    before = tags()
    (tmp_path / "README.txt").write_text("nothing of an image")
    (tmp_path / "workloads" / "flight_delays.yaml").write_text("")
    (tmp_path / "src" / "gateline" / "__pycache__").mkdir()
    (tmp_path / "src" / "gateline" / "__pycache__" / "x.pyc").write_text("")
    assert tags() == before

    (tmp_path / "components" / "train" / "__main__.py").write_text("")
    assert [step for step in STEPS if tags()[step] != before[step]] == ["train"]
    for changed in (tags(base="other"), tags(TORCH="cuda")):
        assert all(changed[step] != before[step] for step in STEPS)
    (tmp_path / "src" / "gateline" / "batch.py").write_text("")
    assert all(tags()[step] != before[step] for step in STEPS)


def test_an_image_gets_the_packages_of_its_extras() -> None:
    assert any(line.startswith("great-expectations") for line in requirements(["validate"], ROOT / "pyproject.toml"))
    train = requirements(["train"], ROOT / "pyproject.toml")
    assert "torch==2.13.0" in train
    assert any(line.startswith("tokenizers") for line in train)  # named by an extra that the extra names
    assert not any("gateline[" in line for line in train)
