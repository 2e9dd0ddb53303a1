"""Build the images of the servers on a cluster: MLflow, PostgreSQL and an object store; named by what they are made of, as the steps' are."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gateline.adapters.project import replace_text
from gateline.manifest import digest_of, file_digest
from infra.images.build import BUILD, Settings, base_of, bill_of, entry
from infra.images.content import LOCK, RECIPE, digest_of_files, last_commit
from infra.images.engine import Engine

FOLDER = "infra/kubernetes/images"
DOCKERFILE = f"{FOLDER}/Dockerfile"
SERVERS: Mapping[str, tuple[str, ...]] = {
    "mlflow": (LOCK,),
    "postgres": (f"{FOLDER}/postgres.sh",),
    "object-store": (f"{FOLDER}/object-store.txt", f"{FOLDER}/object_store.py"),
}
"""Files of each beside the Dockerfile; the first of those that pip installs from is its lock."""
MAPPING = BUILD / "servers.json"


def build_servers(
    root: Path, engine: Engine, settings: Settings, say: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    """Build what is not there, and write which image each server has.

        build/images/
        ├── servers.json        image, digest, id and bytes of each server
        └── SERVER.cdx.json     bill of materials (CycloneDX)

    Args:
        root: the project.
        engine: that builds.
        settings: how; without settings of pip, those of this machine's own pip are lent to the build.
        say: takes one line of progress.

    Returns:
        What is written.

    Raises:
        TryAgainError: a base image or a build failed.
    """
    base, base_id = base_of(engine, settings)
    (root / BUILD).mkdir(parents=True, exist_ok=True)
    found = {}
    for server, own in SERVERS.items():
        arguments = {"COMMIT": last_commit(root, inputs(server))}
        name = f"localhost/gateline-{server}:{tag_of(root, server, arguments, base_id)}"
        facts = engine.inspect(name)
        if facts is None:
            say(f"building {name}")
            engine.build(
                name,
                file=root / DOCKERFILE,
                context=root,
                target=server,
                arguments={**arguments, "BASE_IMAGE": base, "LOCK_DIGEST": file_digest(root / own[0])},
                wheels=None,
                secrets=_secrets(settings),
            )
            facts = engine.inspect(name) or {}
        found[server] = entry(engine, name, facts)
        bill_of(root, engine, server, found[server])
        replace_text(root / MAPPING, json.dumps(found, indent=2, sort_keys=True) + "\n")
    return found


def inputs(server: str) -> tuple[str, ...]:
    """Files of the repository that go into a server's image."""
    return (DOCKERFILE, RECIPE, *SERVERS[server])


def tag_of(root: Path, server: str, arguments: Mapping[str, str], base_id: str) -> str:
    """Tag of a server's image: 16 digits over all that it is made of."""
    content = {"files": digest_of_files(root, inputs(server)), "arguments": dict(arguments), "base": base_id}
    return digest_of(content)[:16]


def _secrets(settings: Settings) -> dict[str, Path]:
    """Where pip asks: as the flags say, else as this machine's own pip does; nothing of it stays in an image."""
    given = {"pipconf": settings.pip_conf, "ca": settings.certificate}
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    usual: dict[str, list[str | Path]] = {
        "pipconf": [os.environ.get("PIP_CONFIG_FILE", ""), home / "pip" / "pip.conf", "/etc/pip.conf"],
        "ca": [os.environ.get("PIP_CERT", "")],
    }
    chosen = {
        key: given[key] or next((Path(place) for place in places if place and _has_text(Path(place))), None)
        for key, places in usual.items()
    }
    return {key: path for key, path in chosen.items() if path is not None}


def _has_text(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0
