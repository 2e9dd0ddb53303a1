"""Every overlay of infra/kubernetes is what Kubernetes takes and what a careful operator lets in; no cluster is needed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT
from tests.infra.overlays import FOLDER, HOUSE, OVERLAYS, is_edited, named, overlay, rendered, stores
from tests.infra.policy import faults, labels, pods_of
from tests.infra.schema import VERSIONS, refused

BY_TAG = "test"
"""The overlay whose images the test of the cluster names."""
COPIED = {"dev": "dev", "prod": "prod", "drill": "prod"}
"""Overlays in which an example may be forgotten, by the one that is edited."""
ALONE = FOLDER / "kubeflow-alone"

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl on this machine to run kustomize")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "folder", [*(FOLDER / "overlays" / name for name in OVERLAYS), ALONE, HOUSE], ids=lambda f: f.name
)
def test_kubernetes_takes_every_manifest(folder: Path, version: str) -> None:
    manifests = rendered(folder)
    assert refused(manifests, version) == []
    manifests[0]["metadata"]["nam"] = "misspelt"
    assert len(refused(manifests, version)) == 1


def test_the_trainer_takes_its_runtime() -> None:
    from kubeflow_trainer_api import models

    runtime = named(rendered(HOUSE), "TrainingRuntime", "torch-distributed")
    # What the types do not know they leave out, so nothing may be missing afterwards.
    assert models.TrainerV1alpha1TrainingRuntime.from_dict(runtime).to_dict() == runtime


@pytest.mark.parametrize("name", OVERLAYS)
def test_no_overlay_breaks_the_policy(name: str) -> None:
    edited = name in COPIED and is_edited(COPIED[name])
    assert faults(overlay(name), pinned=name != BY_TAG, edited=edited) == []


@pytest.mark.parametrize(
    "folder", [*(FOLDER / "overlays" / name for name in ("dev", "prod")), ALONE], ids=lambda f: f.name
)
def test_every_image_of_an_example_is_marked_and_is_one_that_the_push_makes(folder: Path) -> None:
    from infra.images.content import STEPS
    from infra.images.servers import SERVERS

    text = (folder / "kustomization.yaml").read_text(encoding="utf-8")
    assert re.search("^images: # EDIT", text, re.MULTILINE)
    for image in yaml.safe_load(text)["images"]:
        made = image["newName"].rpartition("/")[2]
        assert made in {f"gateline-{name}" for name in (*STEPS, *SERVERS)} or image["newName"].startswith("docker.io/")
        assert "digest" in image


def test_what_a_kubeflow_without_profiles_gets_keeps_the_policy() -> None:
    manifests = rendered(ALONE)
    assert faults(manifests, pinned=True, whole=False) == []
    assert {each["metadata"]["namespace"] for each in manifests} == {"kubeflow"}
    for binding in (
        each for each in manifests if each["kind"] == "RoleBinding"
    ):  # none where several nodes are left out
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "pipeline-runner", "namespace": "kubeflow"}]
    address = named(manifests, "ConfigMap", "gateline")["data"]["MLFLOW_TRACKING_URI"]
    assert re.fullmatch(r"http://mlflow\.[\w-]+\.svc:5000", address)
    assert "mlflow.*.svc:*" in stores(rendered(HOUSE))["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")


def test_an_upgrade_meets_nothing_that_cannot_be_changed() -> None:
    """The template of a Job cannot be, so `kubectl apply` with another image would fail."""
    for name in OVERLAYS:
        assert not [each["metadata"]["name"] for each in overlay(name) if each["kind"] == "Job"]


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
    "sidecar": (
        lambda m: named(m, "Deployment", "mlflow")["spec"]["template"]["metadata"]["labels"].pop(
            "sidecar.istio.io/inject"
        ),
        "gets a sidecar where there is a mesh",
    ),
    "no authority": (
        lambda m: container(m)["volumeMounts"].pop(),
        "mlflow: does not have the authority of the database",
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
    manifests = rendered(HOUSE)
    change(manifests)
    found = faults(manifests, pinned=True)
    assert len(found) == 1
    assert says in found[0]


def test_the_runtime_fits_the_steps() -> None:
    """Nodes of a training get what the steps of the pipeline get: ConfigMap, Secret and user have one name each."""
    from pipelines.training import CONFIG, KEYS, SECRET, TRACKING, USER
    from tests.infra.policy import SECRETS

    pod = next(pods_of(named(rendered(HOUSE), "TrainingRuntime", "torch-distributed")))["spec"]
    text = yaml.safe_dump(pod)
    assert f"name: {CONFIG}" in text
    assert f"name: {SECRET}" in text
    assert TRACKING in named(rendered(HOUSE), "ConfigMap", CONFIG)["data"]
    assert set(KEYS) == SECRETS[SECRET]
    users = {each["spec"]["securityContext"]["runAsUser"] for m in rendered(HOUSE) for each in pods_of(m)}
    assert users == {USER, 999}


def test_the_pods_that_tell_a_webhook_have_the_label_and_no_other_pod_does() -> None:
    from pipelines.training import TELLS, WEBHOOK_SECRET
    from tests.infra.policy import SECRETS

    assert named(rendered(HOUSE), "NetworkPolicy", "webhook")["spec"]["podSelector"] == {"matchLabels": TELLS}
    assert not [m for m in rendered(HOUSE) for pod in pods_of(m) if TELLS.items() <= labels(pod).items()]
    assert SECRETS[WEBHOOK_SECRET] == {"address"}


def test_every_secret_is_made_by_what_operations_says(root: Path) -> None:
    from tests.infra.policy import SECRETS

    text = (root / "docs" / "operations.md").read_text(encoding="utf-8")
    made = re.findall(r"create secret generic (\S+) (--from.*)", text)
    assert {name for name, _ in made} == SECRETS.keys()
    for name, flags in made:
        assert set(re.findall(r"--from-(?:file|literal)=(\w+)", flags)) == SECRETS[name]


def test_the_image_of_a_server_is_named_by_all_that_it_is_made_of(tmp_path: Path) -> None:
    from infra.images.servers import SERVERS, inputs, tag_of

    for name in {name for server in SERVERS for name in inputs(server)}:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)

    def tags(base: str = "base", **arguments: str) -> dict[str, str]:
        return {server: tag_of(tmp_path, server, arguments, base) for server in SERVERS}

    before = tags()
    for changed in (tags("the same name, renewed"), tags(COMMIT="another")):
        assert all(changed[server] != before[server] for server in SERVERS)
    for file, of in {"requirements.lock": "mlflow", "infra/kubernetes/images/postgres.sh": "postgres"}.items():
        text = (tmp_path / file).read_text()
        (tmp_path / file).write_text(text + "\n")
        assert [server for server in SERVERS if tags()[server] != before[server]] == [of]
        (tmp_path / file).write_text(text)
    (tmp_path / "infra/images/install.py").write_text("")
    assert all(tags()[server] != before[server] for server in SERVERS)


@pytest.mark.parametrize("file", ["infra/images/Dockerfile", "infra/kubernetes/images/Dockerfile"])
def test_no_label_of_an_image_comes_from_the_cache_of_another_commit(file: str) -> None:
    """buildah compares the text of a LABEL, in which the argument is a name; it compares the arguments before a RUN."""
    stages = re.split("^FROM ", (ROOT / file).read_text(), flags=re.MULTILINE)
    labelled = [stage for stage in stages if re.search("^LABEL .*COMMIT", stage, re.MULTILINE)]
    assert labelled
    for stage in labelled:
        assert re.search(r'^ARG COMMIT=.*\n(ARG .*\n)*RUN : "\$\{COMMIT\}"\nLABEL ', stage, re.MULTILINE), stage


def test_serving_ends_no_request() -> None:
    """What drains needs the time that docs/serving.md names, after the time in which a service may still send something."""
    serving = named(rendered(HOUSE), "Deployment", "serving")["spec"]
    pod = serving["template"]["spec"]
    still_sent = int(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] >= 90 + still_sent + 10
    assert serving["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
