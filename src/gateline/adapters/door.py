"""The frame around every step's command line: arguments in, exit code out, one line on stderr when refused.

0 done · 2 refused · 75 run the same command again · 1 a bug (with its traceback).
"""

from __future__ import annotations

import argparse
import errno
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from gateline.adapters.kubeflow.task_outputs import KubeflowTask
from gateline.errors import EXIT_BUG, EXIT_DONE, EXIT_REFUSED, EXIT_TRY_AGAIN, GOES_ON, GatelineError, Preempted

STEP = "python -m components."
"""How the command line of a step begins; those of other doors take no executor input."""

PATH_ERRORS = {
    errno.ENOSPC: "a full disk",
    errno.EDQUOT: "a used-up quota",
    errno.EROFS: "a read-only file system",
    errno.EACCES: "no leave to do so",
    errno.EPERM: "no leave to do so",
    errno.ENOTDIR: "a file where a folder should be",
    errno.EISDIR: "a folder where a file should be",
    errno.EEXIST: "a file where a folder should be",
    errno.ENAMETOOLONG: "a name that is too long",
    errno.ELOOP: "links that lead in a circle",
}
"""What a path or a disk can be blamed for; any other error of the system is a bug and shows its traceback."""


def run_step(
    parser: argparse.ArgumentParser, step: Callable[[argparse.Namespace], None], argv: Sequence[str] | None = None
) -> int:
    """Run a step and turn what became of it into an exit code.

    Args:
        parser: the step's flags.
        step: reads the folders, makes one library call, writes the folder.
        argv: command line without the program's name; None takes the process's own.
    """
    if parser.prog.startswith(STEP):
        parser.add_argument("--executor-input", metavar="JSON", help="from Kubeflow: where its page looks for what")
    args = parser.parse_args(argv)
    text = vars(args).pop("executor_input", None)
    try:
        task = None if text is None else KubeflowTask.read(text)
    except GatelineError as error:
        return refuse(str(error), error.exit_code)
    name = parser.prog.removeprefix(STEP)
    before = signal.signal(signal.SIGTERM, _stop)
    code, line = EXIT_BUG, ""
    try:
        code, line = _outcome(step, args, task, name)
    except BaseException as error:
        if isinstance(error, SystemExit) and isinstance(error.code, int):
            code = error.code  # of processes that the step started, which said why themselves
        else:
            line = traceback.format_exception_only(error)[-1]
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
        if task is not None:
            task.write_outcome(code, line)
            if code != EXIT_DONE and "workload" in args:
                _note_failure(args.workload, name, code, line)
    return refuse(line, code) if line else code


def _outcome(
    step: Callable[[argparse.Namespace], None], args: argparse.Namespace, task: KubeflowTask | None, name: str
) -> tuple[int, str]:
    """Run a step; return its exit code, and the line that says why it did not end well."""
    try:
        if task is not None and "workload" in args:
            _forget_failure(args.workload, name)
        try:
            step(args)
        except SystemExit as end:
            if end.code:
                raise
        if task is not None:
            task.write_outputs({name: value for name, value in vars(args).items() if isinstance(value, Path)})
    except GatelineError as error:
        return error.exit_code, str(error)
    except (KeyboardInterrupt, BrokenPipeError) as stop:
        return EXIT_TRY_AGAIN, (
            f"this process: expected time to finish; found {str(stop) or 'an interrupt'}. Run the same command again; "
            f"nothing half-written is left, and {stop.then if isinstance(stop, Preempted) else GOES_ON}."
        )
    except OSError as error:
        if (line := path_in_words(error)) is None:
            raise
        return EXIT_REFUSED, line
    return EXIT_DONE, ""


def _forget_failure(workload: str, step: str) -> None:
    from gateline.adapters.kubeflow.run_notes import forget_failure

    forget_failure(workload, step)


def _note_failure(workload: str, step: str, exit_code: int, said: str) -> None:
    from gateline.adapters.kubeflow.run_notes import (
        note_failure,
    )  # reads workloads, which no other use of this frame waits for

    note_failure(workload, step, exit_code, said)


def path_in_words(error: OSError) -> str | None:
    """Say what is wrong with a path or a disk; None where an error of the system is about neither, and so a bug."""
    if error.errno not in PATH_ERRORS:
        return None
    place, found = error.filename or "output", PATH_ERRORS[error.errno]
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    do = "Make room and run the same command again" if full else "Correct the path or its rights"
    return f"{place}: expected a place to read or write; found {found}. {do}."


@contextmanager
def stop_between_steps() -> Iterator[Callable[[], bool]]:
    """Let SIGTERM and SIGINT wait until the work says that the moment is good; a second SIGINT does not wait.

    Yields:
        What the work asks: whether to save and stop.

    Raises:
        Preempted: at the end of the block, if it was asked to stop and finished instead.
    """
    asked: list[str] = []

    def ask(number: int, _frame: FrameType | None) -> None:
        if asked and number == signal.SIGINT:
            raise Preempted(signal.Signals(number).name)
        asked.append(signal.Signals(number).name)

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if asked:
        raise Preempted(asked[0])


@contextmanager
def stopped_as_by_hand() -> Iterator[None]:
    """Let SIGTERM do what SIGINT does.

    Raises:
        KeyboardInterrupt: within the block.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def refuse(line: str, exit_code: int = EXIT_REFUSED) -> int:
    """Say on stderr, in one line, why nothing was done."""
    rank, count = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    who = "gateline" if rank == "0" else f"gateline (process {int(rank) + 1} of {count})"
    print(f"{who}: " + " ".join(line.split()), file=sys.stderr)
    return exit_code


def tell(line: str) -> None:
    """Say on stdout, in one line, what a step made."""
    print("gateline: " + " ".join(line.split()))


def _stop(signal_number: int, _frame: FrameType | None) -> NoReturn:
    raise Preempted(signal.Signals(signal_number).name)
