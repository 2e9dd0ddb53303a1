"""Run a workload once on Kubeflow Pipelines, and follow it to its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateline.adapters.kubeflow.arguments import pipeline_arguments, require_kept_checkpoints, require_no_user_shown
from gateline.adapters.kubeflow.compiled import require_usable
from gateline.adapters.kubeflow.run_notes import Failure
from gateline.adapters.kubeflow.server import TOKEN, KubeflowServer, NotLetInError, pipeline_name
from gateline.errors import RegistryError, TryAgainError, UnreachableError
from gateline.workload import SECTIONS_OF_STEP, Workload

POLL_SECONDS = 5.0
MOST_SILENCES = 12
"""Polls without an answer after which following ends; the run itself goes on."""
MOST_WITHOUT_STATE = 120
"""The same for answers that say nothing of the run: a new run has no state until Kubeflow's controller has looked at it."""
NO_STATE = (None, "RUNTIME_STATE_UNSPECIFIED")
ENDED = {"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"}
NOT_WELL = ("FAILED", "CANCELED")
TOLD = ("ask", *SECTIONS_OF_STEP, "conclude")
"""The tasks that a person is told of; the others are what Kubeflow puts around them."""
IN_WORDS = {
    "PENDING": "waits",
    "RUNNING": "runs",
    "SUCCEEDED": "done",
    "SKIPPED": "taken from the cache",
    "FAILED": "failed",
    "CANCELING": "is being stopped",
    "CANCELED": "stopped",
    "PAUSED": "paused",
}


@dataclass(frozen=True)
class Submitted:
    """A run that Kubeflow knows.

    Args:
        id: Kubeflow's.
        address: of its page.
    """

    id: str
    address: str


@dataclass(frozen=True)
class Ended:
    """How a run ended.

    Args:
        state: Kubeflow's word.
        ran: whether the steps ran; a scheduled run ends early, and well, where nothing has changed.
        failed: the tasks that did not end well.
        said: what Kubeflow says of them.
    """

    state: str
    ran: bool
    failed: tuple[str, ...]
    said: str

    @property
    def well(self) -> bool:
        """Whether every task ended well."""
        return self.state == "SUCCEEDED"


def submit(
    server: KubeflowServer,
    workload: Path,
    pipeline: Path,
    settings: Mapping[str, Any],
    experiment: str,
    pipeline_root: str | None = None,
) -> Submitted:
    """Start a run of a workload, pinned to the version of a compiled pipeline.

    Args:
        server: where.
        workload: its file.
        pipeline: what `python -m pipelines.compile` wrote; uploaded unless it is there.
        settings: run-wide settings, see `gateline.workload.run_wide.RUN_SETTINGS`.
        experiment: of Kubeflow.
        pipeline_root: address under which Kubeflow keeps the artifacts; None: as the cluster is set.

    Raises:
        WorkloadError: the workload or the pipeline cannot be read or used, checkpoints would be gone with their pod, or an address shows a user.
        UnreachableError: the server does not answer.
        TryAgainError: nobody waited for its answer, so it is not known whether the run was begun.
        RegistryError: it refuses.
    """
    require_no_user_shown("--pipeline-root", {"--pipeline-root": pipeline_root})
    require_kept_checkpoints(
        settings, "checkpoints", "Add --set checkpoints=s3://BUCKET/checkpoints, or write it into params.yaml"
    )
    arguments = pipeline_arguments(workload, settings)
    pipeline_name(pipeline)
    require_usable(pipeline, arguments)
    pipeline_id, version_id = server.upload(pipeline)
    experiment_id = server.experiment(experiment)
    name = Workload.read(workload).name
    with _begun_or_not(server, name), server.asked():
        run = server.client.run_pipeline(
            experiment_id=experiment_id,
            job_name=name,
            params=arguments,
            pipeline_id=pipeline_id,
            version_id=version_id,
            pipeline_root=pipeline_root,
        )
    return submitted(server, run.run_id)


@contextmanager
def _begun_or_not(server: KubeflowServer, name: str) -> Iterator[None]:
    """Advise nobody to repeat what may have begun a run though its answer never arrived: it would begin a second one."""
    try:
        yield
    except (UnreachableError, KeyboardInterrupt) as error:
        raise TryAgainError(
            server.host,
            expected=f"word of a new run of {name}",
            found=error.found if isinstance(error, UnreachableError) else "an interrupt",
            do="It may have begun: look at the newest runs there, and follow it with `--run ID`; only if there is none, run the same command again",
        ) from error


def submitted(server: KubeflowServer, run_id: str) -> Submitted:
    """Name a run that was started earlier."""
    return Submitted(run_id, f"{server.host.rstrip('/')}/#/runs/details/{run_id}")


def follow(server: KubeflowServer, run: Submitted, say: Callable[[str], None]) -> Ended:
    """Say what each task does until the run ends.

    Args:
        server: where.
        run: which.
        say: told whenever a task's state changes.

    Raises:
        UnreachableError: the server is silent for long, says nothing of the run, or takes the token no more; the run goes on.
        NotLetInError: it never took the token.
        RegistryError: it refuses.
    """
    seen: dict[str, str] = {}
    silences = without_state = 0
    let_in = False
    while True:
        try:
            with server.asked():
                found = server.client.get_run(run.id)
            silences, let_in = 0, True
        except NotLetInError as error:
            if not let_in:
                raise
            # Tokens of a cluster live for hours, trainings for days: the run is no worse for it.
            raise _no_news(server, run, error.found, f"put a new token into {TOKEN} and ") from error
        except UnreachableError as error:
            silences += 1
            if silences >= MOST_SILENCES:
                raise _no_news(server, run, error.found) from error
            time.sleep(POLL_SECONDS)
            continue
        tasks = [task for task in _tasks(found) if task.display_name in TOLD]
        for task in tasks:
            if task.state and seen.get(task.display_name) != task.state:
                seen[task.display_name] = task.state
                say(f"{task.display_name}: {IN_WORDS.get(task.state, task.state)}")
        if found.state in ENDED:
            break
        without_state = without_state + 1 if found.state in NO_STATE else 0
        if without_state >= MOST_WITHOUT_STATE:
            raise _no_news(server, run, f"{without_state} answers without a state")
        time.sleep(POLL_SECONDS)
    ran = "ask" not in seen or any(name in SECTIONS_OF_STEP for name in seen)
    failed = tuple(task.display_name for task in tasks if task.state in NOT_WELL)
    return Ended(found.state, ran, failed, _what_failed(found, tasks))


@contextmanager
def going_on(server: KubeflowServer, run: Submitted) -> Iterator[None]:
    """Let an interrupt end what is done about a run here, and say how to take it up again: the same command would begin another.

    Raises:
        UnreachableError: instead of `KeyboardInterrupt`.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        raise _no_news(server, run, "an interrupt") from error


def _no_news(server: KubeflowServer, run: Submitted, found: str, first: str = "") -> UnreachableError:
    return UnreachableError(
        server.host,
        expected=f"news of the run {run.id}",
        found=found,
        do=f"The run goes on; {first}follow it again with `--run {run.id}`",
    )


def why_it_failed(run: Submitted, ended: Ended, noted: Iterable[Failure]) -> RegistryError:
    """Say why a run failed or was stopped, with the exit code of the step that stopped it.

    Args:
        run: which.
        ended: how, by what Kubeflow knows.
        noted: what the steps wrote of it themselves; Kubeflow hands on neither their exit codes nor their words.

    Returns:
        What to raise; its exit code is 2 where no step wrote its own.
    """
    known = [failure for failure in noted if failure.step in ended.failed]
    said = ". ".join([ended.said, *(f"{each.step} ended with {each.exit_code}: {each.said}" for each in known)])
    error = RegistryError(
        f"run {run.id}", expected="tasks that end well", found=said, do=f"Read its log at {run.address}"
    )
    if known:
        error.exit_code = known[-1].exit_code
    return error


def _tasks(run: Any) -> list[Any]:
    return list((run.run_details and run.run_details.task_details) or [])


def _what_failed(run: Any, tasks: list[Any]) -> str:
    """Name the failed steps with what Kubeflow says of them; without one, what it says of the run."""
    failed = [task for task in tasks if task.state in NOT_WELL]
    said = [
        f"{task.display_name} {IN_WORDS[task.state]}" + (f" ({_message(task.error)})" if _message(task.error) else "")
        for task in failed
    ]
    return "; ".join(said) or f"{IN_WORDS.get(run.state, run.state)}: {_message(run.error) or 'no step says why'}"


def _message(error: Any) -> str:
    return " ".join(str(error.message or "").split())[:300] if error is not None else ""
