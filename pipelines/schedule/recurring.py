"""The recurring runs of a server that came from a file of schedules."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from gateline.adapters.kubeflow.server import KubeflowServer
from pipelines.schedule.declared import Wanted, as_rfc3339
from pipelines.schedule.plan import MARK, Found, mark_of

PAGE = 100


class RecurringRuns:
    """Those that `apply` made for a project, now or earlier; of others nothing is seen or touched.

    Args:
        server: where they are.
        project: whose they are.
    """

    def __init__(self, server: KubeflowServer, project: str) -> None:
        self.server, self.project = server, project

    def found(self) -> list[Found]:
        """List the recurring runs that were made from the project's file of schedules."""
        found, token = [], ""
        while True:
            with self.server.asked():
                page = self.server.client.list_recurring_runs(
                    page_token=token, page_size=PAGE, namespace=self.server.namespace
                )
            for run in page.recurring_runs or []:
                mark = MARK.search(run.description or "")
                if mark and mark[1] == self.project:
                    enabled = run.mode == "ENABLE"
                    found.append(Found(run.recurring_run_id, mark[2], mark[3], enabled, _sortable(run.created_at)))
            token = page.next_page_token or ""
            if not token:
                return found

    def create(self, wanted: Wanted, version: tuple[str, str]) -> None:
        """Make a recurring run, disabled."""
        schedule = wanted.schedule
        with self.server.asked():
            self.server.client.create_recurring_run(
                experiment_id=self.server.experiment(wanted.experiment),
                job_name=f"{wanted.name} {wanted.version}",
                description=f"Runs the workload {schedule.workload}.\n{mark_of(wanted)}",
                start_time=as_rfc3339(schedule.counts_from(datetime.now(UTC))),
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
        """Let a recurring run start runs; one that is gone is seen by who looks again."""
        with self._unless_gone():
            self.server.client.enable_recurring_run(run)

    def disable(self, run: str) -> None:
        """Keep a recurring run from starting runs; those that run go on, and one that is gone already is fine."""
        with self._unless_gone():
            self.server.client.disable_recurring_run(run)

    def delete(self, run: str) -> None:
        """Remove a recurring run; those that run go on, and one that is gone already is fine."""
        with self._unless_gone():
            self.server.delete_recurring_run(run)

    @contextmanager
    def _unless_gone(self) -> Iterator[None]:
        """Take what another `apply` has deleted meanwhile for no error."""
        import kfp_server_api

        with self.server.asked():
            try:
                yield
            except kfp_server_api.ApiException as error:
                if error.status != 404:
                    raise


def _sortable(created: Any) -> str:
    return created.isoformat() if hasattr(created, "isoformat") else str(created or "")
