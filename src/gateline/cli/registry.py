"""Commands that say and change who is champion, and why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from gateline.cli.app import app, console, in_one_line, print_beside, say
from gateline.cli.serving import MODEL_HELP

MODEL = typer.Argument(metavar="WORKLOAD", help=MODEL_HELP, show_default=False)
VERSION = typer.Argument(
    metavar="WORKLOAD", help=f"{MODEL_HELP.removesuffix('.')}, models:/NAME/VERSION.", show_default=False
)


@app.command(
    short_help="Make a challenger champion, by hand.",
    epilog="\b\nExamples:\n"
    "  gateline promote flight_delays                   the challenger that waits for approval\n"
    "  gateline promote flight_delays 3 --expect 2      only if version 2 is champion\n"
    '  gateline promote flight_delays 3 --force-reason "the test part lacks the new airport"\n',
)
@in_one_line
def promote(
    workload: Annotated[str, VERSION],
    version: Annotated[str | None, typer.Argument(metavar="[VERSION]", help="[default: the challenger]")] = None,
    expect: Annotated[
        int | None, typer.Option(metavar="N", help="Refuse unless this version is champion now.  [default: any]")
    ] = None,
    force_reason: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Needed where no decision speaks for the version; stands in the ledger."),
    ] = None,
) -> None:
    """Make a version champion: the challenger that waits for approval, or another one for a reason that you give.

    Refuses if the champion is not the one that the challenger was compared with. Where somebody moved the alias by other
    means, promoting the version it points to accepts that.
    """
    from gateline.adapters.mlflow_server import connected
    from gateline.adapters.registry.changes import promote as make_champion
    from gateline.adapters.registry.reference import number_of, version_said
    from gateline.adapters.registry.who_is_told import tell_who_wants_to_know

    name, word = version_said(workload, version)
    with connected(name, create=False) as to:
        number = None if word is None else number_of(to, name, word)
        step = make_champion(to, name, number, say, expect=expect, why=force_reason)
        if step is not None:
            print(f"{name} version {step.after} is champion now, by {step.entry.by}: {step.entry.reason}")
        tell_who_wants_to_know(to, name, step, say)


@app.command(
    short_help="Go back to a champion before.",
    epilog="\b\nExamples:\n"
    '  gateline rollback flight_delays --reason "forecasts below zero since noon"\n'
    "  gateline rollback flight_delays --to 2\n",
)
@in_one_line
def rollback(
    workload: Annotated[str, MODEL],
    to: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="VERSION", help="Or `none`: nobody.  [default: the champion before the present one]"
        ),
    ] = None,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Stands in the ledger.")] = None,
) -> None:
    """Go back to a champion before, whose files are looked at first. Register does not promote what was rolled back again.

    A rollback that was stopped is finished when it is run again, and goes back no further.
    """
    from gateline.adapters.mlflow_server import connected
    from gateline.adapters.registry.changes import roll_back
    from gateline.adapters.registry.reference import name_alone, number_of
    from gateline.adapters.registry.who_is_told import tell_who_wants_to_know

    name = name_alone(workload)
    with connected(name, create=False) as server:
        nobody = to == "none"
        target = None if to is None or nobody else number_of(server, name, to)
        step = roll_back(server, name, target, say, nobody=nobody, why=reason)
        now = _words(step.after)
        print(f"{name}: {now} is champion now, {_words(step.before)} no more: {step.entry.reason}")
        tell_who_wants_to_know(server, name, step, say)


@app.command(
    short_help="List every decision about a model: who, when, why.",
    epilog="\b\nExamples:\n  gateline history flight_delays\n  gateline history flight_delays --json\n",
)
@in_one_line
def history(
    workload: Annotated[str, MODEL],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """List every decision about a model in its order: what, about which version, who became champion, by whom, why."""
    from rich.table import Table
    from rich.text import Text

    from gateline.adapters.mlflow_server import connected
    from gateline.adapters.registry.history import read_history
    from gateline.adapters.registry.reference import name_alone
    from gateline.ledger import as_record

    name = name_alone(workload)
    with connected(name, create=False) as to:
        found = read_history(to, name)
    if as_json:
        record: dict[str, Any] = {
            "model": name,
            "champion": found.ledger.champion,
            "aliases": {"champion": found.champion_alias, "challenger": found.challenger_alias},
            "remarks": found.remarks(),
            "entries": [as_record(step) for step in found.ledger.steps],
        }
        print(json.dumps(record, indent=2))
        return
    table = Table(title=f"{name}: champion is {_number(found.ledger.champion)}", title_justify="left", box=None)
    for column in ("", "when (UTC)", "what", "version", "champion", "by", "why"):
        table.add_column(column, overflow="fold", justify="right" if column in ("", "version") else "left")
    for step in found.ledger.steps:
        entry = step.entry
        what = (
            f"{entry.kind} (conflict: no effect)"
            if step.conflict
            else entry.kind + (", forced" if entry.forced else "")
        )
        before, after = _number(step.before), _number(step.after)
        became = f"{before} → {after}" if step.effective else after
        table.add_row(
            str(entry.number),
            entry.at[:19].replace("T", " "),
            what,
            _number(entry.version),
            became,
            Text(entry.by),  # what people wrote is no markup
            Text(entry.reason),
        )
    console().print(table)
    for remark in found.remarks():
        print(remark)


@app.command(
    short_help="Say why a version is, or is not, champion, and what changed.",
    epilog="\b\nExamples:\n  gateline explain flight_delays 3\n  gateline explain flight_delays champion\n",
)
@in_one_line
def explain(
    workload: Annotated[str, VERSION],
    version: Annotated[
        str | None, typer.Argument(metavar="[VERSION]", help="Number or alias.  [default: champion]")
    ] = None,
) -> None:
    """Say which check decided about a version, and what changed against the champion it was compared with.

    Changes are those of the passports: data, settings, code, environment.
    """
    from gateline.adapters.mlflow_server import connected
    from gateline.adapters.registry.history import explain as explained
    from gateline.adapters.registry.reference import number_of, version_said

    name, word = version_said(workload, version)
    with connected(name, create=False) as to:
        found = explained(to, name, number_of(to, name, word or "champion"))
    against = "no champion" if found.champion is None else f"version {found.champion}, champion then"
    print(f"{name} version {found.version}, compared with {against}\n")
    for step in found.entries:
        conflict = ", without effect: it was overtaken by an entry before it" if step.conflict else ""
        forced = f", forced: {step.entry.reason}" if step.entry.forced else ""
        print_beside(
            f"entry {step.entry.number}",
            f"{step.entry.kind}{conflict}, {step.entry.at[:19]} by {step.entry.by}{forced}",
        )
    for check in found.decided.get("checks", ()):
        print_beside("holds" if check["passed"] else "fails", f"{check['name']}: {check['reason']}")
    if not found.decided and not any(step.entry.decision for step in found.entries):
        print_beside("decision", "none: it was never compared")
    for kind, changes in found.changes.items():
        if not changes:
            print_beside(kind, "the same")
        for place, (key, before, after) in enumerate(changes):
            print_beside(kind if place == 0 else "", f"{key}: {_short(before)} → {_short(after)}")
    for remark in found.remarks:
        print(remark)


@app.command(
    short_help="Measure two versions on the present test part, side by side.",
    epilog="\b\nExample:\n  gateline compare-models flight_delays 3 champion\n",
)
@in_one_line
def compare_models(
    workload: Annotated[
        str,
        typer.Argument(
            metavar="WORKLOAD", help="Name of a workload, path of its file, or models:/NAME.", show_default=False
        ),
    ],
    challenger: Annotated[str, typer.Argument(metavar="A", help="Number or alias.", show_default=False)],
    champion: Annotated[str, typer.Argument(metavar="B", help="Number or alias.", show_default=False)],
) -> None:
    """Measure versions A and B on the test part that preprocess wrote last, and compare them as register does.

    Says nothing of the baselines and limits, which register asks as well. Reads only. Needs the folder `prepared` of this workload beside the registry.
    """
    from gateline.adapters.project import Project
    from gateline.adapters.registry.comparison import compare_versions
    from gateline.adapters.registry.reference import name_alone

    project = Project.find(Path.cwd())
    path = project.resolve_registered(name_alone(workload) if workload.startswith("models:") else workload)
    found = compare_versions(path, project.artifacts(path.stem) / "prepared", challenger, champion)
    print(f"{found.name}: version {found.challenger} as challenger of version {found.champion}, {found.examples}\n")
    for check in found.decision.checks:
        print_beside("holds" if check.passed else "fails", f"{check.name}: {check.reason}")
    for remark in found.remarks:
        print(remark)
    print(
        f"\nby the comparison alone, version {found.challenger} {'wins' if found.decision.promote else 'does not win'} against "
        f"version {found.champion}; register also asks the baselines and limits of the gates"
    )


def _words(version: int | None) -> str:
    return "nobody" if version is None else f"version {version}"


def _number(version: int | None) -> str:
    return "nobody" if version is None else str(version)


def _short(value: Any) -> str:
    text = "nothing" if value is None else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 48 else f"{text[:12]}…" if " " not in text else f"{text[:45]}…"
