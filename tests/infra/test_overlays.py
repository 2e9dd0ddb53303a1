"""An overlay may be edited as docs/operations.md says, and what was forgotten shows."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT
from tests.infra.overlays import edited, is_edited, production, rendered, stores, write_edited
from tests.infra.policy import DATABASE_CA, faults, pods_of
from tests.infra.schema import VERSIONS, refused

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl on this machine to run kustomize")


def without(*components: str) -> Callable[[dict[str, Any]], None]:
    """Leave components out."""

    def edit(kustomization: dict[str, Any]) -> None:
        left = [each for each in kustomization["components"] if each.rpartition("/")[2] not in components]
        assert len(left) == len(kustomization["components"]) - len(components)
        kustomization["components"] = left

    return edit


def with_(component: str) -> Callable[[dict[str, Any]], None]:
    return lambda kustomization: kustomization["components"].append(f"../../components/{component}")


def database_outside(kustomization: dict[str, Any]) -> None:
    without("postgres")(kustomization)
    kustomization["configMapGenerator"][0]["literals"] += ["PGHOST=mlflow.internal", "PGSSLMODE=verify-full"]
    kustomization["configMapGenerator"].append({"name": "database-ca", "literals": ["ca.crt=certificate"]})


def digests(kustomization: dict[str, Any]) -> None:
    for number, image in enumerate(kustomization["images"], 1):
        image |= {
            "newName": image["newName"].replace("registry.example", "registry.internal"),
            "digest": f"sha256:{number:064x}",
        }
    literals = kustomization["configMapGenerator"][0]["literals"]
    kustomization["configMapGenerator"][0]["literals"] = [each.replace("example-", "our-") for each in literals]


def store_outside(kustomization: dict[str, Any]) -> None:
    literals = [f"{name}=https://s3.internal" for name in ("AWS_ENDPOINT_URL", "MLFLOW_S3_ENDPOINT_URL")]
    kustomization["configMapGenerator"].append({"name": "gateline", "behavior": "merge", "literals": literals})


def region_of_amazons(kustomization: dict[str, Any]) -> None:
    literals = ["AWS_REGION=eu-central-1"]
    kustomization["configMapGenerator"].append({"name": "gateline", "behavior": "merge", "literals": literals})


def prometheus_that_selects(kustomization: dict[str, Any]) -> None:
    """The lines of docs/operations.md, by which a Prometheus finds the rules."""
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    [lines] = re.findall(r"(?:^ {4,}.*PrometheusRule.*\n)(?:^ {4,}\S.*\n)+", text, re.MULTILINE)
    kustomization["patches"] += yaml.safe_load(textwrap.dedent(lines))


EDITS: dict[str, Callable[[dict[str, Any]], None]] = {
    "a database outside": database_outside,
    "no Trainer, no Prometheus": without("several-nodes", "alarms"),
    "digests and buckets": digests,
    "a store that is not Amazon's": store_outside,
    "the region of Amazon's store": region_of_amazons,
    "a Prometheus that selects": prometheus_that_selects,
    "a registry that asks": with_("private-registry"),
    "a profile of Kubeflow": with_("kubeflow-profile"),
    "Kubeflow alone": with_("kubeflow-alone"),
}


def then_digests(kustomization: dict[str, Any], edit: Callable[[dict[str, Any]], None]) -> None:
    edit(kustomization)
    if edit is not digests:
        digests(kustomization)


@pytest.mark.parametrize("name", EDITS)
def test_what_operations_says_to_edit_keeps_the_policy(name: str, tmp_path: Path) -> None:
    manifests = edited(tmp_path, lambda kustomization: then_digests(kustomization, EDITS[name]))
    assert manifests != production()
    assert refused(manifests, VERSIONS[-1]) == []
    assert faults(manifests, pinned=True, edited=True) == []


@pytest.mark.parametrize("name", sorted(EDITS.keys() - {"digests and buckets", "a Prometheus that selects"}))
def test_whoever_edited_one_thing_is_told_of_every_example_that_is_left(name: str, tmp_path: Path) -> None:
    folder = write_edited(tmp_path / "overlay", EDITS[name])
    assert is_edited("prod", folder)
    found = faults(rendered(folder), pinned=True, edited=is_edited("prod", folder))
    assert all(fault.endswith("is still the example") for fault in found)
    for forgotten in (
        "registry.example/gateline-mlflow@",
        "ARTIFACTS_DESTINATION s3://example-",
        "BACKUP_BUCKET example-",
    ):
        assert any(forgotten in fault for fault in found)


def test_an_overlay_as_it_comes_is_not_edited_and_one_with_buckets_is(tmp_path: Path) -> None:
    def bucket(kustomization: dict[str, Any]) -> None:
        literals = kustomization["configMapGenerator"][0]["literals"]
        kustomization["configMapGenerator"][0]["literals"] = [each.replace("=example-", "=our-") for each in literals]

    assert not is_edited("prod", write_edited(tmp_path / "same", lambda _: None))
    assert not is_edited("dev", write_edited(tmp_path / "dev", lambda _: None, "dev"))
    assert is_edited("prod", write_edited(tmp_path / "bucket", bucket))


def test_an_edit_that_was_forgotten_is_found(tmp_path: Path) -> None:
    def forget(kustomization: dict[str, Any]) -> None:
        bucket = kustomization["configMapGenerator"][0]["literals"][1]
        digests(kustomization)
        kustomization["images"][1]["digest"] = f"sha256:{0:064x}"
        kustomization["configMapGenerator"][0]["literals"][1] = bucket

    found = faults(edited(tmp_path, forget), pinned=True)
    assert {fault.partition(" ")[0] for fault in found} >= {"StatefulSet/postgres:", "CronJob/backup:"}
    assert all(fault.endswith("is still the example") for fault in found)
    assert [fault for fault in found if "BACKUP_BUCKET example-backups" in fault]
    assert not [fault for fault in found if "gateline-mlflow" in fault or "ARTIFACTS" in fault]


def test_the_rules_carry_the_label_by_which_a_prometheus_selects(tmp_path: Path) -> None:
    [rules] = [each for each in edited(tmp_path, prometheus_that_selects) if each["kind"] == "PrometheusRule"]
    assert rules["metadata"]["labels"]["release"] == "kube-prometheus-stack"


def test_every_account_pulls_from_a_registry_that_asks(tmp_path: Path) -> None:
    accounts = [each for each in edited(tmp_path, with_("private-registry")) if each["kind"] == "ServiceAccount"]
    assert accounts
    assert all(each["imagePullSecrets"] == [{"name": "registry"}] for each in accounts)


def test_the_authority_of_a_database_outside_reaches_those_who_ask_it(tmp_path: Path) -> None:
    manifests = edited(tmp_path, database_outside)
    [authority] = [
        each["metadata"]["name"]
        for each in manifests
        if each["kind"] == "ConfigMap" and each["metadata"]["name"].startswith("database-ca")
    ]
    assert stores(manifests)["PGSSLROOTCERT"] == f"{DATABASE_CA}/ca.crt"
    volumes = [volume for each in manifests for pod in pods_of(each) for volume in pod["spec"].get("volumes", [])]
    of_it = [volume["configMap"]["name"] for volume in volumes if volume["name"] == "database-ca"]
    assert of_it == [authority] * 4
