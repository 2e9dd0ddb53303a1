"""A version in the registry and the files that were registered with it, fetched to be looked at."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from gateline.adapters.mlflow_server import Connection
from gateline.adapters.registry.ledger import CHAMPION, version_by_alias
from gateline.adapters.registry.model_files import fetch
from gateline.adapters.registry.reference import NUMBER, read_reference
from gateline.adapters.registry.versions import PAPERS_FOLDER, PASSPORT, PASSPORT_TAG, SERVED_FOLDER, WORKLOAD
from gateline.errors import RegistryError
from gateline.manifest import Json
from gateline.workload.address import without_users

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


@dataclass(frozen=True)
class Registered:
    """The files of a registered version, in a folder of this machine.

    Args:
        name: of the registered model, which is the workload's.
        version: as the registry describes it.
        top: all files, as MLflow laid them out.
        mlmodel: what MLflow says of them.
    """

    name: str
    version: ModelVersion
    top: Path
    mlmodel: Json

    @property
    def number(self) -> int:
        """Of the version."""
        return int(self.version.version)

    @property
    def flavor(self) -> Json:
        """How MLflow loads it."""
        return self.mlmodel["flavors"]["python_function"]

    @property
    def papers(self) -> Path:
        """Folder of the passport, see `Papers`."""
        return self.top / str(self.flavor["artifacts"][PAPERS_FOLDER]["path"])

    @property
    def model(self) -> Path:
        """The model folder."""
        return self.top / str(self.flavor["artifacts"][SERVED_FOLDER]["path"])

    @property
    def package(self) -> Path:
        """The source of `gateline` that it runs with."""
        return self.top / str(self.flavor["code"]) / "gateline"

    def passport(self) -> Json:
        """Read the passport."""
        return json.loads((self.papers / PASSPORT).read_text(encoding="utf-8"))

    def workload(self) -> Json:
        """Read the workload that made it."""
        return json.loads((self.papers / WORKLOAD).read_text(encoding="utf-8"))


def version_of_reference(to: Connection, reference: str) -> ModelVersion:
    """Find the version that a reference names: NAME is its champion, else NAME@ALIAS or NAME/VERSION, after `models:/` or not.

    Raises:
        RegistryError: the registry has none.
    """
    from mlflow.exceptions import MlflowException

    name, said = read_reference(reference)
    said = said or CHAMPION
    found: ModelVersion | None = None
    try:
        numbered = NUMBER.fullmatch(said) is not None
        found = to.client.get_model_version(name, said) if numbered else version_by_alias(to, name, said)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
    if found is None:
        what = f"version {said}" if NUMBER.fullmatch(said) else f"alias {said}"
        raise RegistryError(
            reference,
            expected=f"a registered model {name} with {what}",
            found="none",
            do=f"Run `gateline run {name}`, or name another version",
        )
    return found


@contextmanager
def registered(version: ModelVersion) -> Iterator[Registered]:
    """Fetch the files of a version.

    Raises:
        RegistryError: they are gone, or it was registered without a passport.
        TryAgainError: the store of the files did not give them this time.
    """
    where = f"{version.name} version {version.version}"
    do = "Restore them from a backup of MLflow's artifacts, or register the model again"
    with tempfile.TemporaryDirectory() as scratch:
        top = fetch(version, Path(scratch), do=do)
        try:
            mlmodel = yaml.safe_load((top / "MLmodel").read_text(encoding="utf-8"))
            found = Registered(str(version.name), version, top, mlmodel)
            known = set(found.flavor["artifacts"])
        except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
            said = " ".join(without_users(error).replace(f"{scratch}/", "").split())[:200]
            raise RegistryError(where, expected="the files that were registered", found=said, do=do) from error
        if PAPERS_FOLDER not in known or not (found.papers / PASSPORT).is_file():
            lacking = "none: it was registered before models had one"
            do = f"Run `gateline run {version.name}`; what is registered from now on can be traced"
            if PASSPORT_TAG in version.tags:
                lacking = "none, and its tag has the digest of one: somebody removed it"
                do = "Restore it from a backup of MLflow's artifacts"
            raise RegistryError(where, expected="a passport inside the model", found=lacking, do=do)
        yield found
