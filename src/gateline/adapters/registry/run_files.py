"""Files of a run in MLflow: fetch some, and tell what is gone from what its store did not give this time.

MLflow's own addresses ``runs:/`` cannot tell them apart: whatever fails there "does not exist".
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from gateline.adapters.mlflow_server import Connection
from gateline.errors import TryAgainError
from gateline.workload.address import without_users


def fetch_of_run(to: Connection, run_id: str, path: str, folder: Path) -> Path | None:
    """Fetch a file or folder of a run, unchecked.

    Args:
        to: MLflow.
        run_id: whose.
        path: below the run's artifacts.
        folder: receives it.

    Returns:
        Where it stands; None if it, or the run, is gone.

    Raises:
        TryAgainError: its store did not give it this time.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    try:
        top = to.client.get_run(run_id).info.artifact_uri
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):  # the latter: no id of a run
            raise
        return None
    parent = str(PurePosixPath(path).parent)
    try:
        beside = mlflow.artifacts.list_artifacts(artifact_uri=top if parent == "." else f"{top}/{parent}")
        if PurePosixPath(path).name not in {PurePosixPath(each.path).name for each in beside}:
            return None
        return Path(mlflow.artifacts.download_artifacts(artifact_uri=f"{top}/{path}", dst_path=str(folder)))
    except Exception as error:  # the client of each kind of store raises errors of its own
        raise TryAgainError(
            f"{path} of run {run_id}",
            expected="it from where MLflow keeps files",
            found=" ".join(without_users(error).replace(f"{folder}/", "").split())[:200],
            do="Nothing was changed; run the same command again",
        ) from error
