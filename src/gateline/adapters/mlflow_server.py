"""Reach the tracking server: which one, whether it answers, and what its errors mean.

MLflow is imported inside the functions: it takes longer than a refusal should.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from gateline.errors import GatelineError, UnreachableError
from gateline.workload.address import without_users

if TYPE_CHECKING:
    from mlflow import MlflowClient

DEFAULT_URI = "sqlite:///mlflow.db"
WAIT_SECONDS = (1.0, 2.0, 4.0)
"""Before the second, third and fourth try to reach a server."""
PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
}
"""Instead of MLflow's own several minutes; what the user sets goes first."""
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_RECORD_ENV_VARS_IN_MODEL_LOGGING": "false",
}
OUTER_RUN = "MLFLOW_RUN_ID"
"""Environment variable with the run that `mlflow run` or a Kubeflow plugin made for this process."""
SQLITE_HEADER = b"SQLite format 3\0"


class Connection(NamedTuple):
    """A server that answered.

    Args:
        client: MLflow's client.
        experiment_id: the experiment of the workload; empty where none is asked for.
        outer_run_id: the run that `mlflow run` or a Kubeflow plugin made for this process, which only points at ours.
    """

    client: MlflowClient
    experiment_id: str
    outer_run_id: str | None


def tracking_uri() -> str:
    """Where MLflow is: MLFLOW_TRACKING_URI, or a SQLite file in the working folder.

    Raises:
        GatelineError: this is a pod and no URI is set, so its results would be lost with it.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    if uri:
        return uri
    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        raise GatelineError(
            "MLFLOW_TRACKING_URI",
            expected="the address of a tracking server, since this is a pod",
            found="none, and what a pod writes beside it is lost with the pod",
            do="Set MLFLOW_TRACKING_URI in the pod",
        )
    return DEFAULT_URI


@contextmanager
def connected(workload_name: str, *, create: bool = True) -> Iterator[Connection]:
    """Connect to MLflow and turn what it raises into refusals.

    Args:
        workload_name: names the experiment.
        create: make the experiment where there is none; whoever only looks does not.

    Raises:
        UnreachableError: the server did not answer after several tries.
        GatelineError: it answered that this may not be done, or its database or address cannot be used.
    """
    uri = tracking_uri()
    os.environ.update({name: value for name, value in (QUIET | PATIENCE).items() if name not in os.environ})
    outer = os.environ.pop(OUTER_RUN, None)  # it would make MLflow write into that run, whatever we ask for
    _try_to_reach(uri)
    import mlflow
    import requests
    import sqlalchemy.exc
    from mlflow.exceptions import MlflowException

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        try:
            mlflow.set_tracking_uri(uri)
            client = mlflow.MlflowClient(uri)
            experiment_id = _experiment(client, workload_name, create=create)
        except (ImportError, sqlalchemy.exc.ArgumentError) as error:
            # No driver of that database, or no database at all.
            raise _unusable(uri, error) from error
        except MlflowException as error:
            # Nothing was asked of it yet that could be a bug of ours.
            raise _refusal(uri, error) or _unusable(uri, error) from error
        yield Connection(client, experiment_id, outer)
    except (requests.RequestException, sqlalchemy.exc.OperationalError) as error:
        raise _unreachable(uri, error) from error
    except MlflowException as error:
        raise _refusal(uri, error) or error from error


def _try_to_reach(uri: str) -> None:
    """Ask for a sign of life before anything heavy is imported.

    Raises:
        UnreachableError: none after several tries.
        GatelineError: the SQLite file is none.
    """
    parts = urlsplit(uri)
    if parts.scheme in ("http", "https"):
        _try_server(uri)
    elif parts.scheme == "sqlite":
        path = Path(uri.removeprefix("sqlite:///").split("?")[0])
        usable = not path.exists() or (path.is_file() and _begins_with(path, SQLITE_HEADER))
        if not usable or not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
            raise GatelineError(
                path,
                expected="a SQLite file of MLflow that can be written",
                found="a folder that cannot be written" if not path.exists() else "something else",
                do="Set MLFLOW_TRACKING_URI, or move the file away",
            )


def _begins_with(path: Path, header: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(header)) in (b"", header)


def _try_server(uri: str) -> None:
    import requests

    parts = urlsplit(uri)
    health = urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/") + "/health", "", ""))
    retries = min(int(os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"]), len(WAIT_SECONDS))
    seconds = min(float(os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"]), 2.0)
    insecure = os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("1", "true")
    verify = False if insecure else os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or True
    problem: object = None
    for wait in (0.0, *WAIT_SECONDS[:retries]):
        time.sleep(wait)
        try:
            answer = requests.get(health, timeout=seconds, verify=verify)
        except requests.RequestException as error:
            problem = type(error).__name__
        else:
            if answer.status_code < 500:
                return
            problem = f"status {answer.status_code}"
    raise _unreachable(uri, problem)


def _unreachable(uri: str, problem: object) -> UnreachableError:
    return UnreachableError(
        f"MLflow at {without_users(uri)}",
        expected="an answer",
        found=f"none after several tries ({' '.join(without_users(problem).split())[:160]})",
        do="Nothing that was computed is lost; run the same command again when it answers",
    )


def _refusal(uri: str, error: Any) -> GatelineError | None:
    """Say what a person can do about MLflow's error; None if nothing, so that it stays a bug with its traceback."""
    message = " ".join(without_users(error.message).split())[:200]
    code, status = str(error.error_code), error.get_http_status_code()
    where = f"MLflow at {without_users(uri)}"
    if "failed with exception" in message or code == "TEMPORARILY_UNAVAILABLE" or (status >= 500 and "http" in uri[:5]):
        return _unreachable(uri, message)
    if status in (401, 403):
        return GatelineError(
            where, expected="to be let in", found=message, do="Check the credentials in MLFLOW_TRACKING_*"
        )
    if "unsupported" in message.lower() or "unregistered" in message.lower():
        return GatelineError(
            where, expected="an address that MLflow knows", found=message, do="Correct MLFLOW_TRACKING_URI"
        )
    if "database schema" in message or "file store" in message.lower() or "filesystem" in message.lower():
        return GatelineError(
            where,
            expected="a database of this MLflow",
            found=message,
            do="Run `mlflow db upgrade`, or set MLFLOW_TRACKING_URI",
        )
    return None


def _unusable(uri: str, error: Exception) -> GatelineError:
    return GatelineError(
        f"MLflow at {without_users(uri)}",
        expected="an address that MLflow can use here",
        found=" ".join(without_users(error).split())[:200],
        do="Correct MLFLOW_TRACKING_URI, or install the package that it needs",
    )


def _experiment(client: MlflowClient, name: str, *, create: bool) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        if not create:
            return ""
        try:
            return str(client.create_experiment(name))
        except MlflowException:
            found = client.get_experiment_by_name(name)  # another process was faster
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise GatelineError(
            f"experiment {name!r}",
            expected="an experiment to log to",
            found="a deleted one",
            do=f"Run `mlflow experiments restore -x {found.experiment_id}`",
        )
    return str(found.experiment_id)
