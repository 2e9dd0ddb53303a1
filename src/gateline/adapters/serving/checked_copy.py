"""A copy of a registered version on this machine, checked to be what was registered before anything of it is run."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from gateline.adapters.mlflow_server import connected
from gateline.adapters.registry.model_files import fetch
from gateline.adapters.registry.package import PACKAGE_TAG, package_digest, without_bytecode
from gateline.adapters.registry.versions import MODEL_TAG, SERVED_FOLDER
from gateline.errors import GatelineError, RegistryError
from gateline.manifest import open_artifact
from gateline.workload.address import without_users

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


def checked_copy(name: str, version: int, folder: Path) -> Path:
    """Fetch a version, and compare its files with the digests that it was registered with.

    Processes load this very copy, so what was checked is what runs.

    Args:
        name: of the registered model.
        version: to fetch.
        folder: private to this process; receives the files.

    Returns:
        Where the logged model stands.

    Raises:
        RegistryError: there is no such version, its files are gone or others, or Gateline did not register it.
        TryAgainError: the store of the files did not give them this time.
        UnreachableError: MLflow does not answer.
    """
    from mlflow.exceptions import MlflowException

    where = f"{name} version {version}"
    with connected(name, create=False) as to:
        try:
            registered = to.client.get_model_version(name, str(version))
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            raise RegistryError(
                where, expected="a registered version", found="none", do=f"See `gateline history {name}`"
            ) from error
        return _fetch(registered, folder, where)


def _fetch(registered: ModelVersion, folder: Path, where: str) -> Path:
    import yaml

    do = "It is not loaded. Put the registered files back, or make another version champion"
    expected = "the files that were registered"
    top = fetch(registered, folder, do=do).resolve()
    try:
        flavor = yaml.safe_load((top / "MLmodel").read_text(encoding="utf-8"))["flavors"]["python_function"]
        model = open_artifact(top / flavor["artifacts"][SERVED_FOLDER]["path"], "model")
    except Exception as error:  # whatever a changed file leads to, it is not what was registered
        found = error.found if isinstance(error, GatelineError) else " ".join(without_users(error).split())[:300]
        raise RegistryError(where, expected=expected, found=found, do=do) from error
    if not registered.tags.get(MODEL_TAG):
        raise RegistryError(where, expected=f"a tag {MODEL_TAG}", found="none, so nothing says what it is", do=do)
    if model.digest != registered.tags[MODEL_TAG]:
        raise RegistryError(where, expected=expected, found="another model in their place", do=do)
    wanted = registered.tags.get(PACKAGE_TAG)  # none of a version from before there was such a tag
    if wanted and package_digest(top) != wanted:
        raise RegistryError(where, expected=expected, found="other files beside the model, or one too few", do=do)
    without_bytecode(top)
    return top


class CopyUnderway:
    """A copy that is made in a thread, while others answer.

    Args:
        name: of the registered model.
        version: to fetch.
        folder: see `checked_copy`.
    """

    def __init__(self, name: str, version: int, folder: Path) -> None:
        self.version, self.folder = version, folder
        self.path: Path | None = None
        """Where the logged model stands; None until it is there and checked."""
        self.error: GatelineError | None = None
        """Why there is none."""
        self._thread = threading.Thread(target=self._make, args=(name,), daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether nothing more comes."""
        return not self._thread.is_alive()

    def discard(self) -> None:
        """Take the files away; those of a thread that is still at work go with the folder above."""
        if self.ended:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _make(self, name: str) -> None:
        try:
            self.folder.mkdir(parents=True)
            self.path = checked_copy(name, self.version, self.folder)
        except GatelineError as error:
            self.error = error
        except Exception as error:  # noqa: BLE001  (serving goes on, whatever happens here)
            found = f"{type(error).__name__}: {' '.join(without_users(error).split())[:300]}"
            self.error = RegistryError(
                f"{name} version {self.version}", expected="to fetch it", found=found, do="See whether MLflow answers"
            )
