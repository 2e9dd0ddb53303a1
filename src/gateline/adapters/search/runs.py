"""What a search tells MLflow: one run for the study, nested in it one for each trial, found by tag.

Logging is idempotent, and everything that is logged stands in the study, too: a trial that MLflow kept from being logged
is logged by running the command again, without training.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Sequence
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
from gateline.workload.overrides import with_settings

if TYPE_CHECKING:
    from mlflow.entities import Run

STATUS = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}
LOGGED = "gateline.logged.trial"
TRIES = 4
SETTLE_SECONDS = 1.0
"""Until a run that another machine opened in the same moment is seen by all."""


def log_trial(problem: Problem, result: Result) -> None:
    """Log one trial, unless it is logged.

    Raises:
        UnreachableError: MLflow does not answer.
    """

    def log(to: Connection) -> None:
        _log_trial(to, _run_of_study(to, problem), problem, result)

    _with_patience(problem, log)


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

    def log(to: Connection) -> None:
        parent = _run_of_study(to, problem)
        for result in results:
            _log_trial(to, parent, problem, result)
        if best is not None and best.value is not None:
            log_metrics(to.client, parent.info.run_id, [(f"best_{problem.monitor}", len(results), best.value)])
            to.client.set_tag(parent.info.run_id, "gateline.best_trial", str(best.number))
        if written is not None:
            to.client.log_artifact(parent.info.run_id, str(written), "workload")
        finish_run(to, parent)

    _with_patience(problem, log)


def _with_patience(problem: Problem, action: Callable[[Connection], None]) -> None:
    """Do it again where another machine wrote the same thing in the same moment: what it wrote is then found."""
    from mlflow.exceptions import MlflowException

    for attempt in range(1, TRIES + 1):
        try:
            with connected(problem.workload.name) as to:
                return action(to)
        except MlflowException as error:
            if attempt == TRIES or not re.search("unique constraint|duplicate (key|entry)", str(error), re.IGNORECASE):
                raise
            time.sleep(random.uniform(0.2, 1.0))  # noqa: S311  (so that the two do not meet again)
    raise AssertionError("unreachable: the last attempt returns or raises")


def _drop_if_younger(to: Connection, run: Run, **tag: str) -> Run:
    """Of two runs that two machines opened at once under one tag, the older one stays; say which that is."""
    oldest = find_run(to, **tag) or run
    if oldest.info.run_id != run.info.run_id:
        to.client.delete_run(run.info.run_id)
    return oldest


def _run_of_study(to: Connection, problem: Problem) -> Run:
    made_from = {"prepared": problem.prepared.digest, "raw": problem.prepared.inputs["raw"]}
    run = find_run(to, study=problem.study_name)
    if run is None:
        mine = create_run(to, f"tune-{problem.study_name}", {"study": problem.study_name, **made_from})
        time.sleep(SETTLE_SECONDS)
        run = _drop_if_younger(to, mine, study=problem.study_name)
    if run.inputs is None or not run.inputs.dataset_inputs:
        log_input(to, run, f"{problem.workload.name}/prepared", problem.prepared, "training")
        log_parameters(to, run, {"search": problem.search.model_dump(mode="json", exclude_unset=True)})
    if run.info.status != "RUNNING":
        to.client.update_run(run.info.run_id, status="RUNNING")
    return run


def _log_trial(to: Connection, parent: Run, problem: Problem, result: Result) -> None:
    tag = {"trial": f"{problem.study_name}/{result.number}"}
    run = find_run(to, **tag) or create_run(to, f"trial-{result.number}", tag, parent)
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
    _drop_if_younger(to, run, **tag)
