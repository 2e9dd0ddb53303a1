"""What the steps tell MLflow: one run per identity, found by tag, so no run id is passed around.

The identity of a run is a digest of the workload's name, the prepared data (which names the raw data), the settings that
shape the weights, and the code. Logging is a function of artifact folders and idempotent: each kind of folder is logged
once per run, and a later step logs what earlier steps did not. So a cached step attaches to the run that made its
folder, and a step that MLflow kept from logging is logged by running the command again.

MLflow is imported inside the functions: it takes longer than a refusal should.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from gateline.adapters.mlflow_server import Connection, connected, tracking_uri
from gateline.adapters.provenance import KUBEFLOW_RUN, KUBEFLOW_RUN_TAG, dvc_md5, git_state, image, machine
from gateline.errors import TryAgainError, UnreachableError
from gateline.manifest import Artifact, digest_of
from gateline.passport import code_version
from gateline.workload.address import without_users

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


PENDING = "none yet"
"""Identity of a run that validate opened: which settings will be trained is not known then; the first training adopts it."""
SETTINGS = ("task", "model", "training", "seed", "device", "precision", "processes")
"""Facts of a model that shape its weights, beside the data; the keys of `gateline.training.settings_of_weights`."""
IMAGE_TAG, MACHINE_TAG, LOGGED_TAG = "gateline.image.", "gateline.machine", "gateline.logged."
MAX_DIGEST = 36
MAX_PARAMETERS = 100
MAX_METRICS = 1000

log = logging.getLogger("gateline.tracking")

OnEpoch = Callable[[Mapping[str, Any]], None]


def log_report(workload_name: str, raw: Artifact, report: Artifact) -> None:
    """Log what validate found; a report that rejects the data leaves a failed run."""
    with connected(workload_name) as to:
        run = find_run(to, report=report.digest)
        if run is None:
            tags = {"identity": PENDING, "raw": raw.digest, "report": report.digest}
            run = create_run(to, f"{workload_name}-{report.digest[:8]}", tags)
        write_report(to, run, workload_name, raw, report)
        say_where(to, run, "validate")
        _point_outer_run(to, run)
        finish_run(to, run, "FINISHED" if report.facts["verdict"]["passed"] else "FAILED")


@contextmanager
def training(workload_name: str, prepared: Artifact, settings: Mapping[str, Any]) -> Iterator[OnEpoch]:
    """Open the run of a training that begins, and log its curves while it goes on.

    Training is worth more than its curves: a server that does not answer is said once, and `log_training` tries again
    at the end.

    Args:
        workload_name: name of the experiment.
        prepared: the data.
        settings: what `gateline.training.settings_of_weights` says; the facts that the model will have.

    Yields:
        A function that takes one record per epoch, as `history.json` holds them.
    """
    tracking_uri()
    live: _LiveCurves | None = None
    try:
        with connected(workload_name) as to:
            run = _run_of_training(to, workload_name, prepared, settings)
            to.client.update_run(run.info.run_id, status="RUNNING")
            say_where(to, run, "train")
            _point_outer_run(to, run)
            log_parameters(to, run, settings)
            live = _LiveCurves(to.client, run.info.run_id)
    except UnreachableError as error:
        log.warning("%s Training goes on without curves in MLflow.", error)
    if live is None:
        yield _nobody_listens
        return
    status = "FAILED"
    live.start()
    try:
        yield live
        status = "FINISHED"
    except (KeyboardInterrupt, SystemExit, TryAgainError):
        status = "KILLED"
        raise
    finally:
        live.stop(status)


def _nobody_listens(record: Mapping[str, Any]) -> None:
    """Take an epoch and log nothing."""


def log_training(workload_name: str, prepared: Artifact, model: Artifact) -> None:
    """Log a trained model: parameters, curves, how it was made."""
    with connected(workload_name) as to:
        run = run_of_model(to, workload_name, prepared, model)
        write_training(to, run, workload_name, prepared, model)
        say_where(to, run, "train")
        _point_outer_run(to, run)
        finish_run(to, run)


def log_evaluation(workload_name: str, prepared: Artifact, model: Artifact, evaluation: Artifact) -> None:
    """Log metrics beside the baselines', plots and the report; the training too where it is not logged yet."""
    with connected(workload_name) as to:
        run = run_of_model(to, workload_name, prepared, model)
        write_training(to, run, workload_name, prepared, model)
        write_evaluation(to, run, evaluation)
        say_where(to, run, "evaluate")
        _point_outer_run(to, run)
        finish_run(to, run)


def run_of_model(to: Connection, workload_name: str, prepared: Artifact, model: Artifact) -> Run:
    """Find the run that made a model, whatever the code is now; or open the one that would have made it."""
    settings = settings_of(model)
    return (
        find_run(to, identity=identity_of(workload_name, prepared, settings), model=model.digest)
        or find_run(to, model=model.digest)
        or _run_of_training(to, workload_name, prepared, settings)
    )


def settings_of(model: Artifact) -> dict[str, Any]:
    """What shaped the weights of a model, as its manifest says."""
    return {name: model.facts[name] for name in SETTINGS if name in model.facts}


def identity_of(workload_name: str, prepared: Artifact, settings: Mapping[str, Any]) -> str:
    """sha256 of everything that shapes the weights."""
    return digest_of(
        {
            "workload": workload_name,
            "raw": prepared.inputs["raw"],
            "prepared": prepared.digest,
            "settings": _plain(settings),
            "code": code_version(),
        }
    )


def write_report(to: Connection, run: Run, workload_name: str, raw: Artifact, report: Artifact) -> None:
    """Log a report and the raw data it is about, unless this run has it."""
    with _once(to, run, report) as needed:
        if needed:
            log_input(to, run, f"{workload_name}/raw", raw, "raw", rows=raw.facts.get("rows"))
            to.client.log_artifacts(run.info.run_id, str(report.path), "report")
            to.client.set_tag(run.info.run_id, "gateline.data_accepted", str(report.facts["verdict"]["passed"]).lower())


def write_training(to: Connection, run: Run, workload_name: str, prepared: Artifact, model: Artifact) -> None:
    """Log parameters, the curves that are not there yet, and the settings of a model, unless this run has them."""
    with _once(to, run, model) as needed:
        if needed:
            run_id = run.info.run_id
            log_parameters(to, run, settings_of(model))
            log_curves(to.client, run_id, model.read_json("history.json"), steps_logged(to.client, run_id))
            log_input(to, run, f"{workload_name}/prepared", prepared, "training")
            for name in ("config.json", "preprocessing.json", "history.json", "manifest.json"):
                to.client.log_artifact(run_id, str(model.path / name), "training")
            to.client.set_tag(run_id, "gateline.model", model.digest)


def write_evaluation(to: Connection, run: Run, evaluation: Artifact) -> None:
    """Log metrics, plots and reports of an evaluation, unless this run has them."""
    with _once(to, run, evaluation) as needed:
        if needed:
            # The files first: an evaluation that is killed between the two is known as a later one by them, not as a wrong number.
            to.client.log_artifacts(run.info.run_id, str(evaluation.path), "evaluation")
            log_metrics(to.client, run.info.run_id, numbers_of(evaluation.read_json("metrics.json")))
            verdict = "passed" if evaluation.facts["verdict"]["passed"] else "rejected"
            to.client.set_tag(run.info.run_id, "gateline.verdict", verdict)


def numbers_of(metrics: Mapping[str, Any]) -> Iterator[tuple[str, int, float]]:
    """List what of the metrics of an evaluation is logged: key, step, number."""
    groups = {"test": "test", "baselines": "baseline", "slices": "slice", "details": "details"}
    for key, prefix in groups.items():
        yield from _numbers(prefix, metrics.get(key))


def write_release(to: Connection, run: Run, release: Artifact) -> None:
    """Log passport and decision of a release, unless this run has them."""
    with _once(to, run, release) as needed:
        if needed:
            to.client.log_artifacts(run.info.run_id, str(release.path), "release")
    _point_outer_run(to, run)
    finish_run(to, run)


def say_where(to: Connection, run: Run, step: str) -> None:
    """Note the image that a step ran in, and the machine that trained: equal weights come from the same kind only."""
    say_for_whom(to, run)
    if name := image():
        to.client.set_tag(run.info.run_id, f"{IMAGE_TAG}{step}", name)
    if step == "train":
        to.client.set_tag(run.info.run_id, MACHINE_TAG, json.dumps(machine(), sort_keys=True))


def say_for_whom(to: Connection, run: Run) -> None:
    """Note which run of Kubeflow's pipeline asked for a step, if one did."""
    if pipeline_run := os.environ.get(KUBEFLOW_RUN):
        to.client.set_tag(run.info.run_id, KUBEFLOW_RUN_TAG, pipeline_run)


def where(run: Run) -> dict[str, Any]:
    """Read back what `say_where` noted: `machine` and `images`."""
    tags = run.data.tags
    images = {key.removeprefix(IMAGE_TAG): value for key, value in tags.items() if key.startswith(IMAGE_TAG)}
    return {"machine": json.loads(tags.get(MACHINE_TAG, "{}")), "images": images}


# --- runs


def find_run(to: Connection, **tags: str) -> Run | None:
    """The oldest run with these tags, so that two processes that ask find the same."""
    conditions = " and ".join(f"tags.`gateline.{name}` = '{value}'" for name, value in tags.items())
    found = to.client.search_runs([to.experiment_id], conditions, max_results=1, order_by=["attributes.start_time ASC"])
    return found[0] if found else None


def create_run(to: Connection, name: str, tags: Mapping[str, str], parent: Run | None = None) -> Run:
    """Open a run that says which code it belongs to; nested in another if there is a `parent`."""
    git = git_state()
    all_tags = {f"gateline.{key}": value for key, value in tags.items()} | {"gateline.code": code_version()}
    all_tags |= {f"gateline.git_{key}": value for key, value in git.items()}
    if git:
        all_tags["mlflow.source.git.commit"] = git["commit"]  # the key that MLflow's pages show
    if parent is not None:
        all_tags["mlflow.parentRunId"] = parent.info.run_id
    return to.client.create_run(to.experiment_id, tags=all_tags, run_name=name)


def _run_of_training(to: Connection, workload_name: str, prepared: Artifact, settings: Mapping[str, Any]) -> Run:
    """Find the run of an identity, adopt the one that validate opened for its data, or open one."""
    identity = identity_of(workload_name, prepared, settings)
    name = f"{workload_name}-{identity[:8]}"
    found = find_run(to, identity=identity)
    if found is not None:
        return found
    made_from = {"raw": prepared.inputs["raw"], "report": prepared.inputs["report"]}
    validated = find_run(to, **made_from, identity=PENDING)
    if validated is not None:
        run_id = validated.info.run_id
        for key, value in {"identity": identity, "code": code_version(), "prepared": prepared.digest}.items():
            to.client.set_tag(run_id, f"gateline.{key}", value)
        to.client.update_run(run_id, name=name)
        adopted = to.client.get_run(run_id)
        if adopted.data.tags["gateline.identity"] == identity:  # else another training took it in the meantime
            return adopted
    return create_run(to, name, {"identity": identity, "prepared": prepared.digest, **made_from})


@contextmanager
def _once(to: Connection, run: Run, artifact: Artifact) -> Iterator[bool]:
    """Say whether an artifact is still to be logged, and note afterwards that it is."""
    key = f"{LOGGED_TAG}{artifact.kind}"
    needed = to.client.get_run(run.info.run_id).data.tags.get(key) != artifact.digest
    yield needed
    if needed:
        to.client.set_tag(run.info.run_id, key, artifact.digest)


def finish_run(to: Connection, run: Run, status: str = "FINISHED") -> None:
    """Say how a run ended."""
    to.client.set_terminated(run.info.run_id, status)


def _point_outer_run(to: Connection, run: Run) -> None:
    """Say in the run that `mlflow run` opened which run is ours."""
    from mlflow.exceptions import MlflowException

    if to.outer_run_id is None or to.outer_run_id == run.info.run_id:
        return
    try:
        to.client.set_tag(to.outer_run_id, "gateline.run_id", run.info.run_id)
    except MlflowException as error:  # it lives on another server; nothing depends on the pointer
        log.info("the outer run %s is not here: %s", to.outer_run_id, without_users(error.message))


# --- parameters, metrics, inputs


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Turn nested settings into parameters: ``{"model": {"layers": 2}}`` is ``{"model.layers": "2"}``."""
    flat: dict[str, str] = {}
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{name}.")
        else:
            flat[_key(name)] = value if isinstance(value, str) else json.dumps(_plain(value), ensure_ascii=False)
    return flat


def log_parameters(to: Connection, run: Run, settings: Mapping[str, Any]) -> None:
    """Log the settings that the run does not have yet."""
    from mlflow.entities import Param

    there = to.client.get_run(run.info.run_id).data.params
    new = [Param(key, value[:6000]) for key, value in flatten(settings).items() if key not in there]
    for first in range(0, len(new), MAX_PARAMETERS):
        to.client.log_batch(run.info.run_id, params=new[first : first + MAX_PARAMETERS])


def log_metrics(client: MlflowClient, run_id: str, numbers: Iterable[tuple[str, int, float]]) -> None:
    """Log points of curves, each a name, a step and a value."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    metrics = [Metric(key, value, now, step) for key, step, value in numbers]
    for first in range(0, len(metrics), MAX_METRICS):
        client.log_batch(run_id, metrics=metrics[first : first + MAX_METRICS])


def log_curves(
    client: MlflowClient, run_id: str, records: Iterable[Mapping[str, Any]], logged: set[tuple[str, int]]
) -> None:
    """Log the epochs that are not in `logged`, and put them there."""
    points = [
        (key, epoch, value)
        for record in records
        for key, epoch, value in _numbers("", {k: v for k, v in record.items() if k != "epoch"}, int(record["epoch"]))
        if (key, epoch) not in logged
    ]
    log_metrics(client, run_id, points)
    logged |= {(key, epoch) for key, epoch, _ in points}


def steps_logged(client: MlflowClient, run_id: str) -> set[tuple[str, int]]:
    """Say which curves have a value at which epoch."""
    keys = [key for key in client.get_run(run_id).data.metrics if "/" not in key]
    return {(key, point.step) for key in keys for point in client.get_metric_history(run_id, key)}


class _LiveCurves:
    """Logs each epoch as it ends, and the load of the machine meanwhile; gives up at the first failure."""

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self.client, self.run_id = client, run_id
        self.logged = steps_logged(client, run_id)
        self.lost = False
        self.monitor: Any = None

    def start(self) -> None:
        """Begin to watch the machine, where psutil is there to do it."""
        try:
            from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

            self.monitor = SystemMetricsMonitor(self.run_id, sampling_interval=5, resume_logging=True)
            self.monitor.start()
        except ImportError:
            self.monitor = None

    def __call__(self, record: Mapping[str, Any]) -> None:
        """Log one epoch."""
        if not self.lost:
            self._try(lambda: log_curves(self.client, self.run_id, [record], self.logged))

    def stop(self, status: str) -> None:
        """Stop watching, and say how the training ended."""
        if self.monitor is not None:
            self.monitor.finish()
        if not self.lost:
            self._try(lambda: self.client.set_terminated(self.run_id, status))

    def _try(self, action: Callable[[], None]) -> None:
        import requests
        from mlflow.exceptions import MlflowException

        try:
            action()
        except (MlflowException, requests.RequestException) as error:
            self.lost = True
            log.warning("MLflow does not answer (%s); training goes on without curves.", type(error).__name__)


def _numbers(prefix: str, value: Any, step: int = 0) -> Iterator[tuple[str, int, float]]:
    """Walk nested results and give every finite number under its path; the items of a list are steps from 1."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _numbers(f"{prefix}/{key}" if prefix else str(key), item, step)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value, start=1):
            yield from _numbers(prefix, item, index)
    elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        yield _key(prefix), step, float(value)


def metric_key(*path: str) -> str:
    """Say under which key a number is logged, e.g. ``slice/airport_EWR/mae``."""
    return _key("/".join(path))


def _key(text: str) -> str:
    """MLflow takes letters, digits and a few signs."""
    return re.sub(r"[^\w\-. :/]", "_", text)[:250]


def log_input(to: Connection, run: Run, name: str, data: Artifact, context: str, rows: int | None = None) -> None:
    """Say in a run which data it read."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    digest = dvc_md5(data.path) or data.digest[:MAX_DIGEST]
    dataset = Dataset(
        name=name,
        digest=digest,
        source_type="gateline",
        source=json.dumps({"kind": data.kind, "sha256": data.digest, "inputs": dict(data.inputs)}),
        profile=json.dumps({"num_rows": rows}) if rows is not None else None,
    )
    tags = [InputTag("mlflow.data.context", context), InputTag("gateline.sha256", data.digest)]
    to.client.log_inputs(run.info.run_id, datasets=[DatasetInput(dataset, tags)])


def _plain(value: Any) -> Any:
    """The value as JSON knows it: dates and spans of time become text."""
    return json.loads(json.dumps(value, default=str))
