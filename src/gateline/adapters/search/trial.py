"""One trial: train with its settings, tell Optuna of every epoch, and say what became of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import optuna
import torch
from optuna.trial import FrozenTrial, TrialState

from gateline.adapters.checkpoint_store import open_store
from gateline.adapters.search.claims import Claim
from gateline.adapters.search.study import Problem, suggest
from gateline.errors import DataError, TrainingError, WorkloadError
from gateline.manifest import digest_of
from gateline.passport import code_version
from gateline.training import train
from gateline.training.checkpoints import CheckpointStore
from gateline.training.loop import OnEpoch, OnStep, Stop
from gateline.training.memory import out_of_memory
from gateline.workload.overrides import with_settings
from gateline.workload.search import Scalar

HISTORY, REASON, SAME_AS = "history", "reason", "same_as"
"""What a trial keeps in the database beside Optuna's own: its epochs, why it failed, which trial it repeats."""

MOST_LOST = 3
"""Tries in a row that ended without a word and without a new epoch, after which a trial is given up."""

State = Literal["complete", "pruned", "failed"]
STATES: Mapping[State, TrialState] = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


@dataclass(frozen=True)
class Result:
    """What became of a trial.

    Args:
        number: of the trial, from 0.
        settings: that were tried, by dotted key.
        state: complete, pruned or failed.
        history: one record per epoch, as `history.json` holds them, and how fast it was.
        value: the best epoch's monitored value; the last one's for a pruned trial; None for a failed one.
        reason: why it failed.
        same_as: the trial with the same settings whose result this is.
    """

    number: int
    settings: Mapping[str, Scalar]
    state: State
    history: Sequence[Mapping[str, Any]]
    value: float | None
    reason: str = ""
    same_as: int | None = None


def result_of(trial: FrozenTrial, problem: Problem) -> Result:
    """Read the result of a finished trial from the study."""
    state = next(name for name, state in STATES.items() if state is trial.state)
    attributes = trial.user_attrs
    return Result(
        trial.number,
        problem.settings_of(trial),
        state,
        attributes.get(HISTORY, ()),
        trial.value if state != "failed" else None,
        attributes.get(REASON, ""),
        attributes.get(SAME_AS),
    )


def run_trial(
    problem: Problem, claim: Claim, on_epoch: Sequence[OnEpoch], on_step: OnStep | None, stop: Stop
) -> Result:
    """Train with the settings of one trial.

    Args:
        problem: what is searched.
        claim: the trial, and where its checkpoint lies.
        on_epoch: who else is told of every epoch.
        on_step: who is told of progress.
        stop: says when to stop.

    Raises:
        Preempted: `stop` said so; the trial can be gone on with.
        DataError: the data refuse the present settings, so every training with them.
    """
    trial = claim.trial
    settings = suggest(trial, problem)
    twin = _twin(problem, trial, settings)
    if twin is not None:
        return Result(trial.number, settings, "complete", twin.user_attrs.get(HISTORY, ()), twin.value, "", twin.number)
    if claim.lost >= MOST_LOST:
        reason = f"its process was killed {claim.lost} times before a new epoch; perhaps it does not fit into memory"
        return Result(trial.number, settings, "failed", (), None, reason)
    monitored = f"validation_{problem.monitor}"
    history: list[Mapping[str, Any]] = []
    known = set(trial.study.get_trials(deepcopy=False)[trial.number].intermediate_values)

    def report(record: Mapping[str, Any]) -> None:
        history.append(dict(record))
        epoch = int(record["epoch"])
        if epoch not in known:  # else an earlier try of this trial told it
            trial.report(record[monitored], epoch)
        if trial.should_prune():
            raise optuna.TrialPruned

    workload, model = with_settings(problem.workload, settings), claim.folder / "model"
    try:
        train(
            *(workload, problem.prepared, model, problem.run, [*on_epoch, report], on_step),
            stop=stop,
            checkpoints=_checkpoints(problem, claim),
        )
    except optuna.TrialPruned:
        return Result(trial.number, settings, "pruned", history, history[-1][monitored])
    except (TrainingError, WorkloadError, DataError, MemoryError, RuntimeError) as error:
        # Settings that diverge, that their section or the data refuse, or that do not fit: they are bad, the search is not.
        if isinstance(error, DataError) and settings == problem.present:
            raise  # nothing that was tried is to blame: `gateline run` would meet it, too
        if isinstance(error, RuntimeError) and not out_of_memory(error):
            raise
        reason = " ".join(str(error).split())[:500] or "out of memory"  # a MemoryError may say nothing
        return Result(trial.number, settings, "failed", history, None, reason)
    return Result(trial.number, settings, "complete", history, min(record[monitored] for record in history))


def tell(problem: Problem, claim: Claim, result: Result) -> None:
    """Write the result into the study, and forget the checkpoint; `Claims.tidy` removes the folder."""
    trial = claim.trial
    claim.rest()
    try:
        trial.set_user_attr(HISTORY, list(result.history))
        if result.reason:
            trial.set_user_attr(REASON, result.reason)
        if result.same_as is not None:
            trial.set_user_attr(SAME_AS, result.same_as)
        value = result.value if result.state == "complete" else None
        trial.study.tell(trial, value, STATES[result.state], skip_if_finished=True)
    except optuna.exceptions.UpdateFinishedTrialError:
        pass  # another machine took the trial over, and was faster
    _checkpoints(problem, claim).clear()


def _checkpoints(problem: Problem, claim: Claim) -> CheckpointStore:
    """Where a trial that is stopped keeps its state; another one where code or torch have changed since, which cannot go on."""
    key = digest_of([problem.study_name, claim.trial.number, code_version(), str(torch.__version__)])
    return open_store(problem.checkpoints, claim.folder / "model", key)


def _twin(problem: Problem, trial: optuna.Trial, settings: Mapping[str, Scalar]) -> FrozenTrial | None:
    """A complete trial of the same settings: training is deterministic, so it would give the same value again."""
    others = trial.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return next((each for each in others if problem.settings_of(each) == settings), None)
