"""The command that watches what a model is asked."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from gateline.adapters.door import refuse
from gateline.cli.app import app, in_one_line, print_beside, say, shown
from gateline.errors import EXIT_DONE, EXIT_DRIFT


class FailOn(StrEnum):
    """From which verdict on the exit code says so."""

    warn = "warn"
    drift = "drift"
    never = "never"


@app.command(
    short_help="Compare new data and logged answers with what the champion was trained on.",
    epilog="\b\nExamples:\n"
    "  gateline drift flight_delays --data january.parquet\n"
    "  gateline drift flight_delays --predictions predictions    what was asked and answered\n"
    "  gateline drift flight_delays --data january.parquet --run-if-drift\n",
)
@in_one_line
def drift(
    workload: Annotated[
        str,
        typer.Argument(
            metavar="WORKLOAD",
            help="Name of a registered model, which is that of its workload; the workload's file; or models:/NAME.",
            show_default=False,
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Csv or parquet with the columns of the workload's table, or a folder that ingest wrote.  "
            "[default: the rows that were asked]",
        ),
    ] = None,
    predictions: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="What `gateline serve --log` wrote.  [default: none]")
    ] = None,
    days: Annotated[
        int, typer.Option(min=1, metavar="N", help="Of --predictions: the last so many days, today among them (UTC).")
    ] = 7,
    since: Annotated[
        datetime | None,
        typer.Option(
            metavar="DATE", formats=["%Y-%m-%d"], help="Of --predictions: from this day on.  [default: as --days says]"
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where to write the report.  [default: artifacts/WORKLOAD/drift]"),
    ] = None,
    fail_on: Annotated[
        FailOn, typer.Option("--fail-on", help="From which verdict on the exit code is 3.")
    ] = FailOn.drift,
    run_if_drift: Annotated[
        bool,
        typer.Option(
            "--run-if-drift",
            help="Run the workload where the verdict is drift; end as that ends, or with 3 if it was up to date.",
        ),
    ] = False,
) -> None:
    """Compare the columns of new data, and what the champion answered, with its training part and its test answers.

    Writes drift.html and drift.json, and a run with metrics in the workload's experiment. Exit code 3 where there is drift,
    so that a schedule can act on it.
    """
    from gateline.adapters.drift_check import check_drift, first_day

    found = check_drift(workload, data, predictions, output, since.date() if since else first_day(days))
    alarms = [each for each in found.findings if each.verdict != "none"]
    verdict = {"none": "none", "warn": "a warning", "drift": "drift"}[found.verdict]
    print_beside(
        "drift", f"{verdict}, {found.name} version {found.version}: {len(alarms)} of {len(found.findings)} comparisons"
    )
    for each in alarms:
        print_beside(each.verdict, f"{each.column}: {each.kind.replace('_', ' ')} {each.size:.3f}, {each.detail}")
    for note in found.notes:
        print_beside("note", note)
    print_beside("report", str(shown(found.page.absolute())))
    if run_if_drift and found.verdict == "drift":
        from gateline.adapters.dvc_run import run_workload
        from gateline.adapters.project import Project

        project = Project.find(Path.cwd())
        before = project.released(found.name)
        code, why = run_workload(project, found.name, say)
        if code != EXIT_DONE:
            raise typer.Exit(refuse(why, code))
        if project.released(found.name) != before:
            raise typer.Exit(EXIT_DONE)
        say("nothing was trained: everything is up to date with the data that the workload pins; bring the new ones in")
    if fail_on is not FailOn.never and found.verdict in (("drift",) if fail_on is FailOn.drift else ("warn", "drift")):
        raise typer.Exit(EXIT_DRIFT)
