"""Training over two pods of a StatefulSet that torchrun joins; one is lost, and the weights are those of one process."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import subprocess
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from gateline.adapters.several_nodes.step import plan
from gateline.adapters.several_nodes.train_job import Pod, train_job
from gateline.manifest import Artifact
from gateline.workload import Workload
from tests.cluster.conftest import Stack
from tests.cluster.kubectl import Manifest, of_kind
from tests.cluster.stand_in_trainer import node_set, nodes_of
from tests.conftest import ROOT

ROUNDING = 1e-4
"""Largest difference of a weight after three epochs. Measured: 5e-7, with weights of about 0.1. Sums in another order differ in the last
digit and every step makes more of it (2e-2 after eight epochs at a higher rate), so few epochs tell rounding from a mistake: an epoch more or
less makes 0.1, another order of the rows 1. None at all would mean that one process did it all.
"""

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


@pytest.fixture(scope="module")
def runtime() -> Manifest:
    dev = subprocess.run(
        ["kubectl", "kustomize", ROOT / "infra/kubernetes/overlays/dev"], capture_output=True, text=True
    )
    return of_kind(list(yaml.safe_load_all(dev.stdout)), "TrainingRuntime", "torch-distributed")


def weights(stack: Stack, place: str) -> dict[str, Any]:
    text = stack.in_store(
        "import base64; print(base64.b64encode("
        f"store.get_object(Bucket='gateline', Key='{place}/weights.pt')['Body'].read()).decode())"
    )
    return dict(torch.load(io.BytesIO(base64.b64decode(text)), weights_only=True))


def may(stack: Stack, account: str, verb: str, group: str, resource: str, subresource: str = "") -> bool:
    asked = {"namespace": stack.cluster.namespace, "verb": verb, "group": group, "resource": resource}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": f"system:serviceaccount:{stack.cluster.namespace}:{account}",
            "resourceAttributes": {**asked, "subresource": subresource},
        },
    }
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    said = stack.cluster.run("create", "--raw", path, "-f", "-", given=json.dumps(review))
    return bool(json.loads(said)["status"]["allowed"])


def test_an_account_without_the_right_is_denied(stack: Stack, refusals: dict[str, tuple[int, str]]) -> None:
    for account in ("pipeline-runner", "serving", "mlflow", "backup", "training-nodes", "default"):
        assert may(stack, account, "create", "trainer.kubeflow.org", "trainjobs") == (account == "pipeline-runner")
        assert not may(stack, account, "get", "", "secrets")
        assert not may(stack, account, "create", "", "pods", "exec")
        assert not may(stack, account, "create", "", "pods")
        assert not may(stack, account, "patch", "apps", "deployments")
    code, said = refusals["denied"]
    assert (code, "expected a service account that may get pods; found status 403" in said) == (2, True), said


def test_the_step_says_that_there_is_no_trainer(refusals: dict[str, tuple[int, str]]) -> None:
    """With its own account the step reads its own pod and may ask for nodes, which this cluster has nobody for."""
    if "alone" not in refusals:
        pytest.skip("this cluster has Kubeflow Trainer")
    code, said = refusals["alone"]
    assert (code, "expected a cluster with Kubeflow Trainer" in said) == (2, True), said


def test_two_nodes_train_what_one_does(stack: Stack, trained: dict[str, str], runtime: Manifest) -> None:
    cluster, task = stack.cluster, stack.tasks(nodes=2)["train"]
    manifest = stack.in_store(
        "print(store.get_object(Bucket='gateline', Key='run/prepared/manifest.json')['Body'].read().decode(), end='')"
    )
    data = Artifact(Path(), "prepared", hashlib.sha256(manifest.encode()).hexdigest(), {}, {})
    flags = Namespace(seed=7, precision="float32", processes=1, checkpoints="s3://gateline/spread")
    planned = plan(Workload.read(task.parameters["workload"], step="train"), data, flags)
    folder, model = (address.removeprefix("s3://gateline/") for address in (planned.data, planned.model))
    stack.in_store(
        "names = [e['Key'] for e in store.list_objects_v2(Bucket='gateline', Prefix='run/prepared/')['Contents']]; "
        "[store.copy_object(Bucket='gateline', CopySource={'Bucket': 'gateline', 'Key': name}, "
        f"Key='{folder}' + name.removeprefix('run/prepared')) for name in names]"
    )
    room = {kind: {"cpu": "700m", "memory": "2Gi"} for kind in ("requests", "limits")}
    image = task.container["image"]
    pod = Pod(cluster.namespace, image.partition("@")[0], room, environment={"GATELINE_IMAGE": image})
    cluster.apply(*nodes_of(runtime, train_job(planned.name, pod, planned.nodes, planned.command)))
    stack.wait_in_store("spread/", "last.pt")
    lost = f"{node_set(planned.name)}-1"
    before = cluster.get("pod", lost) or {}
    cluster.run("delete", "pod", lost)
    keys = "[e['Key'] for e in store.list_objects_v2(Bucket='gateline', Prefix='spread/')['Contents']]"
    assert f"{model}/manifest.json" not in stack.in_store(f"print({keys})"), "it was over before a node was lost"
    stack.wait_in_store(f"{model}/", "manifest.json")
    after = cluster.get("pod", lost) or {}
    assert before["metadata"]["uid"] != after["metadata"]["uid"]
    one, two = weights(stack, "run/undisturbed"), weights(stack, model)
    apart = {key: float((two[key] - value).abs().max()) for key, value in one.items()}
    assert 0 < max(apart.values()) < ROUNDING, apart
    cluster.run("delete", "statefulset", node_set(planned.name), "--wait=false")
