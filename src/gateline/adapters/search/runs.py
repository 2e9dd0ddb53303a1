"""What a search tells MLflow: one run for the study, nested in it one for each trial, found by tag.

Logging is idempotent, and everything that is logged stands in the study, too: a trial that MLflow kept from being logged
is logged by running the command again, without training.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gateline.adapters.mlflow_server import Connection, connected
from gateline.adapters.search.study import Problem
from gateline.adapters.search.trial import Result
from gateline.adapters.tracking import (
    create_run,
    find_run,
    finish_run,
    log_curves,
    log_input,
    log_metrics,
    log_parameters,
    steps_logged,
)
from gateline.errors import WorkloadError
from gateline.training import settings_of_weights
from gateline.workload.search import with_settings

if TYPE_CHECKING:
    from mlflow.entities import Run

STATUS = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}
LOGGED = "gateline.logged.trial"


def log_trial(problem: Problem, result: Result) -> None:
    """Log one trial, unless it is logged.

    Raises:
        UnreachableError: MLflow does not answer.
    """
    with connected(problem.workload.name) as to:
        _log_trial(to, _run_of_study(to, problem), problem, result)


def log_search(problem: Problem, results: Sequence[Result], best: Result | None, written: Path | None) -> None:
    """Log the trials that are not logged yet, and what the search came to.

    Args:
        problem: what was searched.
        results: of all trials.
        best: the best one.
        written: the workload file with its settings.

    Raises:
        UnreachableError: MLflow does not answer.
    """
    with connected(problem.workload.name) as to:
        parent = _run_of_study(to, problem)
        for result in results:
            _log_trial(to, parent, problem, result)
        if best is not None and best.value is not None:
            log_metrics(to.client, parent.info.run_id, [(f"best_{problem.monitor}", len(results), best.value)])
            to.client.set_tag(parent.info.run_id, "gateline.best_trial", str(best.number))
        if written is not None:
            to.client.log_artifact(parent.info.run_id, str(written), "workload")
        finish_run(to, parent)


def _run_of_study(to: Connection, problem: Problem) -> Run:
    found = find_run(to, study=problem.study_name)
    if found is None:
        made_from = {"prepared": problem.prepared.digest, "raw": problem.prepared.inputs["raw"]}
        found = create_run(to, f"tune-{problem.study_name}", {"study": problem.study_name, **made_from})
        log_input(to, found, f"{problem.workload.name}/prepared", problem.prepared, "training")
        log_parameters(to, found, {"search": problem.search.model_dump(mode="json", exclude_unset=True)})
    if found.info.status != "RUNNING":
        to.client.update_run(found.info.run_id, status="RUNNING")
    return found


def _log_trial(to: Connection, parent: Run, problem: Problem, result: Result) -> None:
    name = f"trial-{result.number}"
    run = find_run(to, trial=f"{problem.study_name}/{result.number}")
    if run is None:
        run = create_run(to, name, {"trial": f"{problem.study_name}/{result.number}"}, parent)
    if LOGGED in run.data.tags:
        return
    run_id = run.info.run_id
    try:
        log_parameters(to, run, settings_of_weights(with_settings(problem.workload, result.settings), problem.run))
    except WorkloadError:  # its section refuses these settings, which is why the trial failed
        log_parameters(to, run, dict(result.settings))
    log_curves(to.client, run_id, result.history, steps_logged(to.client, run_id))
    if result.value is not None and result.state == "complete":
        log_metrics(to.client, run_id, [(f"best_{problem.monitor}", 0, result.value)])
    to.client.set_tag(run_id, "gateline.state", result.state)
    if result.reason:
        to.client.set_tag(run_id, "gateline.reason", result.reason)
    finish_run(to, run, STATUS[result.state])
    to.client.set_tag(run_id, LOGGED, "yes")
