"""A bill of materials of an image: every package of Python and of Debian in it, as CycloneDX."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gateline.adapters.project import replace_text
from infra.images.engine import Engine

ASK = """
import importlib.metadata as metadata, json, subprocess
python = {(d.metadata["Name"], d.version): d.metadata.get("License-Expression") for d in metadata.distributions()}
debian = subprocess.run(
    ["dpkg-query", "--show", "--showformat", "${db:Status-Status}\\t${Package}\\t${Version}\\t${Architecture}\\n"],
    capture_output=True, text=True, check=True,
).stdout.splitlines()
debian = [line.split("\\t")[1:] for line in debian if line.startswith("installed\\t")]
print(json.dumps({"python": [[*key, licence] for key, licence in sorted(python.items())], "debian": debian}))
"""
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://cyclonedx.org/bom")


def write(path: Path, engine: Engine, image: str, image_id: str) -> None:
    """Ask an image what is in it, and write that down; the same image, the same packages."""
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6

    bill = Bom(serial_number=uuid.uuid5(NAMESPACE, image_id))
    bill.metadata.component = Component(
        name=image.partition(":")[0], version=image_id, type=ComponentType.CONTAINER, bom_ref=image_id
    )
    bill.components.update(_components(json.loads(engine.run(image, ["python", "-c", ASK]))))
    bill.register_dependency(bill.metadata.component, bill.components)
    replace_text(path, JsonV1Dot6(bill).output_as_string(indent=2) + "\n")


def _components(found: dict[str, list[list[str]]]) -> Iterator[Any]:
    from cyclonedx.factory.license import LicenseFactory
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    for name, version, licence in found["python"]:
        licences = [LicenseFactory().make_from_string(licence)] if licence else []
        purl = PackageURL("pypi", name=name.lower().replace("_", "-"), version=version)
        yield Component(
            name=name,
            version=version,
            type=ComponentType.LIBRARY,
            purl=purl,
            bom_ref=purl.to_string(),
            licenses=licences,
        )
    for name, version, architecture in found["debian"]:
        purl = PackageURL("deb", "debian", name, version, {"arch": architecture})
        yield Component(name=name, version=version, type=ComponentType.LIBRARY, purl=purl, bom_ref=purl.to_string())


def describes(path: Path, image_id: str) -> bool:
    """Say whether a bill is that of an image."""
    try:
        return bool(json.loads(path.read_text(encoding="utf-8"))["metadata"]["component"]["version"] == image_id)
    except (ValueError, KeyError, TypeError):
        return False
