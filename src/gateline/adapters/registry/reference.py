"""What people call a registered model: the name of a workload, its file, or an address of MLflow's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from gateline.adapters.mlflow_server import Connection
from gateline.adapters.registry.ledger import number_with_alias
from gateline.errors import RegistryError

ADDRESS = re.compile(r"models:/(?P<name>[a-z][a-z0-9_]*)(?:/(?P<version>[0-9]{1,9})|@(?P<alias>[\w-]+))?")
NUMBER = re.compile(r"[0-9]{1,9}")


class Reference(NamedTuple):
    """A registered model, and which version of it, if that is said.

    Args:
        name: of the registered model, which is that of the workload.
        version: a number, or the name of an alias; None: not said.
    """

    name: str
    version: str | None


def read_reference(text: str) -> Reference:
    """Read ``flight_delays``, ``workloads/flight_delays.yaml``, ``models:/flight_delays/3`` or ``models:/flight_delays@champion``.

    Raises:
        RegistryError: it is none of these.
    """
    is_file = text.endswith((".yaml", ".yml"))
    name = Path(text).stem if is_file else text
    found = ADDRESS.fullmatch(name if text.startswith("models:") else f"models:/{name}")
    if found is None or (is_file and (found["version"] or found["alias"])):
        raise RegistryError(
            repr(text[:80]),
            expected="the name of a workload, or models:/NAME/VERSION",
            found="something else",
            do="Names are of lower-case letters, digits and _; versions are numbers",
        )
    return Reference(found["name"], found["version"] or found["alias"])


def name_alone(text: str) -> str:
    """Read the name of a model where no version can be asked for.

    Raises:
        RegistryError: there is one, which would be ignored.
    """
    reference = read_reference(text)
    if reference.version is not None:
        raise RegistryError(
            text, expected="a model", found=f"its version {reference.version}", do=f"Say {reference.name}"
        )
    return reference.name


def version_said(text: str, version: str | None) -> tuple[str, str | None]:
    """Read the name of a model, and the version that is said in its address or beside it.

    Raises:
        RegistryError: both say one.
    """
    reference = read_reference(text)
    if reference.version is not None and version is not None:
        raise RegistryError(f"{text} {version}", expected="one version", found="two", do="Leave one of them out")
    return reference.name, version if version is not None else reference.version


def number_of(to: Connection, name: str, version: str) -> int:
    """Turn ``3``, ``champion`` or an address into the number of a version.

    Raises:
        RegistryError: no version has that alias.
    """
    word = version
    if version.startswith("models:"):
        named = read_reference(version)
        if named.name != name or named.version is None:
            raise RegistryError(
                version,
                expected=f"a version of {name}, e.g. models:/{name}/3",
                found=f"the model {named.name}" if named.name != name else "no version",
                do="Name a version of the model that the command is about",
            )
        word = named.version
    if NUMBER.fullmatch(word):
        return int(word)
    number = number_with_alias(to, name, word)
    if number is None:
        raise RegistryError(
            f"{name}: {word}",
            expected="a number, or an alias that a version has",
            found="no version of that alias",
            do=f"See `gateline history {name}`",
        )
    return number
