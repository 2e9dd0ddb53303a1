"""Who is champion, its files, and the aliases."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from gateline.adapters.mlflow_server import Connection, shown
from gateline.adapters.registry.versions import SERVED_FOLDER
from gateline.errors import ArtifactError, RegistryError
from gateline.manifest import open_artifact
from gateline.promotion import Decision

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

CHAMPION, CHALLENGER = "champion", "challenger"


@contextmanager
def champion_folder(name: str, champion: ModelVersion) -> Iterator[Path]:
    """Fetch the champion's model folder, checked to be what was registered.

    Raises:
        RegistryError: its files are gone or changed, or Gateline did not register it.
    """
    import mlflow
    import yaml
    from mlflow.exceptions import MlflowException

    where = f"{name} version {champion.version}"
    do = f"Register a model that can be compared, or remove its alias: it is {CHAMPION} now"
    with tempfile.TemporaryDirectory() as scratch:
        try:
            top = Path(mlflow.artifacts.download_artifacts(f"models:/{name}/{champion.version}", dst_path=scratch))
            flavor = yaml.safe_load((top / "MLmodel").read_text(encoding="utf-8"))["flavors"]["python_function"]
            model = open_artifact(top / flavor["artifacts"][SERVED_FOLDER]["path"], "model")
        except (OSError, KeyError, TypeError, yaml.YAMLError, ArtifactError, MlflowException) as error:
            found = " ".join(shown(error).split())[:200]
            raise RegistryError(where, expected="the files of the champion", found=found, do=do) from error
        if model.digest != champion.tags.get("gateline.model_digest"):
            raise RegistryError(
                where, expected="the model that was registered", found="another one in its place", do=do
            )
        yield model.path


def set_alias(
    to: Connection, name: str, version: ModelVersion, champion: ModelVersion | None, decision: Decision
) -> None:
    """Give the alias that the decision says, if the champion is still the one that was compared with.

    Raises:
        RegistryError: another champion was set meanwhile.
    """
    before = None if champion is None else champion.version
    now = version_by_alias(to, name, CHAMPION)
    current = None if now is None else now.version
    if current != before:
        raise RegistryError(
            f"alias {CHAMPION} of {name}",
            expected=f"version {before}, which the challenger was compared with",
            found=f"version {current}, set meanwhile",
            do="Run register again; it compares with the new champion",
        )
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    entry = {
        "version": int(version.version),
        "champion_before": None if before is None else int(before),
        "promoted": decision.promote,
        "reason": (decision.reasons or [""])[-1][:500],
    }
    to.client.set_registered_model_tag(name, f"gateline.ledger.{moment}.v{version.version}", json.dumps(entry))
    if decision.promote:
        to.client.set_registered_model_alias(name, CHAMPION, version.version)
        challenger = version_by_alias(to, name, CHALLENGER)
        if challenger is not None and challenger.version == version.version:
            to.client.delete_registered_model_alias(name, CHALLENGER)
    else:
        to.client.set_registered_model_alias(name, CHALLENGER, version.version)


def version_by_alias(to: Connection, name: str, alias: str) -> ModelVersion | None:
    """Find the version that has an alias; None if none has."""
    from mlflow.exceptions import MlflowException

    try:
        return to.client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise
