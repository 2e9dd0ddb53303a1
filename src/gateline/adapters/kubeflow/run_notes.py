"""The run in MLflow of each run of the pipeline, and what its steps note there since Kubeflow hands none of it on.

Register notes what was decided; a step that does not end well, its exit code and why. Whoever follows a run reads both.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gateline.adapters.mlflow_server import OUTER_RUN, Connection, connected
from gateline.adapters.provenance import KUBEFLOW_RUN
from gateline.workload import SECTIONS_OF_STEP, Workload
from gateline.workload.address import without_users

if TYPE_CHECKING:
    from mlflow.entities import Run

KIND_TAG, KIND = "gateline.kind", "pipeline"
TAG = "gateline.pipeline."
"""Before the tags of a run of the pipeline: run, outcome, reason, release, failed.STEP, and each of `pipeline_runs.PARTS`."""
FAILED_STEP = f"{TAG}failed."
RELEASED = f"{TAG}release"
RELEASE = ("name", "version", "alias", "promoted", "mlflow_run_id")
"""What the tag of a release says of the version that a run registered."""
LONGEST = 1000

log = logging.getLogger("gateline.kubeflow")


@dataclass(frozen=True)
class Failure:
    """How a step ended that did not end well.

    Args:
        step: its name.
        exit_code: 2 refused, 75 to be run again, 1 a bug.
        said: why, in a line; empty where processes that it started said it in its log.
    """

    step: str
    exit_code: int
    said: str


@dataclass(frozen=True)
class Notes:
    """What the steps of a run noted.

    Args:
        release: `RELEASE` by name; empty where this MLflow knows of no such run, or of nothing that it registered.
        failures: see `failures_in`.
    """

    release: Mapping[str, Any]
    failures: Sequence[Failure]


def note_release(to: Connection, decided: Mapping[str, Any]) -> None:
    """Write down which version a run of the pipeline registered, and whether it is champion; where none asked, nothing.

    Args:
        to: MLflow.
        decided: the decision, as `decision.json` of the release has it.
    """
    if run := os.environ.get(KUBEFLOW_RUN):
        of_pipeline = run_of_pipeline(to, decided["name"], run)
        said = json.dumps({key: decided[key] for key in RELEASE})
        to.client.set_tag(of_pipeline.info.run_id, RELEASED, said)


def forget_failure(workload: str, step: str) -> None:
    """Remove what an earlier try of a step noted, when the next begins: it may end well, or be killed and note nothing.

    Args:
        workload: file or JSON text that the step was given.
        step: its name.
    """
    run = os.environ.get(KUBEFLOW_RUN)
    if not run or step not in SECTIONS_OF_STEP:
        return
    outer = {name: value for name, value in os.environ.items() if name == OUTER_RUN}
    try:
        with connected(Workload.read(workload, step=step).name, create=False) as to:
            found = look_up(to, run) if to.experiment_id else None
            if found is not None and f"{FAILED_STEP}{step}" in found.data.tags:
                to.client.delete_tag(found.info.run_id, f"{FAILED_STEP}{step}")
    except Exception as error:  # noqa: BLE001  what the step needs of the two it asks for itself
        log.warning("What %s noted in MLflow stays: %s", step, without_users(" ".join(str(error).split()))[:200])
    finally:
        os.environ.update(outer)  # `connected` takes it away, and it is the step that points that run to ours


def note_failure(workload: str, step: str, exit_code: int, said: str) -> None:
    """Write down how a step ended, for whoever sees no more of it than that it failed; where no run of the pipeline asked, nothing.

    Args:
        workload: file or JSON text that the step was given.
        step: its name; of the tasks beside the steps nothing is written.
        exit_code: of the step.
        said: why, in a line.
    """
    run = os.environ.get(KUBEFLOW_RUN)
    if not run or step not in SECTIONS_OF_STEP:
        return
    try:
        name = Workload.read(workload, step=step).name
        with connected(name) as to:
            note = json.dumps({"exit_code": exit_code, "said": without_users(" ".join(said.split()))[:LONGEST]})
            to.client.set_tag(run_of_pipeline(to, name, run).info.run_id, f"{FAILED_STEP}{step}", note)
    except Exception as error:  # noqa: BLE001  the step has failed already, and its log says why
        log.warning("How %s ended is not noted in MLflow: %s", step, without_users(" ".join(str(error).split()))[:200])


def read_notes(workload: str, run: str) -> Notes:
    """Read back what `note_release` and `note_failure` wrote of a run.

    Args:
        workload: its name.
        run: Kubeflow's name of it.

    Raises:
        GatelineError: MLflow does not answer, or lets nobody in.
    """
    with connected(workload, create=False) as to:
        found = look_up(to, run) if to.experiment_id else None
    tags = {} if found is None else found.data.tags
    return Notes(json.loads(tags.get(RELEASED, "{}")), failures_in(tags))


def failures_in(tags: Mapping[str, str]) -> list[Failure]:
    """List the steps whose last try did not end well, as far as it noted that itself, in their order."""
    noted = (
        (step, json.loads(tags[f"{FAILED_STEP}{step}"])) for step in SECTIONS_OF_STEP if f"{FAILED_STEP}{step}" in tags
    )
    return [Failure(step, int(note["exit_code"]), str(note["said"])) for step, note in noted]


def run_of_pipeline(to: Connection, workload: str, run: str) -> Run:
    """Find the run in MLflow of a run of the pipeline, or open it: a task that is tried again goes on with the same."""
    if found := look_up(to, run):
        return found
    tags = {KIND_TAG: KIND, f"{TAG}run": run}
    return to.client.create_run(to.experiment_id, tags=tags, run_name=f"{workload} pipeline {run[:8]}")


def look_up(to: Connection, run: str) -> Run | None:
    """Find the run in MLflow of a run of the pipeline, if there is one."""
    return next(iter(find_runs(to, f"tags.`{KIND_TAG}` = '{KIND}' and tags.`{TAG}run` = '{run}'")), None)


def find_runs(to: Connection, conditions: str, most: int = 1) -> list[Run]:
    """Search the experiment, the newest first."""
    order = ["attributes.start_time DESC"]
    return list(to.client.search_runs([to.experiment_id], conditions, max_results=most, order_by=order))
