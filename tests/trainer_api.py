"""A server that speaks the part of Kubernetes' interface that the train step needs: one pod, and TrainJobs.

A TrainJob that is made is read into the types of kubeflow-trainer-api; what they do not know is refused. `run_nodes` does what
Trainer's torch plug-in does: it starts the nodes with the variables PET_*, here as processes.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml
from kubeflow_trainer_api import models

from tests.steps import ROOT

NAMESPACE = "tests"
JOBS = f"/apis/trainer.kubeflow.org/v1alpha1/namespaces/{NAMESPACE}/trainjobs"
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "train-pod", "namespace": NAMESPACE},
    "spec": {
        "activeDeadlineSeconds": 7200,
        "nodeSelector": {"pool": "training"},
        "tolerations": [
            {"key": "gpu", "operator": "Exists", "effect": "NoSchedule"},
            {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"},
        ],
        "containers": [
            {"name": "wait", "image": "argo"},
            {
                "name": "main",
                "image": "registry.example/train@sha256:00",
                "env": [{"name": "GATELINE_IMAGE", "value": "registry.example/train@sha256:00"}],
                "resources": {"limits": {"cpu": "2", "memory": "8Gi"}, "requests": {"cpu": "2", "memory": "8Gi"}},
            },
        ],
    },
}


@dataclass
class TrainerApi:
    """What the server holds.

    Args:
        jobs: TrainJobs by name.
        calls: method and last word of the path of every request that changes something.
        status: code of every answer about TrainJobs in place of the true one; None: the true one.
        looks: how often somebody has looked at a job that is there.
        on_create: told of a job that is made.
    """

    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    status: int | None = None
    looks: int = 0
    on_create: Callable[[dict[str, Any]], None] = lambda _: None

    def end(self, name: str, kind: str, message: str = "", reason: str = "") -> None:
        """Say how a job ended, in the words of JobSet and Trainer."""
        condition = {"type": kind, "status": "True", "reason": reason or f"Jobs{kind}", "message": message}
        self.jobs[name]["status"] = {"conditions": [condition]}

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        """Answer a request."""
        if path == f"/api/v1/namespaces/{NAMESPACE}/pods/train-pod":
            return 200, POD
        name = path.removeprefix(JOBS).strip("/")
        if method != "GET":
            self.calls.append(f"{method} {name or body['metadata']['name']}")
        if self.status is not None:
            return self.status, {"message": "page not found" if self.status == 404 else "no"}
        if method == "POST":
            known = models.TrainerV1alpha1TrainJob.from_dict(body).to_dict()
            if known != body:
                return 422, {"message": f"unknown fields in {body}"}
            name = body["metadata"]["name"]
            if name in self.jobs:
                return 409, {"message": f'trainjobs.trainer.kubeflow.org "{name}" already exists'}
            self.jobs[name] = {**body, "status": {"jobsStatus": [{"name": "node", "ready": 1}]}}
            threading.Thread(target=self.on_create, args=(body,), daemon=True).start()
            return 201, body
        if name not in self.jobs:
            return 404, {"message": f'trainjobs.trainer.kubeflow.org "{name}" not found'}
        if method == "DELETE":
            del self.jobs[name]
            return 200, {"status": "Success"}
        self.looks += 1
        return 200, self.jobs[name]


@contextmanager
def serving(api: TrainerApi, folder: Path) -> Iterator[Path]:
    """Serve the API on a free port; give a KUBECONFIG that leads to it."""

    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            status, content = api.answer(self.command, self.path.partition("?")[0], body)
            text = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_DELETE = _any  # noqa: N815  (the names that http.server calls)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": NAMESPACE}}],
        "current-context": "c",
    }
    file = folder / "kubeconfig"
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    try:
        yield file
    finally:
        server.shutdown()
        server.server_close()


def run_nodes(job: dict[str, Any], port: int) -> list[subprocess.Popen[str]]:
    """Start the nodes of a job as processes of this machine."""
    trainer = job["spec"]["trainer"]
    common = {
        **os.environ,
        "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
        "PET_NNODES": str(trainer["numNodes"]),
        "PET_NPROC_PER_NODE": str(trainer["numProcPerNode"]),
        "PET_MASTER_ADDR": "127.0.0.1",
        "PET_MASTER_PORT": str(port),
        **{variable["name"]: variable["value"] for variable in trainer["env"]},
    }
    return [
        subprocess.Popen(
            trainer["command"],
            env={**common, "PET_NODE_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(trainer["numNodes"])
    ]
