"""A server of Kubeflow Pipelines, through the client of kfp."""

from __future__ import annotations

import contextlib
import io
import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from gateline.errors import RegistryError, UnreachableError, WorkloadError
from gateline.manifest import file_digest

TOKEN = "GATELINE_KUBEFLOW_TOKEN"  # noqa: S105  the variable's name


def version_name(pipeline: Path) -> str:
    """Name the version of a compiled pipeline by its bytes, so that the same file is the same version.

    Raises:
        WorkloadError: it is no compiled pipeline.
    """
    pipeline_name(pipeline)
    return f"sha256-{file_digest(pipeline)[:16]}"


def pipeline_name(pipeline: Path) -> str:
    """Read the name that a compiled pipeline has.

    Raises:
        WorkloadError: it is no compiled pipeline.
    """
    try:
        spec = next(iter(yaml.safe_load_all(pipeline.read_text(encoding="utf-8"))))
        return str(spec["pipelineInfo"]["name"])
    except (OSError, UnicodeDecodeError, yaml.YAMLError, StopIteration, KeyError, TypeError) as error:
        raise WorkloadError(
            f"--pipeline {pipeline}",
            expected="a pipeline as `python -m pipelines.compile` writes it",
            found=" ".join(str(error).split())[:120] or type(error).__name__,
            do="Compile it and name that file",
        ) from error


def required_pipeline(pipeline: Path | None) -> Path:
    """Refuse to go on without a compiled pipeline."""
    if pipeline is None:
        raise WorkloadError(
            "--pipeline",
            expected="a compiled pipeline",
            found="none",
            do="Write one with `python -m pipelines.compile` and name its file",
        )
    return pipeline


class KubeflowServer:
    """A server of Kubeflow Pipelines.

    Args:
        host: its address, e.g. http://localhost:8080.
        namespace: of the user; None where there is only one.

    Raises:
        UnreachableError: it does not answer.
    """

    def __init__(self, host: str, namespace: str | None = None) -> None:
        import kfp
        import kfp_server_api

        self.host = host
        self.namespace = namespace
        # The token stands in the environment: a flag would be seen in the list of processes.
        token = os.environ.get(TOKEN)
        with _answers(host), _quiet():
            # Asked first, since kfp's client tries for 25 seconds to find out what the first answer says.
            settings = kfp_server_api.Configuration(host=host.rstrip("/"))
            if token is not None:
                settings.api_key, settings.api_key_prefix = {"authorization": token}, {"authorization": "Bearer"}
            kfp_server_api.HealthzServiceApi(kfp_server_api.ApiClient(settings)).healthz_service_get_healthz()
            self.client = kfp.Client(host=host, namespace=namespace or "kubeflow", existing_token=token)

    def upload(self, pipeline: Path) -> tuple[str, str]:
        """Make sure that a compiled pipeline is there.

        Returns:
            Ids of the pipeline and of the version.
        """
        name, version = pipeline_name(pipeline), version_name(pipeline)
        with self.asked():
            pipeline_id = self.client.get_pipeline_id(name)
            if pipeline_id is None:
                pipeline_id = self.client.upload_pipeline(str(pipeline), pipeline_name=name).pipeline_id
            there = self._version(pipeline_id, version)
            if there is None:
                there = self.client.upload_pipeline_version(
                    str(pipeline), pipeline_version_name=version, pipeline_id=pipeline_id
                ).pipeline_version_id
        return pipeline_id, there

    def _version(self, pipeline_id: str, name: str) -> str | None:
        equals = {"operation": "EQUALS", "key": "display_name", "stringValue": name}
        page = self.client.list_pipeline_versions(pipeline_id, filter=json.dumps({"predicates": [equals]}))
        return next((each.pipeline_version_id for each in page.pipeline_versions or []), None)

    def experiment(self, name: str) -> str:
        """Find or make an experiment, and say its id."""
        with self.asked():
            return str(self.client.create_experiment(name, namespace=self.namespace).experiment_id)

    def delete_recurring_run(self, run: str) -> None:
        """Delete a recurring run and leave what it started alone: by default Kubeflow ends its running runs with it."""
        # The client of kfp 2.17 cannot say so; the interface beneath it can.
        self.client._recurring_run_api.recurring_run_service_delete_recurring_run(run, propagation_policy="ORPHAN")

    @contextmanager
    def asked(self) -> Iterator[None]:
        """Say what went wrong as an error of ours, and keep the client from printing.

        Raises:
            UnreachableError: no answer, or a fault of the server's.
            RegistryError: it refuses.
        """
        with _answers(self.host), _quiet():
            yield


@contextmanager
def _answers(host: str) -> Iterator[None]:
    import kfp_server_api
    import urllib3

    try:
        yield
    except (urllib3.exceptions.HTTPError, TimeoutError, OSError) as error:
        raise UnreachableError(
            host,
            expected="an answer of Kubeflow Pipelines",
            found=" ".join(str(error).split())[:160],
            do="Look whether the address is right and the server runs, then run the same command again",
        ) from error
    except kfp_server_api.ApiException as error:
        said = " ".join(str(error.body or error.reason).split())[:200]
        if error.status is None or error.status >= 500 or error.status == 429:
            raise UnreachableError(
                host, expected="an answer", found=f"status {error.status}: {said}", do="Run the same command again"
            ) from error
        raise RegistryError(
            host,
            expected="leave to do so" if error.status in (401, 403) else "a request that Kubeflow accepts",
            found=f"status {error.status}: {said}",
            do=f"Put a valid token into {TOKEN}" if error.status in (401, 403) else "Look at what it refuses",
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """The client prints links and warns of versions before 2.0; what `apply` does, it says itself."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore", FutureWarning)
        yield
