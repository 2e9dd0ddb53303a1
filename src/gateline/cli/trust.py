"""Commands that trace a registered model to what it came from, and that make it again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from gateline.adapters.door import refuse
from gateline.cli.app import app, console, in_one_line, say
from gateline.errors import EXIT_REFUSED


@app.command(
    short_help="Walk every link from the data to a registered model, and name the first one that does not hold.",
    epilog="\b\nExamples:\n"
    "  gateline verify flight_delays                     its champion\n"
    "  gateline verify models:/flight_delays/3 --all     every link, with what was seen\n",
)
@in_one_line
def verify(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="NAME (its champion), NAME@ALIAS or NAME/VERSION, after models:/ or not.",
            show_default=False,
        ),
    ],
    every: Annotated[bool, typer.Option("--all", help="List every link, also those that hold.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Take a link that cannot be checked here for a broken one.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check data, workload, code, environment, weights, evaluation and verdict of a registered model against its passport.

    Looks into the registry and, where the command runs in a project, at its data, DVC's cache and git. What nothing here can
    check is said, and never counted as holding.
    """
    from gateline.adapters.project import find_root
    from gateline.adapters.registry.verify import verify as verified

    found = verified(model, find_root(Path.cwd()))
    failed = found.failed(strict=strict)
    if as_json:
        links = [vars(link) for link in found.links]
        print(json.dumps({"name": found.name, "version": found.version, "holds": not failed, "links": links}, indent=2))
    elif every:
        from rich.table import Table
        from rich.text import Text

        table = Table(
            title=f"{found.name} version {found.version}", title_justify="left", box=None, padding=(0, 2, 0, 0)
        )
        for heading in ("link", "state", "seen"):
            table.add_column(heading, overflow="fold", no_wrap=heading != "seen")
        style = {"holds": "green", "broken": "red", "unchecked": "yellow"}
        for link in found.links:
            table.add_row(link.name, Text(link.state, style=style[link.state]), Text(link.words))
        console().print(table)
    if failed:
        first = failed[0]
        words = first.words if first.state == "broken" else f"nothing that it can be checked by: {first.words}"
        line = f"{found.name} version {found.version}, {first.name}: expected what its passport says; found {words}."
        raise typer.Exit(refuse(f"{line} `gateline verify {model} --all` lists every link.", EXIT_REFUSED))
    if not as_json:
        held = sum(link.state == "holds" for link in found.links)
        print(f"{found.name} version {found.version}: {held} of {len(found.links)} links hold, none is broken")
        for link in [] if every else found.unchecked:
            say(f"not checked: {link.name} ({link.words})")


@app.command(
    short_help="Make a registered model again from its passport, and compare it link by link.",
    epilog="\b\nExamples:\n"
    "  gateline replay flight_delays              in a clean clone of its commit\n"
    "  gateline replay flight_delays --seed 8     to see that another seed makes another model\n",
)
@in_one_line
def replay(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="NAME (its champion), NAME@ALIAS or NAME/VERSION, after models:/ or not.",
            show_default=False,
        ),
    ],
    seed: Annotated[
        int | None,
        typer.Option(metavar="N", help="Train with another seed, which must show.  [default: the passport's]"),
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option(
            min=0, metavar="SHARE", help="By how much a metric may differ where the machine or a library is another."
        ),
    ] = 0.01,
    allow_dirty: Annotated[
        bool, typer.Option("--allow-dirty", help="Use the files as they stand here where no commit holds them.")
    ] = False,
) -> None:
    """Run the steps from ingest to evaluate as the passport says, in a clean clone, and compare with what was registered.

    Equal weights to the byte on the same kind of machine with the same libraries; elsewhere the metrics within --tolerance.
    Nothing of it is logged or registered.
    """
    from rich.table import Table
    from rich.text import Text

    from gateline.adapters.project import Project
    from gateline.adapters.registry.replay import replay as replayed

    found = replayed(model, Project.find(Path.cwd()), say, seed=seed, tolerance=tolerance, allow_dirty=allow_dirty)
    table = Table(title=f"{found.name} version {found.version}", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for heading in ("link", "passport", "replay", ""):
        table.add_column(heading, overflow="fold")
    style = {"equal": "green", "within tolerance": "yellow", "differs": "red"}
    for row in found.rows:
        table.add_row(row.link, Text(row.passport), Text(row.replayed), Text(row.state, style=style[row.state]))
    console().print(table)
    if not found.same:
        line = (
            f"{found.name} version {found.version}: expected the model of the passport; found another: {found.verdict}."
        )
        raise typer.Exit(refuse(f"{line} See the first link above that differs.", EXIT_REFUSED))
    print(f"Made again: {found.verdict}.")
