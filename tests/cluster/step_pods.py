"""Pods of the compiled pipeline's steps, made from its YAML as Kubeflow's driver makes them.

Artifacts travel as on Kubeflow, through the object store: before the step a container fetches its inputs into a folder of the pod, and
beside it another one puts the outputs there as soon as they are complete. So any cluster will do, with any number of nodes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

FOLDER, RUN = "/artifacts", "run-of-the-test"
RESOLVED = {"{{$.pipeline_job_uuid}}": RUN}
"""What Kubeflow's driver puts in the place of a constant that is a task's input; in a command nobody puts anything in its place."""
CARRIER = """
import signal, sys, time
from pathlib import Path
import boto3

signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the first process of a container has no default
action, *pairs = sys.argv[1:]
store = boto3.client("s3")
for folder, prefix in (pair.split("=") for pair in pairs):
    root = Path(folder)
    if action == "get":
        pages = store.get_paginator("list_objects_v2").paginate(Bucket="gateline", Prefix=prefix + "/")
        names = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        assert names, f"nothing at {prefix}"
        for name in names:
            target = root / name.removeprefix(prefix + "/")
            target.parent.mkdir(parents=True, exist_ok=True)
            store.download_file("gateline", name, str(target))
    else:
        while not (root / "manifest.json").exists():
            time.sleep(0.2)
        for path in sorted(root.rglob("*"), key=lambda path: path.name == "manifest.json"):
            if path.is_file():
                store.upload_file(str(path), "gateline", f"{prefix}/{path.relative_to(root)}")
"""
LITTLE = {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}}
HARDENED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""What the namespace warns about where a pod lacks it, and kfp has no words for."""
READ_ONLY = {"readOnlyRootFilesystem": True}
"""Of these pods alone, not of those on Kubeflow: so it shows that a step writes to /tmp and its folders, and to nothing else."""
ARTIFACTS_OF_STEPS = {"raw", "report", "prepared", "model", "evaluation", "release"}


@dataclass(frozen=True)
class Task:
    """A task of the compiled pipeline.

    Args:
        name: e.g. ``train``.
        parameters: their values.
        inputs: artifacts that it reads.
        outputs: artifacts that it writes.
        container: image, command, resources.
        pod: what kfp-kubernetes says of it.
    """

    name: str
    parameters: Mapping[str, Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    container: Mapping[str, Any]
    pod: Mapping[str, Any] = field(default_factory=dict)


def tasks_of(compiled: Path, arguments: Mapping[str, Any]) -> list[Task]:
    """Read the tasks of a compiled pipeline in an order that it allows, with the arguments of one run."""
    pipeline, platform = yaml.safe_load_all(compiled.read_text(encoding="utf-8"))
    pods = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    given = {
        name: arguments.get(name, definition.get("defaultValue"))
        for name, definition in pipeline["root"]["inputDefinitions"]["parameters"].items()
    }
    return list(_walk(pipeline, pods, pipeline["root"]["dag"], given))


def _walk(pipeline: Mapping[str, Any], pods: Mapping[str, Any], dag: Mapping[str, Any], given: Any) -> Iterator[Task]:
    done: set[str] = set()
    while len(done) < len(dag["tasks"]):
        ready = [
            name
            for name, task in dag["tasks"].items()
            if name not in done and set(task.get("dependentTasks", [])) <= done
        ]
        assert ready, "tasks that wait for each other"
        for name in ready:
            done.add(name)
            task = dag["tasks"][name]
            component = pipeline["components"][task["componentRef"]["name"]]
            values = {key: _value(spec, given) for key, spec in task.get("inputs", {}).get("parameters", {}).items()}
            if "dag" in component:
                yield from _walk(pipeline, pods, component["dag"], values)
                continue
            label = component["executorLabel"]
            yield Task(
                name,
                values,
                tuple(task.get("inputs", {}).get("artifacts", {})),
                tuple(component.get("outputDefinitions", {}).get("artifacts", {})),
                pipeline["deploymentSpec"]["executors"][label]["container"],
                pods.get(label, {}),
            )


def _value(spec: Mapping[str, Any], given: Mapping[str, Any]) -> Any:
    if "componentInputParameter" in spec:
        return given[spec["componentInputParameter"]]
    constant = spec.get("runtimeValue", {}).get("constant")
    return RESOLVED.get(constant, constant) if isinstance(constant, str) else constant


def _filled(text: str, task: Task) -> str:
    """Put values in the place of the placeholders that Kubeflow's launcher knows: inputs, outputs, and all of them as JSON."""

    def parameter(match: re.Match[str]) -> str:
        value = task.parameters[match[1]]
        if isinstance(value, str):
            return _filled(value, task)
        return f"{value:g}" if isinstance(value, float) else json.dumps(value)

    if text == "{{$}}":
        return json.dumps(executor_input(task))
    text = re.sub(r"\{\{\$\.inputs\.parameters\['([^']+)'\]\}\}", parameter, text)
    text = re.sub(r"\{\{\$\.(?:inputs|outputs)\.artifacts\['([^']+)'\]\.path\}\}", rf"{FOLDER}/\1", text)
    text = re.sub(r"\{\{\$\.outputs\.parameters\['([^']+)'\]\.output_file\}\}", r"/tmp/kfp/outputs/\1", text)
    assert "{{$" not in text, text
    return text


def executor_input(task: Task) -> dict[str, Any]:
    """What Kubeflow tells a container about its inputs and outputs."""

    def artifacts(names: tuple[str, ...]) -> dict[str, Any]:
        return {name: {"artifacts": [{"name": name, "uri": f"s3://gateline/{name}", "metadata": {}}]} for name in names}

    return {
        "inputs": {"parameterValues": {}, "artifacts": artifacts(task.inputs)},
        "outputs": {"artifacts": artifacts(task.outputs), "outputFile": "/tmp/executor/output_metadata.json"},
    }


def step_pod(task: Task, name: str, carrier: str, places: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Write the pod of a step.

    Args:
        task: what it does.
        name: of the pod.
        carrier: image with boto3, which carries artifacts.
        places: where artifacts lie in the bucket, if not under their own names.
    """
    where = {kind: f"run/{kind}" for kind in ARTIFACTS_OF_STEPS} | dict(places or {})
    inputs = [f"{FOLDER}/{kind}={where[kind]}" for kind in task.inputs]
    outputs = [f"{FOLDER}/{kind}={where[kind]}" for kind in task.outputs if kind in ARTIFACTS_OF_STEPS]
    mounts = [{"name": "artifacts", "mountPath": FOLDER}, {"name": "tmp", "mountPath": "/tmp"}]
    volumes: list[dict[str, Any]] = [{"name": "artifacts", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}]
    own_mounts = list(mounts)
    for each in task.pod.get("emptyDirMounts", []):
        own_mounts.append({"name": each["volumeName"], "mountPath": each["mountPath"]})
        limit = {"sizeLimit": each["sizeLimit"]} if "sizeLimit" in each else {}
        volumes.append({"name": each["volumeName"], "emptyDir": {"medium": each["medium"], **limit}})
    security = task.pod["securityContext"]
    user = {
        "runAsUser": int(security["runAsUser"]),
        "runAsGroup": int(security["runAsGroup"]),
        "runAsNonRoot": security["runAsNonRoot"],
        **HARDENED,
        **READ_ONLY,
    }

    def carries(called: str, *words: str) -> dict[str, Any]:
        return {
            "name": called,
            "image": carrier,
            "command": ["python", "-c", CARRIER, *words],
            "env": [*_env_of("configMap", task.pod), *_env_of("secret", task.pod)],
            "resources": LITTLE,
            "securityContext": user,
            "volumeMounts": mounts,
        }

    spec = {
        "restartPolicy": "Never",
        "serviceAccountName": "pipeline-runner",
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 60,
        "activeDeadlineSeconds": int(task.pod["activeDeadlineSeconds"]),
        "securityContext": {"fsGroup": user["runAsGroup"]},
        "initContainers": [carries("fetch", "get", *inputs)] if inputs else [],
        "containers": [
            {
                "name": "main",
                "image": task.container["image"].partition("@")[
                    0
                ],  # as the nodes have it; the digest is that of its tag
                "command": [_filled(word, task) for word in task.container["command"]],
                "env": [
                    *task.container.get("env", []),
                    *_env_of("configMap", task.pod),
                    *_env_of("secret", task.pod),
                    *(
                        {"name": each["name"], "valueFrom": {"fieldRef": {"fieldPath": each["fieldPath"]}}}
                        for each in task.pod.get("fieldPathAsEnv", [])
                    ),
                ],
                "resources": _resources(task),
                "securityContext": user,
                "volumeMounts": own_mounts,
            },
            *([carries("keep", "put", *outputs)] if outputs else []),
        ],
        "volumes": volumes,
    }
    own = task.pod.get("podMetadata", {}).get("labels", {})
    labels = {"workflows.argoproj.io/workflow": "test", "pipeline/runid": RUN, **own}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}


def _env_of(kind: str, pod: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    of = {"configMap": ("configMapKey", "configMapKeyRef"), "secret": ("secretKey", "secretKeyRef")}
    key, reference = of[kind]
    for each in pod.get(f"{kind}AsEnv", []):
        name = each[f"{kind}Name"]
        for pair in each["keyToEnv"]:
            source = {"name": name, "key": pair[key], "optional": each.get("optional", False)}
            yield {"name": pair["envVar"], "valueFrom": {reference: source}}


def _resources(task: Task) -> dict[str, Any]:
    asked = task.container["resources"]
    found: dict[str, Any] = {}
    for kind, word in (("requests", "Request"), ("limits", "Limit")):
        found[kind] = {what: _filled(str(asked[f"resource{what.title()}{word}"]), task) for what in ("cpu", "memory")}
    accelerator = asked.get("accelerator")
    if accelerator and (count := _filled(accelerator["resourceCount"], task)) != "0":
        found["limits"][_filled(accelerator["resourceType"], task)] = count
    return found
