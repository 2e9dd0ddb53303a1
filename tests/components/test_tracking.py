"""One run per identity holds what the steps made, once, whoever logs it and however often."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.entities import Run

from gateline.adapters import tracking
from gateline.adapters.drift_check import JSON_NAME, PAGE_NAME, Drift
from gateline.adapters.drift_check import _log as log_drift
from gateline.adapters.mlflow_server import connected, tracking_uri
from gateline.adapters.provenance import dvc_md5
from gateline.drift import Finding
from gateline.errors import GatelineError, Preempted, UnreachableError
from gateline.manifest import Artifact, open_artifact, write_artifact
from gateline.training import RunSettings, settings_of_weights
from gateline.workload import Workload
from gateline.workload.address import without_users
from tests.steps import run_apart, run_here

Here = Callable[[], Path]


def folders(made: Path, which: str) -> dict[str, Artifact]:
    kinds = ("raw", "report", "prepared", "model", "evaluation")
    return {kind: open_artifact(made / which / kind, kind) for kind in kinds}


def runs(name: str = "tiny") -> list[Run]:
    client = mlflow.MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name(name)
    return [] if experiment is None else list(client.search_runs([experiment.experiment_id]))


def history(run: Run, key: str) -> list[tuple[int, float]]:
    client = mlflow.MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    return [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, key)]


def artifacts(run: Run, folder: str) -> set[str]:
    client = mlflow.MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    return {Path(file.path).name for file in client.list_artifacts(run.info.run_id, folder)}


def log_all(made: Path, which: str) -> None:
    f = folders(made, which)
    tracking.log_report("tiny", f["raw"], f["report"])
    tracking.log_training("tiny", f["prepared"], f["model"])
    tracking.log_evaluation("tiny", f["prepared"], f["model"], f["evaluation"])


def test_all_steps_log_to_one_run_and_again_changes_nothing(made: Path, here: Here) -> None:
    here()
    log_all(made, "strong")
    (first,) = runs()
    log_all(made, "strong")
    (run,) = runs()
    f = folders(made, "strong")
    records = f["model"].read_json("history.json")
    metrics = f["evaluation"].read_json("metrics.json")
    assert run.info.run_id == first.info.run_id
    assert run.info.status == "FINISHED"
    assert run.data.params == first.data.params
    assert run.data.params["training.epochs"] == "8"
    assert run.data.params["seed"] == "7"
    assert history(run, "train_loss") == [(record["epoch"], record["train_loss"]) for record in records]
    assert history(run, "test/mae") == [(0, metrics["test"]["mae"])]
    assert history(run, "baseline/ridge/mae") == [(0, metrics["baselines"]["ridge"]["mae"])]
    assert {"report.json", "report.html"} <= artifacts(run, "report")
    assert {"report.html", "metrics.json", "plots"} <= artifacts(run, "evaluation")
    assert run.inputs is not None
    digests = {data.dataset.name: data.dataset.digest for data in run.inputs.dataset_inputs}
    assert digests == {"tiny/raw": f["raw"].digest[:36], "tiny/prepared": f["prepared"].digest[:36]}


def test_a_rejected_table_leaves_a_failed_run_with_its_report(made: Path, here: Here, tmp_path: Path) -> None:
    here()
    raw = open_artifact(made / "raw", "raw")
    with write_artifact(tmp_path / "report", "report", {"raw": raw}) as draft:
        draft.write_json("report.json", {})
        draft.facts["verdict"] = {"passed": False, "reasons": ["no rows"]}
    tracking.log_report("tiny", raw, open_artifact(tmp_path / "report", "report"))
    (run,) = runs()
    assert run.info.status == "FAILED"
    assert run.data.tags["gateline.data_accepted"] == "false"
    assert "report.json" in artifacts(run, "report")


def test_the_first_training_adopts_the_run_of_its_report_and_the_second_opens_another(made: Path, here: Here) -> None:
    here()
    log_all(made, "strong")
    log_all(made, "weak")
    found = runs()
    assert len({run.data.tags["gateline.identity"] for run in found}) == len(found) == 2
    assert {run.data.params["training.epochs"] for run in found} == {"1", "8"}
    assert sum("gateline.logged.report" in run.data.tags for run in found) == 1


def test_a_cached_model_attaches_to_the_run_that_made_it_after_the_code_changed(made: Path, here: Here) -> None:
    here()
    f = folders(made, "strong")
    tracking.log_training("tiny", f["prepared"], f["model"])
    (run,) = runs()
    client = mlflow.MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    client.set_tag(run.info.run_id, "gateline.identity", "the identity under older code")
    tracking.log_evaluation("tiny", f["prepared"], f["model"], f["evaluation"])
    (after,) = runs()
    assert after.info.run_id == run.info.run_id
    assert "test/mae" in after.data.metrics


def settings_of(made: Path, epochs: int) -> dict[str, Any]:
    workload = Workload.read(made / "tiny.yaml", step="train")
    sections = dict(workload.sections) | {"training": {**workload.sections["training"], "epochs": epochs}}
    changed = Workload(workload.name, workload.task, workload.description, workload.place, sections)
    return settings_of_weights(changed, RunSettings(7))


def interrupted(made: Path, prepared: Artifact, records: list[Mapping[str, Any]]) -> None:
    with tracking.training("tiny", prepared, settings_of(made, 8)) as log_epoch:
        for record in records:
            log_epoch(record)
        assert [step for step, _ in history(runs()[0], "train_loss")] == [record["epoch"] for record in records]
        assert runs()[0].info.status == "RUNNING"
        raise Preempted("SIGTERM")


def test_curves_are_live_and_not_doubled_by_a_resumed_run(made: Path, here: Here) -> None:
    here()
    f = folders(made, "strong")
    records: list[Mapping[str, Any]] = f["model"].read_json("history.json")
    with pytest.raises(Preempted):
        interrupted(made, f["prepared"], records[:3])
    assert runs()[0].info.status == "KILLED"
    with tracking.training("tiny", f["prepared"], settings_of(made, 8)) as log_epoch:
        for record in records[:6]:
            log_epoch(record)
    tracking.log_training("tiny", f["prepared"], f["model"])
    (run,) = runs()
    assert run.info.status == "FINISHED"
    assert history(run, "train_loss") == [(record["epoch"], record["train_loss"]) for record in records]


def test_the_run_of_an_outer_door_only_points_at_ours(made: Path, here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    here()
    client = mlflow.MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    outer = client.create_run(client.create_experiment("outer"))
    monkeypatch.setenv("MLFLOW_RUN_ID", outer.info.run_id)
    f = folders(made, "strong")
    tracking.log_training("tiny", f["prepared"], f["model"])
    (run,) = runs()
    (pointer,) = runs("outer")
    assert pointer.data.tags["gateline.run_id"] == run.info.run_id
    assert not pointer.data.metrics


def test_a_pod_without_a_tracking_server_refuses_before_it_works(
    made: Path, tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert tracking_uri() == "sqlite:///mlflow.db"
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    shutil.copytree(made / "prepared", tmp_path / "artifacts" / "prepared")
    assert run_here("train", tiny_path, tmp_path / "artifacts") == 2
    assert "MLFLOW_TRACKING_URI" in capsys.readouterr().err
    assert not (tmp_path / "artifacts" / "model").exists()
    assert not (tmp_path / "mlflow.db").exists()


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_a_server_that_is_away_costs_15_seconds_at_most_and_nothing_else(
    made: Path, tiny_path: Path, tmp_path: Path, closed_port: int
) -> None:
    for kind in ("prepared", "model"):
        shutil.copytree(made / "strong" / kind, tmp_path / "artifacts" / kind)
    uri = f"http://someone:secret@127.0.0.1:{closed_port}"
    began = time.monotonic()
    code, said = run_apart("evaluate", tiny_path, tmp_path / "artifacts", {"MLFLOW_TRACKING_URI": uri})
    assert code == 75
    assert f"127.0.0.1:{closed_port}" in said
    assert "Traceback" not in said
    assert "secret" not in said
    assert open_artifact(tmp_path / "artifacts" / "evaluation", "evaluation").facts["verdict"]
    assert time.monotonic() - began < 15 + 25  # the evaluation itself


def test_fewer_tries_are_honoured(
    made: Path, tmp_path: Path, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{closed_port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    f = folders(made, "strong")
    began = time.monotonic()
    with pytest.raises(GatelineError) as refusal:
        tracking.log_training("tiny", f["prepared"], f["model"])
    assert refusal.value.exit_code == 75
    assert time.monotonic() - began < 3


def test_training_goes_on_without_a_server(
    made: Path, tmp_path: Path, closed_port: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{closed_port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    prepared = open_artifact(made / "prepared", "prepared")
    with tracking.training("tiny", prepared, settings_of(made, 8)) as log_epoch:
        log_epoch({"epoch": 1, "train_loss": 1.0})
    assert "without curves" in caplog.text


def test_a_file_that_is_no_database_is_refused_at_once(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlflow.db").write_text("not a database, but long enough to be one")
    f = folders(made, "strong")
    with pytest.raises(GatelineError, match=r"mlflow\.db") as refusal:
        tracking.log_training("tiny", f["prepared"], f["model"])
    assert refusal.value.exit_code == 2


def test_a_deleted_experiment_is_refused(made: Path, here: Here) -> None:
    here()
    client = mlflow.MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    client.delete_experiment(client.create_experiment("tiny"))
    f = folders(made, "strong")
    with pytest.raises(GatelineError, match="experiments restore"):
        tracking.log_training("tiny", f["prepared"], f["model"])


def test_importing_tracking_imports_neither_mlflow_nor_torch(root: Path) -> None:
    code = "import sys, gateline.adapters.tracking, gateline.adapters.registry.register; print({'mlflow', 'torch'} & set(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": str(root / "src")}
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "set()"


def test_logging_does_not_import_torch(made: Path, here: Here, root: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom gateline.adapters import tracking\n"
        "from gateline.manifest import open_artifact\n"
        f"f = {{k: open_artifact(Path({str(made / 'strong')!r}) / k, k) for k in ('prepared', 'model', 'evaluation')}}\n"
        "tracking.log_evaluation('tiny', f['prepared'], f['model'], f['evaluation'])\n"
        "print('torch' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(root / "src")}
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=here(), env=environment, capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == "False"
    assert said.stderr == ""  # no progress bars, no log of MLflow's


def test_addresses_are_shown_without_passwords() -> None:
    assert (
        without_users("no postgresql://me:pass@host:5432/db, no https://token@host/")
        == "no postgresql://host:5432/db, no https://host/"
    )


def test_settings_become_flat_parameters() -> None:
    flat = tracking.flatten({"model": {"layers": 2, "dropout": None, "empty": {}}, "sizes": [1, 2], "name": "a b"})
    assert flat == {"model.layers": "2", "model.dropout": "null", "model.empty": "{}", "sizes": "[1, 2]", "name": "a b"}


def test_the_md5_of_a_folder_is_that_of_dvc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    script = "import pathlib as p; d = p.Path('out/b/c'); d.mkdir(parents=True); (d / 'é.txt').write_text('1'); p.Path('out/a').write_text('2')"
    (tmp_path / "make.py").write_text(script, encoding="utf-8")
    dvc = [sys.executable, "-m", "dvc"]
    stage = ["stage", "add", "-q", "--run", "-n", "make", "-o", "out", f'"{sys.executable}" make.py']
    for words in (["init", "--no-scm", "-q"], stage):
        subprocess.run([*dvc, *words], check=True, capture_output=True, env={**os.environ, "PYTHONUTF8": "1"})
    md5 = dvc_md5(tmp_path / "out")
    assert md5 is not None
    assert md5 in (tmp_path / "dvc.lock").read_text(encoding="utf-8")
    assert md5.endswith(".dir")
    (tmp_path / "out" / "a").write_text("3")
    assert dvc_md5(tmp_path / "out") is None
    assert dvc_md5(tmp_path / "elsewhere") is None


@pytest.fixture
def server(tmp_path: Path, mlflow_database: Path, closed_port: int) -> Iterator[str]:
    """A real tracking server on this machine."""
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(closed_port),
        "--workers",
        "1",
    ]
    command += [
        "--backend-store-uri",
        f"sqlite:///{mlflow_database}",
        "--artifacts-destination",
        str(tmp_path / "store"),
    ]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"} | {"PATH": path}
    with (tmp_path / "server.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            yield f"http://127.0.0.1:{closed_port}"
        finally:
            os.killpg(process.pid, 15)
            process.wait()


def test_each_column_of_a_drift_check_has_a_metric_of_its_own_in_any_script(here: Here) -> None:
    sizes = {"цена": 0.1, "вода": 0.2, "価格": 0.3, "a/b": 0.4, "answers: 売上": 0.5}
    found = tuple(Finding(column, "distribution", size, 1.0, 9.0, 9.0, "") for column, size in sizes.items())
    folder = here()
    for name in (JSON_NAME, PAGE_NAME):
        (folder / name).write_text("")
    with connected("tiny") as to:
        run = to.client.create_run(to.experiment_id)
        drift = Drift("tiny", 1, "none", found, {}, None, None, (), {}, folder / PAGE_NAME, run.info.run_id)
        log_drift(to, drift, folder)
        logged = to.client.get_run(run.info.run_id).data.metrics
    assert {key: value for key, value in logged.items() if key.endswith("distribution")} == {
        "drift/цена/distribution": 0.1,
        "drift/вода/distribution": 0.2,
        "drift/価格/distribution": 0.3,
        "drift/a_b/distribution": 0.4,
        "drift/answers.売上/distribution": 0.5,
    }


@pytest.mark.slow
def test_a_real_server_is_waited_for_and_gets_everything(
    made: Path, tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    began = time.monotonic()
    while time.monotonic() - began < 120:
        try:
            log_all(made, "strong")
            break
        except UnreachableError:
            continue
    (run,) = runs()
    assert run.data.metrics["test/mae"] > 0
    assert {"report.html", "metrics.json", "plots"} <= artifacts(run, "evaluation")
    assert run.inputs is not None
    assert json.loads(run.inputs.dataset_inputs[0].dataset.source)["kind"] in ("raw", "prepared")
    shutil.copytree(made / "strong", tmp_path / "artifacts")
    assert run_here("register", made / "tiny.yaml", tmp_path / "artifacts") == 0
    assert len(runs()) == 1
    assert mlflow.MlflowClient(server).get_registered_model("tiny").aliases == {"champion": "1"}
    printed = capfd.readouterr()
    assert "View run" not in printed.out
    assert printed.err == ""
