"""Every workload runs through all six steps with its smoke budget, and one of each task is served over HTTP.

A workload joins by its file in `workloads/`. Data that are downloaded elsewhere come from a mirror here, so that the test
needs no network; without one those workloads are skipped. All share one clone and one tracking database, as a user's do.
"""

from __future__ import annotations

import csv
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gateline.adapters.registry.requests import as_request, as_rows
from gateline.manifest import open_artifact
from gateline.table import TABLE, read_table
from gateline.tasks import task_named, task_names
from gateline.workload import Workload
from gateline.workload.gates import Gates
from gateline.workload.source import Source
from tests.browser import BROWSER, PHONE, assert_reads_well

pytestmark = pytest.mark.slow  # trains every workload for a moment

ROOT = Path(__file__).resolve().parents[2]
WORKLOADS = {path.stem: path for path in sorted((ROOT / "workloads").glob("*.yaml"))}
MIRROR = Path(os.environ["GATELINE_MIRROR"]) if os.environ.get("GATELINE_MIRROR") else None
BUDGET = "smoke"
SECONDS = 2 * 60.0  # of processor, the children's: a minute on two cores, whatever else runs there


def why_not(path: Path) -> str | None:
    """Say what a workload needs that is not here."""
    source = Workload.read(path).section("source", Source)
    remote = [file for file in source.files if file.url]
    if not remote:
        return None
    if MIRROR is None or not MIRROR.is_dir():
        return f"GATELINE_MIRROR names no folder, and {remote[0].url} would have to be downloaded"
    index = MIRROR / "index.csv"
    if index.is_file():
        with index.open(newline="", encoding="utf-8") as rows:
            held = {row["sha256"] for row in csv.DictReader(rows)}
        absent = [file for file in remote if not file.is_folder and file.sha256 not in held]
        if absent:
            return f"the mirror does not hold {absent[0].url}"
    return None


def processor_seconds() -> float:
    """Of all processes that this one started and waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@dataclass
class Clone:
    """A copy of the project as git knows it, in which workloads run; each once, whichever test asks first."""

    folder: Path
    ran: dict[str, tuple[subprocess.CompletedProcess[str], float]] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        mirror = {"GATELINE_MIRROR": str(MIRROR)} if MIRROR else {}
        uri = f"sqlite:///{self.folder}/mlflow.db"
        return {
            **os.environ,
            **mirror,
            "PATH": path,
            "PYTHONPATH": str(self.folder / "src"),
            "MLFLOW_TRACKING_URI": uri,
        }

    def run(self, name: str) -> tuple[subprocess.CompletedProcess[str], float]:
        if name not in self.ran:
            began = processor_seconds()
            command = [sys.executable, "-c", "from gateline.cli import app; app(prog_name='gateline')"]
            done = subprocess.run(
                [*command, "run", name, "--budget", BUDGET],
                cwd=self.folder,
                env=self.environment(),
                capture_output=True,
                text=True,
                timeout=1800,
            )
            self.ran[name] = done, processor_seconds() - began
        return self.ran[name]

    def artifacts(self, name: str) -> Path:
        return self.folder / "artifacts" / f"{name}_{BUDGET}"


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    folder = tmp_path_factory.mktemp("smoke") / "clone"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    for name in listed:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    for argv in (["init", "-q"], ["add", "-A"], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "all"]):
        subprocess.run(["git", *argv], cwd=folder, check=True)
    return Clone(folder)


REFUSED = ("stocks_price",)
"""Workloads that are there to show that the gates refuse them."""


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_smoke_run_registers_a_model_and_leaves_a_report(
    name: str, clone: Clone, record_property: Callable[[str, object], None], tmp_path: Path
) -> None:
    if reason := why_not(WORKLOADS[name]):
        pytest.skip(reason)

    done, seconds = clone.run(name)

    record_property("seconds", round(seconds, 1))
    if name in REFUSED:
        assert done.returncode == 2, done.stdout + done.stderr
        assert "must be lower" in done.stderr
        assert "Did not pass the gates" in (clone.artifacts(name) / "evaluation" / "report.html").read_text("utf-8")
        assert not (clone.artifacts(name) / "release").exists()
        return
    assert done.returncode == 0, done.stdout + done.stderr
    release = open_artifact(clone.artifacts(name) / "release", "release")
    assert release.facts["name"] == f"{name}_{BUDGET}"
    assert release.facts["promoted"] is True
    evaluation = open_artifact(clone.artifacts(name) / "evaluation", "evaluation")
    assert evaluation.facts["verdict"]["passed"] is True
    page = (evaluation.path / "report.html").read_text(encoding="utf-8")
    assert f"{name}_{BUDGET}" in page
    assert "Passed the gates" in page
    assert len(list((evaluation.path / "plots").glob("*.png"))) >= 2
    metrics = evaluation.read_json("metrics.json")
    gate = Workload.read(WORKLOADS[name]).section("gates", Gates).metric
    assert gate in metrics["intervals"], f"a report says how sure it is of {gate}: give `Scores.errors` or `intervals`"
    assert metrics["baselines"], "a baseline is measured beside every model"
    if BROWSER is not None:
        shutil.copy(evaluation.path / "report.html", tmp_path / "report.html")
        assert_reads_well(tmp_path, PHONE)
    status = subprocess.run(
        ["git", "status", "--porcelain"], cwd=clone.folder, check=True, capture_output=True, text=True
    )
    assert status.stdout == "", "a run with a budget leaves everything that git sees as it was"
    assert seconds < SECONDS, (
        f"a smoke budget is for a minute on two cores, this took {seconds:.0f} s of them: make it smaller"
    )


@pytest.mark.parametrize("task", task_names())
def test_a_model_of_each_task_answers_over_http(task: str, clone: Clone) -> None:
    """What `mlflow models serve` says is what the evaluated model says, in raw units; a bad request is a 400 with a reason."""
    of_task = [name for name, path in WORKLOADS.items() if Workload.read(path).task == task]
    assert of_task, f"no workload of the task {task}"
    name = next((name for name in of_task if not why_not(WORKLOADS[name])), None)
    if name is None:
        pytest.skip(str(why_not(WORKLOADS[of_task[0]])))
    done, _ = clone.run(name)
    assert done.returncode == 0, done.stdout + done.stderr
    artifacts = clone.artifacts(name)
    predictor = task_named(task).load_predictor(artifacts / "model")
    rows = predictor.example(read_table(artifacts / "prepared" / TABLE))
    request = as_request(rows)
    wanted = json.loads(as_request(predictor.predict(as_rows(request, predictor))))["dataframe_split"]

    with served(clone, f"models:/{name}_{BUDGET}@champion") as address:
        status, answer = ask(address, json.loads(request))
        assert status == 200, answer
        predictions = json.loads(answer)["predictions"]
        assert len(predictions) == len(wanted["data"])
        for row, expected in zip(predictions, wanted["data"], strict=True):
            for column, value in zip(wanted["columns"], expected, strict=True):
                assert row[column] == (pytest.approx(value, rel=1e-4, abs=1e-6) if is_number(value) else value), column

        split = json.loads(request)["dataframe_split"]
        required = next(
            column for column, _, needed in predictor.input_columns if needed and column in split["columns"]
        )
        place = split["columns"].index(required)
        lacking = {
            "columns": [column for column in split["columns"] if column != required],
            "data": [row[:place] + row[place + 1 :] for row in split["data"]],
        }
        status, answer = ask(address, {"dataframe_split": lacking})
        assert status == 400, answer
        assert required in answer
        assert "Traceback" not in answer


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@contextmanager
def served(clone: Clone, model: str) -> Iterator[str]:
    """Serve a registered model without the source tree on its path, until the block ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {key: value for key, value in clone.environment().items() if key != "PYTHONPATH"}
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", model, "--env-manager", "local"]
    log = clone.folder.parent / f"serve-{port}.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [*command, "--port", str(port), "--workers", "1"],
            cwd=clone.folder.parent,
            env=environment,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
        try:
            for _ in range(480):
                assert process.poll() is None, log.read_text()
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/ping")
                    break
                except OSError:
                    time.sleep(0.25)
            else:
                raise AssertionError(f"no answer to a ping in two minutes:\n{log.read_text()}")
            yield f"http://127.0.0.1:{port}/invocations"
        finally:
            os.killpg(process.pid, 15)
            process.wait()


def ask(address: str, body: dict[str, Any]) -> tuple[int, str]:
    request = urllib.request.Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
