"""Every alarm is explained, speaks of what is there, and rings when it should."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.infra.overlays import FOLDER, HOUSE, Manifests, named, rendered
from tests.infra.policy import pods_of

ALONE = FOLDER / "kubeflow-alone"
OF_SERVERS = {
    "TrackingServerDown",
    "DatabaseDown",
    "ServingDown",
    "ServingDegraded",
    "PodKeepsRestarting",
    "BackupOld",
    "DiskAlmostFull",
}

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl on this machine to run kustomize")


def test_every_alarm_is_explained(root: Path) -> None:
    text = (root / "docs" / "operations.md").read_text(encoding="utf-8")
    rules = rules_of(rendered(HOUSE), "gateline")
    explained = set(re.findall(r"^\| `([A-Z]\w+)` \|", text, re.MULTILINE))
    assert explained == {rule["alert"] for rule in rules}
    known = {(each["kind"].lower(), each["metadata"]["name"]) for each in rendered(HOUSE)}
    for rule in rules:
        assert 'namespace="gateline"' in rule["expr"], rule["alert"]
        for kind, name in re.findall(r'(deployment|statefulset|cronjob)="([\w-]+)"', rule["expr"]):
            assert (kind, name) in known


def test_the_alarms_about_steps_are_there_where_kubeflow_alone_runs_them() -> None:
    everywhere = {rule["alert"]: rule for rule in rules_of(rendered(HOUSE), "gateline")}
    of_steps = {rule["alert"]: rule for rule in rules_of(rendered(ALONE), "gateline-steps")}
    assert of_steps.keys() == {name for name, rule in everywhere.items() if name not in OF_SERVERS}
    [node] = next(pods_of(named(rendered(ALONE), "TrainingRuntime", "torch-distributed")))["spec"]["containers"]
    for name, rule in of_steps.items():
        assert 'namespace="kubeflow"' in rule["expr"]
        assert 'namespace="gateline"' not in rule["expr"]
        assert {key: rule[key] for key in rule if key != "expr"} == {
            k: everywhere[name][k] for k in rule if k != "expr"
        }
        assert name == "GpuQuotaUsedUp" or f'container=~"main|{node["name"]}"' in rule["expr"]


def rules_of(manifests: Manifests, name: str) -> list[dict[str, Any]]:
    return [rule for group in named(manifests, "PrometheusRule", name)["spec"]["groups"] for rule in group["rules"]]


OF_THE_BACKUP = '{namespace="gateline",cronjob="backup"}'
HOUR = 3600
"""Of the alarm of a backup: hours since the CronJob was made, and since its last success; whether it rings."""
BACKUPS = {
    "new": (20, None, False),
    "never": (30, None, True),
    "well": (300, 20, False),
    "old": (300, 30, True),
}


@pytest.mark.parametrize("case", BACKUPS)
def test_a_backup_that_never_was_is_missed_as_one_that_is_old(case: str, tmp_path: Path) -> None:
    [backup] = [rule for rule in rules_of(rendered(HOUSE), "gateline") if rule["alert"] == "BackupOld"]
    # Without a success there is no series of one, so something else must be there.
    assert "or on (namespace, cronjob) kube_cronjob_created" in backup["expr"]
    made, succeeded, rings = BACKUPS[case]
    hours = made  # the clock of the test begins at 0
    series = [{"series": f"kube_cronjob_created{OF_THE_BACKUP}", "values": f"0x{hours * 2}"}]
    if succeeded is not None:
        at = (made - succeeded) * HOUR
        name = f"kube_cronjob_status_last_successful_time{OF_THE_BACKUP}"
        series.append({"series": name, "values": f"{at}x{hours * 2}"})
    labels = {"severity": "critical", "namespace": "gateline", "cronjob": "backup"}
    alert: dict[str, Any] = {"exp_labels": labels, "exp_annotations": backup["annotations"]}
    asked = {"eval_time": f"{hours}h", "alertname": "BackupOld", "exp_alerts": [alert] if rings else []}
    evaluate(backup, series, asked, tmp_path)


PENDING = """
kube_pod_status_phase{namespace="kubeflow",pod="step",phase="Pending"} 1
kube_pod_container_resource_requests{namespace="kubeflow",pod="step",container="main",resource="cpu"} 2
kube_pod_container_resource_requests{namespace="kubeflow",pod="step",container="main",resource="memory"} 4
kube_pod_container_resource_requests{namespace="kubeflow",pod="step",container="wait",resource="cpu"} 1
kube_pod_status_phase{namespace="kubeflow",pod="server",phase="Pending"} 1
kube_pod_container_resource_requests{namespace="kubeflow",pod="server",container="ml-pipeline-api-server",resource="cpu"} 1
kube_pod_status_phase{namespace="kubeflow",pod="running",phase="Pending"} 0
kube_pod_container_resource_requests{namespace="kubeflow",pod="running",container="node",resource="cpu"} 1
"""


def test_a_step_that_waits_is_told_of_and_a_server_of_kubeflow_is_not(tmp_path: Path) -> None:
    [waits] = [rule for rule in rules_of(rendered(ALONE), "gateline-steps") if rule["alert"] == "PodWaitsForRoom"]
    pairs = [line.rpartition(" ") for line in PENDING.split("\n") if line]
    series = [{"series": name, "values": f"{value}x10"} for name, _, value in pairs]
    labels = {"severity": "warning", "namespace": "kubeflow", "pod": "step", "phase": "Pending"}
    annotations = {"summary": "step has waited half an hour for a node."}
    alert = {"exp_labels": labels, "exp_annotations": annotations}
    asked = {"eval_time": "2h", "alertname": "PodWaitsForRoom", "exp_alerts": [alert]}
    evaluate(waits, series, asked, tmp_path)


def evaluate(rule: dict[str, Any], series: list[dict[str, str]], asked: dict[str, Any], folder: Path) -> None:
    """Let promtool say whether a rule rings as it should."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool on this machine (Debian's package prometheus) to evaluate the rule")
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "one", "rules": [rule]}]}))
    test = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "30m",
        "tests": [{"interval": "30m", "input_series": series, "alert_rule_test": [asked]}],
    }
    (folder / "test.yaml").write_text(yaml.safe_dump(test))
    done = subprocess.run([promtool, "test", "rules", folder / "test.yaml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
