"""What Kubeflow Trainer does with a TrainJob, as far as a test needs it: its kind, and pods that torchrun's variables lead together.

A StatefulSet with a headless Service stands in for the JobSet. Its pods have the template of the TrainingRuntime in infra/kubernetes, and
what the TrainJob says beside. Trainer itself needs a newer Kubernetes than some that these tests run on.
"""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.cluster.kubectl import Cluster, Manifest

KIND = "trainjobs.trainer.kubeflow.org"
CRD: Manifest = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": KIND},
    "spec": {
        "group": "trainer.kubeflow.org",
        "scope": "Namespaced",
        "names": {"kind": "TrainJob", "plural": "trainjobs", "singular": "trainjob"},
        "versions": [
            {
                "name": "v1alpha1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}
RANKED = 'export PET_NODE_RANK=${HOSTNAME##*-}; exec "$@"'


@contextmanager
def stand_in(cluster: Cluster, runtime: Manifest) -> Iterator[None]:
    """Tend the TrainJobs of the namespace for as long as the block lasts.

    Args:
        cluster: where.
        runtime: the TrainingRuntime.
    """
    cluster.apply(CRD)
    cluster.run("wait", "--for=condition=Established", f"crd/{KIND}", "--timeout=30s")
    over = threading.Event()

    def tend() -> None:
        while not over.wait(1):
            for job in json.loads(cluster.run("get", KIND, "--output", "json"))["items"]:
                _tend(cluster, runtime, job)

    thread = threading.Thread(target=tend, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=30)
        cluster.run("delete", "crd", KIND, "--wait=false")


def _tend(cluster: Cluster, runtime: Manifest, job: Manifest) -> None:
    name = job["metadata"]["name"]
    if job.get("status", {}).get("conditions"):
        return
    if cluster.get("statefulset", node_set(name)) is None:
        owner = {key: job[key] for key in ("apiVersion", "kind")} | {
            key: job["metadata"][key] for key in ("name", "uid")
        }
        cluster.apply(*_objects(runtime, job, owner))
        return
    count = job["spec"]["trainer"]["numNodes"]
    pods = [cluster.get("pod", f"{node_set(name)}-{rank}") for rank in range(count)]
    done = all(pod is not None and _ended_well(pod) for pod in pods)
    status = {"conditions": [{"type": "Complete", "status": "True", "reason": "JobsCompleted", "message": ""}]}
    if done:
        cluster.run("patch", KIND, name, "--type=merge", "--patch", json.dumps({"status": status}))


def _ended_well(pod: Manifest) -> bool:
    states = pod.get("status", {}).get("containerStatuses", [])
    ends = [
        each[when]["terminated"]
        for each in states
        for when in ("state", "lastState")
        if "terminated" in each.get(when, {})
    ]
    return any(end["exitCode"] == 0 for end in ends)


def node_set(job: str) -> str:
    """Name the nodes of a job, whose pods have a number behind it."""
    return f"{job}-node"


def _objects(runtime: Manifest, job: Manifest, owner: dict[str, Any]) -> list[Manifest]:
    name, trainer = job["metadata"]["name"], job["spec"]["trainer"]
    labels = {"app.kubernetes.io/name": "training-node", "jobset.sigs.k8s.io/jobset-name": name}
    [replicated] = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    pod = copy.deepcopy(replicated["template"]["spec"]["template"]["spec"])
    pod["restartPolicy"] = "Always"  # a StatefulSet has no other
    [node] = pod["containers"]
    node |= {
        "image": trainer["image"],
        "command": ["sh", "-c", RANKED, "node", *trainer["command"]],
        "resources": trainer["resourcesPerNode"],
    }
    node["env"] += [
        *trainer["env"],
        {"name": "PET_NNODES", "value": str(trainer["numNodes"])},
        {"name": "PET_NPROC_PER_NODE", "value": str(trainer["numProcPerNode"])},
        {"name": "PET_MASTER_ADDR", "value": f"{node_set(name)}-0.{name}"},
        {"name": "PET_MASTER_PORT", "value": "29500"},
    ]
    common = {"labels": labels, "ownerReferences": [{**owner, "blockOwnerDeletion": False}]}
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, **common},
            "spec": {
                "clusterIP": "None",
                "publishNotReadyAddresses": True,
                "selector": labels,
                "ports": [{"port": 29500}],
            },
        },
        {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": {"name": node_set(name), **common},
            "spec": {
                "serviceName": name,
                "replicas": trainer["numNodes"],
                "podManagementPolicy": "Parallel",
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        },
    ]
