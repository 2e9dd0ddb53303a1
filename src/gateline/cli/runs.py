"""Commands that run a workload, show what came of it, and look for better settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from gateline.adapters.door import refuse
from gateline.cli.app import app, console, in_one_line, say, shown
from gateline.errors import EXIT_DONE, EXIT_REFUSED, ArtifactError


@app.command(
    short_help="Run the six steps of a workload; DVC skips what is up to date.",
    epilog="\b\nExamples:\n"
    "  gateline run flight_delays\n"
    "  gateline run flight_delays --budget smoke    small, in a minute, as flight_delays_smoke\n",
)
@in_one_line
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
    code, why = run_workload(project, workload, say, budget)
    if code != EXIT_DONE:
        raise typer.Exit(refuse(why, code))
    name = project.resolve(workload).stem
    name = name if budget is None else budget_name(name, budget)
    say("")
    print_summary(summarise(name, project.artifacts(name)), console(), Path.cwd())


@app.command(
    short_help="Try learning rates on the training part and suggest one.",
    epilog="\b\nExample:\n  gateline learning-rate flight_delays\n",
)
@in_one_line
def learning_rate(
    workload: Annotated[
        str, typer.Argument(metavar="WORKLOAD", help="Name of a workload, or path of its file.", show_default=False)
    ],
) -> None:
    """Train for a moment with a learning rate that rises from step to step, and say where the loss fell and ran away.

    Reads the folder that preprocess wrote of the workload as it is now, and writes nothing: put what you choose into training.learning_rate.
    """
    from gateline.adapters.project import Project
    from gateline.manifest import open_artifact
    from gateline.training.learning_rate_finder import find_learning_rate
    from gateline.workload import Workload

    project = Project.find(Path.cwd())
    path = project.resolve(workload)
    folder = project.artifacts(path.stem) / "prepared"
    prepared = open_artifact(folder, "prepared") if folder.exists() else None
    now = Workload.read(path, "preprocess").recorded("preprocess")
    if prepared is None or prepared.facts.get("sections") != now:  # `train` would wait for preprocess, too
        raise ArtifactError(
            folder,
            expected="the data that preprocess writes of this workload",
            found="none" if prepared is None else "those of another section `preprocess`",
            do=f"Run `dvc repro preprocess@{path.stem}`, or all steps with `gateline run {path.stem}`",
        )
    run = replace(project.run_settings(), processes=1)
    sweep = find_learning_rate(Workload.read(path, "train"), prepared, run)
    for place in range(0, len(sweep.rates), 10):
        print(f"{sweep.rates[place]:9.2g}   loss {sweep.losses[place]:.4g}")
    print(f"\nSuggested: learning_rate: {sweep.suggested:.2g} (a tenth of the rate at which the loss was lowest)")


@app.command(
    short_help="Show verdicts, metrics against baselines, the registered version, the reports.",
    epilog="\b\nExamples:\n  gateline show flight_delays\n  gateline show flight_delays --budget smoke\n",
)
@in_one_line
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
    print_summary(summarise(name, project.artifacts(name)), console(), Path.cwd())


@app.command(
    short_help="Try settings of a workload, and write the best ones back as a workload.",
    epilog="\b\nExamples:\n"
    "  gateline tune flight_delays --trials 30\n"
    "  gateline tune flight_delays --trials 60 --processes 4     go on, four at a time\n"
    "  gateline tune flight_delays --trials 200 --storage postgresql://HOST/optuna    on several machines at once\n",
)
@in_one_line
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
    from gateline.adapters.search.tuned_file import how_to_run

    tuning = Tuning(Project.find(Path.cwd()), workload, output=output, storage=storage, force=force)
    code, why = tuning.prepare(say)
    if code != EXIT_DONE:
        raise typer.Exit(refuse(why, code))
    outcome = tuning.run(trials, processes, say)
    print_search(outcome.problem, outcome.results, outcome.best, outcome.present, console())
    print(conclusion(outcome.best, outcome.present, outcome.written))
    if outcome.best is None:
        raise typer.Exit(EXIT_REFUSED)
    if outcome.written is not None:
        print(
            f"Written: {shown(outcome.written)}. Next: `gateline check {shown(outcome.written)}`, {how_to_run(tuning.project, outcome.written)}."
        )
    if outcome.unlogged is not None:
        raise outcome.unlogged


@app.command(
    short_help="Train variants of a workload's network beside each other.",
    epilog="\b\nExamples:\n"
    "  gateline compare flight_delays    all that apply, three seeds each\n"
    "  gateline compare flight_delays --variants lstm gru attention --seeds 5\n"
    "  gateline compare flight_delays --output docs/benchmarks.md    put the table there, between its marks\n",
)
@in_one_line
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
    code, why = comparing.prepare(say)
    if code != EXIT_DONE:
        raise typer.Exit(refuse(why, code))
    comparison = comparing.run(say)
    head, rows = rows_of(comparison.monitor, comparison.metric, comparison.runs)
    table = Table(title=f"{comparison.workload.name}: variants", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for place, name in enumerate(head):
        table.add_column(name.replace(" ", "\n", 1), justify="left" if place == 0 else "right")
    for row in rows:
        table.add_row(*row, style="bold" if row[0] == "present" else "")
    console().print(table)
    print(f"Written: {shown(comparing.folder / 'comparison.md')}" + (f" and {output}" if output else ""))
    if comparison.unlogged is not None:
        raise comparison.unlogged
