"""Every overlay of infra/kubernetes is what Kubernetes takes and what a careful operator lets in; no cluster is needed."""

from __future__ import annotations

import copy
import functools
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT
from tests.infra.policy import faults, pods_of

FOLDER = ROOT / "infra" / "kubernetes"
OVERLAYS = sorted(path.name for path in (FOLDER / "overlays").iterdir())
VERSIONS = ("1.25", "1.34")
"""The oldest that the newest kinds need, and one of the newest."""
OF_OTHERS = ("trainer.kubeflow.org", "monitoring.coreos.com")

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl on this machine to run kustomize")


@functools.cache
def rendered(overlay: str) -> list[dict[str, Any]]:
    done = subprocess.run(["kubectl", "kustomize", FOLDER / "overlays" / overlay], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def named(manifests: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    return next(each for each in manifests if each["kind"] == kind and each["metadata"]["name"] == name)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kubernetes_takes_every_manifest(overlay: str, version: str) -> None:
    import kubernetes_validate

    manifests = [each for each in rendered(overlay) if each["apiVersion"].split("/")[0] not in OF_OTHERS]
    for manifest in manifests:
        kubernetes_validate.validate(manifest, version, strict=True)
    misspelt = copy.deepcopy(named(manifests, "Deployment", "mlflow"))
    misspelt["spec"]["replica"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(misspelt, version, strict=True)


@pytest.mark.parametrize("overlay", ["dev", "prod"])
def test_the_trainer_takes_its_runtime(overlay: str) -> None:
    from kubeflow_trainer_api import models

    runtime = named(rendered(overlay), "TrainingRuntime", "torch-distributed")
    # What the types do not know they leave out, so nothing may be missing afterwards.
    assert models.TrainerV1alpha1TrainingRuntime.from_dict(runtime).to_dict() == runtime


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_overlay_breaks_the_policy(overlay: str) -> None:
    assert faults(rendered(overlay), pinned=overlay == "prod") == []


def of_mlflow(manifests: list[dict[str, Any]]) -> dict[str, Any]:
    pod: dict[str, Any] = named(manifests, "Deployment", "mlflow")["spec"]["template"]["spec"]
    return pod


def container(manifests: list[dict[str, Any]]) -> dict[str, Any]:
    first: dict[str, Any] = of_mlflow(manifests)["containers"][0]
    return first


Change = Callable[[list[dict[str, Any]]], object]
BREAKS: dict[str, tuple[Change, str]] = {
    "root": (lambda m: of_mlflow(m)["securityContext"].update(runAsNonRoot=False), "may run as root"),
    "no seccomp": (lambda m: of_mlflow(m)["securityContext"].pop("seccompProfile"), "no seccomp profile"),
    "of the node": (lambda m: of_mlflow(m).update(hostNetwork=True), "shares a namespace with its node"),
    "host path": (
        lambda m: of_mlflow(m)["volumes"].append({"name": "v", "hostPath": {"path": "/"}}),
        "the volume v is a folder of its node",
    ),
    "token": (lambda m: of_mlflow(m).pop("automountServiceAccountToken"), "has a token of its service account"),
    "no account": (lambda m: of_mlflow(m).pop("serviceAccountName"), "runs as 'default', which is no account"),
    "privileges": (
        lambda m: container(m)["securityContext"].pop("allowPrivilegeEscalation"),
        "mlflow: may gain privileges",
    ),
    "writes": (lambda m: container(m)["securityContext"].pop("readOnlyRootFilesystem"), "may write to its root"),
    "capabilities": (
        lambda m: container(m)["securityContext"]["capabilities"].update(add=["NET_ADMIN"]),
        "keeps capabilities",
    ),
    "no limits": (lambda m: container(m)["resources"].pop("limits"), "no limits of cpu and memory"),
    "no probe": (lambda m: container(m).pop("readinessProbe"), "no readinessProbe"),
    "tag": (lambda m: container(m).update(image="mlflow:v3"), "may be another one tomorrow"),
    "secret in sight": (
        lambda m: container(m)["env"].append({"name": "PGPASSWORD", "value": "x"}),
        "the variable PGPASSWORD holds its value",
    ),
    "no such key": (
        lambda m: container(m)["env"][1]["valueFrom"]["secretKeyRef"].update(key="passwort"),
        "PGPASSWORD: postgres.passwort is not there",
    ),
    "no such config": (
        lambda m: container(m)["envFrom"][0]["configMapRef"].update(name="nowhere"),
        "envFrom: nowhere is not there",
    ),
    "all rights": (
        lambda m: named(m, "Role", "several-nodes")["rules"][0].update(verbs=["*"]),
        "a right to everything",
    ),
    "secrets": (
        lambda m: named(m, "Role", "onlooker")["rules"][0]["resources"].append("secrets"),
        "Role/onlooker: a right to secrets",
    ),
    "open": (lambda m: m.remove(named(m, "NetworkPolicy", "nothing-by-default")), "no NetworkPolicy closes"),
    "GPUs": (
        lambda m: named(m, "ResourceQuota", "gateline")["spec"]["hard"].pop("requests.nvidia.com/gpu"),
        "no ResourceQuota limits the GPUs",
    ),
    "outside": (lambda m: named(m, "Service", "mlflow")["spec"].update(type="NodePort"), "reached from outside"),
    "nobody": (
        lambda m: named(m, "Service", "mlflow")["spec"]["selector"].update(none="such"),
        "Service/mlflow: selects no pod",
    ),
    "secret": (
        lambda m: m.append({"kind": "Secret", "metadata": {"name": "s", "namespace": "gateline"}}),
        "Secret/s: stands in git",
    ),
}


@pytest.mark.parametrize("case", BREAKS)
def test_the_policy_sees_what_is_wrong(case: str) -> None:
    change, says = BREAKS[case]
    manifests = copy.deepcopy(rendered("prod"))
    change(manifests)
    found = faults(manifests, pinned=True)
    assert len(found) == 1
    assert says in found[0]


def test_the_runtime_fits_the_steps() -> None:
    """Nodes of a training get what the steps of the pipeline get: ConfigMap, Secret and user have one name each."""
    from pipelines.training import CONFIG, KEYS, SECRET, TRACKING, USER
    from tests.infra.policy import SECRETS

    pod = next(pods_of(named(rendered("prod"), "TrainingRuntime", "torch-distributed")))["spec"]
    text = yaml.safe_dump(pod)
    assert f"name: {CONFIG}" in text
    assert f"name: {SECRET}" in text
    assert TRACKING in named(rendered("prod"), "ConfigMap", CONFIG)["data"]
    assert set(KEYS) == SECRETS[SECRET]
    users = {each["spec"]["securityContext"]["runAsUser"] for m in rendered("prod") for each in pods_of(m)}
    assert users == {USER, 999}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_pods_that_tell_a_webhook_reach_it_and_no_other_pod_does(overlay: str) -> None:
    from pipelines.training import TELLS, WEBHOOK_SECRET
    from tests.infra.policy import SECRETS, labels

    way = named(rendered(overlay), "NetworkPolicy", "webhook")["spec"]
    assert way["podSelector"] == {"matchLabels": TELLS}
    assert way["policyTypes"] == ["Egress"]
    [rule] = way["egress"]
    assert rule["to"] == [{"namespaceSelector": {"matchLabels": {"gateline-listens": "true"}}}]
    assert not [m for m in rendered(overlay) for pod in pods_of(m) if TELLS.items() <= labels(pod).items()]
    assert SECRETS[WEBHOOK_SECRET] == {"address"}


def test_every_secret_is_made_by_what_operations_says(root: Path) -> None:
    from tests.infra.policy import SECRETS

    text = (root / "docs" / "operations.md").read_text(encoding="utf-8")
    made = re.findall(r"create secret generic (\S+) (--from.*)", text)
    assert {name for name, _ in made} == SECRETS.keys()
    for name, flags in made:
        assert set(re.findall(r"--from-(?:file|literal)=(\w+)", flags)) == SECRETS[name]


def test_serving_ends_no_request() -> None:
    """What drains needs the time that docs/serving.md names, after the time in which a service may still send something."""
    serving = named(rendered("prod"), "Deployment", "serving")["spec"]
    pod = serving["template"]["spec"]
    still_sent = int(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] >= 90 + still_sent + 10
    assert serving["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_every_alarm_is_explained(root: Path) -> None:
    text = (root / "docs" / "operations.md").read_text(encoding="utf-8")
    rules = [
        rule
        for group in named(rendered("prod"), "PrometheusRule", "gateline")["spec"]["groups"]
        for rule in group["rules"]
    ]
    explained = set(re.findall(r"^\| `([A-Z]\w+)` \|", text, re.MULTILINE))
    assert explained == {rule["alert"] for rule in rules}
    known = {(each["kind"].lower(), each["metadata"]["name"]) for each in rendered("prod")}
    for rule in rules:
        assert 'namespace="gateline"' in rule["expr"], rule["alert"]
        for kind, name in re.findall(r'(deployment|statefulset|cronjob)="([\w-]+)"', rule["expr"]):
            assert (kind, name) in known
