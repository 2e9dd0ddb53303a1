"""The study: Optuna's record of all trials of one problem, in a database that several processes can share.

A study is found by its name, which is a digest of all that makes values comparable: the prepared data, the settings of the
workload and of the run, and the section `search`. So an edited search space begins a new study, and the same command goes
on with the old one.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import optuna
import sqlalchemy.exc
from optuna.trial import FrozenTrial, TrialState

from gateline.adapters.checkpoint_store import BESIDE
from gateline.errors import GatelineError, UnreachableError
from gateline.manifest import Artifact, digest_of
from gateline.training import RunSettings, settings_of_weights
from gateline.workload import Workload
from gateline.workload.search import Dimension, Sampler, Scalar, Search

SQLITE_WAIT_SECONDS = 60  # for another process that writes

NO_USE = {
    "unable to open database file": ("a folder to keep it in", "none", "Make the folder, or correct --storage"),
    "authentication failed|access denied|no password supplied": (
        "to be let in",
        "a refusal",
        "Check user and password in the address",
    ),
    "database .* does not exist|unknown database": (
        "a database of that name",
        "none",
        "Create it, or correct the name",
    ),
}
"""What a database says that will say the same again, whenever it is asked."""

optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True)
class Problem:
    """What is searched.

    Args:
        workload: the settings as they stand in the file.
        prepared: the data that every trial reads.
        run: seed, device, precision of every trial.
        search: how to choose.
        dimensions: the settings to search.
        monitor: what is measured on the validation part.
        checkpoints: where trials that are stopped keep their state; see `open_store`.
    """

    workload: Workload
    prepared: Artifact
    run: RunSettings
    search: Search
    dimensions: tuple[Dimension, ...]
    monitor: str
    checkpoints: str = BESIDE

    @cached_property
    def study_name(self) -> str:
        """The workload's name and a digest."""
        digest = digest_of(
            {
                "prepared": self.prepared.digest,
                "settings": settings_of_weights(self.workload, self.run),
                "search": self.search.model_dump(mode="json"),
                "dimensions": [dimension.facts() for dimension in self.dimensions],
            }
        )
        return f"{self.workload.name}-{digest[:12]}"

    @property
    def present(self) -> dict[str, Scalar]:
        """The settings as they stand in the file: those of trial 0."""
        return {dimension.key: dimension.present for dimension in self.dimensions}

    def settings_of(self, trial: FrozenTrial) -> dict[str, Scalar]:
        """The settings of a trial, by dotted key."""
        return {each.key: each.tidy(trial.params[each.key]) for each in self.dimensions if each.key in trial.params}


def default_storage(folder: Path) -> str:
    """Where studies are kept unless the user names a database."""
    return f"sqlite:///{folder / 'studies.db'}"


def open_study(problem: Problem, url: str) -> optuna.Study:
    """Find the study of a problem, or begin it with the present settings as its first trial.

    Called by one process of this machine at a time.
    """
    backend = urlsplit(url).scheme
    patience: dict[str, Any] = {"connect_args": {"timeout": SQLITE_WAIT_SECONDS}} if backend == "sqlite" else {}
    storage = optuna.storages.RDBStorage(url, engine_kwargs=patience or {"pool_pre_ping": True})
    study = optuna.create_study(
        storage=storage,
        study_name=problem.study_name,
        direction="minimize",
        load_if_exists=True,
        pruner=_pruner(problem.search),
    )
    if not study.get_trials(deepcopy=False):
        study.enqueue_trial(problem.present, skip_if_exists=True)
    return study


def suggest(trial: optuna.Trial, problem: Problem) -> dict[str, Scalar]:
    """Choose the settings of a trial; one that was begun before keeps the settings it had.

    The choice depends on the seed of the section, the trial's number and the values known by now, so that a search that
    was interrupted goes on as if it had not been.
    """
    trial.study.sampler = _sampler(problem.search.sampler, trial.number)
    return {dimension.key: dimension.tidy(_suggest(trial, dimension)) for dimension in problem.dimensions}


def finished(trials: list[FrozenTrial]) -> int:
    """Count the trials with a result, be it that they failed."""
    return sum(trial.state.is_finished() for trial in trials)


def best_trial(trials: list[FrozenTrial]) -> FrozenTrial | None:
    """The complete trial with the lowest value, the earlier one of two."""
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE and trial.value is not None]
    return min(complete, key=lambda trial: (trial.value, trial.number), default=None)


def shown_storage(url: str) -> str:
    """An address without user, password and options, for messages."""
    parts = urlsplit(url)
    if parts.scheme.startswith("sqlite"):
        return parts.path.removeprefix("/")
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"


@contextmanager
def reached(url: str) -> Iterator[None]:
    """Turn what the database raises into refusals that do not show its credentials.

    Raises:
        UnreachableError: it does not answer.
        GatelineError: the address is none, its driver is not installed, or it is no database of this Optuna.
    """
    where = f"storage {shown_storage(url)}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    except (sqlalchemy.exc.ArgumentError, sqlalchemy.exc.NoSuchModuleError) as error:
        raise GatelineError(
            "--storage",
            expected="the address of a database, e.g. postgresql://HOST/DATABASE",
            found="something else",
            do="Correct it",
        ) from error
    except ImportError as error:
        if not str(error).startswith("Failed to import DB access module"):
            raise
        raise GatelineError(
            where,
            expected="its driver to be installed",
            found="none",
            do="Install it, e.g. `pip install psycopg[binary]`",
        ) from error
    except (
        sqlalchemy.exc.OperationalError,
        sqlalchemy.exc.InterfaceError,
        optuna.exceptions.StorageInternalError,
    ) as error:
        for words, (expected, found, do) in NO_USE.items():
            if re.search(words, str(error.__cause__ or error), re.IGNORECASE):
                raise GatelineError(where, expected=expected, found=found, do=do) from error
        raise UnreachableError(
            where,
            expected="an answer",
            found=type(error.__cause__ or error).__name__,
            do="Finished trials are kept; run the same command again when it answers",
        ) from error
    except sqlalchemy.exc.DatabaseError as error:
        raise GatelineError(where, expected="a database", found="something else", do="Name another one") from error
    except RuntimeError as error:
        if "optuna version" not in str(error):
            raise
        raise GatelineError(
            where,
            expected=f"tables of Optuna {optuna.__version__}",
            found="those of another version",
            do="Name another database, or run `optuna storage upgrade` on it",
        ) from error


def _suggest(trial: optuna.Trial, dimension: Dimension) -> Scalar:
    key, low, high, step, log = dimension.key, dimension.low, dimension.high, dimension.step, dimension.log
    if dimension.kind == "choice":
        return trial.suggest_categorical(key, list(dimension.choices))
    if dimension.kind == "integer":
        return trial.suggest_int(key, int(low), int(high), step=int(step or 1), log=log)
    return trial.suggest_float(key, low, high, step=step, log=log)


def _sampler(settings: Sampler, number: int) -> optuna.samplers.BaseSampler:
    seed = int(digest_of([settings.seed, number])[:8], 16)
    if settings.kind == "random":
        return optuna.samplers.RandomSampler(seed)
    # Trials that others are working on count as bad ones, so that two processes do not try the same.
    return optuna.samplers.TPESampler(
        seed=seed, n_startup_trials=settings.startup_trials, multivariate=True, constant_liar=True
    )


def _pruner(search: Search) -> optuna.pruners.BasePruner:
    if search.pruner.kind == "none":
        return optuna.pruners.NopPruner()
    return optuna.pruners.MedianPruner(
        n_startup_trials=search.pruner.startup_trials, n_warmup_steps=search.pruner.warm_up_epochs + 1
    )
