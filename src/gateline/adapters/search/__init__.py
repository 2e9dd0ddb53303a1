"""`gateline tune`: try settings of a workload with Optuna, and write the best ones back as a workload.

PROJECT/artifacts/NAME/search/
├── studies.db                  Optuna's record of all trials, unless --storage names a database
└── NAME-DIGEST/                one study
    ├── claims.lock, tracking.lock
    └── trial-0003/             a trial without a result: its checkpoint, and the lock of the process that works on it
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateline.adapters.checkpoint_store import BESIDE
from gateline.adapters.dvc_run import prepare_workload
from gateline.adapters.mlflow_server import tracking_uri
from gateline.adapters.project import Project
from gateline.adapters.search.claims import turn
from gateline.adapters.search.interruption import Interruption
from gateline.adapters.search.runs import log_search
from gateline.adapters.search.study import Problem, best_trial, default_storage, open_study, reached
from gateline.adapters.search.trial import Result, result_of
from gateline.adapters.search.tuned_file import Destination, write_tuned
from gateline.adapters.search.worker import Place, Say, do_trials, do_trials_in_processes
from gateline.adapters.settings_check import check_settings
from gateline.errors import UnreachableError
from gateline.manifest import open_artifact
from gateline.tasks import task_named
from gateline.training import RunSettings, settings_of_weights
from gateline.workload import Workload
from gateline.workload.search import read_search
from gateline.workload.training import Training

FOLDER = "search"


@dataclass(frozen=True)
class Outcome:
    """What a search came to.

    Args:
        problem: what was searched.
        results: of all trials that have one.
        best: the complete one with the lowest value.
        present: trial 0, if it is complete.
        written: the file with the best settings; None if none are better than the present ones.
        unlogged: why MLflow does not have everything.
    """

    problem: Problem
    results: Sequence[Result]
    best: Result | None
    present: Result | None
    written: Path | None
    unlogged: UnreachableError | None


class Tuning:
    """A search in a project, checked before anything is computed.

    Args:
        project: where the workload stands.
        reference: name or path of the workload.
        output: file to write; None: NAME_tuned.yaml beside the other workloads.
        storage: address of a database; None: a SQLite file in the folder of the search.
        force: whether a file that `gateline tune` did not write may be replaced.

    Raises:
        WorkloadError: the workload, its section `search` or the output cannot be used.
        GatelineError: this is a pod and does not say where MLflow is.
    """

    def __init__(
        self, project: Project, reference: str, *, output: Path | None, storage: str | None, force: bool
    ) -> None:
        self.project, self.path = project, project.resolve(reference)
        self.workload = Workload.read(self.path)
        task = task_named(self.workload.task)
        self.search, self.dimensions = read_search(self.workload, task.Model)
        self.run_settings = _run_settings(project)
        settings_of_weights(self.workload, self.run_settings)
        check_settings(self.workload, self.workload.section("preprocess", task.Preprocess), self.dimensions)
        self.to = Destination(
            output.resolve() if output else project.workload_path(f"{self.workload.name}_tuned"), force
        )
        self.to.check()
        tracking_uri()
        self.artifacts = project.artifacts(self.workload.name)
        self.storage = storage or default_storage(self.artifacts / FOLDER)

    def prepare(self, say: Say) -> tuple[int, str]:
        """Run the steps up to preprocess, where they are out of date; as `run_workload` does, with its answer."""
        with contextlib.ExitStack() as until_prepared:
            with Interruption() as interruption:  # DVC's own lock is no queue
                until_prepared.enter_context(turn(self.artifacts / FOLDER / "prepare.lock", interruption.wait))
            return prepare_workload(self.project, str(self.path), say)

    def run(self, trials: int, processes: int, say: Say) -> Outcome:
        """Do the trials that are missing, and write the best settings.

        Args:
            trials: that shall have a result in the end, those of earlier runs included.
            processes: that work side by side.
            say: takes a line about every trial.

        Raises:
            Preempted: told to stop; running again goes on.
            GatelineError: the database cannot be used, or does not answer.
        """
        with contextlib.chdir(self.project.root), Interruption() as interruption:
            prepared = open_artifact(self.artifacts / "prepared", "prepared")
            monitor = self.workload.section("training", Training).monitor
            checkpoints = self.project.run_wide().get("checkpoints", BESIDE)
            problem = Problem(
                *(self.workload, prepared, self.run_settings, self.search, self.dimensions, monitor, checkpoints)
            )
            place = Place(self.storage, self.artifacts / FOLDER / problem.study_name)
            return search(problem, place, trials, processes, interruption, say, self._write)

    def _write(self, problem: Problem, best: Result, present: Result) -> Path:
        write_tuned(self.project, self.path, self.to, problem, best, present)
        return self.to.path


def search(
    problem: Problem,
    place: Place,
    trials: int,
    processes: int,
    interruption: Interruption,
    say: Say,
    write: Callable[[Problem, Result, Result], Path],
) -> Outcome:
    """Do the trials of a problem, wherever it comes from; see `Tuning.run`.

    Args:
        problem: what is searched.
        place: where the search is kept.
        trials: that shall have a result in the end.
        processes: that work side by side.
        interruption: says when to stop.
        say: takes a line about every trial.
        write: takes the problem, the best trial and the one of the present settings, and says where it wrote.
    """
    with reached(place.storage), turn(place.claims, interruption.wait):
        study = open_study(problem, place.storage)
    if processes == 1:
        do_trials(problem, place, trials, interruption, say, alone=True)
    else:
        do_trials_in_processes(problem, place, trials, processes, interruption)
    with reached(place.storage):
        found = [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
    results = [result_of(trial, problem) for trial in found]
    winner = best_trial(found)
    best = next((result for result in results if winner is not None and result.number == winner.number), None)
    present = next((result for result in results if result.number == 0), None)
    better = best is not None and present is not None and best.number != present.number
    written = write(problem, best, present) if best is not None and present is not None and better else None
    unlogged = None
    try:
        with turn(place.tracking, interruption.wait):
            log_search(problem, results, best, written)
    except UnreachableError as error:
        unlogged = error
    return Outcome(problem, results, best, present, written, unlogged)


def _run_settings(project: Project) -> RunSettings:
    """Seed, device and precision of `params.yaml`, as `gateline run` has them; each trial is one process."""
    params = project.run_wide(("seed", "device", "precision"))
    return RunSettings(params["seed"], params["device"], params["precision"])
