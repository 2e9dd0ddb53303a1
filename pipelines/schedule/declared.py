"""What `schedules.yaml` declares, and what each schedule comes to for Kubeflow."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import AwareDatetime, Field, model_validator

from gateline.adapters.kubeflow.arguments import (
    LARGEST_SEED,
    pipeline_arguments,
    require_kept_checkpoints,
    run_settings,
)
from gateline.adapters.project import Project
from gateline.errors import WorkloadError, did_you_mean
from gateline.manifest import digest_of
from gateline.workload import UniqueKeyLoader
from gateline.workload.address import USER_IN_ADDRESS
from gateline.workload.run_wide import RUN_SETTINGS, what_it_may_be
from gateline.workload.section import Section, Span, read_section
from pipelines.schedule.cron import check_cron


class Schedule(Section):
    """When a workload runs, and with which settings."""

    workload: str
    cron: str | None = None
    """Six fields, seconds first, as Kubeflow reads them, e.g. ``0 0 3 * * *``; in the clock of the cluster."""
    every: Span | None = None
    """In place of `cron`: the time between two runs."""
    starts: AwareDatetime | None = None
    ends: AwareDatetime | None = None
    enabled: bool = True
    max_concurrency: Annotated[int, Field(ge=1, le=10)] = 1
    """Runs of this schedule at the same time."""
    catch_up: bool = False
    """After a pause: run every missed time, or the latest alone."""
    only_if_changed: bool = True
    """Ask first whether data, code, settings or champion have changed since the last run that ended well; if none has, end there."""
    service_account: str | None = None
    pipeline_root: str | None = None
    """Address under which Kubeflow keeps the artifacts; null: as the cluster is set."""
    settings: dict[str, Any] = {}
    """Run-wide settings in place of those in ``params.yaml``."""

    def counts_from(self, now: datetime) -> datetime | None:
        """From when a recurring run that is made now shall count; None: from when it is made.

        Kubeflow starts at once what was due between that moment and now. So `starts` is one only as long as it lies ahead; when
        it has passed, `every` keeps its beat.
        """
        if self.starts is None or self.starts > now:
            return self.starts
        return None if self.every is None else now - (now - self.starts) % self.every

    @model_validator(mode="after")
    def _has_one_clock(self) -> Schedule:
        if (self.cron is None) == (self.every is None):
            raise ValueError("either `cron` or `every`")
        if self.cron is not None:
            check_cron(self.cron)
        if self.pipeline_root is not None and USER_IN_ADDRESS.search(self.pipeline_root):
            raise ValueError(
                "an address without a user or a password, which whoever sees the run would see, got one with it"
            )
        if self.every is not None and self.every.total_seconds() % 1:
            raise ValueError("`every` in whole seconds")
        if self.starts is not None and self.ends is not None and self.ends <= self.starts:
            raise ValueError("`ends` after `starts`")
        return self

    @model_validator(mode="after")
    def _knows_its_settings(self) -> Schedule:
        for name, value in self.settings.items():
            if name not in RUN_SETTINGS:
                raise ValueError(f"a setting of the run: {did_you_mean(name, RUN_SETTINGS)}")
            if (expected := what_it_may_be(name, value, LARGEST_SEED)) is not None:
                raise ValueError(f"`settings.{name}`: {expected}, got {value!r}")
        return self


class Schedules(Section):
    """The file `schedules.yaml`."""

    project: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$", max_length=63)]
    """Whose schedules these are, among all that share a Kubeflow: of others nothing is changed."""
    experiment: Annotated[str, Field(min_length=1)] = "gateline"
    """Of Kubeflow, under which the runs are listed."""
    schedules: dict[str, Schedule]

    @model_validator(mode="after")
    def _has_plain_names(self) -> Schedules:
        for name in self.schedules:
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
                raise ValueError(f"names of lower-case letters, digits and _, got {name!r}")
        return self


@dataclass(frozen=True)
class Wanted:
    """A recurring run as it should be.

    Args:
        project: whose it is.
        name: of the schedule.
        schedule: when.
        experiment: of Kubeflow, under which its runs are listed.
        arguments: of the pipeline, by parameter.
        version: name of the pipeline version that it is pinned to.
    """

    project: str
    name: str
    schedule: Schedule
    experiment: str
    arguments: Mapping[str, Any]
    version: str

    @property
    def digest(self) -> str:
        """sha256 of all that needs another recurring run when it changes; whether it is enabled does not."""
        clock = self.schedule.model_dump(mode="json", exclude={"enabled", "only_if_changed", "settings", "workload"})
        return digest_of(
            {
                "clock": clock,
                "experiment": self.experiment,
                "arguments": dict(self.arguments),
                "version": self.version,
            }
        )


def read_schedules(file: Path) -> Schedules:
    """Read `schedules.yaml`.

    Raises:
        WorkloadError: there is no such file, it is no YAML, or a key stands twice, is unknown or cannot be used.
    """
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), Loader=UniqueKeyLoader)  # noqa: S506  (a SafeLoader)
    except FileNotFoundError as error:
        raise WorkloadError(
            file, expected="a file of schedules", found="no such file", do="Name it with --file"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        found = " ".join(str(error).split())[:160]
        raise WorkloadError(file, expected="YAML", found=found, do="Correct the file at that line") from error
    return read_section(str(file), Schedules, content)


def wanted_runs(schedules: Schedules, project: Project, version: str) -> list[Wanted]:
    """Say which recurring runs a file of schedules asks for.

    Args:
        schedules: the file.
        project: holds the workloads and `params.yaml`.
        version: name of the pipeline version, see `gateline.adapters.kubeflow.server.version_name`.

    Raises:
        WorkloadError: a workload is not there or cannot be read, or its checkpoints would be gone with their pod.
    """
    wanted = []
    for name, schedule in schedules.schedules.items():
        settings = run_settings(project.params() | schedule.settings)
        require_kept_checkpoints(
            settings,
            f"schedules.{name}.settings.checkpoints",
            "Write it there, or into params.yaml",
        )
        arguments = pipeline_arguments(
            project.resolve(schedule.workload), settings, only_if_changed=schedule.only_if_changed
        )
        wanted.append(Wanted(schedules.project, name, schedule, schedules.experiment, arguments, version))
    return wanted


def as_rfc3339(moment: datetime | None) -> str | None:
    """Write a moment as Kubeflow's interface does."""
    return None if moment is None else moment.isoformat()
