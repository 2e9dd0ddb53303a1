"""What a set of manifests must not lack or hold: the Pod Security Standard `restricted`, and what of it depends on the house."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Manifest = Mapping[str, Any]

ADDRESSES = {"MLFLOW_ARTIFACTS_DESTINATION", "BACKUP_BUCKET"}
EXAMPLE = re.compile(r"@sha256:0{64}|\bregistry\.example/|\bexample-|\.example\b")
DIGEST = re.compile(r"@sha256:[0-9a-f]{64}")
SECRETS = {
    "postgres": {"password"},
    "gateline-webhook": {"address"},
    **{name: {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} for name in ("mlflow-s3", "gateline-s3")},
}
"""Secrets that docs/operations.md has made by hand, with their keys; none stands in git."""
SECRETIVE = re.compile(r"passw|secret|token|credential|access_?key", re.IGNORECASE)
RUNS_ON = ("Deployment", "StatefulSet")
NO_SIDECAR = "sidecar.istio.io/inject"
"""In a mesh, a sidecar would want rights that the namespace refuses, and a way that its policies close; a Job would not end beside it."""
DATABASE_CA = "/etc/gateline/database"
WITH_TOKEN = {"pipeline-runner"}
"""Accounts whose pods speak to the API of Kubernetes."""


def faults(manifests: Sequence[Manifest], *, pinned: bool, whole: bool = True, edited: bool = False) -> list[str]:
    """List what is wrong with the manifests of one overlay.

    Args:
        manifests: what `kubectl kustomize` wrote.
        pinned: whether every image must be named by its digest.
        whole: whether the namespace is theirs, and not somebody else's to which they add.
        edited: whether somebody has made the overlay their own, so that no example may be left in it.
    """
    found = [*_forgotten(manifests, edited), *(_of_the_whole(manifests) if whole else ())]
    for manifest in manifests:
        name = f"{manifest['kind']}/{manifest['metadata']['name']}"
        for pod in pods_of(manifest):
            found += [f"{name}: {fault}" for fault in _of_a_pod(pod, manifests, manifest["kind"], pinned)]
        if manifest["kind"] == "Role":
            found += [f"{name}: {fault}" for fault in _of_a_role(manifest)]
    return found


def pods_of(manifest: Manifest) -> Iterator[Manifest]:
    """Give the templates of the pods that a manifest makes."""
    spec = manifest.get("spec", {})
    match manifest["kind"]:
        case "Deployment" | "StatefulSet" | "Job":
            yield spec["template"]
        case "CronJob":
            yield spec["jobTemplate"]["spec"]["template"]
        case "TrainingRuntime":
            yield from (job["template"]["spec"]["template"] for job in spec["template"]["spec"]["replicatedJobs"])


def _forgotten(manifests: Sequence[Manifest], edited: bool) -> list[str]:
    """List the examples that are left in an overlay that was edited, or where others were replaced: as it comes, it has all of them."""
    places = {}
    for manifest in manifests:
        name = f"{manifest['kind']}/{manifest['metadata']['name']}"
        for pod in pods_of(manifest):
            for container in (*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]):
                places[f"{name}: {container['name']}: the image"] = container["image"]
        if manifest["kind"] == "ConfigMap":
            of_stores = manifest.get("data", {}).items()
            places |= {f"{name}: {key}": value for key, value in of_stores if key in ADDRESSES}
    examples = {place: value for place, value in places.items() if EXAMPLE.search(value)}
    edited = edited or any(DIGEST.search(value) for value in places.values() if not EXAMPLE.search(value))
    return [f"{place} {value} is still the example" for place, value in examples.items()] if edited else []


def _of_the_whole(manifests: Sequence[Manifest]) -> Iterator[str]:
    namespaces = {each["metadata"]["name"] for each in manifests if each["kind"] == "Namespace"}
    for each in manifests:
        name = f"{each['kind']}/{each['metadata']['name']}"
        if each["kind"] in ("Secret", "ClusterRole", "ClusterRoleBinding", "ClusterTrainingRuntime"):
            yield f"{name}: stands in git, or reaches beyond the namespace"
        if each["kind"] != "Namespace" and each["metadata"].get("namespace") not in namespaces:
            yield f"{name}: in no namespace of this overlay"
        if each["kind"] == "Service" and each["spec"].get("type", "ClusterIP") != "ClusterIP":
            yield f"{name}: is reached from outside the cluster"
        if each["kind"] in ("Service", "PodDisruptionBudget"):
            selector = each["spec"]["selector"].get("matchLabels", each["spec"]["selector"])
            if not any(selector.items() <= labels(pod).items() for other in manifests for pod in pods_of(other)):
                yield f"{name}: selects no pod"
    closed = [
        each
        for each in manifests
        if each["kind"] == "NetworkPolicy"
        and not each["spec"]["podSelector"]
        and sorted(each["spec"]["policyTypes"]) == ["Egress", "Ingress"]
        and not {"ingress", "egress"} & each["spec"].keys()
    ]
    if not closed:
        yield "no NetworkPolicy closes the namespace"
    if not any(
        "requests.nvidia.com/gpu" in each["spec"]["hard"] for each in manifests if each["kind"] == "ResourceQuota"
    ):
        yield "no ResourceQuota limits the GPUs"


def labels(pod: Manifest) -> dict[str, str]:
    """Give the labels of a pod template."""
    return dict(pod.get("metadata", {}).get("labels", {}))


def _of_a_pod(pod: Manifest, manifests: Sequence[Manifest], kind: str, pinned: bool) -> Iterator[str]:
    spec = pod["spec"]
    security = spec.get("securityContext", {})
    if security.get("runAsNonRoot") is not True or not security.get("runAsUser"):
        yield "may run as root"
    if security.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "no seccomp profile"
    if any(spec.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")):
        yield "shares a namespace with its node"
    account = spec.get("serviceAccountName", "default")
    if not _named(manifests, "ServiceAccount", account):
        yield f"runs as {account!r}, which is no account of this overlay"
    if labels(pod).get(NO_SIDECAR) != "false":
        yield "gets a sidecar where there is a mesh"
    if spec.get("automountServiceAccountToken") is not False and account not in WITH_TOKEN:
        yield "has a token of its service account"
    for volume in spec.get("volumes", []):
        if "hostPath" in volume:
            yield f"the volume {volume['name']} is a folder of its node"
        config = volume.get("configMap", {"optional": True})
        if not config.get("optional") and not _named(manifests, "ConfigMap", config["name"]):
            yield f"the ConfigMap {volume['configMap']['name']} is not there"
    for container in (*spec.get("initContainers", []), *spec["containers"]):
        found = _of_a_container(container, manifests, pinned)
        yield from (f"{container['name']}: {fault}" for fault in found)
        missing = [probe for probe in ("readinessProbe", "livenessProbe", "startupProbe") if probe not in container]
        if kind in RUNS_ON and container in spec["containers"] and missing:
            yield f"{container['name']}: no {', no '.join(missing)}"


def _of_a_container(container: Manifest, manifests: Sequence[Manifest], pinned: bool) -> Iterator[str]:
    security = container.get("securityContext", {})
    if security.get("allowPrivilegeEscalation") is not False:
        yield "may gain privileges"
    if security.get("readOnlyRootFilesystem") is not True:
        yield "may write to its root file system"
    if security.get("privileged") or security.get("runAsUser") == 0 or security.get("runAsNonRoot") is False:
        yield "is privileged, or root"
    if security.get("capabilities") != {"drop": ["ALL"]}:
        yield "keeps capabilities"
    for what in ("requests", "limits"):
        if not {"cpu", "memory"} <= container.get("resources", {}).get(what, {}).keys():
            yield f"no {what} of cpu and memory"
    image = container["image"]
    if image.endswith(":latest") or (pinned and not re.fullmatch(r"[^@\s]+@sha256:[0-9a-f]{64}", image)):
        yield f"the image {image} may be another one tomorrow"
    variables = {variable["name"] for variable in container.get("env", [])}
    if "PGPASSWORD" in variables and DATABASE_CA not in {
        each["mountPath"] for each in container.get("volumeMounts", [])
    }:
        yield "does not have the authority of the database"
    for variable in container.get("env", []):
        if SECRETIVE.search(variable["name"]) and "value" in variable:
            yield f"the variable {variable['name']} holds its value"
    yield from _references(container, manifests)


def _references(container: Manifest, manifests: Sequence[Manifest]) -> Iterator[str]:
    """See that each ConfigMap and Secret is there, with the keys that are taken from it."""
    taken = [
        (*next(iter(each["valueFrom"].items())), each["name"])
        for each in container.get("env", [])
        if "valueFrom" in each
    ]
    whole = [(*pair, "envFrom") for each in container.get("envFrom", []) for pair in each.items()]
    for kind, reference, where in (*taken, *whole):
        name, key = reference.get("name"), reference.get("key")
        if kind.startswith("secret"):
            keys = SECRETS.get(name)
        elif kind.startswith("configMap"):
            of_that_name = _named(manifests, "ConfigMap", name)
            keys = None if of_that_name is None else set(of_that_name["data"])
        else:
            continue
        if keys is None or (key is not None and key not in keys and not reference.get("optional")):
            yield f"{where}: {name}{f'.{key}' if key else ''} is not there"


def _of_a_role(role: Manifest) -> Iterator[str]:
    for rule in role["rules"]:
        words = [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
        if "*" in words:
            yield "a right to everything"
        if "secrets" in rule["resources"]:
            yield "a right to secrets"
        if {"escalate", "bind", "impersonate"} & set(rule["verbs"]) or "pods/exec" in rule["resources"]:
            yield "a right to more rights"


def _named(manifests: Sequence[Manifest], kind: str, name: str) -> Manifest | None:
    return next((each for each in manifests if each["kind"] == kind and each["metadata"]["name"] == name), None)
