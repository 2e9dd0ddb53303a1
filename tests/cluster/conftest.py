"""The test overlay of infra/kubernetes on the cluster that KUBECONFIG names, and a run of the compiled pipeline on it.

GATELINE_LOAD_IMAGES is a command that brings images to the nodes, called with their names, e.g. `kind load docker-image`; without it
the nodes must find them themselves. GATELINE_KEEP_CLUSTER=1 leaves the namespace there afterwards.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateline.adapters.kubeflow.arguments import pipeline_arguments
from gateline.workload import Workload
from gateline.workload.budgets import with_budget
from infra.images.servers import MAPPING
from pipelines.training import WEBHOOK
from tests.cluster.kubectl import Cluster, Manifest
from tests.cluster.step_pods import Task, step_pod, tasks_of
from tests.conftest import ROOT

NAMESPACE = "gateline-test"
STEPS = ["ingest", "validate", "preprocess", "train", "evaluate", "register"]
SERVERS = ("mlflow", "postgres", "object-store")
NAME = "flight_delays_cluster"
OVERLAY = ROOT / "infra" / "kubernetes" / "overlays" / "test"
NEWER_THAN_THE_CLUSTER = {"CronJob", "PodDisruptionBudget", "TrainingRuntime"}
"""Kinds that a cluster before 1.25 knows by another version, or not without Kubeflow Trainer; their pods are tried all the same, or checked by schema."""
CPU, CPU_OF_TRAIN, CHECKPOINTS = "1500m", "800m", "s3://gateline/checkpoints"
"""Of two processors the servers need little; one step at a time takes the rest, and two trainings share it."""
TRAIN_JOB = ("trainer.kubeflow.org/v1alpha1", "TrainJob")
TINY = {kind: {"cpu": "5m", "memory": "32Mi"} for kind in ("requests", "limits")}
SETTINGS = {"seed": 7, "device": "cpu", "precision": "float32", "processes": 1}


@dataclass(frozen=True)
class Stack:
    """What is there when the overlay is ready.

    Args:
        cluster: its namespace.
        manifests: what was applied, and what the cluster is too old for.
        carrier: image that carries artifacts.
        folder: scratch.
        compiled: the pipeline.
    """

    cluster: Cluster
    manifests: list[dict[str, Any]]
    carrier: str
    folder: Path
    compiled: Path

    def tasks(self, checkpoints: str = CHECKPOINTS, **training: object) -> dict[str, Task]:
        """The tasks of a run, in the pipeline's order."""
        file = self.folder / f"{NAME}.yaml"
        file.write_text(yaml.safe_dump(workload(**training)), encoding="utf-8")
        arguments = pipeline_arguments(file, {**SETTINGS, "checkpoints": checkpoints})
        return {task.name: task for task in tasks_of(self.compiled, arguments)}

    def in_store(self, command: str) -> str:
        """Run Python with a client of the steps' object store, in a pod of the carrier."""
        text = f"import boto3; store = boto3.client('s3'); {command}"
        return self.cluster.run("exec", "carrier", "--", "python", "-c", text, seconds=600)

    def wait_in_store(self, prefix: str, end: str) -> None:
        """Wait until there is a file there whose name ends so."""
        look = f"store.list_objects_v2(Bucket='gateline', Prefix='{prefix}').get('Contents', [])"
        wait = f"while not any(e['Key'].endswith('{end}') for e in {look}): time.sleep(0.1)"
        self.in_store(f"import time\n{wait}")


def workload(**training: object) -> dict[str, Any]:
    """`flight_delays` with the settings of its smoke budget, epochs enough to be lost between two, and pods that fit a small cluster."""
    small = with_budget(Workload.read(ROOT / "workloads" / "flight_delays.yaml"), "smoke")
    sections = {**small.sections, "training": {**small.sections["training"], "epochs": 3, **training}}
    sections["gates"] = {**small.sections["gates"], "notify": {"webhook_env": WEBHOOK}}
    return {
        "name": NAME,
        "task": small.task,
        "description": small.description,
        **sections,
        "resources": {step: {"cpu": CPU_OF_TRAIN if step == "train" else CPU, "memory": "2Gi"} for step in STEPS},
    }


@pytest.fixture(scope="session")
def images() -> dict[str, str]:
    """Image by name in the manifests; those of the steps by `step-NAME`, with their digest."""
    shown = subprocess.run([sys.executable, "-m", "infra.images", "show"], cwd=ROOT, capture_output=True, text=True)
    if shown.returncode != 0:
        pytest.skip(f"no images of the steps: run `make images` ({shown.stderr.strip()[:200]})")
    steps = {step: f"{made['image']}@{made['digest']}" for step, made in json.loads(shown.stdout).items()}
    built = subprocess.run([sys.executable, "-m", "infra.images", "servers"], cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    servers = json.loads((ROOT / MAPPING).read_text(encoding="utf-8"))
    found = {f"gateline-{name}": made["image"] for name, made in servers.items()}
    found |= {f"step-{step}": image for step, image in steps.items()}
    found["gateline-serving"] = steps["register"].partition("@")[0]
    return found


def bring(images: Iterable[str]) -> subprocess.Popen[bytes]:
    """Start to bring images to the nodes."""
    names = sorted({image.partition("@")[0] for image in images})
    return subprocess.Popen([*shlex.split(os.environ.get("GATELINE_LOAD_IMAGES", "true")), *names])


@pytest.fixture(scope="session")
def stack(images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The overlay, applied and ready."""
    cluster, folder = Cluster(NAMESPACE), tmp_path_factory.mktemp("cluster")
    manifests = rendered(folder, images)
    known = cluster.kinds()
    here = [each for each in manifests if (each["apiVersion"], each["kind"]) in known]
    assert {each["kind"] for each in manifests if each not in here} <= NEWER_THAN_THE_CLUSTER
    of_steps = {image for name, image in images.items() if name.startswith("step-")}
    assert bring(images[f"gateline-{server}"] for server in SERVERS).wait() == 0
    cluster.run("delete", "namespace", NAMESPACE, "--ignore-not-found", seconds=300)
    cluster.apply(*(each for each in here if each["kind"] == "Namespace"))
    make_secrets(cluster)
    cluster.apply(*here)
    coming = bring(of_steps)  # while the servers start
    compiled = folder / "training.yaml"
    flags = [
        word
        for name, image in images.items()
        if name.startswith("step-")
        for word in ("--image", f"{name[5:]}={image}")
    ]
    subprocess.run([sys.executable, "-m", "pipelines.compile", *flags, "--output", compiled], cwd=ROOT, check=True)
    for what in ("statefulset/postgres", "statefulset/object-store", "deployment/mlflow"):
        cluster.run("rollout", "status", what, "--timeout=400s", seconds=420)
    assert coming.wait() == 0
    yield Stack(cluster, manifests, images["gateline-mlflow"], folder, compiled)
    if not os.environ.get("GATELINE_KEEP_CLUSTER"):
        cluster.run("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.fixture(scope="session")
def prepared(stack: Stack) -> dict[str, Task]:
    """The first three steps, in the pipeline's order; and a pod that can look into the store.

    It also has a container of each step's image, since a node whose disk is nearly full removes those that no pod uses.
    """
    tasks = stack.tasks()
    assert [name for name in tasks if name in STEPS] == STEPS
    carrier = step_pod(tasks["ingest"], "carrier", stack.carrier)
    [_, keep] = carrier["spec"]["containers"]
    looks = {**keep, "command": ["sleep", "3600"]}
    holds = [
        {**looks, "name": name, "image": tasks[name].container["image"].partition("@")[0], "resources": TINY}
        for name in STEPS
    ]
    carrier["spec"] |= {"containers": [looks, *holds], "terminationGracePeriodSeconds": 0}
    stack.cluster.apply(carrier)
    for name in STEPS[:3]:
        run_pod(stack, step_pod(tasks[name], name, stack.carrier))
    return tasks


@pytest.fixture(scope="session")
def trained(stack: Stack, prepared: dict[str, Task]) -> dict[str, str]:
    """Two trainings, one of which loses its pod half-way: what each pod said, by name."""
    cluster, tasks = stack.cluster, prepared
    undisturbed = stack.tasks("s3://gateline/checkpoints-undisturbed")["train"]
    cluster.apply(step_pod(undisturbed, "undisturbed", stack.carrier, {"model": "run/undisturbed"}))
    cluster.apply(step_pod(tasks["train"], "train-1", stack.carrier))
    stack.wait_in_store("checkpoints/", "last.pt")
    first = cluster.get("pod", "train-1") or {}
    cluster.run("delete", "pod", "train-1", "--wait=true")
    assert "terminated" not in first["status"]["containerStatuses"][0]["state"], (
        "it was over before it could be taken away"
    )
    assert "False" in stack.in_store(
        "print('Contents' in store.list_objects_v2(Bucket='gateline', Prefix='run/model/'))"
    )
    said = {"train-2": run_pod(stack, step_pod(tasks["train"], "train-2", stack.carrier))}
    said["undisturbed"] = cluster.succeeded("undisturbed")
    return said


@pytest.fixture(scope="session")
def refusals(stack: Stack, prepared: dict[str, Task]) -> dict[str, tuple[int, str]]:
    """Three trainings that must not begin, at once: exit code and last words of each, by name."""
    homeless = step_pod(prepared["train"], "homeless", stack.carrier)
    main = homeless["spec"]["containers"][0]
    main["env"] = [each for each in main["env"] if each["name"] != "MLFLOW_TRACKING_URI"]
    spread = stack.tasks(nodes=2)["train"]
    denied, alone = (step_pod(spread, name, stack.carrier) for name in ("denied", "alone"))
    denied["spec"] |= {"serviceAccountName": "training-nodes", "automountServiceAccountToken": True}
    pods = [homeless, denied]
    if TRAIN_JOB not in stack.cluster.kinds():
        pods.append(alone)
    for pod in pods:
        pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "300m"
    stack.cluster.apply(*pods)
    names = [pod["metadata"]["name"] for pod in pods]
    ends = {name: stack.cluster.ended(name) for name in names}
    stack.cluster.run("delete", "pod", *names, "--wait=false")
    return ends


def run_pod(stack: Stack, pod: Manifest, seconds: float = 600) -> str:
    stack.cluster.apply(pod)
    return stack.cluster.succeeded(pod["metadata"]["name"], seconds)


def rendered(folder: Path, images: dict[str, str]) -> list[dict[str, Any]]:
    """Render the overlay with these images and this model."""
    named = [
        {"name": name, "newName": image.rpartition(":")[0], "newTag": image.rpartition(":")[2]}
        for name, image in images.items()
        if name.startswith("gateline-")
    ]
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": NAMESPACE,
        "resources": [os.path.relpath(OVERLAY, folder.resolve())],
        "images": named,
        "configMapGenerator": [{"name": "serving", "behavior": "merge", "literals": [f"MODEL={NAME}"]}],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization), encoding="utf-8")
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def make_secrets(cluster: Cluster) -> None:
    """Make the secrets as docs/operations.md says."""
    made = {
        "postgres": {"password": secrets.token_hex(12)},
        "mlflow-s3": {"AWS_ACCESS_KEY_ID": "mlflow:server", "AWS_SECRET_ACCESS_KEY": secrets.token_hex(12)},
        "gateline-s3": {"AWS_ACCESS_KEY_ID": "steps:runner", "AWS_SECRET_ACCESS_KEY": secrets.token_hex(12)},
    }
    for name, content in made.items():
        flags = [f"--from-literal={key}={value}" for key, value in content.items()]
        cluster.run("create", "secret", "generic", name, *flags)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip where there is no cluster, or nobody asked for these tests, and say why."""
    here = [item for item in items if "cluster" in item.keywords and Path(__file__).parent in item.path.parents]
    if here and (reason := _why_not(str(config.getoption("-m")))):
        for item in here:
            item.add_marker(pytest.mark.skip(reason=reason))


def _why_not(marks: str) -> str:
    if "cluster" not in marks:
        return "by `make test-cluster` alone, since it makes things in the cluster that KUBECONFIG names"
    if not os.environ.get("KUBECONFIG"):
        return "no KUBECONFIG that names a cluster"
    if shutil.which("kubectl") is None:
        return "no kubectl on this machine"
    try:
        asked = subprocess.run(["kubectl", "get", "--raw", "/readyz"], capture_output=True, text=True, timeout=30)
    except subprocess.TimeoutExpired:
        return "the cluster that KUBECONFIG names does not answer"
    return "" if asked.returncode == 0 else f"the cluster that KUBECONFIG names does not answer: {asked.stderr[:100]}"
