"""`gateline submit --local` before any container starts: what it refuses, and what it makes of the compiled pipeline."""

from __future__ import annotations

import inspect
import json
import shutil
from pathlib import Path
from unittest.mock import MagicMock

import docker
import pytest
import yaml
from kfp.local import docker_task_handler
from typer.testing import CliRunner, Result

from gateline.adapters.kubeflow.local import _environment, _for_this_machine
from gateline.adapters.kubeflow.step_containers import StepContainers, StepRun
from gateline.cli import app
from gateline.workload import Workload
from pipelines.compile import compile_pipeline
from pipelines.compile import parser as compile_parser
from pipelines.training import RETRIES, STEPS

DIGEST = "sha256:" + "0" * 64
IMAGES = {step: {"image": f"localhost/gateline-{step}:0123", "digest": DIGEST} for step in STEPS}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("compiled") / "training.yaml"
    images = [f"{step}={each['image']}@{each['digest']}" for step, each in IMAGES.items()]
    flags = [word for image in images for word in ("--image", image)]
    compile_pipeline(compile_parser().parse_args([*flags, "--output", str(file)]))
    return file


@pytest.fixture
def project(tmp_path: Path, root: Path, compiled: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "workloads").mkdir()
    shutil.copy(root / "workloads" / "flight_delays.yaml", tmp_path / "workloads")
    shutil.copy(root / "params.yaml", tmp_path)
    shutil.copy(compiled, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")
    return tmp_path


def submit(*more: str) -> Result:
    return CliRunner().invoke(app, ["submit", "flight_delays", *more], catch_exceptions=False)


def test_kfp_still_calls_what_stands_in_its_place() -> None:
    """Decision 27: the function is no public interface of kfp."""
    theirs = inspect.signature(docker_task_handler.run_docker_container).parameters
    ours = inspect.signature(StepContainers({}, 0, print).run).parameters
    *named, rest = ours.values()
    assert [each.name for each in theirs.values()][:-1] == [each.name for each in named]
    assert list(theirs.values())[-1].kind == rest.kind == inspect.Parameter.VAR_KEYWORD
    theirs_function = docker_task_handler.run_docker_container
    with StepContainers({}, 0, print).in_place_of_kfp():
        assert docker_task_handler.run_docker_container is not theirs_function
    assert docker_task_handler.run_docker_container is theirs_function


def test_kfps_runner_tells_the_tasks_beside_the_steps_the_id_of_its_run(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Kubeflow's driver does, where the id is a task's input; no container starts here, and ingest fails."""
    runs: dict[str, str] = {}

    def run(self: StepContainers, client: object, image: str, command: list[str], volumes: object, **_: object) -> int:
        step = command[command.index("-m") + 1].rpartition(".")[2]
        if step == "ask":
            answer = Path(command[command.index("--go") + 1])
            answer.parent.mkdir(parents=True, exist_ok=True)
            answer.write_text("yes")
        if "--run" in command:
            runs[step] = command[command.index("--run") + 1]
        self.runs.append(StepRun(step, project, exit_code := int(step == "ingest")))
        return exit_code

    monkeypatch.setattr(StepContainers, "run", run)
    monkeypatch.setattr(docker, "from_env", MagicMock())
    assert submit("--local", "--pipeline", "training.yaml").exit_code == 1
    assert runs.keys() == {"ask", "conclude"}
    assert runs["ask"] == runs["conclude"]
    assert runs["ask"].isdecimal()


@pytest.mark.parametrize(
    ("more", "code", "says"),
    [
        ((), 2, "one of --host and --local"),
        (("--local", "--host", "http://127.0.0.1:9"), 2, "one of --host and --local"),
        (("--local",), 2, "make images"),
        (("--local", "--run", "7d1f", "--namespace", "me"), 2, "submit --run --namespace: expected flags of a run in"),
        (("--local", "--pipeline-root", "s3://bucket/x"), 2, "submit --pipeline-root: expected"),
        (("--local", "--no-follow"), 2, "submit --no-follow: expected"),
        (("--local", "--pipeline", "params.yaml"), 2, "as `python -m pipelines.compile` writes it"),
        (("--local", "--pipeline", "training.yaml"), 75, "expected dockerd, or podman's socket"),
        (("--local", "--pipeline", "training.yaml", "--set", "sed=3"), 2, "Did you mean 'seed'?"),
    ],
)
def test_what_cannot_run_here_is_refused_in_one_line(
    more: tuple[str, ...], code: int, says: str, project: Path
) -> None:
    done = submit(*more)
    assert done.exit_code == code, done.output
    assert says in done.output
    assert len(done.output.strip().splitlines()) == 1


@pytest.mark.parametrize("address", ["", "sqlite:///mlflow.db", "mlruns", "postgresql://me:hidden@db/mlflow"])
def test_without_a_server_that_containers_reach_nothing_starts(
    address: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    done = submit("--local", "--pipeline", "training.yaml")
    assert done.exit_code == 2
    assert "the http address of a tracking server" in done.output
    assert "hidden" not in done.output


def test_images_of_this_machine_go_by_their_tag_and_the_passport_still_names_the_digest(project: Path) -> None:
    text, retries = _for_this_machine(project / "training.yaml")
    spec = yaml.safe_load(text)
    for step, image in IMAGES.items():
        container = spec["deploymentSpec"]["executors"][f"exec-{step}"]["container"]
        assert container["image"] == image["image"]
        named = {each["name"]: each["value"] for each in container["env"]}
        assert named["GATELINE_IMAGE"] == f"{image['image']}@{DIGEST}"
    assert retries.items() >= RETRIES.items()
    assert "retryPolicy" not in text
    assert "condition:" not in text


def test_addresses_and_keys_go_into_the_environment_and_nowhere_else(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
    monkeypatch.setenv("UNRELATED", "stays here")
    given = _environment(Workload.read(project / "workloads" / "flight_delays.yaml"))
    assert given["AWS_SECRET_ACCESS_KEY"] == "a-secret"
    assert given["MLFLOW_TRACKING_URI"] == "http://127.0.0.1:9"
    assert "UNRELATED" not in given

    assert submit("--local", "--pipeline", "training.yaml").exit_code == 75
    (project / "images.json").write_text(json.dumps(IMAGES))
    written = "".join(path.read_text() for path in project.rglob("*") if path.is_file())
    assert "a-secret" not in written
