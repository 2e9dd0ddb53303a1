"""Which image is built, and by what name it goes on; the engine is a stand-in."""

from __future__ import annotations

import contextlib
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest

from gateline.errors import TryAgainError
from infra.images import build as building
from infra.images import wheels as wheelhouse
from infra.images.build import Settings, build
from infra.images.content import DOCKERFILE, LOCK, RECIPE
from infra.images.engine import Engine


class StandIn:
    """An engine that keeps the arguments with which each image was built."""

    name = "podman"

    def __init__(self) -> None:
        self.built: dict[str, dict[str, str]] = {}

    def inspect(self, image: str) -> dict[str, Any] | None:
        """What there is of an image."""
        return {"Id": f"sha256:{image}", "Size": 1} if image in self.built or "python" in image else None

    def build(self, name: str, *, arguments: dict[str, str], **_: object) -> None:
        """Keep the arguments."""
        self.built[name] = arguments


@pytest.fixture
def engine() -> StandIn:
    return StandIn()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (DOCKERFILE, RECIPE, LOCK, "pyproject.toml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(building, "bill_of", lambda *_: tmp_path)
    monkeypatch.setattr(building, "collect", lambda _, folder, __: folder)
    return tmp_path


def made(root: Path, engine: StandIn, settings: Settings, *steps: str) -> dict[str, dict[str, Any]]:
    return build(root, cast(Engine, engine), settings, steps or ("ingest", "train"), lambda _: None)


def test_the_image_of_train_stays_the_variant_that_it_was_built_as(root: Path, engine: StandIn) -> None:
    plain = made(root, engine, Settings())
    assert plain["train"]["torch"] == "cpu"
    cuda = made(root, engine, Settings(torch="cuda"), "train")

    kept = made(root, engine, Settings())

    assert kept == cuda
    assert kept["train"]["torch"] == "cuda"
    assert kept["ingest"] == plain["ingest"]
    assert [engine.built[each["image"]]["TORCH"] for each in kept.values()] == ["cpu", "cuda"]
    assert made(root, engine, Settings(torch="cpu")) == plain


def test_other_wheels_in_a_folder_of_ones_own_are_another_image(root: Path, engine: StandIn) -> None:
    wheel = root / "wheels" / "torch-2.13.0+cpu-cp311-none-any.whl"
    wheel.parent.mkdir()
    wheel.write_text("built on Monday")
    settings = Settings(wheels=wheel.parent)
    first = made(root, engine, settings)
    assert made(root, engine, settings) == first
    assert len(engine.built) == 2

    wheel.write_text("built on Sunday")  # as long, of the same version

    second = made(root, engine, settings)
    assert len(engine.built) == 4
    for step in first:
        before, after = (engine.built[each[step]["image"]] for each in (first, second))
        assert before["PACKAGES_DIGEST"] != after["PACKAGES_DIGEST"], "layers of packages are not taken from a cache"


DOCKER = """#!/bin/bash
[[ "$*" == "image inspect"* ]] && echo '[{"Id": "sha256:1", "RepoDigests": ['$KNOWN'], "Size": 1}]'
exit 0
"""


@pytest.fixture
def docker(tmp_path: Path) -> Engine:
    command = tmp_path / "docker"
    command.write_text(DOCKER)
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    return Engine("docker", str(command))


@pytest.mark.parametrize(
    ("target", "known"),
    [
        ("docker.io/team/gateline-train:1", "team/gateline-train"),
        ("team/gateline-train:1", "team/gateline-train"),
        ("docker.io/gateline-train:1", "gateline-train"),
        ("registry.example:5000/team/gateline-train:1", "registry.example:5000/team/gateline-train"),
    ],
)
def test_docker_tells_the_digest_by_the_name_that_it_likes(
    target: str, known: str, docker: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KNOWN", f'"other.example/{known}@sha256:00","{known}@sha256:11"')
    assert docker.push("localhost/gateline-train:1", target) == "sha256:11"


def test_a_digest_that_docker_does_not_tell_is_said_in_one_line(
    docker: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KNOWN", '"other.example/gateline-train@sha256:00"')
    with pytest.raises(TryAgainError, match=r"what docker has sent; found other\.example/gateline-train\. Run again"):
        docker.push("localhost/gateline-train:1", "docker.io/team/gateline-train:1")


def test_wheels_are_there_whole_where_another_build_is_killed_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, folder, asked = Path(__file__).parents[2], tmp_path / "build" / "wheels-cpu", []

    def pip(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        if len(asked) == 2:
            raise KeyboardInterrupt
        target = Path(command[command.index("--wheel-dir") + 1])
        target.mkdir(parents=True, exist_ok=True)
        (target / "a-1-py3-none-any.whl").write_bytes(b"a")
        with contextlib.suppress(KeyboardInterrupt):
            wheelhouse.collect(project, folder, "cpu")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", pip)
    monkeypatch.setattr(wheelhouse, "PYTHON", sys.version_info[:2])
    wheelhouse.collect(project, folder, "cpu")
    assert sorted(file.name for file in folder.iterdir()) == ["a-1-py3-none-any.whl", "complete"]
    assert [file.name for file in folder.parent.iterdir()] == [folder.name]
    wheelhouse.collect(project, folder, "cpu")
    assert len(asked) == 2, "what is there is not collected again"
