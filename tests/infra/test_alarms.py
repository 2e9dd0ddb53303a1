"""Every alarm is explained, speaks of what is there, and rings when it should."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.infra.overlays import HOUSE, named, rendered

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl on this machine to run kustomize")


def test_every_alarm_is_explained(root: Path) -> None:
    text = (root / "docs" / "operations.md").read_text(encoding="utf-8")
    rules = [
        rule
        for group in named(rendered(HOUSE), "PrometheusRule", "gateline")["spec"]["groups"]
        for rule in group["rules"]
    ]
    explained = set(re.findall(r"^\| `([A-Z]\w+)` \|", text, re.MULTILINE))
    assert explained == {rule["alert"] for rule in rules}
    known = {(each["kind"].lower(), each["metadata"]["name"]) for each in rendered(HOUSE)}
    for rule in rules:
        assert 'namespace="gateline"' in rule["expr"], rule["alert"]
        for kind, name in re.findall(r'(deployment|statefulset|cronjob)="([\w-]+)"', rule["expr"]):
            assert (kind, name) in known


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
    rules = named(rendered(HOUSE), "PrometheusRule", "gateline")["spec"]
    [backup] = [rule for group in rules["groups"] for rule in group["rules"] if rule["alert"] == "BackupOld"]
    # Without a success there is no series of one, so something else must be there.
    assert "or on (namespace, cronjob) kube_cronjob_created" in backup["expr"]
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool on this machine (Debian's package prometheus) to evaluate the rule")
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
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "backup", "rules": [backup]}]}))
    test = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "30m",
        "tests": [{"interval": "30m", "input_series": series, "alert_rule_test": [asked]}],
    }
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(test))
    done = subprocess.run([promtool, "test", "rules", tmp_path / "test.yaml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
