"""Do trials until all have a result: in this process, or in several side by side."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from optuna.trial import FrozenTrial

from gateline.adapters.door import refuse
from gateline.adapters.progress import training_progress
from gateline.adapters.search.claims import Claims, turn
from gateline.adapters.search.interruption import Interruption
from gateline.adapters.search.runs import log_trial
from gateline.adapters.search.study import Problem, best_trial, open_study, reached
from gateline.adapters.search.trial import Result, run_trial, tell
from gateline.errors import EXIT_DONE, EXIT_TRY_AGAIN, GatelineError, Preempted, TryAgainError, UnreachableError
from gateline.workload.search import Scalar

log = logging.getLogger("gateline.search")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Place:
    """Where a search is kept.

    Args:
        storage: address of the database.
        folder: for locks and checkpoints.
    """

    storage: str
    folder: Path

    @property
    def claims(self) -> Path:
        """Whose turn it is to claim a trial."""
        return self.folder / "claims.lock"

    @property
    def tracking(self) -> Path:
        """Whose turn it is to talk to MLflow, so that two do not open the same run."""
        return self.folder / "tracking.lock"


def do_trials(problem: Problem, place: Place, total: int, interruption: Interruption, say: Say, alone: bool) -> None:
    """Work on trials until `total` have a result, whoever gets them.

    Args:
        problem: what is searched.
        place: where it is kept.
        total: trials that shall have a result, those of earlier runs included.
        interruption: says when to stop.
        say: takes one line about a trial.
        alone: show the progress within a trial; several processes would talk at once.

    Raises:
        Preempted: told to stop; the trial under way is gone on with by the next run.
        GatelineError: the database cannot be used, or does not answer.
    """
    lost = False
    with reached(place.storage):
        with turn(place.claims, interruption.wait):
            study = open_study(problem, place.storage)
        claims = Claims(study, place.folder, total)
        while (claim := claims.next(interruption.wait)) is not None:
            with claim, training_progress(problem.workload) if alone else contextlib.nullcontext() as shown:
                on_epoch, on_step = ([], None) if shown is None else ([shown.on_epoch], shown.on_step)
                result = run_trial(problem, claim, on_epoch, on_step, interruption)
                if not lost:
                    lost = not _logged(problem, result, place, interruption)
                tell(problem, claim, result)
            say(_line(result, problem, best_trial(study.get_trials(deepcopy=False))))


def do_trials_in_processes(
    problem: Problem, place: Place, total: int, processes: int, interruption: Interruption
) -> None:
    """Let several processes of this machine do the trials.

    A process that is killed costs nothing but its time: the others do its trial.

    Raises:
        Preempted: told to stop.
        GatelineError: a process refused, or was killed and nobody is left.
        RuntimeError: a process met a bug.
    """
    context = multiprocessing.get_context("spawn")  # threads and CUDA do not survive a fork
    workers: list[BaseProcess] = [
        context.Process(target=_worker, args=(problem, place, total), name=f"tune-{number}")
        for number in range(processes)
    ]
    for worker in workers:
        worker.start()
    try:
        running = list(workers)
        while running:
            interruption.check()
            wait([worker.sentinel for worker in running], timeout=0.5)
            running = [worker for worker in running if worker.exitcode is None]
            if any((worker.exitcode or 0) > 0 for worker in workers):
                break  # the others could only meet the same
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.join()
    _conclude([worker.exitcode or EXIT_DONE for worker in workers])


def _worker(problem: Problem, place: Place, total: int) -> None:
    """Do trials in a process of its own; its exit code says what became of it."""
    with Interruption() as interruption:
        try:
            do_trials(problem, place, total, interruption, _say, alone=False)
        except GatelineError as error:
            sys.exit(refuse(str(error), error.exit_code))
        except Preempted:
            sys.exit(EXIT_TRY_AGAIN)


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")  # in one piece, so that the lines of two processes do not mix
    sys.stderr.flush()


def _conclude(codes: Sequence[int]) -> None:
    """Turn the exit codes of the processes into what became of the search."""
    if 1 in codes:
        raise RuntimeError("a process of the search met a bug; its traceback stands above")
    refused = [code for code in codes if code > 0]
    if refused and max(refused) != EXIT_TRY_AGAIN:
        raise GatelineError(
            "the search", expected="processes that do trials", found="a refusal, which stands above", do="See there"
        )
    if refused or all(code < 0 for code in codes):
        raise TryAgainError(
            "the search",
            expected="processes that live until all trials are done",
            found="none of them did" if not refused else "one that could not go on, as it said above",
            do="Finished trials are kept; run the same command again",
        )


def _logged(problem: Problem, result: Result, place: Place, interruption: Interruption) -> bool:
    """Log a trial; an MLflow that does not answer is said once, and asked again when the search is over."""
    try:
        with turn(place.tracking, interruption.wait):
            log_trial(problem, result)
    except UnreachableError as error:
        log.warning("%s The search goes on, and logs the trials in the end.", error)
        return False
    return True


def _line(result: Result, problem: Problem, best: FrozenTrial | None) -> str:
    """Say in a line what became of a trial."""
    settings = ", ".join(f"{key} {_shown(value)}" for key, value in result.settings.items())
    if result.state == "failed":
        return f"trial {result.number}: failed: {result.reason} ({settings})"
    epochs = f"{len(result.history)} epoch{'s' if len(result.history) != 1 else ''}"
    ended = "pruned at" if result.state == "pruned" else f"validation {problem.monitor}"
    how = f"as trial {result.same_as}" if result.same_as is not None else f"after {epochs}"
    so_far = f"; best {best.value:.6g} of trial {best.number}" if best is not None and best.value is not None else ""
    return f"trial {result.number}: {ended} {result.value:.6g} {how} ({settings}{so_far})"


def _shown(value: Scalar) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
