"""Images in a registry are known by the digest that they have there, and no other is given to a cluster."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateline.errors import TryAgainError, WorkloadError
from infra.images.engine import Engine
from infra.images.registry import MAPPING, push, pushed
from tests.containers.registry_server import registry

pytestmark = [pytest.mark.containers, pytest.mark.slow]


@pytest.fixture
def engine() -> Engine:
    if shutil.which("podman") is None:
        pytest.skip("no podman, which makes a small image of one file")
    return Engine.find("podman")


@pytest.fixture
def image(engine: Engine) -> Iterator[dict[str, Any]]:
    """An image of one file."""
    name = "localhost/gateline-test-of-registry:1"
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("file"), io.BytesIO())
    subprocess.run([engine.command, "import", "-", name], input=archive.getvalue(), capture_output=True, check=True)
    yield {"image": name, "id": str((engine.inspect(name) or {})["Id"])}
    subprocess.run([engine.command, "image", "rm", "--force", name], capture_output=True)


def test_a_push_says_which_digest_the_registry_knows_and_sends_what_it_does_not_have(
    engine: Engine, image: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / MAPPING).parent.mkdir(parents=True)
    said: list[str] = []
    with registry() as (host, held):
        trusted = tmp_path / "registries.conf"
        trusted.write_text(f'[[registry]]\nlocation = "{host}"\ninsecure = true\n')
        monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(trusted))
        with pytest.raises(WorkloadError, match="push REGISTRY"):
            pushed(tmp_path, {"train": image})

        made = push(tmp_path, engine, f"{host}/team/", {"train": image}, said.append)

        address = made["train"]["image"]
        assert re.fullmatch(rf"{re.escape(host)}/team/gateline-train@sha256:[0-9a-f]{{64}}", address)
        manifest = json.loads(held[address.removeprefix(f"{host}/")])
        assert manifest["config"]["digest"].removeprefix("sha256:") == image["id"].removeprefix("sha256:")
        assert pushed(tmp_path, {"train": image}) == {"train": address}
        subprocess.run([engine.command, "pull", "--quiet", address], capture_output=True, check=True)
        has = dict(held)
        for lost in ([], [key for key in has if key.startswith("team/")], list(has)):
            for key in lost:
                del held[key]
            assert push(tmp_path, engine, f"{host}/team", {"train": image}, said.append) == made
            assert held == has
        assert said == [f"pushing {host}/team/gateline-train"] * 4
        # Another image under the same name, or another registry, is another push.
        with pytest.raises(WorkloadError, match="train"):
            pushed(tmp_path, {"train": {**image, "id": "sha256:other"}})
        push(tmp_path, engine, f"{host}/others", {"train": image}, said.append)
        assert said[-1] == f"pushing {host}/others/gateline-train"
    with pytest.raises(TryAgainError, match="expected a registry that takes the image"):
        push(tmp_path, engine, f"{host}/none", {"train": image}, said.append)
