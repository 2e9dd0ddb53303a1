"""The program that every command joins, and how commands speak: one line for a refusal, words folded to the terminal."""

from __future__ import annotations

import functools
import os
import shutil
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ParamSpec

import typer

from gateline import __version__
from gateline.adapters.door import path_in_words, refuse
from gateline.errors import EXIT_DONE, EXIT_TRY_AGAIN, GatelineError

if TYPE_CHECKING:
    from rich.console import Console

P = ParamSpec("P")
WIDTH_OF_A_PIPE = 120
WIDTH_OF_A_LABEL = 12

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": WIDTH_OF_A_PIPE},
    help="Recurrent sequence models, from versioned data to a model in production.\n\n"
    "\b\nYour own data in a few commands, in a clone of Gateline:\n"
    "  gateline new rides --from rides.csv    look at the data, write workloads/rides.yaml\n"
    "  gateline check rides                   say what it would do\n"
    "  gateline run rides                     do it: data, checks, training, evaluation, registry\n"
    "  gateline tune rides --trials 30        look for better settings\n"
    "  gateline compare rides                 train variants of its network beside each other\n\n"
    "\b\nExit codes: 0 done, 2 refused (one line says why), 75 run the same command again, 1 a bug; of `gateline drift` also 3, drift.",
)


def in_one_line(command: Callable[P, None]) -> Callable[P, None]:
    """Turn a refusal into one line on stderr and its exit code."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except GatelineError as error:
            raise typer.Exit(refuse(str(error), error.exit_code)) from error
        except KeyboardInterrupt as error:
            raise typer.Exit(refuse("interrupted. Run the same command again.", EXIT_TRY_AGAIN)) from error
        except BrokenPipeError as error:  # `gateline show | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(EXIT_DONE) from error
        except OSError as error:
            if (line := path_in_words(error)) is None:
                raise
            raise typer.Exit(refuse(line)) from error

    return wrapped


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.", is_eager=True)] = False,
) -> None:
    if version:
        print(f"gateline {__version__}")
        raise typer.Exit(EXIT_DONE)
    if context.invoked_subcommand is None:
        print(context.get_help())


def console() -> Console:
    """Make a console as wide as the terminal, or as a pipe is taken to be."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else WIDTH_OF_A_PIPE, highlight=False)


def print_beside(label: str, words: str) -> None:
    """Print words in a column of their own, folded to the width of the terminal or pipe."""
    width = shutil.get_terminal_size((WIDTH_OF_A_PIPE, 0)).columns if sys.stdout.isatty() else WIDTH_OF_A_PIPE
    indent = " " * WIDTH_OF_A_LABEL
    folded = textwrap.wrap(
        words,
        max(40, width),
        initial_indent=indent,
        subsequent_indent=indent + "  ",
        break_on_hyphens=False,
        break_long_words=False,
    )
    print("\n".join([f"{label:{WIDTH_OF_A_LABEL}}{folded[0].lstrip()}", *folded[1:]]))


def say(line: str) -> None:
    """Say how it goes on, beside the answer."""
    print(line, file=sys.stderr, flush=True)


def shown(path: Path) -> Path:
    """Shorten a path to one from here, where it lies below."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
