"""A TrainJob (`trainer.kubeflow.org/v1alpha1`) as Kubernetes reads it; pure, so that types and tests can look at it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateline.workload.resources import GPU

API_GROUP, API_VERSION, PLURAL = "trainer.kubeflow.org", "v1alpha1", "trainjobs"
RUNTIME = "torch-distributed"
"""TrainingRuntime of the namespace, see infra/kubernetes/components/several-nodes."""
NODE = "node"
"""What the runtime calls the nodes' job."""
MANAGER = "gateline.dev/train-step"
LONGEST_NAME = 40
"""Of a job: the names of its pods are longer, and a label holds 63."""
LONGEST_SECONDS = 72 * 3600
"""After which a job is stopped where the pod of the step does not say: nobody may follow it any more, and its nodes hold GPUs."""
OF_KUBERNETES = "node.kubernetes.io/"
"""How the keys of tolerations begin that every pod gets by itself."""


@dataclass(frozen=True)
class Nodes:
    """What a training is spread over.

    Args:
        count: how many.
        gpus: of each; without any, each trains on its processors.
        processes: of each.
    """

    count: int
    gpus: int
    processes: int

    @property
    def device(self) -> str:
        """Where they compute."""
        return "cuda" if self.gpus else "cpu"


@dataclass(frozen=True)
class Pod:
    """The pod of the step: each node is like it.

    Args:
        namespace: where it is.
        image: what it runs.
        resources: its requests and limits, as Kubernetes writes them.
        node_selector: labels of the machines on which it may be.
        tolerations: taints that do not keep it away.
        environment: variables that the nodes get, too.
        seconds: after which it is stopped; the nodes, too, counted from when their job is made.
    """

    namespace: str
    image: str
    resources: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: Sequence[Mapping[str, Any]] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    seconds: int = LONGEST_SECONDS


def job_name(workload: str, digest: str) -> str:
    """Name the job of a training: the same for the same training, and a name that Kubernetes takes.

    Example:
        >>> job_name("flight_delays", "0123456789abcdef0123")
        'flight-delays-0123456789ab'
    """
    short = digest[:12]
    return f"{workload.replace('_', '-')[: LONGEST_NAME - len(short) - 1].rstrip('-')}-{short}"


def train_job(name: str, pod: Pod, nodes: Nodes, command: Sequence[str]) -> dict[str, Any]:
    """Write the manifest.

    Args:
        name: of the job.
        pod: what each node is like.
        nodes: how many, and what each has beside.
        command: what each runs.
    """
    gpus = {GPU: str(nodes.gpus)} if nodes.gpus else {}
    resources = {
        kind: {**{what: text for what, text in pod.resources.get(kind, {}).items() if what != GPU}, **gpus}
        for kind in ("requests", "limits")
    }
    return {
        "apiVersion": f"{API_GROUP}/{API_VERSION}",
        "kind": "TrainJob",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/part-of": "gateline"}},
        "spec": {
            "activeDeadlineSeconds": pod.seconds,
            "runtimeRef": {"apiGroup": API_GROUP, "kind": "TrainingRuntime", "name": RUNTIME},
            "trainer": {
                "image": pod.image,
                "command": list(command),
                "env": [{"name": key, "value": value} for key, value in sorted(pod.environment.items())],
                "numNodes": nodes.count,
                "numProcPerNode": nodes.processes,
                "resourcesPerNode": {kind: found for kind, found in resources.items() if found},
            },
            **_patches(pod),
        },
    }


def _patches(pod: Pod) -> dict[str, Any]:
    """Say on which machines the nodes may be, which the trainer's own section has no words for."""
    tolerations = [dict(each) for each in pod.tolerations if not str(each.get("key")).startswith(OF_KUBERNETES)]
    spec = {"nodeSelector": dict(pod.node_selector), "tolerations": tolerations}
    spec = {key: value for key, value in spec.items() if value}
    if not spec:
        return {}
    job = {"name": NODE, "template": {"spec": {"template": {"spec": spec}}}}
    return {
        "runtimePatches": [
            {"manager": MANAGER, "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [job]}}}}
        ]
    }
