"""Training over two pods of a StatefulSet that torchrun joins; one is lost, and the weights are those of one process."""

from __future__ import annotations

import base64
import io
import subprocess
from typing import Any

import pytest
import torch
import yaml

from tests.cluster.conftest import Stack
from tests.cluster.kubectl import Manifest, of_kind
from tests.cluster.stand_in_trainer import KIND, node_set, stand_in
from tests.cluster.step_pods import Task, step_pod
from tests.conftest import ROOT

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


def test_an_account_without_the_right_is_denied(stack: Stack, prepared: dict[str, Task]) -> None:
    cluster = stack.cluster
    for account, may in (("pipeline-runner", "yes"), ("serving", "no"), ("training-nodes", "no"), ("default", "no")):
        who = ("--as", f"system:serviceaccount:{cluster.namespace}:{account}")
        assert cluster.run("auth", "can-i", "create", KIND, *who, check=False).splitlines()[-1] == may
    for what in ("get secrets", "create pods", "get pods/exec", "delete deployments.apps", "list nodes"):
        who = ("--as", f"system:serviceaccount:{cluster.namespace}:pipeline-runner")
        assert cluster.run("auth", "can-i", *what.split(), *who, check=False).splitlines()[-1] == "no", what
    pod = step_pod(stack.tasks(nodes=2)["train"], "denied", stack.carrier)
    pod["spec"] |= {"serviceAccountName": "training-nodes", "automountServiceAccountToken": True}
    cluster.apply(pod)
    code, said = cluster.ended("denied")
    assert code == 2
    assert "expected a service account that may get pods; found status 403" in said
    cluster.run("delete", "pod", "denied", "--wait=false")


def test_two_nodes_train_what_one_does(stack: Stack, trained: dict[str, str], runtime: Manifest) -> None:
    cluster = stack.cluster
    task = stack.tasks("s3://gateline/spread", cpu="500m", nodes=2)["train"]
    with stand_in(cluster, runtime):
        cluster.apply(step_pod(task, "spread", stack.carrier, {"model": "run/spread"}))
        [job] = cluster.until(
            lambda: cluster.run("get", KIND, "--output", "name", check=False).split(), 300, "a TrainJob"
        )
        name = job.partition("/")[2]
        stack.wait_in_store("spread/", "last.pt")
        before = cluster.get("pod", f"{node_set(name)}-1") or {}
        cluster.run("delete", "pod", f"{node_set(name)}-1")
        keys = "[e['Key'] for e in store.list_objects_v2(Bucket='gateline', Prefix='spread/')['Contents']]"
        assert "model/manifest.json" not in stack.in_store(f"print({keys})"), "it was over before a node was lost"
        said = cluster.succeeded("spread")
        assert f"TrainJob {name}: 2 nodes are asked for" in said
        assert cluster.get(KIND, name) is None, "a job whose model is fetched is removed"
    assert before["status"]["phase"] == "Running"
    alone, together = weights(stack, "run/undisturbed"), weights(stack, "run/spread")
    for key, value in alone.items():
        torch.testing.assert_close(together[key], value, rtol=1e-3, atol=1e-4)
    assert any(not torch.equal(together[key], value) for key, value in alone.items()), "two processes round differently"
