"""The pipeline compiles where no step could run, always to the same bytes, and only from images named by digest."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.compile import STEPS as STEPS_OF_COMPILE
from pipelines.stages import STEPS
from pipelines.training import STEPS as STEPS_OF_TRAINING
from tests.cluster.step_pods import RUN, step_pod
from tests.cluster.step_pods import tasks_of as cluster_tasks

RunWithout = Callable[..., "subprocess.CompletedProcess[str]"]

NOT_ON_A_BUILD_MACHINE = {"torch", "mlflow", "great_expectations", "duckdb", "pandas", "numpy", "sklearn", "dvc"}
IMAGE = "registry.example/gateline@sha256:" + "0" * 64
OTHER_IMAGE = "registry.example:5000/team/gateline-validate@sha256:" + "1" * 64


@pytest.fixture
def compile_to(run_without: RunWithout) -> RunWithout:
    def run(output: Path, *images: str) -> subprocess.CompletedProcess[str]:
        flags = [part for image in images for part in ("--image", image)]
        return run_without(NOT_ON_A_BUILD_MACHINE, "-m", "pipelines.compile", *flags, "--output", str(output))

    return run


def tasks_of(spec: dict[str, Any]) -> dict[str, Any]:
    """Tasks of the pipeline and of the graphs in it, by name."""
    graphs = [spec["root"], *spec["components"].values()]
    return {name: task for graph in graphs for name, task in graph.get("dag", {}).get("tasks", {}).items()}


def documents(path: Path) -> dict[str, Any]:
    return dict(next(yaml.safe_load_all(path.read_text(encoding="utf-8"))))


def test_compiles_where_no_step_could_run_to_the_same_bytes(compile_to: RunWithout, tmp_path: Path) -> None:
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    for output in (first, second):
        done = compile_to(output, IMAGE)
        assert done.returncode == 0, done.stderr
    assert first.read_bytes() == second.read_bytes()


def test_every_step_runs_in_its_image_and_sees_its_digest(compile_to: RunWithout, tmp_path: Path) -> None:
    assert compile_to(tmp_path / "p.yaml", IMAGE, f"validate={OTHER_IMAGE}").returncode == 0
    spec = documents(tmp_path / "p.yaml")
    executors, tasks = spec["deploymentSpec"]["executors"], tasks_of(spec)
    for step in STEPS:
        image = OTHER_IMAGE if step == "validate" else IMAGE
        assert executors[f"exec-{step}"]["container"]["image"] == image
        given = tasks[step]["inputs"]["parameters"]
        assert given["image_digest"]["runtimeValue"]["constant"] == image.partition("@")[2]
        assert given["workload"] == {"componentInputParameter": f"{step}_workload"}
        assert {"data_digest", "code_version"} <= set(given)
    assert tasks["train"]["cachingOptions"] == {"enableCache": True}
    assert not tasks["register"]["cachingOptions"].get("enableCache")


def test_every_task_gets_what_it_names_from_the_graph_around_it(compile_to: RunWithout, tmp_path: Path) -> None:
    """What only limits a task's use of the machine was not passed into the branch of a condition by kfp's compiler."""
    assert compile_to(tmp_path / "p.yaml", IMAGE).returncode == 0
    spec = documents(tmp_path / "p.yaml")
    for graph in (spec["root"], *spec["components"].values()):
        given = set(graph.get("inputDefinitions", {}).get("parameters", {}))
        for name, task in graph.get("dag", {}).get("tasks", {}).items():
            sources = task.get("inputs", {}).get("parameters", {}).values()
            asked = {each["componentInputParameter"] for each in sources if "componentInputParameter" in each}
            assert asked <= given, f"{name} asks for {asked - given}"


def test_the_steps_run_where_something_changed_and_the_last_word_is_said_whatever_became_of_them(
    compile_to: RunWithout, tmp_path: Path
) -> None:
    assert compile_to(tmp_path / "p.yaml", IMAGE).returncode == 0
    spec = documents(tmp_path / "p.yaml")
    tasks = tasks_of(spec)
    last = tasks["conclude"]
    assert set(spec["root"]["dag"]["tasks"]) == {"conclude", *last["dependentTasks"]}
    assert last["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    assert last["inputs"]["parameters"]["status"]["taskFinalStatus"] == {"producerTask": last["dependentTasks"][0]}
    conditions = {name: task["triggerPolicy"]["condition"] for name, task in tasks.items() if "condition" in name}
    (condition,) = conditions.values()
    assert condition == "inputs.parameter_values['pipelinechannel--ask-go'] == 'yes'"
    assert not any(tasks[name]["cachingOptions"].get("enableCache") for name in ("ask", "conclude"))
    assert spec["root"]["inputDefinitions"]["parameters"]["only_if_changed"]["defaultValue"] is False


def test_the_two_tasks_beside_the_steps_get_the_id_of_the_run_where_kubeflows_driver_fills_it_in(
    compile_to: RunWithout, tmp_path: Path
) -> None:
    """Its driver looks at constants of inputs, its launcher at no more than inputs and outputs: in a command the id would stay a placeholder."""
    assert compile_to(tmp_path / "p.yaml", IMAGE).returncode == 0
    spec = documents(tmp_path / "p.yaml")
    arguments = {name: f"the-{name}" for name in spec["root"]["inputDefinitions"]["parameters"]}
    pods = {task.name: step_pod(task, task.name, "carrier") for task in cluster_tasks(tmp_path / "p.yaml", arguments)}
    for name in ("ask", "conclude"):
        constant = tasks_of(spec)[name]["inputs"]["parameters"]["run"]["runtimeValue"]["constant"]
        assert constant == "{{$.pipeline_job_uuid}}"
        command = pods[name]["spec"]["containers"][0]["command"]
        assert command[command.index("--run") + 1] == RUN


def test_every_task_has_the_keys_and_the_region_by_which_kubeflows_launcher_opens_a_pipeline_root_of_amazons(
    compile_to: RunWithout, tmp_path: Path
) -> None:
    """The launcher runs in the task's container; without `providers` it reads these variables, whatever the task's code opens."""
    assert compile_to(tmp_path / "p.yaml", IMAGE).returncode == 0
    _, platform = yaml.safe_load_all((tmp_path / "p.yaml").read_text(encoding="utf-8"))
    pods = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert len(pods) == 8
    for pod in pods.values():
        [given] = [each for each in pod["secretAsEnv"] if each["secretName"] == "gateline-s3"]
        assert {each["envVar"] for each in given["keyToEnv"]} == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
        assert given["optional"]
        [_, given] = pod["configMapAsEnv"]
        assert {"envVar": "AWS_REGION", "configMapKey": "AWS_REGION"} in given["keyToEnv"]
        assert given["optional"]


def test_who_tells_a_webhook_has_its_address_where_there_is_one_and_the_label_that_lets_it_out(
    compile_to: RunWithout, tmp_path: Path
) -> None:
    assert compile_to(tmp_path / "p.yaml", IMAGE).returncode == 0
    _, platform = yaml.safe_load_all((tmp_path / "p.yaml").read_text(encoding="utf-8"))
    pods = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    secret = {"keyToEnv": [{"envVar": "GATELINE_WEBHOOK", "secretKey": "address"}], "optional": True}
    has = {
        name: (
            any(secret.items() <= each.items() for each in pod["secretAsEnv"]),
            pod.get("podMetadata", {}).get("labels"),
        )
        for name, pod in pods.items()
    }
    # And no pod gets a sidecar where Kubeflow's namespace is part of a mesh.
    plain = {"sidecar.istio.io/inject": "false"}
    tells = {name: value for name, value in has.items() if value != (False, plain)}
    assert tells == dict.fromkeys(("exec-conclude", "exec-register"), (True, {**plain, "gateline-tells": "true"}))


def test_all_lists_of_steps_are_one() -> None:
    assert STEPS_OF_COMPILE == STEPS == tuple(STEPS_OF_TRAINING)


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (["gateline:latest"], "'gateline:latest'"),
        (["gateline"], "'gateline'"),
        (["gateline@sha256:abc"], "'gateline@sha256:abc'"),
        ([IMAGE, "validate=gateline:1"], "'gateline:1'"),
        ([f"validat={IMAGE}"], "Did you mean 'validate'?"),
        ([f"train={IMAGE}"], "none for ingest, validate"),
    ],
)
def test_refuses_an_image_that_may_mean_something_else_tomorrow(
    compile_to: RunWithout, tmp_path: Path, images: list[str], says: str
) -> None:
    done = compile_to(tmp_path / "p.yaml", *images)
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "p.yaml").exists()
