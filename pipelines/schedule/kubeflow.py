"""Kubeflow Pipelines as schedules need it: its pipeline versions and recurring runs, through the client of kfp."""

from __future__ import annotations

import contextlib
import io
import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from gateline.errors import RegistryError, UnreachableError, WorkloadError
from gateline.manifest import file_digest
from pipelines.schedule.declared import Wanted, as_rfc3339
from pipelines.schedule.plan import MARK, Found, mark_of

TOKEN = "GATELINE_KUBEFLOW_TOKEN"  # noqa: S105  the variable's name
PAGE = 100


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


class Kubeflow:
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
            self._client = kfp.Client(host=host, namespace=namespace or "kubeflow", existing_token=token)

    def recurring_runs(self) -> list[Found]:
        """List the recurring runs that were made from a file of schedules."""
        found, token = [], ""
        while True:
            with _answers(self.host):
                page = self._client.list_recurring_runs(page_token=token, page_size=PAGE, namespace=self.namespace)
            for run in page.recurring_runs or []:
                mark = MARK.search(run.description or "")
                if mark:
                    enabled = run.mode == "ENABLE"
                    found.append(Found(run.recurring_run_id, mark[1], mark[2], enabled, _sortable(run.created_at)))
            token = page.next_page_token or ""
            if not token:
                return found

    def upload(self, pipeline: Path) -> tuple[str, str]:
        """Make sure that a compiled pipeline is there.

        Returns:
            Ids of the pipeline and of the version.
        """
        name, version = pipeline_name(pipeline), version_name(pipeline)
        with _answers(self.host), _quiet():
            pipeline_id = self._client.get_pipeline_id(name)
            if pipeline_id is None:
                pipeline_id = self._client.upload_pipeline(str(pipeline), pipeline_name=name).pipeline_id
            there = self._version(pipeline_id, version)
            if there is None:
                there = self._client.upload_pipeline_version(
                    str(pipeline), pipeline_version_name=version, pipeline_id=pipeline_id
                ).pipeline_version_id
        return pipeline_id, there

    def _version(self, pipeline_id: str, name: str) -> str | None:
        equals = {"operation": "EQUALS", "key": "display_name", "stringValue": name}
        page = self._client.list_pipeline_versions(pipeline_id, filter=json.dumps({"predicates": [equals]}))
        return next((each.pipeline_version_id for each in page.pipeline_versions or []), None)

    def create(self, wanted: Wanted, experiment: str, version: tuple[str, str]) -> None:
        """Make a recurring run, disabled."""
        schedule = wanted.schedule
        with _answers(self.host), _quiet():
            self._client.create_recurring_run(
                experiment_id=self._client.create_experiment(experiment, namespace=self.namespace).experiment_id,
                job_name=f"{wanted.name} {wanted.version}",
                description=f"Runs the workload {schedule.workload}.\n{mark_of(wanted)}",
                start_time=as_rfc3339(schedule.starts),
                end_time=as_rfc3339(schedule.ends),
                interval_second=None if schedule.every is None else int(schedule.every.total_seconds()),
                cron_expression=schedule.cron,
                max_concurrency=schedule.max_concurrency,
                no_catchup=not schedule.catch_up,
                params=dict(wanted.arguments),
                pipeline_id=version[0],
                version_id=version[1],
                enabled=False,
                pipeline_root=schedule.pipeline_root,
                service_account=schedule.service_account,
            )

    def enable(self, run: str) -> None:
        """Let a recurring run start runs."""
        with _answers(self.host):
            self._client.enable_recurring_run(run)

    def disable(self, run: str) -> None:
        """Keep a recurring run from starting runs; those that run go on."""
        with _answers(self.host):
            self._client.disable_recurring_run(run)

    def delete(self, run: str) -> None:
        """Remove a recurring run; one that is gone already is fine."""
        import kfp_server_api

        with _answers(self.host):
            try:
                self._client.delete_recurring_run(run)
            except kfp_server_api.ApiException as error:
                if error.status != 404:
                    raise


def _sortable(created: Any) -> str:
    return created.isoformat() if hasattr(created, "isoformat") else str(created or "")


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
