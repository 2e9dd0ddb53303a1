"""Commands that run a workload on a cluster."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateline.adapters.door import refuse, stopped_as_by_hand
from gateline.cli.app import app, in_one_line, print_beside, say, shown
from gateline.errors import EXIT_BUG, GatelineError, WorkloadError

if TYPE_CHECKING:
    from gateline.adapters.kubeflow.local import LocalRun
    from gateline.adapters.kubeflow.submission import Ended, Submitted


@app.command(
    short_help="Run a workload once on Kubeflow Pipelines, or in containers of this machine.",
    epilog="\b\nExamples:\n"
    "  gateline submit flight_delays --host http://localhost:8888 --pipeline training.yaml \\\n"
    "      --set checkpoints=s3://bucket/checkpoints\n"
    "  gateline submit flight_delays --host http://localhost:8888 --run 7d1f...    follow a run that goes on\n"
    "  gateline submit flight_delays --local    the same pipeline, in containers of this machine\n",
)
@in_one_line
def submit(
    workload: Annotated[
        str, typer.Argument(metavar="WORKLOAD", help="Name of a workload, or path of its file.", show_default=False)
    ],
    host: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Of Kubeflow Pipelines; where it wants a token, put it into GATELINE_KUBEFLOW_TOKEN.",
            show_default=False,
        ),
    ] = None,
    local: Annotated[
        bool,
        typer.Option(
            "--local", help="In place of --host: by dockerd or podman here, with the images of `make images`."
        ),
    ] = False,
    pipeline: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="What `python -m pipelines.compile` wrote; uploaded unless it is there.  [default for --local: compiled now]",
            show_default=False,
        ),
    ] = None,
    run: Annotated[
        str | None, typer.Option(metavar="ID", help="Follow this run instead of starting one.  [default: none]")
    ] = None,
    experiment: Annotated[str, typer.Option(metavar="NAME", help="Of Kubeflow.")] = "gateline",
    pipeline_root: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Where Kubeflow keeps the artifacts, e.g. s3://bucket/kubeflow.  [default: as the cluster is set]",
            show_default=False,
        ),
    ] = None,
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
    images: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --local: which image a step has.  [default: what `make images` wrote]"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="With --local: where everything is written.  [default: artifacts/WORKLOAD/kubeflow]"
        ),
    ] = None,
    mount: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH[:PATH]", help="With --local: what every step may read, beside the mirror; may be repeated."
        ),
    ] = None,
    network: Annotated[
        str, typer.Option(metavar="NAME", help="With --local: of the containers; host reaches what listens here.")
    ] = "host",
    cache: Annotated[bool, typer.Option(help="With --local: take finished steps from earlier runs.")] = True,
) -> None:
    """Run a workload with the compiled pipeline, and follow the run to its end.

    Exit code 0: all six steps ended well; 2: one refused or failed, and which; 75: nothing wrong, run or follow it again; 1: a
    step has a bug. With --host, set MLFLOW_TRACKING_URI to the cluster's MLflow: there stands what was decided about the model, and
    why a step failed.
    """
    from gateline.adapters.kubeflow.arguments import run_settings
    from gateline.adapters.project import Project
    from gateline.workload import Workload

    project = Project.find(Path.cwd())
    path = project.resolve(workload)
    settings = run_settings(project.params(), setting or [])
    if local == (host is not None):
        raise WorkloadError(
            "submit", expected="one of --host and --local", found="both" if local else "neither", do="Name one"
        )
    elsewhere = {"--run": run, "--namespace": namespace, "--pipeline-root": pipeline_root, "--no-follow": not follow}
    if local and (ignored := [flag for flag, given in elsewhere.items() if given]):
        raise WorkloadError(
            f"submit {' '.join(ignored)}",
            expected="flags of a run in containers of this machine",
            found="some of a run on a cluster",
            do="Leave them out, or name a cluster with --host in place of --local",
        )
    if host is None:
        from gateline.adapters.kubeflow.local import LocalSettings, run_locally
        from gateline.adapters.kubeflow.local_images import compiled_here

        root = output or project.artifacts(path.stem) / "kubeflow"
        file = pipeline or compiled_here(project, images, root)
        here = LocalSettings(root, project.root, tuple(mount or ()), network, cache)
        _say_how_it_ended(path.stem, run_locally(path, file, settings, here, say))
        return
    from gateline.adapters.kubeflow import submission
    from gateline.adapters.kubeflow.server import KubeflowServer, required_pipeline

    with stopped_as_by_hand():
        server = KubeflowServer(host, namespace)
        if run is None:
            started = submission.submit(server, path, required_pipeline(pipeline), settings, experiment, pipeline_root)
        else:
            started = submission.submitted(server, run)
        with submission.going_on(server, started):
            print(f"{path.stem}: run {started.id}, {started.address}")
            if follow:
                _say_what_became_of_it(Workload.read(path).name, started, submission.follow(server, started, say))


def _say_what_became_of_it(name: str, run: Submitted, ended: Ended) -> None:
    """Kubeflow knows neither why a step failed nor what was decided; MLflow does, if the cluster's can be asked from here."""
    from gateline.adapters.kubeflow.run_notes import Notes, read_notes
    from gateline.adapters.kubeflow.submission import why_it_failed

    notes, problem = Notes({}, ()), "MLFLOW_TRACKING_URI is not set"
    if os.environ.get("MLFLOW_TRACKING_URI", "").strip() and ended.ran:
        problem = "the MLflow of MLFLOW_TRACKING_URI knows nothing of this run"
        try:
            notes = read_notes(name, run.id)
        except GatelineError as error:
            problem = str(error)
    if not ended.well:
        raise why_it_failed(run, ended, notes.failures)
    if not ended.ran:
        print(f"{name}: ended early, since nothing has changed")
        return
    if notes.release:
        _say_what_is_registered(notes.release)
    else:
        print_beside("registered", f"not known here: {problem}")
        print_beside("asks MLflow", f"gateline history {name}")
    print(f"{name}: all six steps are done")


def _say_what_is_registered(release: Mapping[str, Any]) -> None:
    said = "promoted" if release["promoted"] else "not promoted"
    print_beside("registered", f"{release['name']} version {release['version']}, alias {release['alias']}, {said}")
    print_beside("run", f"{release['mlflow_run_id']} in MLflow")


def _say_how_it_ended(name: str, ended: LocalRun) -> None:
    for kind, folder in ended.folders.items():
        print_beside(kind, str(shown(folder)))
    if ended.failed is not None:
        if ended.exit_code == EXIT_BUG and ended.failed.last_lines:
            print("last lines")
            print(*(f"  {line}" for line in ended.failed.last_lines), sep="\n")
        print_beside("log", str(shown(ended.failed.folder / "log.txt")))
        raise typer.Exit(refuse(f"{ended.failed.step}: {ended.failed.why}", ended.exit_code))
    if release := ended.release:
        _say_what_is_registered(release)
    print(f"{name}: all six steps are done")
