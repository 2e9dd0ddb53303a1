"""The train step on several nodes: a TrainJob that Trainer's types know, started once, followed, its model fetched."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from kubeflow_trainer_api import models

from gateline.adapters.several_nodes.shipment import Shipment
from gateline.adapters.several_nodes.train_job import Nodes, Pod, job_name, train_job
from gateline.adapters.several_nodes.trainer import Trainer
from gateline.errors import EXIT_REFUSED, TrainingError, TryAgainError, WorkloadError
from gateline.manifest import MANIFEST, open_artifact
from gateline.training import RunSettings, settings_of_weights
from gateline.workload import Workload
from gateline.workload.resources import read_resources
from gateline.workload.training import Training
from tests.steps import ROOT, run_until
from tests.tiny import TINY, prepare_tiny, write_tiny
from tests.trainer_api import TrainerApi, run_nodes, serving

RUNTIME = ROOT / "infra" / "kubernetes" / "components" / "several-nodes" / "training-runtime.yaml"


def spread(**training: object) -> str:
    settings = {**TINY["training"], "nodes": 2, **training}
    return json.dumps({"name": "tiny", "task": "forecasting", "model": TINY["model"], "training": settings})


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TrainerApi]:
    api = TrainerApi()
    with serving(api, tmp_path) as config:
        monkeypatch.setenv(
            "KUBECONFIG", str(config)
        )  # for the processes that a test starts, and for this one, which may have
        monkeypatch.setattr(
            "kubernetes.config.KUBE_CONFIG_DEFAULT_LOCATION", str(config)
        )  # imported kubernetes, and with it
        monkeypatch.setattr(
            "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(config)
        )  # the value, long ago
        monkeypatch.setenv("POD_NAMESPACE", "tests")
        monkeypatch.setenv("HOSTNAME", "train-pod")
        monkeypatch.setenv("GATELINE_IMAGE", "registry.example/train@sha256:00")
        yield api


def start(folder: Path, workload: str, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "components.train", "--workload", workload, "--prepared", str(folder / "prepared")),
            *("--model", str(folder / "model"), "--seed", "7", "--checkpoints", f"file://{folder}/store", *more),
        ],
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out + err


def until(condition: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_the_types_of_trainer_know_every_field() -> None:
    resources = {kind: {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": "1"} for kind in ("requests", "limits")}
    tolerations = [{"key": "gpu", "operator": "Exists"}, {"key": "node.kubernetes.io/not-ready", "operator": "Exists"}]
    pod = Pod("ns", "train@sha256:00", resources, {"pool": "gpu"}, tolerations, {"GATELINE_IMAGE": "train@sha256:00"})
    job = train_job("rides-0", pod, Nodes(4, 8, 8), ["python", "-m", "x"])

    assert models.TrainerV1alpha1TrainJob.from_dict(job).to_dict() == job
    trainer = job["spec"]["trainer"]
    assert (trainer["numNodes"], trainer["numProcPerNode"]) == (4, 8)
    assert trainer["resourcesPerNode"]["limits"] == {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": "8"}
    [patch] = job["spec"]["runtimePatches"]
    [patched] = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    assert patched["template"]["spec"]["template"]["spec"] == {
        "nodeSelector": {"pool": "gpu"},
        "tolerations": tolerations[:1],
    }
    plain = train_job("rides-0", Pod("ns", "i"), Nodes(2, 0, 1), [])["spec"]
    assert "runtimePatches" not in plain
    assert plain["activeDeadlineSeconds"] == 72 * 3600, "no job without an end"


def test_a_job_has_a_name_that_kubernetes_takes() -> None:
    name = job_name("a_workload_with_a_rather_long_name_indeed", "0123456789abcdef")
    assert len(name) <= 40
    assert name.startswith("a-workload")
    assert name.endswith("-0123456789ab")


def test_where_processes_are_changes_no_digest(tmp_path: Path) -> None:
    def settings(**training: object) -> dict[str, Any]:
        return settings_of_weights(Workload.read(spread(**training), step="train"), RunSettings(7, processes=2))

    assert settings() == settings(nodes=1) == settings(nodes=4, gpus_per_node=2)
    assert not {"nodes", "gpus_per_node"} & settings()["training"].keys()


@pytest.mark.parametrize(
    ("training", "says"),
    [
        ({"nodes": 0}, "training.nodes: expected greater than or equal to 1"),
        ({"nodes": 1, "gpus_per_node": 2}, "training: expected `gpus_per_node` of 0 where `nodes` is 1"),
        ({"gpus_per_nodes": 2}, "Did you mean 'gpus_per_node'?"),
    ],
)
def test_nodes_that_cannot_be_are_refused(training: dict[str, object], says: str) -> None:
    with pytest.raises(WorkloadError) as refusal:
        Workload.read(spread(**training), step="train").section("training", Training)
    assert says in str(refusal.value)


def test_the_pod_that_waits_needs_no_gpu() -> None:
    workload = Workload.read(json.dumps({**TINY, "training": {"nodes": 2}, "resources": {"train": {"gpus": 1}}}))
    with pytest.raises(WorkloadError, match=r"resources\.train\.gpus: expected 0 where training\.nodes is above 1"):
        read_resources(workload)


@pytest.mark.slow
def test_two_nodes_train_what_one_does(api: TrainerApi, tmp_path: Path) -> None:
    """The nodes are real: torchrun over two processes, started with the manifest's command as Trainer would."""
    assert run_until("preprocess", write_tiny(tmp_path), tmp_path) == ("preprocess", 0)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])

    def train(job: dict[str, Any]) -> None:
        said = [(process.communicate(timeout=100)[0], process.returncode) for process in run_nodes(job, port)]
        api.end(
            job["metadata"]["name"], "Complete" if all(code == 0 for _, code in said) else "Failed", str(said)[-300:]
        )

    api.on_create = train
    code, said = ended(start(tmp_path, spread()))
    assert code == 0, said
    [name] = [call.removeprefix("POST ") for call in api.calls if call.startswith("POST")]
    assert api.calls == [f"POST {name}", f"DELETE {name}"]

    model = open_artifact(tmp_path / "model", "model")
    assert model.facts["processes"] == 2
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "prepared").symlink_to(tmp_path / "prepared")
    code, said = ended(start(alone, spread(nodes=1)))
    assert code == 0, said
    expected = torch.load(alone / "model" / "weights.pt", weights_only=True)
    for key, value in torch.load(tmp_path / "model" / "weights.pt", weights_only=True).items():
        torch.testing.assert_close(value, expected[key], rtol=1e-4, atol=2e-5)

    # The model lies in the store: the same step, run again, fetches it and starts nothing.
    code, said = ended(start(tmp_path, spread()))
    assert code == 0, said
    assert api.calls[2:] == [f"DELETE {name}"], "a job that a step left which was lost after it was done"


def test_a_step_that_is_taken_away_goes_on_with_its_job(api: TrainerApi, tmp_path: Path) -> None:
    prepare_tiny(tmp_path / "prepared")
    first = start(tmp_path, spread())
    until(lambda: api.jobs)
    first.send_signal(signal.SIGTERM)
    assert ended(first)[0] == 75
    [name] = api.jobs
    api.end(name, "Failed", "jobset failed due to reaching max number of restarts", "ReachedMaxRestarts")

    second = start(tmp_path, spread())  # a job that failed is made again
    until(lambda: len(api.calls) == 3)
    assert api.calls == [f"POST {name}", f"DELETE {name}", f"POST {name}"]
    second.send_signal(signal.SIGTERM)
    assert ended(second)[0] == 75

    third = start(tmp_path, spread())  # one that goes on is followed
    api.looks = 0
    until(lambda: api.looks > 1)  # the second look is asked for after the first was answered
    api.end(name, "Failed", "applying FailJobSet failure policy action", "FailJobSetFailurePolicyAction")
    code, said = ended(third)
    assert code == 2
    assert "is there already; it is followed" in said
    assert "applying FailJobSet failure policy action" in said

    code, said = ended(start(tmp_path, spread()))  # one whose nodes were refused is not, with all its GPUs
    assert code == 2
    assert "in an earlier run of this very training" in said
    assert f"delete trainjob {name}" in said
    assert len(api.calls) == 3


def test_a_job_whose_time_is_over_is_made_again(api: TrainerApi) -> None:
    """Nobody may follow a job any more, so it has an end; a training that needs longer goes on from its checkpoints."""
    trainer = Trainer()
    said: list[str] = []
    job = train_job("tiny-0", trainer.own_pod(), Nodes(2, 0, 1), ["python"])
    trainer.start(job, said.append, lambda: False)
    assert api.jobs["tiny-0"]["spec"]["activeDeadlineSeconds"] == 7200, "as the pod of the step"
    api.end("tiny-0", "Failed", "TrainJob exceeded its active deadline", "DeadlineExceeded")
    with pytest.raises(TryAgainError, match="TrainJob exceeded its active deadline"):
        trainer.follow("tiny-0", said.append, lambda: False, lambda: False)

    trainer.start(job, said.append, lambda: False)
    assert api.calls == ["POST tiny-0", "DELETE tiny-0", "POST tiny-0"]


def test_a_job_whose_model_was_removed_since_is_made_again(api: TrainerApi) -> None:
    """A step that was lost leaves its job, a bucket loses what is old: nobody could train this ever again."""
    trainer = Trainer()
    said: list[str] = []
    job = train_job("tiny-0", trainer.own_pod(), Nodes(2, 0, 1), ["python"])
    trainer.start(job, said.append, lambda: False)
    api.end("tiny-0", "Complete")

    trainer.start(job, said.append, lambda: True)  # it ended, and sent its model, since somebody looked for that
    assert api.calls == ["POST tiny-0"]
    trainer.start(job, said.append, lambda: False)
    assert api.calls == ["POST tiny-0", "DELETE tiny-0", "POST tiny-0"]
    assert "TrainJob tiny-0 is complete, but its model is gone; it is made again." in said


def test_a_job_that_another_step_removed_when_it_had_its_model_has_not_failed(api: TrainerApi) -> None:
    trainer = Trainer()
    said: list[str] = []
    job = train_job("tiny-0", trainer.own_pod(), Nodes(2, 0, 1), ["python"])
    trainer.start(job, said.append, lambda: False)
    api.end("tiny-0", "Complete")
    api.jobs["tiny-0"]["metadata"]["deletionTimestamp"] = "2026-01-31T02:30:00Z"
    trainer.start(job, said.append, lambda: True)  # the pods of the job take a while to go
    assert api.calls == ["POST tiny-0"]
    del api.jobs["tiny-0"]

    trainer.follow("tiny-0", said.append, lambda: False, lambda: True)
    with pytest.raises(TrainingError, match="somebody removed it"):
        trainer.follow("tiny-0", said.append, lambda: False, lambda: False)


@pytest.mark.parametrize("ended", [None, "FailJobSetFailurePolicyAction"])
def test_a_job_that_is_being_removed_is_made_again_and_said_to_be_so(ended: str | None, api: TrainerApi) -> None:
    """Also one whose nodes were refused: to remove it is what its message asks for."""
    trainer = Trainer()
    said: list[str] = []
    job = train_job("tiny-0", trainer.own_pod(), Nodes(2, 0, 1), ["python"])
    trainer.start(job, said.append, lambda: False)
    if ended:
        api.end("tiny-0", "Failed", "applying FailJobSet failure policy action", ended)
    api.jobs["tiny-0"]["metadata"]["deletionTimestamp"] = "2026-01-31T02:30:00Z"

    trainer.start(job, said.append, lambda: False)
    assert api.calls == ["POST tiny-0", "DELETE tiny-0", "POST tiny-0"]
    assert said[1] == "TrainJob tiny-0 is being removed; it is made again and goes on from its checkpoints."


def test_a_shipment_that_lost_a_file_is_not_complete(tmp_path: Path) -> None:
    prepared = prepare_tiny(tmp_path / "prepared")
    shipment = Shipment(f"file://{tmp_path}/store/prepared")
    complete = [shipment.complete]
    shipment.send(prepared)
    complete.append(shipment.complete)
    manifest = tmp_path / "store" / "prepared" / MANIFEST
    next(path for path in manifest.parent.rglob("*") if path.is_file() and path != manifest).unlink()
    complete.append(shipment.complete)
    shipment.send(prepared)
    assert shipment.fetch(tmp_path / "fetched", "prepared").digest == prepared.digest
    manifest.write_text(manifest.read_text(encoding="utf-8")[:40], encoding="utf-8")  # as a kill can leave it
    assert [*complete, shipment.complete] == [False, True, False, False]


def test_a_shipment_is_complete_only_when_its_last_file_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rule of the bucket left the manifest, and the node that sends all again is killed: the two do not belong together."""
    prepared = prepare_tiny(tmp_path / "prepared")
    shipment = Shipment(f"file://{tmp_path}/store/prepared")
    shipment.send(prepared)
    put = type(shipment._file_system).put_file

    def killed_before_the_manifest(store: Any, path: str, target: str) -> None:
        if path.endswith(MANIFEST):
            raise KeyboardInterrupt
        put(store, path, target)

    monkeypatch.setattr(type(shipment._file_system), "put_file", killed_before_the_manifest)
    with pytest.raises(KeyboardInterrupt):
        shipment.send(prepared)
    assert not shipment.complete


def test_a_damaged_model_in_the_store_is_trained_again(api: TrainerApi, tmp_path: Path) -> None:
    prepare_tiny(tmp_path / "prepared")
    first = start(tmp_path, spread())
    until(lambda: api.calls)
    (name,) = api.jobs
    model = tmp_path / "store" / name / "model"
    prepared = open_artifact(tmp_path / "prepared", "prepared")
    Shipment(f"file://{model}").send(prepared)  # whatever it is: it will not be what its manifest says
    next(path for path in model.rglob("*.json") if path.name != MANIFEST).write_text("{}")
    api.end(name, "Complete")
    ended(first)

    second = start(tmp_path, spread())
    until(lambda: api.calls[-2:] == [f"DELETE {name}", f"POST {name}"])
    api.end(name, "Failed", "enough")
    assert "It is trained again." in ended(second)[1]
    assert not (model / MANIFEST).exists()


def test_jobset_gives_its_reason_to_refusals_alone() -> None:
    runtime = yaml.safe_load(RUNTIME.read_text(encoding="utf-8"))["spec"]["template"]["spec"]
    (rule,) = runtime["failurePolicy"]["rules"]
    assert (rule["action"], rule["onJobFailureReasons"]) == ("FailJobSet", ["PodFailurePolicy"])
    [node] = runtime["replicatedJobs"]
    (pod_rule,) = node["template"]["spec"]["podFailurePolicy"]["rules"]
    assert (pod_rule["action"], pod_rule["onExitCodes"]["values"]) == ("FailJob", [EXIT_REFUSED])


@pytest.mark.parametrize(
    ("status", "code", "says"),
    [
        (403, 2, "expected a service account that may get trainjobs; found status 403"),
        (404, 2, "expected a cluster with Kubeflow Trainer"),
        (503, 75, "expected an answer of the API of Kubernetes; found status 503"),
    ],
)
def test_a_cluster_that_does_not_let_us(status: int, code: int, says: str, api: TrainerApi, tmp_path: Path) -> None:
    prepare_tiny(tmp_path / "prepared")
    api.status = status
    found, said = ended(start(tmp_path, spread()))
    assert (found, says in said) == (code, True), said
    for place in re.findall(r"Bind the Role several-nodes to it \((\S+)\)", said):
        roles = list(yaml.safe_load_all((ROOT / place).read_text(encoding="utf-8")))
        assert ("Role", "several-nodes") in [(each["kind"], each["metadata"]["name"]) for each in roles]


def test_nodes_need_a_cluster_and_a_store(api: TrainerApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare_tiny(tmp_path / "prepared")
    code, said = ended(start(tmp_path, spread(), "--checkpoints", "beside"))
    assert code == 2
    assert "--checkpoints: expected an address that every node can reach" in said
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    code, said = ended(start(tmp_path, spread()))
    assert code == 2
    assert "training.nodes: expected a pod of a cluster with Kubeflow Trainer" in said
    assert not api.calls
