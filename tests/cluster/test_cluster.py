"""Gateline on a real Kubernetes: the servers, the six steps as pods, a lost pod, serving, rights, backup, several nodes."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from typing import Any

import pytest
import requests
from mlflow import MlflowClient

from gateline.manifest import file_digest
from infra.images.content import last_commit
from infra.images.engine import Engine
from infra.images.servers import MAPPING, SERVERS, inputs
from pipelines.training import WEBHOOK_SECRET
from tests.cluster.conftest import NAME, STEPS, Stack, run_pod
from tests.cluster.kubectl import Manifest, documented, of_kind
from tests.cluster.step_pods import RUN, Task, step_pod
from tests.conftest import ROOT

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


LISTEN = """
import http.server
class Heard(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        print(self.rfile.read(int(self.headers["Content-Length"])).decode(), flush=True)
        self.send_response(200)
        self.end_headers()
    def log_message(self, *words): ...
server = http.server.HTTPServer(("", 8080), Heard)
for _ in range(2):
    server.handle_request()
"""


@pytest.fixture(scope="module")
def registered(stack: Stack, trained: dict[str, str], prepared: dict[str, Task]) -> dict[str, str]:
    """The last two steps and the last word, in a namespace with a webhook."""
    cluster = stack.cluster
    cluster.apply(plain_pod("listener", stack.carrier, "python", "-c", LISTEN))
    address = cluster.until(lambda: (cluster.get("pod", "listener") or {})["status"].get("podIP"), 300, "listener")
    cluster.run("create", "secret", "generic", WEBHOOK_SECRET, f"--from-literal=address=http://{address}:8080/")
    said = {name: run_pod(stack, step_pod(prepared[name], name, stack.carrier)) for name in STEPS[4:]}
    last = prepared["conclude"]
    status = json.dumps({"state": "SUCCEEDED"})  # Kubeflow fills it in
    last = dataclasses.replace(last, parameters={**last.parameters, "status": status})
    return {**said, "conclude": run_pod(stack, step_pod(last, "conclude", stack.carrier))}


def shell(lines: str) -> str:
    """Run what an operator pastes."""
    done = subprocess.run(["bash", "-c", lines], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def plain_pod(name: str, image: str, *command: str) -> Manifest:
    main = {"name": "main", "image": image, "command": list(command)}
    spec = {"restartPolicy": "Never", "automountServiceAccountToken": False, "containers": [main]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


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


def test_a_pod_without_a_tracking_server_refuses(refusals: dict[str, tuple[int, str]]) -> None:
    code, said = refusals["homeless"]
    assert code == 2
    assert "MLFLOW_TRACKING_URI: expected the address of a tracking server, since this is a pod" in said


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


def test_a_webhook_is_told_of_the_promotion_and_of_the_end(stack: Stack, registered: dict[str, str]) -> None:
    promoted, ended = (json.loads(line) for line in stack.cluster.succeeded("listener").splitlines())
    assert (promoted["model"], str(promoted["champion"])) == (NAME, "1")
    assert (ended["workload"], ended["outcome"], ended["run"]) == (NAME, "SUCCEEDED", RUN)
    assert ended["mlflow_runs"]


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
    asker = plain_pod("asker", stack.carrier, "python", "-c", ASK, body)
    asker["metadata"]["labels"] = {"gateline-clients": "true"}
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


def test_the_images_of_the_servers_say_what_they_are_made_of_and_have_nothing_to_install_with(stack: Stack) -> None:
    engine = Engine.find()
    look = "import importlib.util as u; print([name for name in ('pip', 'ensurepip') if u.find_spec(name)])"
    for name, made in json.loads((ROOT / MAPPING).read_text()).items():
        labels = (engine.inspect(made["image"]) or {})["Config"]["Labels"]
        assert labels["org.opencontainers.image.revision"] == last_commit(ROOT, inputs(name))
        if name != "postgres":
            assert labels["gateline.lock-digest"] == file_digest(ROOT / SERVERS[name][0])
        for python in ("python3", "/usr/bin/python3"):
            assert engine.run(made["image"], [python, "-c", look]) == "[]\n"
        bill = json.loads((ROOT / "build" / "images" / f"{name}.cdx.json").read_text())
        assert bill["metadata"]["component"]["version"] == made["id"]
        assert {"mlflow": "mlflow", "postgres": "postgresql-15", "object-store": "swift"}[name] in {
            part["name"] for part in bill["components"]
        }


def test_a_backup_brings_back_what_was_lost(stack: Stack, registered: dict[str, str]) -> None:
    cluster = stack.cluster

    def job(name: str, of: str) -> Manifest:
        spec = of_kind(stack.manifests, "CronJob", of)["spec"]["jobTemplate"]["spec"]
        return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}

    cluster.apply(job("dump", "backup"))
    cluster.complete("dump")
    cluster.apply(job("list", "list-dumps"))
    cluster.complete("list")
    listed = cluster.run("logs", "job/list")
    assert listed.startswith(f"{cluster.namespace}/")
    assert listed.endswith("-dump.dump\n")
    with cluster.forwarded("service/mlflow", 5000) as address:
        MlflowClient(address).delete_registered_model(NAME)
    cluster.run("scale", "deployment/mlflow", "--replicas=0")
    # The password is changed meanwhile, twice, since the first time finds the one that the database was made with.
    rotation = documented("new=$(openssl", cluster.namespace)
    before = cluster.get("secret", "postgres")
    for _ in range(2):
        shell(rotation)
    assert (cluster.get("secret", "postgres") or {})["data"] != (before or {})["data"]
    cluster.apply(job("bring-back", "restore"))
    cluster.complete("bring-back")
    cluster.run("scale", "deployment/mlflow", "--replicas=1")
    cluster.run("rollout", "status", "deployment/mlflow", "--timeout=400s", seconds=420)
    with cluster.forwarded("service/mlflow", 5000) as address:
        assert str(MlflowClient(address).get_model_version_by_alias(NAME, "champion").version) == "1"
