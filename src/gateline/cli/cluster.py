"""Commands that run a workload on a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateline.cli.app import app, in_one_line, say


@app.command(
    short_help="Run a workload once on Kubeflow Pipelines, and follow it.",
    epilog="\b\nExamples:\n"
    "  gateline submit flight_delays --host http://localhost:8080 --pipeline training.yaml\n"
    "  gateline submit flight_delays --host http://localhost:8080 --run 7d1f...    follow a run that goes on\n",
)
@in_one_line
def submit(
    workload: Annotated[
        str, typer.Argument(metavar="WORKLOAD", help="Name of a workload, or path of its file.", show_default=False)
    ],
    host: Annotated[
        str,
        typer.Option(
            metavar="URL",
            help="Of Kubeflow Pipelines; where it wants a token, put it into GATELINE_KUBEFLOW_TOKEN.",
            show_default=False,
        ),
    ],
    pipeline: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What `python -m pipelines.compile` wrote; uploaded unless it is there."),
    ] = None,
    run: Annotated[
        str | None, typer.Option(metavar="ID", help="Follow this run instead of starting one.  [default: none]")
    ] = None,
    experiment: Annotated[str, typer.Option(metavar="NAME", help="Of Kubeflow.")] = "gateline",
    namespace: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of the user, where a cluster has several.  [default: none]")
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="A setting of the run in place of params.yaml's, e.g. device=auto; may be repeated.",
        ),
    ] = None,
    follow: Annotated[bool, typer.Option(help="Wait for the end, and say what each step does.")] = True,
) -> None:
    """Upload the compiled pipeline, run a workload with it, and follow the run to its end.

    Exit code 0: all six steps ended well; 2: one failed, and which; 75: the server does not answer, the run goes on. What was
    decided about the model stands in MLflow: `gateline history WORKLOAD`.
    """
    from gateline.adapters.kubeflow import submission
    from gateline.adapters.kubeflow.arguments import run_settings
    from gateline.adapters.kubeflow.server import KubeflowServer, required_pipeline
    from gateline.adapters.project import Project

    project = Project.find(Path.cwd())
    path = project.resolve(workload)
    server = KubeflowServer(host, namespace)
    if run is None:
        settings = run_settings(project.params(), setting or [])
        started = submission.submit(server, path, required_pipeline(pipeline), settings, experiment)
    else:
        started = submission.submitted(server, run)
    print(f"{path.stem}: run {started.id}, {started.address}")
    if follow:
        submission.follow(server, started, say)
        print(f"{path.stem}: all six steps are done")
