"""Commands that put the champion to use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateline.cli.app import app, in_one_line, say

MODEL_HELP = "Name of a registered model, which is that of its workload; the workload's file; or models:/NAME."


@app.command(
    short_help="Serve the champion over HTTP; a promotion is picked up without losing a request.",
    epilog="\b\nExamples:\n"
    "  gateline serve flight_delays\n"
    "  gateline serve flight_delays --host 0.0.0.0 --port 8080 --workers 4 --log predictions\n",
)
@in_one_line
def serve(
    workload: Annotated[
        str,
        typer.Argument(metavar="WORKLOAD", help=MODEL_HELP, show_default=False),
    ],
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="Port of it; 0 for a free one.")] = 5000,
    poll_seconds: Annotated[
        float, typer.Option(min=0.1, metavar="S", help="Between two looks at who is champion.")
    ] = 5.0,
    workers: Annotated[int, typer.Option(min=1, metavar="N", help="Processes that answer, each with the model.")] = 1,
    log: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Keep what is asked and answered, for `gateline drift`.  [default: not]"),
    ] = None,
) -> None:
    """Serve the champion with MLflow's own server until SIGTERM or Ctrl-C; then every request that came is answered.

    POST /invocations as with `mlflow models serve`; each answer names its version in the header `gateline-version`. When
    another version becomes champion, it is loaded beside the old one and takes over when it has answered a request.
    """
    from gateline.adapters.serving.service import serve as serve_champion

    serve_champion(workload, host, port, poll_seconds=poll_seconds, workers=workers, log=log, say=say)


@app.command(
    short_help="Answer a file of any length with the champion.",
    epilog="\b\nExamples:\n"
    "  gateline predict flight_delays --input tomorrow.csv --output answers.parquet\n"
    "  gateline predict sentiment --input reviews.parquet --output answers.csv --version 3\n",
)
@in_one_line
def predict(
    workload: Annotated[
        str,
        typer.Argument(metavar="WORKLOAD", help=MODEL_HELP, show_default=False),
    ],
    source: Annotated[
        Path,
        typer.Option(
            "--input",
            metavar="FILE",
            help="Csv or parquet with the columns of a request; files as bytes, or by their paths from the folder of FILE.",
        ),
    ],
    output: Annotated[Path, typer.Option(metavar="FILE", help="Csv or parquet to write.")],
    version: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Version that answers.  [default: the champion, or the one that a stopped run began with]",
        ),
    ] = None,
    batch_rows: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="Rows asked at once (fewer where their files have 32 MiB); a series is never parted.",
        ),
    ] = 10_000,
    log: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Keep what is asked and answered, for `gateline drift`.  [default: not]"),
    ] = None,
) -> None:
    """Answer every row of a file, batch by batch, with the answers that the served model gives.

    Memory does not grow with the file, only with its longest series, which is asked whole. Stopped at any moment, the same
    command goes on where it was, with the version that it began with; the file is there whole or not at all. Each row says
    its version, and what was unusual in what it was made of.
    """
    from gateline.adapters.door import stop_between_steps
    from gateline.adapters.progress import counting_progress
    from gateline.adapters.serving.predict import predict as answer_file

    with stop_between_steps() as stop, counting_progress("rows") as on_rows:
        name, answered, rows = answer_file(
            workload, source, output, version=version, batch_rows=batch_rows, log=log, on_rows=on_rows, stop=stop
        )
    print(f"{name} version {answered} answered: {rows:,} rows in {output}")
