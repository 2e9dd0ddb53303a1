"""Commands that write a workload and say what it would do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateline.cli.app import app, in_one_line, print_beside, shown


@app.command(
    epilog="\b\nExamples:\n"
    "  gateline new rides --from rides.csv\n"
    "  gateline new sales --from sales.parquet --target units --key store --key item --horizon 14\n"
    "  gateline new reviews --from reviews.csv --text review --label stars\n"
    "  gateline new calls --from recordings/\n"
)
@in_one_line
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
    transcripts are. Writes workloads/NAME.yaml, with comments, and adds NAME to params.yaml.
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
        print_beside(left, words)
    print(
        f"\nWritten: {shown(path)}, and {name} into params.yaml, so that `dvc repro` runs it, too. Next: `gateline check {name}`, then `gateline run {name}`."
    )


@app.command(
    short_help="Say in words what a workload would do, or why it cannot.",
    epilog="\b\nExamples:\n  gateline check flight_delays\n  gateline check workloads/rides.yaml\n",
)
@in_one_line
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
            print_beside(step if number == 0 else "", line)
    for note in explanation.notes:
        print_beside("note", note)
    print(f"{explanation.name}: ready" + (", but see the note" if explanation.notes else ""))
