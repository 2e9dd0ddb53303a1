"""Gateline on a real Kubernetes: the servers, the six steps as pods, a lost pod, serving, rights, backup, several nodes."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests
from mlflow import MlflowClient

from tests.cluster.conftest import NAME, STEPS, Stack, run_pod
from tests.cluster.kubectl import Manifest, of_kind
from tests.cluster.step_pods import Task, step_pod

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


def without(pod: Manifest, variable: str) -> Manifest:
    main = pod["spec"]["containers"][0]
    main["env"] = [each for each in main["env"] if each["name"] != variable]
    return pod


@pytest.fixture(scope="module")
def registered(stack: Stack, trained: dict[str, str], prepared: dict[str, Task]) -> dict[str, str]:
    """The last two steps."""
    return {name: run_pod(stack, step_pod(prepared[name], name, stack.carrier)) for name in STEPS[4:]}


def manifest_of(stack: Stack, place: str) -> dict[str, Any]:
    text = stack.in_store(
        f"print(store.get_object(Bucket='gateline', Key='run/{place}/manifest.json')['Body'].read().decode())"
    )
    return dict(json.loads(text))


def test_the_servers_are_ready(stack: Stack) -> None:
    with stack.cluster.forwarded("service/mlflow", 5000) as address:
        assert requests.get(f"{address}/health", timeout=10).text == "OK"
        client = MlflowClient(address)
        assert client.create_experiment("ready")
    pods = json.loads(stack.cluster.run("get", "pods", "--output", "json"))["items"]
    for pod in pods:
        for container in pod["spec"]["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"]


def test_a_pod_that_lost_its_place_goes_on(stack: Stack, trained: dict[str, str]) -> None:
    resumed, undisturbed = manifest_of(stack, "model"), manifest_of(stack, "undisturbed")
    assert resumed["files"]["weights.pt"] == undisturbed["files"]["weights.pt"]
    assert resumed == undisturbed
    left = stack.in_store("print('Contents' in store.list_objects_v2(Bucket='gateline', Prefix='checkpoints/'))")
    assert "False" in left, "a training that is logged leaves no checkpoint"


def test_a_pod_without_a_tracking_server_refuses(stack: Stack, prepared: dict[str, Task]) -> None:
    pod = without(step_pod(prepared["train"], "homeless", stack.carrier), "MLFLOW_TRACKING_URI")
    stack.cluster.apply(pod)
    code, said = stack.cluster.ended("homeless")
    assert code == 2
    assert "MLFLOW_TRACKING_URI: expected the address of a tracking server, since this is a pod" in said
    stack.cluster.run("delete", "pod", "homeless", "--wait=false")


def test_the_champion_is_registered(stack: Stack, registered: dict[str, str]) -> None:
    with stack.cluster.forwarded("service/mlflow", 5000) as address:
        client = MlflowClient(address)
        version = client.get_model_version_by_alias(NAME, "champion")
        assert version.run_id
        run = client.get_run(version.run_id)
        assert run.info.status == "FINISHED"
        assert run.data.tags["gateline.model"]
        assert {f"gateline.image.{step}" for step in ("train", "evaluate")} <= run.data.tags.keys()
        assert "evaluation/report.html" in [each.path for each in client.list_artifacts(version.run_id, "evaluation")]


ASK = """
import json, os, sys, time, urllib.request
body = sys.argv[1].encode()
answered, lost, versions = 0, [], set()
while not os.path.exists("/tmp/over"):
    request = urllib.request.Request("http://serving/invocations", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            versions.add(answer.headers["gateline-version"])
            assert json.load(answer)["predictions"]
            answered += 1
    except Exception as error:
        lost.append(repr(error))
    time.sleep(0.05)
print(json.dumps({"answered": answered, "lost": lost, "versions": sorted(versions)}))
"""


def test_the_champion_is_served_and_rolled_without_loss(stack: Stack, registered: dict[str, str]) -> None:
    cluster = stack.cluster
    cluster.run("scale", "deployment/serving", "--replicas=1")
    with cluster.forwarded("service/mlflow", 5000) as address:
        client = MlflowClient(address)
        version = client.get_model_version_by_alias(NAME, "champion")
        assert version.source
        place = f"{address}/ajax-api/2.0/mlflow/logged-models/{version.source.rpartition('/')[2]}/artifacts/files"
        asked = {"artifact_file_path": "serving_input_example.json"}
        body = requests.get(place, params=asked, timeout=30).text
    cluster.run("rollout", "status", "deployment/serving", "--timeout=400s", seconds=420)
    asker = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "asker"},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "containers": [{"name": "main", "image": stack.carrier, "command": ["python", "-c", ASK, body]}],
        },
    }
    cluster.apply(asker)
    cluster.until(lambda: (cluster.get("pod", "asker") or {})["status"]["phase"] == "Running", 300, "asker")
    cluster.run("rollout", "restart", "deployment/serving")
    cluster.run("rollout", "status", "deployment/serving", "--timeout=400s", seconds=420)
    pods = ("get", "pods", "--selector=app.kubernetes.io/name=serving", "--output=name")
    cluster.until(lambda: len(cluster.run(*pods).split()) == 1, 200, "the end of the pod that served before")
    cluster.run("exec", "asker", "--", "touch", "/tmp/over")
    told = json.loads(cluster.succeeded("asker").strip().splitlines()[-1])
    assert told["lost"] == []
    assert told["answered"] > 20
    assert told["versions"] == ["1"]
    cluster.run("scale", "deployment/serving", "--replicas=0")


def test_a_backup_brings_back_what_was_lost(stack: Stack, registered: dict[str, str]) -> None:
    cluster = stack.cluster

    def job(name: str, of: str) -> Manifest:
        spec = of_kind(stack.manifests, "CronJob", of)["spec"]["jobTemplate"]["spec"]
        return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}

    cluster.apply(job("dump", "backup"))
    cluster.complete("dump")
    with cluster.forwarded("service/mlflow", 5000) as address:
        MlflowClient(address).delete_registered_model(NAME)
    cluster.run("scale", "deployment/mlflow", "--replicas=0")
    cluster.apply(job("bring-back", "restore"))
    cluster.complete("bring-back")
    cluster.run("scale", "deployment/mlflow", "--replicas=1")
    cluster.run("rollout", "status", "deployment/mlflow", "--timeout=400s", seconds=420)
    with cluster.forwarded("service/mlflow", 5000) as address:
        assert str(MlflowClient(address).get_model_version_by_alias(NAME, "champion").version) == "1"
