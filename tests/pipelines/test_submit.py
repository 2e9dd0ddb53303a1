"""`gateline submit` against an HTTP server that speaks Kubeflow's interface."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from gateline.adapters.kubeflow import server as servers
from gateline.adapters.kubeflow import submission
from gateline.adapters.kubeflow.arguments import pipeline_arguments
from gateline.adapters.kubeflow.run_notes import note_failure, note_release
from gateline.adapters.mlflow_server import connected
from gateline.adapters.project import Project
from gateline.adapters.provenance import KUBEFLOW_RUN
from gateline.cli import app
from pipelines.compile import compile_pipeline
from pipelines.compile import parser as compile_parser
from tests.kubeflow_server import AwayError, Kubeflow, kubeflow_server, silent_server

IMAGE = "registry.example/gateline@sha256:" + "0" * 64


@pytest.fixture
def server() -> Iterator[Kubeflow]:
    with kubeflow_server() as state:
        yield state


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("compiled") / "training.yaml"
    compile_pipeline(compile_parser().parse_args(["--image", IMAGE, "--output", str(file)]))
    return file


@pytest.fixture
def project(tmp_path: Path, root: Path, compiled: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "workloads").mkdir()
    shutil.copy(root / "workloads" / "flight_delays.yaml", tmp_path / "workloads")
    params = (root / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(params.replace("checkpoints: beside", "checkpoints: s3://bucket/checkpoints"))
    shutil.copy(compiled, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(submission, "POLL_SECONDS", 0.01)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    return tmp_path


def submit(server: Kubeflow, *more: str) -> Result:
    argv = ["submit", "flight_delays", "--host", server.url, "--pipeline", "training.yaml", *more]
    return CliRunner().invoke(app, argv, catch_exceptions=False)


def look(state: str, **steps: str) -> dict[str, Any]:
    tasks = [{"display_name": name, "state": each} for name, each in {"root": state, **steps}.items()]
    return {"state": state, "run_details": {"task_details": tasks}}


def test_a_run_is_started_followed_and_ends_well(server: Kubeflow, project: Path) -> None:
    server.looks = [
        look("RUNNING", ingest="RUNNING"),
        look("RUNNING", ingest="SKIPPED", validate="RUNNING"),
        look("SUCCEEDED", ingest="SKIPPED", validate="SUCCEEDED"),
    ]

    done = submit(server, "--set", "device=auto", "--pipeline-root", "s3://bucket/kubeflow")

    assert done.exit_code == 0, done.output
    (run,) = server.started
    settings = Project(project).params() | {"device": "auto"}
    assert run.runtime_config.parameters == pipeline_arguments(project / "workloads" / "flight_delays.yaml", settings)
    assert run.runtime_config.pipeline_root == "s3://bucket/kubeflow"
    assert run.pipeline_spec is None
    said = done.output.splitlines()
    steps = ["ingest: runs", "ingest: taken from the cache", "validate: runs", "validate: done"]
    assert [line for line in said if line.startswith(("ingest:", "validate:"))] == steps
    assert said[-1] == "flight_delays: all six steps are done"

    assert submit(server).exit_code == 0
    assert len(server.versions) == 1, "the same file is uploaded once"
    assert server.started[-1].runtime_config.pipeline_root is None, "as the cluster is set"


def test_the_default_of_params_yaml_is_refused_before_anything_is_uploaded(
    server: Kubeflow, project: Path, root: Path
) -> None:
    shutil.copy(root / "params.yaml", project)

    done = submit(server)

    assert done.exit_code == 2
    assert "found 'beside', which is gone with the pod" in done.output
    assert server.calls == []
    assert submit(server, "--set", "checkpoints=gs://bucket/checkpoints").exit_code == 0


@pytest.mark.parametrize("promoted", [True, False])
def test_what_was_decided_is_told_in_the_end(
    promoted: bool, server: Kubeflow, project: Path, mlflow_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{mlflow_database}")
    assert "MLFLOW_TRACKING_URI knows nothing of this run" in submit(server).output
    number, alias = server.started[-1].run_id, "champion" if promoted else "challenger"
    decided = {"name": "flight_delays", "version": 7, "alias": alias, "promoted": promoted, "mlflow_run_id": "abc"}
    with monkeypatch.context() as of_the_step, connected("flight_delays") as to:
        of_the_step.setenv(KUBEFLOW_RUN, number)
        note_release(to, decided)

    done = submit(server, "--run", number)

    assert done.exit_code == 0, done.output
    said = f"flight_delays version 7, alias {alias}, {'promoted' if promoted else 'not promoted'}"
    assert [line.split(maxsplit=1)[1] for line in done.output.splitlines()[-3:-1]] == [said, "abc in MLflow"]


def test_without_the_address_of_mlflow_it_says_where_the_decision_stands(server: Kubeflow, project: Path) -> None:
    done = submit(server)
    assert done.exit_code == 0, done.output
    assert "not known here: MLFLOW_TRACKING_URI is not set" in done.output
    assert "gateline history flight_delays" in done.output
    assert not (project / "mlflow.db").exists()


def test_an_mlflow_that_does_not_answer_is_no_fault_of_the_run(
    server: Kubeflow, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    done = submit(server)
    assert done.exit_code == 0, done.output
    assert "not known here: MLflow at http://127.0.0.1:9" in done.output


@pytest.mark.parametrize("address", ["mysql://me:hidden@db/mlflow", "postgresql+nope://me:hidden@db/x", "databricks"])
def test_an_mlflow_that_cannot_be_asked_from_here_is_no_fault_of_the_run(
    address: str, server: Kubeflow, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    done = submit(server)
    assert done.exit_code == 0, done.output
    assert "not known here: MLflow at" in done.output
    assert "hidden" not in done.output

    done = CliRunner().invoke(app, ["history", "flight_delays"], catch_exceptions=False)
    assert done.exit_code == 2, done.output
    assert "Correct MLFLOW_TRACKING_URI" in done.output
    assert "hidden" not in done.output


def test_a_scheduled_run_that_ended_early_is_told_as_that(server: Kubeflow, project: Path) -> None:
    assert submit(server, "--no-follow").exit_code == 0
    server.looks = [look("RUNNING", ask="RUNNING"), look("SUCCEEDED", ask="SUCCEEDED", conclude="SUCCEEDED")]

    done = submit(server, "--run", server.started[-1].run_id)

    assert done.exit_code == 0, done.output
    assert "ask: done" in done.output
    assert done.output.splitlines()[-1] == "flight_delays: ended early, since nothing has changed"


def test_a_failed_step_is_named_with_what_kubeflow_says(server: Kubeflow, project: Path) -> None:
    failed = look("FAILED", ingest="SUCCEEDED", validate="SUCCEEDED", preprocess="FAILED")
    failed["run_details"]["task_details"][-1]["error"] = {"code": 2, "message": "report: expected the verdict yes"}
    server.looks = [failed]

    done = submit(server)

    assert done.exit_code == 2
    assert "preprocess failed (report: expected the verdict yes)" in done.output
    assert "/#/runs/details/" in done.output


@pytest.mark.parametrize("code", [1, 2, 75])
def test_what_the_step_wrote_down_is_the_exit_code_and_the_reason(
    code: int, server: Kubeflow, project: Path, mlflow_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{mlflow_database}")
    assert submit(server, "--no-follow").exit_code == 0
    number, text = server.started[-1].run_id, '{"name": "flight_delays", "task": "forecasting"}'
    with monkeypatch.context() as of_the_step:
        of_the_step.setenv(KUBEFLOW_RUN, number)
        note_failure(text, "validate", 75, "taken away, and well in the end")
        note_failure(text, "train", code, "this is why")
    failed = look("FAILED", validate="SUCCEEDED", train="FAILED")
    failed["run_details"]["task_details"][-1]["error"] = {"code": 13, "message": "no more retries left"}
    server.looks = [failed]

    done = submit(server, "--run", number)

    assert done.exit_code == code, done.output
    assert f"train failed (no more retries left). train ended with {code}: this is why" in done.output
    assert "taken away" not in done.output


def test_the_greatest_seed_arrives_as_it_is(server: Kubeflow, project: Path) -> None:
    assert submit(server, "--set", f"seed={2**53}").exit_code == 0
    seed = server.started[-1].runtime_config.parameters["seed"]
    assert int(float(seed)) == 2**53, "Kubeflow keeps numbers as doubles"


def test_a_server_that_is_silent_for_a_moment_is_asked_again_and_a_run_can_be_followed_later(
    server: Kubeflow, project: Path
) -> None:
    silent = 3

    def sometimes(call: str) -> None:
        nonlocal silent
        if call.startswith("GET /runs/") and silent:
            silent -= 1
            raise AwayError

    server.before = sometimes
    assert submit(server).exit_code == 0

    silent = 10_000
    done = submit(server)
    assert done.exit_code == 75
    number = server.started[-1].run_id
    assert f"--run {number}" in done.output

    silent = 0
    assert submit(server, "--run", number).exit_code == 0
    assert len(server.started) == 2


def test_a_server_that_never_answers_is_not_waited_for_for_ever(
    server: Kubeflow, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "SECONDS", (0.2, 0.2))
    with silent_server() as url:
        done = submit(server, "--host", url)
    assert done.exit_code == 75, done.output
    assert f"{url}: expected an answer of Kubeflow Pipelines; found" in done.output
    assert "timed out" in done.output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_while_following_starts_no_second_run(
    number: signal.Signals, server: Kubeflow, project: Path
) -> None:
    def stop(call: str) -> None:
        if call.startswith("GET /runs/"):
            os.kill(os.getpid(), number)

    server.before, server.looks = stop, [look("RUNNING", train="RUNNING")]
    done = submit(server)

    assert done.exit_code == 75, done.output
    run = server.started[-1].run_id
    assert f"found an interrupt. The run goes on; follow it again with `--run {run}`" in done.output
    assert "same command" not in done.output


@pytest.mark.parametrize("how", ["an interrupt", "silence", "a broken connection"])
def test_who_does_not_know_whether_a_run_was_begun_is_told_to_look(
    how: str, server: Kubeflow, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()

    def instead(call: str) -> None:
        if call == "POST /runs":
            if how == "an interrupt":
                os.kill(os.getpid(), signal.SIGINT)
            if how == "a broken connection":
                raise AwayError
            over.wait(60)

    monkeypatch.setattr(servers, "SECONDS", (5.0, 2.0))
    server.after = instead
    done = submit(server)
    over.set()

    assert done.exit_code == 75, done.output
    assert len(server.started) == 1
    assert "It may have begun: look at the newest runs there, and follow it with `--run ID`" in done.output
    assert len(done.output.strip().splitlines()) == 1


@pytest.mark.parametrize("call", ["GET /pipelines", "POST /pipelines/upload_version", "POST /runs", "GET /runs/"])
def test_no_call_waits_for_ever(call: str, server: Kubeflow, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SECONDS", "UPLOAD_SECONDS"):
        monkeypatch.setattr(servers, name, (0.2, 0.2))
    monkeypatch.setattr(submission, "MOST_SILENCES", 2)
    over = threading.Event()

    def wait(made: str) -> None:
        if made.startswith(call):
            over.wait(60)

    server.before = wait
    done = submit(server)
    over.set()
    assert done.exit_code == 75, done.output
    assert "timed out" in done.output


@pytest.mark.parametrize(
    ("section", "change", "says"),
    [
        ("gates", {"nonsense": 3}, "gates.nonsense: expected a key that is known here"),
        ("model", {"hidden": "many"}, "model.hidden"),
        ("training", {"monitor": "smape"}, "training.monitor: expected something that the task computes"),
        ("training", {"nodes": 500}, "training.nodes: expected at most training.batch_size"),
        (
            "source",
            {"files": [{"name": "rides", "path": "rides.csv", "sha256": "0" * 64}], "query": None},
            "`dvc add rides.csv`",
        ),
    ],
)
def test_a_workload_that_some_step_would_refuse_is_not_sent(
    section: str, change: dict[str, Any], says: str, server: Kubeflow, project: Path
) -> None:
    """Train would, after eleven tries and an hour; evaluate, when all training is done."""
    file = project / "workloads" / "flight_delays.yaml"
    content = yaml.safe_load(file.read_text())
    content[section] |= change
    file.write_text(yaml.safe_dump(content, sort_keys=False))

    done = submit(server)

    assert done.exit_code == 2, done.output
    assert says in done.output
    assert len(done.output.strip().splitlines()) == 1
    assert server.calls == []


def test_without_the_packages_of_the_steps_nothing_is_sent_unseen(
    server: Kubeflow, project: Path, run_without: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    flags = ["submit", "flight_delays", "--host", server.url, "--pipeline", "training.yaml"]
    done = run_without({"torch"}, "-c", "from gateline.cli import app; app()", *flags, cwd=project)
    assert done.returncode == 2, done.stderr
    assert "found no torch. Install gateline with its extra `all`." in done.stderr
    assert server.calls == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda spec: spec["deploymentSpec"]["executors"]["exec-ask"]["container"].update(image="gateline:latest"),
            "ask: the image 'gateline:latest' has no digest",
        ),
        (lambda spec: spec["root"]["inputDefinitions"]["parameters"].pop("code_version"), "asks for code_version"),
        (
            lambda spec: spec["root"]["inputDefinitions"]["parameters"].update(more={"parameterType": "STRING"}),
            "found others: more. Compile it with this code",
        ),
        (lambda spec: spec.pop("deploymentSpec"), "expected a compiled pipeline"),
    ],
)
def test_a_pipeline_that_the_lint_objects_to_or_that_takes_other_parameters_is_not_uploaded(
    change: Callable[[Any], object], says: str, server: Kubeflow, project: Path
) -> None:
    documents = list(yaml.safe_load_all((project / "training.yaml").read_text(encoding="utf-8")))
    change(documents[0])
    (project / "training.yaml").write_text(yaml.safe_dump_all(documents), encoding="utf-8")
    done = submit(server)
    assert done.exit_code == 2, done.output
    assert says in done.output
    assert server.calls == []


def test_a_page_to_log_in_is_no_run(server: Kubeflow, project: Path) -> None:
    assert submit(server, "--no-follow").exit_code == 0
    number = server.started[-1].run_id
    for login, more in (("", ()), ("", ("--run", number)), ("GET /runs", ("--run", number)), ("POST /runs", ())):
        server.login = login
        done = submit(server, *more)
        assert done.exit_code == 2, done.output
        assert "found a page, such as one to log in" in done.output
    assert len(server.started) == 1


@pytest.mark.parametrize("over", ["the token", "the session"])
def test_a_token_that_ends_while_a_run_is_followed_is_no_end_of_the_run(
    over: str, server: Kubeflow, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATELINE_KUBEFLOW_TOKEN", "old")
    server.token, looks = "old", 0

    def ends(call: str) -> None:
        nonlocal looks
        if call.startswith("GET /runs/"):
            looks += 1
            if looks == 2:
                server.token, server.login = ("new", None) if over == "the token" else ("old", "GET /runs")

    server.before, server.looks = ends, [look("RUNNING", train="RUNNING")]
    done = submit(server)
    assert done.exit_code == 75, done.output
    number = server.started[-1].run_id
    said = f"The run goes on; put a new token into GATELINE_KUBEFLOW_TOKEN and follow it again with `--run {number}`."
    assert done.output.splitlines()[-1].endswith(said)

    assert submit(server, "--run", number).exit_code == 2, "a token that was never taken is no matter of time"
    monkeypatch.setenv("GATELINE_KUBEFLOW_TOKEN", str(server.token))
    server.login, server.looks = None, [look("SUCCEEDED", train="SUCCEEDED")]
    assert submit(server, "--run", number).exit_code == 0


def test_with_profiles_all_that_is_made_is_in_the_namespace(server: Kubeflow, project: Path) -> None:
    """Without it a pipeline would be one of those that all tenants share, which Kubeflow allows to few."""
    server.profile = "team"
    assert submit(server, "--namespace", "team").exit_code == 0
    (pipeline,), (experiment,) = server.pipelines.values(), server.experiments.values()
    assert (pipeline.namespace, experiment.namespace) == ("team", "team")
    assert submit(server, "--namespace", "team").exit_code == 0
    assert (len(server.pipelines), len(server.versions)) == (1, 1)

    done = submit(server)
    assert done.exit_code == 2
    assert "status 403" in done.output
    assert "name your profile with --namespace" in done.output


def test_a_pipeline_of_the_same_name_that_all_share_is_another(server: Kubeflow, project: Path) -> None:
    assert submit(server).exit_code == 0
    server.profile = "team"
    assert submit(server, "--namespace", "team").exit_code == 0
    assert [each.namespace for each in server.pipelines.values()] == [None, "team"]
    assert len(server.versions) == 2


def test_a_run_without_a_state_is_not_followed_for_ever(
    server: Kubeflow, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submission, "POLL_SECONDS", 0.0)
    server.looks = [{}]
    done = submit(server)
    assert done.exit_code == 75
    number = server.started[-1].run_id
    assert f"found 120 answers without a state. The run goes on; follow it again with `--run {number}`" in done.output

    server.looks = [*[{}] * 119, look("RUNNING"), *[{}] * 119, look("SUCCEEDED")]
    assert submit(server, "--run", number).exit_code == 0


@pytest.mark.parametrize(
    "host",
    [
        *("", "nonsense", "localhost:8080", "ftp://x", "http://", "http://x:y", "http://[x", "http://a b"),
        f"ftp://{'me' * 40}:hidden@x",
        f"http://me:hidden{'n' * 80}@a b",
    ],
)
def test_what_cannot_be_an_address_is_refused(host: str, server: Kubeflow, project: Path) -> None:
    done = submit(server, "--host", host)
    assert done.exit_code == 2, done.output
    assert "--host: expected the address of Kubeflow Pipelines, such as http://localhost:8888" in done.output
    assert "hidden" not in done.output


def test_a_token_in_an_address_of_the_query_is_refused_before_anything_is_sent(server: Kubeflow, project: Path) -> None:
    file = project / "workloads" / "flight_delays.yaml"
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    content["source"]["query"] = "SELECT * FROM read_csv('https://hidden@raw.example.com/a.csv')"
    file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")

    done = submit(server)

    assert done.exit_code == 2
    assert "expected addresses without a user or a password" in done.output
    assert "found one with it in ingest_workload" in done.output
    assert "hidden" not in done.output
    assert server.calls == []


def test_a_pod_with_a_gpu_is_told_to_use_it(server: Kubeflow, project: Path) -> None:
    file = project / "workloads" / "flight_delays.yaml"
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    for gpus, device in ((0, "auto"), (1, "cuda")):
        content.setdefault("resources", {}).setdefault("train", {})["gpus"] = gpus
        file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        assert submit(server, "--set", "device=auto").exit_code == 0
        assert server.started[-1].runtime_config.parameters["device"] == device


def test_no_gpu_is_held_for_a_training_on_processors(server: Kubeflow, project: Path) -> None:
    file = project / "workloads" / "flight_delays.yaml"
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    content.setdefault("resources", {}).setdefault("train", {})["gpus"] = 1
    file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    done = submit(server, "--set", "device=cpu")
    assert done.exit_code == 2
    assert "resources.train.gpus: expected 0 where device is cpu" in done.output
    assert server.calls == []


def test_a_pod_has_a_gpu_for_each_process_and_no_other(server: Kubeflow, project: Path) -> None:
    file = project / "workloads" / "flight_delays.yaml"
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    refused = "resources.train.gpus: expected as many as there are processes, "
    for gpus, processes, code in ((2, 2, 0), (1, 2, 2), (2, 1, 2)):
        content.setdefault("resources", {}).setdefault("train", {})["gpus"] = gpus
        file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        done = submit(server, "--set", "device=auto", "--set", f"processes={processes}")
        assert done.exit_code == code, done.output
        assert (f"{refused}{processes}" in done.output) is (code == 2)


def test_an_address_that_shows_a_password_is_refused(server: Kubeflow, project: Path) -> None:
    done = submit(server, "--host", server.url.replace("//", "//me:hidden@"))
    assert done.exit_code == 2
    assert "an address without a name and a password" in done.output
    assert "hidden" not in done.output


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--set", "sed=3"], "Did you mean 'seed'?"),
        (["--set", "checkpoint=s3://me:hidden@bucket/c"], "--set checkpoint: expected a name that is there"),
        (["--set", "s3://me:hidden@bucket/c"], "--set s3://bucket/c: expected a name that is there"),
        (["--set", "seed"], "--set seed: expected seed=VALUE, the value as YAML; found no `=`"),
        (["--set", "seed=["], "--set seed: expected seed=VALUE, the value as YAML; found ["),
        (["--set", "seed="], "--set seed: expected a whole number from 0 to 2^53; found none"),
        (["--set", "seed=abc"], "--set seed: expected a whole number from 0 to 2^53; found 'abc'"),
        (["--set", "seed=-1"], "found '-1'"),
        (["--set", "seed=true"], "found 'True'"),
        (["--set", f"seed={2**53 + 1}"], "from 0 to 2^53; found '9007199254740993'"),
        (["--set", "device=tpu"], "--set device: expected auto, cpu, cuda; found 'tpu'"),
        (["--set", "precision=float8"], "--set precision: expected auto, float32, bfloat16, float16; found 'float8'"),
        (["--set", "device=cpu", "--set", "precision=float16"], "float32 or bfloat16 on a CPU"),
        (["--set", "processes=0"], "--set processes: expected a whole number from 1; found '0'"),
        (["--set", "processes=500"], "processes: expected at most training.batch_size"),
        (["--set", "checkpoints=3"], "--set checkpoints: expected an address"),
        (["--set", "checkpoints=beside"], "'beside', which is gone with the pod. Add --set checkpoints=s3://BUCKET/"),
        (["--set", "checkpoints=/mnt/checkpoints"], "'/mnt/checkpoints', which is gone with the pod"),
        (["--set", "checkpoints=file:///tmp/checkpoints"], "which is gone with the pod"),
        (["--set", "checkpoints=s3://[bucket/checkpoints"], "an address that the next pod of a training reaches too"),
        (["--set", "checkpoints=s4://bucket/checkpoints"], "a store that can be written"),
        (["--set", "checkpoints=https://x/checkpoints"], "a store that can be written"),
        (["--set", "checkpoints=s3:checkpoints"], "an address that the next pod of a training reaches too"),
        (
            ["--set", "checkpoints=s3://me:hidden@bucket/checkpoints"],
            "an address without a user or a password; found one with it",
        ),
        (
            ["--set", "checkpoints=s3://hidden@bucket/checkpoints"],
            "an address without a user or a password; found one with it",
        ),
        (["--pipeline", "params.yaml"], "as `python -m pipelines.compile` writes it"),
        (["--run", "id-9999"], "404"),
    ],
)
def test_what_cannot_be_submitted_is_refused_in_one_line(
    more: list[str], says: str, server: Kubeflow, project: Path
) -> None:
    done = submit(server, *more)
    assert done.exit_code == 2
    assert says in done.output
    assert "hidden" not in done.output
    assert server.started == []
