"""`gateline` on the command line: write a workload, check it, run it, and see what became of it.

Thin: each command parses its arguments, makes one call and prints. Imports stand in the commands, so `--help` is quick.
"""

from __future__ import annotations

import functools
import os
import shutil
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ParamSpec

import typer

from gateline import __version__
from gateline.adapters.door import refuse
from gateline.errors import EXIT_DONE, EXIT_REFUSED, EXIT_TRY_AGAIN, ArtifactError, GatelineError

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
    "\b\nExit codes: 0 done, 2 refused (one line says why), 75 run the same command again, 1 a bug.",
)


def _in_one_line(command: Callable[P, None]) -> Callable[P, None]:
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
        except PermissionError as error:
            raise typer.Exit(
                refuse(f"{error.filename}: expected leave to write; found none. Change its mode.", EXIT_REFUSED)
            ) from error

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


@app.command(
    epilog="\b\nExamples:\n"
    "  gateline new rides --from rides.csv\n"
    "  gateline new sales --from sales.parquet --target units --key store --key item --horizon 14\n"
    "  gateline new reviews --from reviews.csv --text review --label stars\n"
    "  gateline new calls --from recordings/\n"
)
@_in_one_line
def new(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="Of the workload: lower-case letters, digits and _.", show_default=False),
    ],
    source: Annotated[
        Path,
        typer.Option(
            "--from",
            metavar="FILE",
            help="A csv or parquet file, one row per time stamp (and series), or per text; or a folder of recordings.",
        ),
    ],
    target: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Column to forecast.  [default: the last one of numbers]")
    ] = None,
    time: Annotated[str | None, typer.Option(metavar="COLUMN", help="Column of time stamps.  [default: found]")] = None,
    key: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Column that tells the series apart; may be repeated.  [default: found]"),
    ] = None,
    horizon: Annotated[
        int | None, typer.Option(min=1, metavar="STEPS", help="Steps to forecast.  [default: by the frequency]")
    ] = None,
    lookback: Annotated[
        int | None, typer.Option(min=1, metavar="STEPS", help="Past steps to read.  [default: by the frequency]")
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN", help="Column of texts to classify, or of transcripts.  [default: found, if no times are]"
        ),
    ] = None,
    label: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Column of their classes.  [default: found]")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a workload of that name.")] = False,
) -> None:
    """Look at data and write a workload for them that runs.

    Of series, finds out the time column (also in several columns, such as date and hour), the frequency, the keys, types,
    ranges, missing values and gaps; of texts, which column holds them and which their classes; of recordings, where their
    transcripts are. Writes workloads/NAME.yaml with a comment at every key, and adds NAME to params.yaml.
    """
    from gateline.adapters.new_workload import labelled_texts, new_workload, recordings
    from gateline.adapters.new_workload.words import in_words
    from gateline.adapters.project import Project

    project = Project.find(Path.cwd())
    of_series = any(given is not None for given in (time, target, key, horizon, lookback))
    if source.is_dir():
        heard = recordings.new_recordings(project, name, source, text=text, force=force)
        path, lines = heard.path, list(recordings.in_words(heard))
    elif text or label or not (of_series or not source.is_file() or not labelled_texts.is_labelled_text(source)):
        texts = labelled_texts.new_labelled_texts(project, name, source, text=text, label=label, force=force)
        path, lines = texts.path, list(labelled_texts.in_words(texts))
    else:
        written = new_workload(
            project, name, source, time=time, target=target, keys=key, lookback=lookback, horizon=horizon, force=force
        )
        path, lines = written.path, list(in_words(written))
    for left, words in lines:
        _print_beside(left, words)
    print(f"\nWritten: {_shown(path)}. Next: `gateline check {name}`, then `gateline run {name}`.")


@app.command(
    short_help="Say in words what a workload would do, or why it cannot.",
    epilog="\b\nExamples:\n  gateline check flight_delays\n  gateline check workloads/rides.yaml\n",
)
@_in_one_line
def check(
    workload: Annotated[
        str, typer.Argument(metavar="WORKLOAD", help="Name of a workload, or path of its file.", show_default=False)
    ],
) -> None:
    """Read a workload, see that its sections fit together and the data, and say in words what each step would do.

    Runs nothing and writes nothing. Exit code 0 means ready.
    """
    from gateline.adapters.explanation import explain
    from gateline.adapters.project import Project

    explanation = explain(Project.find(Path.cwd()), workload)
    for step, lines in explanation.steps.items():
        for number, line in enumerate(lines):
            _print_beside(step if number == 0 else "", line)
    for note in explanation.notes:
        _print_beside("note", note)
    print(f"{explanation.name}: ready" + (", but see the note" if explanation.notes else ""))


@app.command(
    short_help="Run the six steps of a workload; DVC skips what is up to date.",
    epilog="\b\nExamples:\n"
    "  gateline run flight_delays\n"
    "  gateline run flight_delays --budget smoke    small, in a minute, as flight_delays_smoke\n",
)
@_in_one_line
def run(
    workload: Annotated[
        str, typer.Argument(metavar="WORKLOAD", help="Name of a workload, or path of its file.", show_default=False)
    ],
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Take the settings of this budget, and run as WORKLOAD_NAME.  [default: none]"
        ),
    ] = None,
) -> None:
    """Run the six steps of a workload; DVC skips what is up to date. Ends with what `gateline show` says.

    Any file in workloads/ runs. One that params.yaml does not list keeps its pipeline and lock in artifacts/WORKLOAD, so
    that `dvc repro` goes on running the listed ones only. A budget is a section of the workload (`budgets`): a few
    settings that make a smaller run, with artifacts, experiment and registered model of its own.
    """
    from gateline.adapters.dvc_run import run_workload
    from gateline.adapters.project import Project
    from gateline.adapters.summary import print_summary, summarise
    from gateline.workload.budgets import budget_name

    project = Project.find(Path.cwd())
    code, why = run_workload(project, workload, _say, budget)
    if code != EXIT_DONE:
        raise typer.Exit(refuse(why, code))
    name = project.resolve(workload).stem
    name = name if budget is None else budget_name(name, budget)
    _say("")
    print_summary(summarise(name, project.artifacts(name)), _console(), Path.cwd())


@app.command(
    short_help="Try learning rates on the training part and suggest one.",
    epilog="\b\nExample:\n  gateline learning-rate flight_delays\n",
)
@_in_one_line
def learning_rate(
    workload: Annotated[
        str, typer.Argument(metavar="WORKLOAD", help="Name of a workload, or path of its file.", show_default=False)
    ],
) -> None:
    """Train for a moment with a learning rate that rises from step to step, and say where the loss fell and ran away.

    Reads the folder that preprocess wrote, and writes nothing: put what you choose into training.learning_rate.
    """
    from gateline.adapters.project import Project
    from gateline.manifest import open_artifact
    from gateline.training.learning_rate_finder import find_learning_rate
    from gateline.workload import Workload

    project = Project.find(Path.cwd())
    path = project.resolve(workload)
    folder = project.artifacts(path.stem) / "prepared"
    if not folder.exists():
        raise ArtifactError(
            folder,
            expected="the data that preprocess writes",
            found="none",
            do=f"Run `dvc repro preprocess@{path.stem}`, or all steps with `gateline run {path.stem}`",
        )
    prepared = open_artifact(folder, "prepared")
    run = replace(project.run_settings(), processes=1)
    sweep = find_learning_rate(Workload.read(path, "train"), prepared, run)
    for place in range(0, len(sweep.rates), 10):
        print(f"{sweep.rates[place]:9.2g}   loss {sweep.losses[place]:.4g}")
    print(f"\nSuggested: learning_rate: {sweep.suggested:.2g} (a tenth of the rate at which the loss was lowest)")


@app.command(
    short_help="Show verdicts, metrics against baselines, the registered version, the reports.",
    epilog="\b\nExamples:\n  gateline show flight_delays\n  gateline show flight_delays --budget smoke\n",
)
@_in_one_line
def show(
    workload: Annotated[
        str, typer.Argument(metavar="WORKLOAD", help="Name of a workload, or path of its file.", show_default=False)
    ],
    budget: Annotated[
        str | None, typer.Option(metavar="NAME", help="Show the run with this budget.  [default: the full one]")
    ] = None,
) -> None:
    """Show the last verdicts, the metrics against the baselines, the registered version, and where the reports are."""
    from gateline.adapters.project import Project
    from gateline.adapters.summary import print_summary, summarise
    from gateline.workload.budgets import budget_name

    project = Project.find(Path.cwd())
    name = project.resolve(workload).stem
    name = name if budget is None else budget_name(name, budget)
    print_summary(summarise(name, project.artifacts(name)), _console(), Path.cwd())


@app.command(
    short_help="Try settings of a workload, and write the best ones back as a workload.",
    epilog="\b\nExamples:\n"
    "  gateline tune flight_delays --trials 30\n"
    "  gateline tune flight_delays --trials 60 --processes 4     go on, four at a time\n"
    "  gateline tune flight_delays --trials 200 --storage postgresql://HOST/optuna    on several machines at once\n",
)
@_in_one_line
def tune(
    workload: Annotated[
        str, typer.Argument(metavar="WORKLOAD", help="Name of a workload, or path of its file.", show_default=False)
    ],
    trials: Annotated[
        int, typer.Option(min=1, metavar="N", help="Trials that shall have a result in the end, earlier ones included.")
    ],
    processes: Annotated[int, typer.Option(min=1, metavar="K", help="Trials at the same time on this machine.")] = 1,
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar="GATELINE_SEARCH_STORAGE",
            help="Database that several machines can share; where it has a password, name it in the variable.  "
            "[default: SQLite in artifacts/WORKLOAD/search]",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Workload to write.  [default: workloads/WORKLOAD_tuned.yaml]")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the file even if somebody wrote or edited it.")
    ] = False,
) -> None:
    """Search the settings that the section `search` of a workload names, judged on its validation part.

    Trial 0 has the present settings. A search goes on where it was stopped; several may work on one study at once. Trials
    are runs in MLflow, nested in one of the study.
    """
    from gateline.adapters.project import Project
    from gateline.adapters.search import Tuning
    from gateline.adapters.search.table import conclusion, print_search

    tuning = Tuning(Project.find(Path.cwd()), workload, output=output, storage=storage, force=force)
    code, why = tuning.prepare(_say)
    if code != EXIT_DONE:
        raise typer.Exit(refuse(why, code))
    outcome = tuning.run(trials, processes, _say)
    print_search(outcome.problem, outcome.results, outcome.best, outcome.present, _console())
    print(conclusion(outcome.best, outcome.present, outcome.written))
    if outcome.best is None:
        raise typer.Exit(EXIT_REFUSED)
    if outcome.written is not None:
        print(
            f"Written: {_shown(outcome.written)}. Next: `gateline check {_shown(outcome.written)}`, `gateline run {outcome.written.stem}`."
        )
    if outcome.unlogged is not None:
        raise outcome.unlogged


@app.command(
    short_help="Train variants of a workload's network beside each other.",
    epilog="\b\nExamples:\n"
    "  gateline compare flight_delays    all that apply, three seeds each\n"
    "  gateline compare flight_delays --variants lstm gru attention --seeds 5\n"
    "  gateline compare flight_delays --output docs/workloads/flight_delays.md    put the table there\n",
)
@_in_one_line
def compare(
    workload: Annotated[
        str, typer.Argument(metavar="WORKLOAD", help="Name of a workload, or path of its file.", show_default=False)
    ],
    more: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", hidden=True)] = None,
    variants: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME...",
            help="lstm, gru, bidirectional, stacked, attention, present, or those of the "
            "section `variants`.  [default: all that apply]",
        ),
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, metavar="N", help="Trainings of each, from the seed of params.yaml on.")
    ] = 3,
    budget: Annotated[
        str | None, typer.Option(metavar="NAME", help="Compare with the settings of this budget.  [default: none]")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Markdown document whose table between <!-- variants --> and <!-- /variants --> is replaced.",
        ),
    ] = None,
) -> None:
    """Train variants of the network over several seeds: mean and spread on the validation part and on the test part.

    The standard variants are plain networks of one layer that differ in one thing, and `present` is the workload as it
    is. A run that is finished is not trained again; each is a run in MLflow, nested in one of the comparison.
    """
    from rich.table import Table

    from gateline.adapters.compare import Comparing
    from gateline.adapters.compare.table import rows_of
    from gateline.adapters.project import Project

    comparing = Comparing(
        Project.find(Path.cwd()),
        workload,
        variants=[*(variants or ()), *(more or ())],
        seeds=seeds,
        budget=budget,
        output=output,
    )
    code, why = comparing.prepare(_say)
    if code != EXIT_DONE:
        raise typer.Exit(refuse(why, code))
    comparison = comparing.run(_say)
    head, rows = rows_of(comparison.monitor, comparison.metric, comparison.runs)
    table = Table(title=f"{comparison.workload.name}: variants", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for place, name in enumerate(head):
        table.add_column(name.replace(" ", "\n", 1), justify="left" if place == 0 else "right")
    for row in rows:
        table.add_row(*row, style="bold" if row[0] == "present" else "")
    _console().print(table)
    print(f"Written: {_shown(comparing.folder / 'comparison.md')}" + (f" and {output}" if output else ""))
    if comparison.unlogged is not None:
        raise comparison.unlogged


def _console() -> Console:
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else WIDTH_OF_A_PIPE, highlight=False)


def _print_beside(label: str, words: str) -> None:
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


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _shown(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
