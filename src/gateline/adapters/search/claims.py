"""Who works on which trial, so that no two processes do the same one and a trial whose process died is done.

On one machine a process holds a lock of the operating system for each trial it works on, which ends with the process,
however that ends. From machine to machine nobody sees locks; there a trial counts as abandoned when its process has given
no sign of life in the database for `GRACE_SECONDS`.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import optuna
import sqlalchemy.exc
from optuna.trial import FrozenTrial, TrialState

from gateline.adapters.search.study import finished

BEAT_SECONDS = 30.0
"""Between two signs of life."""
GRACE_SECONDS = 300.0
"""Without a sign of life, after which another machine takes a trial over; clocks may differ by less."""
SETTLE_SECONDS = 2.0
"""Until two machines that take over the same trial at once have seen who was last."""
LOOK_SECONDS = 1.0
"""Between two looks for something to do, while others work on the last trials."""

ALIVE, OWNER, TRIES = "alive", "owner", "tries"
LOCK = "lock"


class Lock:
    """A lock that the operating system takes back when the process ends.

    Args:
        file: descriptor of the open lock file.
    """

    def __init__(self, file: int) -> None:
        self._file: int | None = file

    @classmethod
    def take(cls, path: Path) -> Lock | None:
        """Take it if nobody has it."""
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return None
        return cls(file)

    def release(self) -> None:
        """Give it back."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


@contextmanager
def turn(path: Path, pause: Callable[[float], None] = time.sleep) -> Iterator[None]:
    """Wait until no other process of this machine is inside.

    Args:
        path: the lock file.
        pause: waits some seconds; may raise.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while (lock := Lock.take(path)) is None:
        pause(0.05)
    try:
        yield
    finally:
        lock.release()


@dataclass
class Claim:
    """A trial that this process works on; a context that gives signs of life.

    Args:
        trial: as Optuna hands it out.
        folder: of the trial; a checkpoint of an earlier try may lie in it.
        lock: held until the trial has its result.
        lost: earlier tries in a row whose process ended without a word and without a new epoch, as those do that the system
            kills for their memory.
    """

    trial: optuna.Trial
    folder: Path
    lock: Lock
    lost: int = 0

    def __enter__(self) -> Claim:
        self._over = threading.Event()
        self._beating = threading.Thread(target=self._beat, daemon=True)
        self._beating.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop; unless the trial has its result, the next process that looks may go on with it."""
        self.rest()
        if kind is not None:  # it ends with a word: whoever goes on begins to count anew
            self._note({TRIES: None})
        self.lock.release()

    def rest(self) -> None:
        """Give no more signs of life, so that the result is the last thing that is written."""
        self._over.set()
        self._beating.join()

    def _beat(self) -> None:
        while not self._over.wait(BEAT_SECONDS):
            self._note({ALIVE: time.time()})

    def _note(self, attributes: Mapping[str, Any]) -> None:
        """Write something of the trial into the database if that answers."""
        try:
            for name, value in attributes.items():
                self.trial.set_user_attr(name, value)
        except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError):
            pass  # a database that is away for long makes the trial look abandoned, which it then is
        except optuna.exceptions.UpdateFinishedTrialError:
            pass  # another machine took it over and was faster


class Claims:
    """Hands out trials to this process.

    Args:
        study: all trials.
        folder: of the study; locks and the trials' folders lie in it.
        total: trials that shall have a result in the end.
    """

    def __init__(self, study: optuna.Study, folder: Path, total: int) -> None:
        self.study, self.folder, self.total = study, folder, total

    def next(self, pause: Callable[[float], None]) -> Claim | None:
        """Claim an abandoned trial or begin one; None when all have a result. Waits for those that others work on.

        Args:
            pause: waits some seconds; may raise.
        """
        while True:
            with turn(self.folder / "claims.lock", pause):
                trials = self.study.get_trials(deepcopy=False)
                self.tidy(trials)
                if finished(trials) >= self.total:
                    return None
                claim = self._take_over(trials, pause) or self._begin(trials)
            if claim is not None:
                return claim
            pause(LOOK_SECONDS)

    def tidy(self, trials: list[FrozenTrial]) -> None:
        """Remove checkpoints and models of trials with a result: only the settings matter, and those are in the study."""
        for trial in trials:
            if trial.state.is_finished() and (folder := self._folder_of(trial.number)).exists():
                shutil.rmtree(folder)

    def _begin(self, trials: list[FrozenTrial]) -> Claim | None:
        waiting = any(trial.state is TrialState.WAITING for trial in trials)
        if not waiting and len(trials) >= self.total:
            return None
        trial = self.study.ask()
        folder = self._folder_of(trial.number)
        shutil.rmtree(folder, ignore_errors=True)  # of a study that was deleted from the database
        lock = self._lock(folder)
        if lock is None:
            raise AssertionError(f"{folder}: the lock of a new trial is taken")
        self._sign(trial, folder)
        return Claim(trial, folder, lock)

    def _take_over(self, trials: list[FrozenTrial], pause: Callable[[float], None]) -> Claim | None:
        for each in trials:
            folder = self._folder_of(each.number)
            if each.state is not TrialState.RUNNING:
                continue
            here = _is_of_this_machine(each, folder)
            if not (here or _abandoned(each)) or (lock := self._lock(folder)) is None:
                continue
            trial, epochs = optuna.Trial(self.study, each._trial_id), len(each.intermediate_values)
            before = each.user_attrs.get(TRIES) or {}
            lost = before.get("lost", 0) + 1 if before.get("epochs") == epochs else 0
            try:
                mine = self._sign(trial, folder, epochs, lost)
                if here:
                    return Claim(trial, folder, lock, lost)
                pause(SETTLE_SECONDS)
                if optuna.Trial(self.study, each._trial_id).user_attrs.get(OWNER) == mine:
                    return Claim(trial, folder, lock, lost)
            except optuna.exceptions.UpdateFinishedTrialError:
                pass  # it got its result since we looked
            lock.release()
            shutil.rmtree(folder)
        return None

    def _lock(self, folder: Path) -> Lock | None:
        folder.mkdir(parents=True, exist_ok=True)
        return Lock.take(folder / LOCK)

    def _sign(self, trial: optuna.Trial, folder: Path, epochs: int = 0, lost: int = 0) -> str:
        """Say in the database, and here for those who see this folder, whose trial it is; and where this try begins, see `Claim`."""
        mine = uuid.uuid4().hex
        with (folder / LOCK).open("a", encoding="utf-8") as owners:
            owners.write(f"{mine}\n")
        trial.set_user_attr(OWNER, mine)
        trial.set_user_attr(ALIVE, time.time())
        trial.set_user_attr(TRIES, {"epochs": epochs, "lost": lost})
        return mine

    def _folder_of(self, number: int) -> Path:
        return self.folder / f"trial-{number:04d}"


def _is_of_this_machine(trial: FrozenTrial, folder: Path) -> bool:
    """Say whether the process that worked on a trial last saw this folder, so that its lock says whether it lives."""
    try:
        owners = (folder / LOCK).read_text(encoding="utf-8").split()
    except FileNotFoundError:
        return False
    return OWNER not in trial.user_attrs or trial.user_attrs[OWNER] in owners


def _abandoned(trial: FrozenTrial) -> bool:
    began = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
    return time.time() - float(trial.user_attrs.get(ALIVE, began)) > GRACE_SECONDS
