"""What Gateline says when it refuses: where, what was expected, what was found, what to do.

Knows nothing of the rest of the library, and never prints: a door prints.
"""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable, Sequence

EXIT_DONE = 0
EXIT_BUG = 1
EXIT_REFUSED = 2
EXIT_DRIFT = 3  # of `gateline drift` alone: nothing went wrong, and the data have changed
EXIT_TRY_AGAIN = 75  # EX_TEMPFAIL of sysexits.h: nothing is wrong with the input, run the same command again

MAX_EXAMPLES = 5

GOES_ON = "training goes on where it was"
"""What the next run of a training does that was stopped and whose checkpoint is written."""


class GatelineError(Exception):
    """A refusal that a person can act on.

    Args:
        where: dotted key, file and row, or folder that the refusal is about.
        expected: what would have been accepted.
        found: what was there instead.
        do: the next thing to try, as an imperative sentence without a full stop.
    """

    exit_code = EXIT_REFUSED

    def __init__(self, where: object, *, expected: str, found: str, do: str) -> None:
        self.where = str(where)
        self.expected = expected
        self.found = found
        self.do = do
        found = found.removesuffix(".")
        end = "" if do.endswith(("?", ".")) else "."
        super().__init__(f"{self.where}: expected {expected}; found {found}. {do}{end}")


class WorkloadError(GatelineError, ValueError):
    """The workload file asks for something that is not there or cannot work."""


class DataError(GatelineError, ValueError):
    """The data are not what the workload says they are."""


class ArtifactError(GatelineError):
    """A folder of an earlier step is missing, incomplete, changed, or carries a bad verdict."""


class TrainingError(GatelineError):
    """Training cannot go on; raised before the weights are touched."""


class RegistryError(GatelineError):
    """The model registry holds something else than was expected."""


class TryAgainError(GatelineError):
    """Nothing is wrong with the input: the same command, run again, goes on."""

    exit_code = EXIT_TRY_AGAIN


class UnreachableError(TryAgainError):
    """A server did not answer after several tries."""


class Preempted(KeyboardInterrupt):
    """The process was told to stop; what was finished is kept.

    No `Exception`: a library that catches those must not take a signal for a fault of the data.

    Args:
        by: the signal, or who asked.
        then: what the same command, run again, does; a clause that goes on from "nothing half-written is left, and".
    """

    def __init__(self, by: str = "", then: str = GOES_ON) -> None:
        super().__init__(by)
        self.then = then


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Say which known word is meant, or list them all.

    Example:
        >>> did_you_mean("lokback", ["lookback", "horizon"])
        "Did you mean 'lookback'?"
        >>> did_you_mean("xyz", ["lookback", "horizon"])
        'Known are: horizon, lookback'
    """
    words = sorted(known)
    close = difflib.get_close_matches(word, words, n=1)
    return f"Did you mean {close[0]!r}?" if close else f"Known are: {', '.join(words)}"


def require_known(where: str, name: str, known: Iterable[str]) -> None:
    """Refuse a name in the workload file that is not among those that are there.

    Args:
        where: dotted key of the name.
        name: as the file has it.
        known: what it may be.

    Raises:
        WorkloadError: it is none of them.
    """
    names = list(known)
    if name not in names:
        raise WorkloadError(where, expected="a name that is there", found=repr(name), do=did_you_mean(name, names))


def is_taken(name: str, own: Iterable[str]) -> bool:
    """Say whether a column is called like one that a task writes itself.

    Args:
        name: of the column.
        own: what the task calls its own; ``*`` stands for any text.

    Example:
        >>> is_taken("baseline_mean", ["step", "baseline_*"]), is_taken("steps", ["step", "baseline_*"])
        (True, False)
    """
    return any(fnmatch.fnmatchcase(name, each) for each in own)


def refuse_taken(where: str, names: Iterable[str], own: Sequence[str]) -> None:
    """Refuse columns of the data that would stand in one table with columns of a task, and are called alike: one of the two is lost.

    Args:
        where: dotted key that names them.
        names: columns of the data.
        own: what the task calls its own; ``*`` stands for any text.

    Raises:
        WorkloadError: there are some.
    """
    if taken := [name for name in names if is_taken(name, own)]:
        raise WorkloadError(
            where,
            expected=f"other names than {', '.join(own)}: so the evaluation, or an answer, calls columns of its own",
            found=examples(taken),
            do=f"Rename it in source.query: SELECT {taken[0]} AS another_name",
        )


def examples(values: Sequence[object], total: int | None = None) -> str:
    """Show at most five values and say how many more there are.

    Example:
        >>> examples([1, 2, 3, 4, 5, 6, 7])
        '1, 2, 3, 4, 5 and 2 more'
    """
    count = len(values) if total is None else total
    shown = ", ".join(str(value) for value in values[:MAX_EXAMPLES])
    rest = count - min(len(values), MAX_EXAMPLES)
    return f"{shown} and {rest} more" if rest > 0 else shown
