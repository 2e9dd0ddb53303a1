"""The frame around every step's command line: arguments in, exit code out, one line on stderr when refused.

0 done · 2 refused · 75 run the same command again · 1 a bug (with its traceback).
"""

from __future__ import annotations

import argparse
import errno
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import NoReturn

from gateline.errors import EXIT_DONE, EXIT_REFUSED, GatelineError, PreemptedError

DISK_ERRORS = {errno.ENOSPC: "a full disk", errno.EDQUOT: "a used-up quota", errno.EROFS: "a read-only file system"}


def run_step(
    parser: argparse.ArgumentParser, step: Callable[[argparse.Namespace], None], argv: Sequence[str] | None = None
) -> int:
    """Run a step and turn what became of it into an exit code.

    Args:
        parser: the step's flags.
        step: reads the folders, makes one library call, writes the folder.
        argv: command line without the program's name; None takes the process's own.
    """
    args = parser.parse_args(argv)
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        step(args)
    except GatelineError as error:
        return refuse(str(error), error.exit_code)
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        found = DISK_ERRORS[error.errno]
        return refuse(
            f"{error.filename or 'output'}: expected room to write; found {found}. Free some and run again.", 2
        )
    except (KeyboardInterrupt, BrokenPipeError):
        return refuse(
            "interrupted; nothing half-written is left. Run the same command again.", PreemptedError.exit_code
        )
    finally:
        signal.signal(signal.SIGTERM, before)
    return EXIT_DONE


def refuse(line: str, exit_code: int = EXIT_REFUSED) -> int:
    """Say on stderr, in one line, why nothing was done."""
    print("gateline: " + " ".join(line.split()), file=sys.stderr)
    return exit_code


def tell(line: str) -> None:
    """Say on stdout, in one line, what a step made."""
    print("gateline: " + " ".join(line.split()))


def _stop(signal_number: int, _frame: FrameType | None) -> NoReturn:
    raise PreemptedError(
        "this process",
        expected="time to finish",
        found=f"signal {signal.Signals(signal_number).name}",
        do="Run the same command again; it goes on from the last checkpoint",
    )
