"""What MLflow knows of runs of the pipeline: from what each was made, how it ended; and so whether the next has anything to do.

Each run of the pipeline is a run in the experiment of its workload, with tags. The runs of its steps are others, by what shaped the
weights (`gateline.adapters.tracking`); they are marked with the pipeline's outcome, too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gateline.adapters.kubeflow.raw_sources import marks_of
from gateline.adapters.kubeflow.run_notes import (
    FAILED_STEP,
    KIND,
    KIND_TAG,
    RELEASED,
    TAG,
    failures_in,
    find_runs,
    run_of_pipeline,
)
from gateline.adapters.mlflow_server import Connection, connected
from gateline.adapters.provenance import KUBEFLOW_RUN_TAG, PIPELINE_DIGEST
from gateline.adapters.registry.ledger import read_ledger
from gateline.adapters.registry.notification import post
from gateline.errors import WorkloadError
from gateline.workload.source import File

if TYPE_CHECKING:
    from mlflow.entities import Run

PARTS = {
    "data": "what the workload pins of the raw data",
    "source": "what lies at the addresses of the raw data",
    "code": "the code",
    "pipeline": "the pipeline or its images",
    "settings": "the workload or the settings",
    "champion": "the champion",
}
"""From what a run is made, in words."""
RUNNING, SUCCEEDED, FAILED, UNCHANGED = "RUNNING", "SUCCEEDED", "FAILED", "UNCHANGED"
ENDED_WELL = (SUCCEEDED, "COMPLETE")
"""Kubeflow's words for tasks that ended well."""
WEBHOOK = "GATELINE_WEBHOOK"
"""Environment variable with the address that is told of every run that ended, from a Secret."""
LONGEST = 1000
NOBODY = "none"


@dataclass(frozen=True)
class Question:
    """What a run would be made from.

    Args:
        run: Kubeflow's name of it.
        data: digest of what the workload pins.
        code: digest of the library's source.
        settings: digest of sections and run-wide settings.
    """

    run: str
    data: str
    code: str
    settings: str


def ask(workload: str, files: Sequence[File], question: Question, *, only_if_changed: bool) -> tuple[bool, str]:
    """Say whether a run has anything to do, and write both down in MLflow.

    Args:
        workload: its name.
        files: of its source.
        question: from what the run would be made.
        only_if_changed: false: it has, whatever there was; what it is made from is still written down.

    Returns:
        Whether the steps shall run, and why.

    Raises:
        UnreachableError: MLflow does not answer.
    """
    with connected(workload) as to:
        now = {
            "data": question.data,
            "source": marks_of(files),
            "code": question.code,
            "pipeline": os.environ.get(PIPELINE_DIGEST, ""),
            "settings": question.settings,
            "champion": _champion(to, workload),
        }
        last = _last_that_ended_well(to, question)
        changed = [] if last is None else changes(_parts_of(last), now)
        if not only_if_changed:
            go, reason = True, "it was asked for"
        elif last is None:
            go, reason = True, "no earlier run of the pipeline ended well"
        elif changed:
            go, reason = True, f"since run {_pipeline_run(last)}, {' and '.join(changed)}"
        else:
            go, reason = False, f"neither data nor code, settings or champion changed since run {_pipeline_run(last)}"
        run = run_of_pipeline(to, workload, question.run)
        outcome = RUNNING if go else UNCHANGED
        for key, value in {**now, "outcome": outcome, "reason": reason[:LONGEST]}.items():
            to.client.set_tag(run.info.run_id, f"{TAG}{key}", value)
        if not go:
            to.client.set_terminated(run.info.run_id, "FINISHED")
    return go, reason


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Say in words what is not as it was; what is not known of one of the two has not changed."""
    words = []
    for part, meaning in PARTS.items():
        old, new = before.get(part, ""), now.get(part, "")
        if old and new and old != new:
            words.append(f"{meaning} changed" + (f" ({old}, now {new})" if part == "champion" else ""))
    return words


def conclude(workload: str, run: str, status: str) -> list[str]:
    """Write down in MLflow how a run of the pipeline ended, and tell the webhook.

    Args:
        workload: its name.
        run: Kubeflow's name of it.
        status: JSON of Kubeflow about the steps, ``{"state": ..., "error": {"message": ...}}``.

    Returns:
        What to say, line by line.

    Raises:
        WorkloadError: the status is none.
        UnreachableError: MLflow does not answer.
    """
    state, problem = _read_status(status)
    with connected(workload) as to:
        of_pipeline = run_of_pipeline(to, workload, run)
        tags = of_pipeline.data.tags
        if tags.get(f"{TAG}outcome") == UNCHANGED:
            return [f"{workload}: run {run} ended early: {tags.get(f'{TAG}reason')}"]
        before, champion = tags.get(f"{TAG}champion", NOBODY), _champion(to, workload)
        moved = f"champion {before}, now {champion}" if champion != before else f"champion {champion}, as before"
        if RELEASED in tags and f"{FAILED_STEP}register" not in tags:
            # The last step is done. Kubeflow may still name a try that failed before a good one (kubeflow/pipelines#13591).
            state, problem = SUCCEEDED, ""
        elif state == FAILED and (failures := failures_in(tags)):
            problem += f"; {failures[-1].step} ended with {failures[-1].exit_code}: {failures[-1].said}"
        said = f"{state}: {problem or moved}"
        # The champion that this run made is no change for the next one; one that somebody else made meanwhile is.
        made = _promoted_by(tags) or before
        for key, value in {"outcome": state, "reason": said[:LONGEST], "champion": made}.items():
            to.client.set_tag(of_pipeline.info.run_id, f"{TAG}{key}", value)
        to.client.set_terminated(of_pipeline.info.run_id, "FINISHED" if state == SUCCEEDED else "FAILED")
        of_steps = find_runs(to, f"tags.`{KUBEFLOW_RUN_TAG}` = '{run}'", most=20)
        for each in of_steps:
            to.client.set_tag(each.info.run_id, f"{TAG}outcome", state)
        runs = [each.info.run_id for each in of_steps]
    lines = [f"{workload}: run {run} {said}"]
    if os.environ.get(WEBHOOK):
        body = {"workload": workload, "run": run, "outcome": state, "reason": said, "mlflow_runs": runs}
        not_told = post(WEBHOOK, json.dumps(body))
        lines += [] if not_told is None else [f"not told: {not_told}"]
    return lines


def _read_status(text: str) -> tuple[str, str]:
    try:
        status: dict[str, Any] = json.loads(text)
        said, error = str(status["state"]), status.get("error") or {}
        state = SUCCEEDED if said in ENDED_WELL else FAILED
        return state, " ".join(str(error.get("message") or ("" if state == SUCCEEDED else said)).split())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WorkloadError(
            "--status", expected="JSON with a state", found=repr(text[:80]), do="Let Kubeflow fill it in"
        ) from error


def _champion(to: Connection, workload: str) -> str:
    champion = read_ledger(to, workload).champion
    return NOBODY if champion is None else _version(champion)


def _promoted_by(tags: Mapping[str, str]) -> str:
    """Say which version a run made champion, as `_champion` does; nothing where it made none."""
    release = json.loads(tags.get(RELEASED, "{}"))
    return _version(release["version"]) if release.get("promoted") else ""


def _version(number: int) -> str:
    return f"version {number}"


def _parts_of(run: Run) -> dict[str, str]:
    return {part: run.data.tags.get(f"{TAG}{part}", "") for part in PARTS}


def _pipeline_run(run: Run) -> str:
    return str(run.data.tags.get(f"{TAG}run"))


def _last_that_ended_well(to: Connection, this: Question) -> Run | None:
    """Find the run to compare with: of the same settings, since a workload may have several schedules; else the last of any."""
    well = f"tags.`{TAG}outcome` = '{SUCCEEDED}' and tags.`{KIND_TAG}` = '{KIND}' and tags.`{TAG}run` != '{this.run}'"
    same = f"{well} and tags.`{TAG}settings` = '{this.settings}'"
    return next(iter(find_runs(to, same) or find_runs(to, well)), None)
