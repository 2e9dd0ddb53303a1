"""What Kubeflow Trainer makes of a TrainJob, as far as a test needs it: pods that torchrun's variables lead together.

A StatefulSet with a headless Service stands in for the JobSet. Its pods have the template of the TrainingRuntime in infra/kubernetes, and
what the TrainJob says beside. Trainer itself needs a newer Kubernetes than some that these tests run on, some of which do not
survive a custom resource.
"""

from __future__ import annotations

import copy

from tests.cluster.kubectl import Manifest

RANKED = 'export PET_NODE_RANK=${HOSTNAME##*-}; exec "$@"'


def node_set(job: str) -> str:
    """Name the nodes of a job, whose pods have a number behind it."""
    return f"{job}-node"


def nodes_of(runtime: Manifest, job: Manifest) -> list[Manifest]:
    """Make the nodes of a job.

    Args:
        runtime: the TrainingRuntime.
        job: the TrainJob.
    """
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
    common = {"labels": labels}
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
