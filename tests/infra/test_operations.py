"""The lines of docs/operations.md that an operator pastes to back up, restore and go back: they may be pasted twice, and stop at what fails."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import textwrap
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.utils.quantity import parse_quantity

from pipelines.training import KEYS, SECRET
from tests.conftest import ROOT
from tests.infra.overlays import FOLDER, HOUSE, named, rendered, stores, write_edited
from tests.infra.policy import pods_of
from tests.infra.test_overlays import database_outside

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl on this machine")

LINES = re.findall(r"(?:^ {4,}\S.*\n)+", (ROOT / "docs" / "operations.md").read_text(encoding="utf-8"), re.MULTILINE)
JOBS = [block for block in map(textwrap.dedent, LINES) if "create job" in block]
STAND_IN = r"""#!/bin/bash
# A cluster that keeps the names of jobs and refuses one twice; it fails at the call that FAILS names.
said="$(basename "$0") $*"
[[ "$*" == *"-f -"* ]] && given=$(cat)
echo "$said" >> "$STATE/calls"
[[ "${said//1769826[0-9][0-9][0-9]/}" == "$FAILS" ]] && exit 1
[[ "$*" == *"-f -"* && -z "$given" ]] && exit 1
make() { grep -qx "$1" "$STATE/jobs" && { echo "jobs.batch \"$1\" already exists" >&2; exit 1; }; echo "$1" >> "$STATE/jobs"; }
case "$*" in
  *"create job"*--dry-run*) [[ "$*" =~ cronjob/[^\ ]+\ ([^\ ]+) ]]; echo "${BASH_REMATCH[1]}" ;;
  *"create job"*) [[ "$*" =~ cronjob/[^\ ]+\ ([^\ ]+) ]]; make "${BASH_REMATCH[1]}" ;;
  *"set env"*) echo "$given" ;;
  *"create -f -"*) make "$given" ;;
  *"wait --for=delete pod"*) ;;
  *" exec "*) while [[ "$1" != -- ]]; do shift; done; shift; POSTGRES_USER=owner POSTGRES_DB=kept "$@" ;;
  *"logs job/list-"*) sed 's|^|gateline/2026-01-31T023000Z-|; s|$|.dump|' "$STATE/jobs" ;;
  *wait*) [[ "$*" =~ job/([^\ ]+) ]]; grep -qx "${BASH_REMATCH[1]}" "$STATE/jobs" ;;
esac
"""
CLOCK = """#!/bin/bash
# Another second at every call.
echo >> "$STATE/seconds"; echo $((1769826600 + $(wc -l < "$STATE/seconds")))
"""

Paste = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def paste(tmp_path: Path) -> Paste:
    """Run lines where kubectl and git are stand-ins; give the exit code and the calls without the seconds in names."""
    (tmp_path / "bin").mkdir()
    for name, does in {"kubectl": STAND_IN, "git": STAND_IN, "psql": STAND_IN, "date": CLOCK}.items():
        (tmp_path / "bin" / name).write_text(does)
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "jobs").touch()

    def run(lines: str, fails: str = "nothing") -> tuple[int, list[str]]:
        (tmp_path / "calls").write_text("")
        path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "STATE": str(tmp_path), "FAILS": fails}
        done = subprocess.run(["bash", "-c", lines], env=environment, capture_output=True, text=True, timeout=30)
        return done.returncode, re.sub(r"1769826\d{3}", "", (tmp_path / "calls").read_text()).splitlines()

    return run


def test_lines_may_be_pasted_again_and_wait_for_the_job_that_they_made(paste: Paste) -> None:
    assert len(JOBS) == 9
    for _ in range(2):
        assert [(block, code) for block in JOBS if (code := paste(block)[0]) != 0] == []


@pytest.mark.parametrize("number", range(len(JOBS)))
def test_nothing_is_done_after_a_line_that_failed(paste: Paste, number: int) -> None:
    code, calls = paste(JOBS[number])
    assert code == 0
    assert len(calls) >= 2
    for place, call in enumerate(calls):
        code, made = paste(JOBS[number], fails=call)
        assert code != 0, call
        # What a pipe feeds begins beside what feeds it, and is fed nothing.
        assert not [later for later in calls[place + 1 :] if later in made and "-f -" not in later], call


def test_nothing_is_done_to_the_database_before_the_server_is_gone() -> None:
    """A pod that was told to stop may write for a minute more: what comes after a dump, or into one that is brought back, is lost."""
    labels = named(rendered(HOUSE), "Deployment", "mlflow")["spec"]["selector"]["matchLabels"]
    [selector] = [f"{name}={value}" for name, value in labels.items()]
    stops, gone = "scale deployment/mlflow --replicas 0 &&", f"wait --for=delete pod -l {selector} --timeout="
    blocks = [block for block in JOBS if stops in block]
    assert len(blocks) == 5
    for block in blocks:
        _, _, after = block.partition(stops)
        assert gone in after.splitlines()[1], block


def test_the_disk_is_taken_away_only_after_a_dump_of_all_that_was_written(paste: Paste) -> None:
    [block] = [block for block in JOBS if "delete persistentvolumeclaim" in block]
    code, calls = paste(block)
    assert code == 0
    words = (
        "--replicas 0",
        "--for=delete pod",
        "cronjob/backup",
        "cronjob/list-dumps",
        "logs job/list-",
        "statefulset",
    )
    places = [next(place for place, call in enumerate(calls) if word in call) for word in words]
    assert places == sorted(places)
    code, calls = paste(block.replace("logs job/$list", "logs job/another"))  # in which the dump is not
    assert code != 0
    assert not [call for call in calls if "delete statefulset" in call or "persistentvolumeclaim" in call]


def test_the_disk_is_enlarged_before_the_statefulset_is_made_anew_and_its_pod_stays(paste: Paste) -> None:
    [block] = [block for block in LINES if "--cascade=orphan" in block]
    code, calls = paste(block)
    assert code == 0
    assert [call.split(" -n gateline ")[-1].split()[:2] for call in calls] == [
        ["patch", "persistentvolumeclaim/data-postgres-0"],
        ["delete", "statefulset/postgres"],
        ["kubectl", "apply"],
        ["rollout", "status"],
    ]
    claim = json.loads(calls[0].partition("--patch ")[2])
    assert claim == {"spec": {"resources": {"requests": {"storage": "200Gi"}}}}
    for place, call in enumerate(calls):
        code, made = paste(block, fails=call)
        assert (code != 0, made) == (True, calls[: place + 1])


@pytest.mark.parametrize(
    ("row", "kind", "name"),
    [
        ("MLflow", "Deployment", "mlflow"),
        ("PostgreSQL", "StatefulSet", "postgres"),
        ("serving × 3", "Deployment", "serving"),
        ("backup, minutes a night", "CronJob", "backup"),
    ],
)
def test_what_it_costs_is_what_kubernetes_keeps_free(row: str, kind: str, name: str) -> None:
    """Of a pod: the sum of its containers, or the largest of those that run one after the other before them, if that is more."""
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    [said] = re.findall(rf"^\| {row} \| ([\d.]+) \| ([\d.]+) GiB \|", text, re.MULTILINE)
    [pod] = pods_of(named(rendered(HOUSE), kind, name))

    def asked(containers: list[dict[str, Any]], resource: str) -> list[Decimal]:
        return [parse_quantity(each["resources"]["requests"][resource]) for each in containers]

    count = int(row.partition(" × ")[2] or 1)
    first = pod["spec"].get("initContainers", [])
    kept = {
        resource: count * max([sum(asked(pod["spec"]["containers"], resource)), *asked(first, resource)])
        for resource in ("cpu", "memory")
    }
    assert (kept["cpu"], kept["memory"] / 2**30) == tuple(map(Decimal, said))


def test_the_drill_asks_the_database_that_the_overlay_names(paste: Paste) -> None:
    [block] = [block for block in JOBS if "SELECT name" in block]
    _, calls = paste(block)
    assert calls[-1].startswith("psql --username owner kept --command SELECT name")


def test_the_lines_name_what_is_there() -> None:
    manifests = rendered(HOUSE)
    for block in LINES:
        for kind, name in re.findall(r"(cronjob|deployment|statefulset)/([\w-]+)", block):
            kinds = {"cronjob": "CronJob", "deployment": "Deployment", "statefulset": "StatefulSet"}
            assert named(manifests, kinds[kind], name)
    [claim] = named(manifests, "StatefulSet", "postgres")["spec"]["volumeClaimTemplates"]
    assert any(f"persistentvolumeclaim/{claim['metadata']['name']}-postgres-0" in block for block in LINES)


def test_the_store_of_ones_own_is_told_to_kubeflow_in_its_own_words_and_by_keys_that_the_steps_have() -> None:
    """Words: `S3ProviderDefault` of kubeflow/pipelines, which drops what it does not know without a word."""
    [text] = [block for block in LINES if block.lstrip().startswith("s3:")]
    [of_all] = yaml.safe_load(text)["s3"].values()
    credentials = of_all.pop("credentials")
    assert of_all.keys() == {"endpoint", "region", "forcePathStyle", "disableSSL"}
    assert (of_all["forcePathStyle"], of_all["disableSSL"]) == (True, False)
    assert credentials.keys() == {"fromEnv", "secretRef"}
    assert credentials["fromEnv"] is False
    assert tuple(credentials["secretRef"].items()) == (
        ("secretName", SECRET),
        ("accessKeyKey", KEYS[0]),
        ("secretKeyKey", KEYS[1]),
    )


def test_the_name_of_a_dump_reaches_the_container_that_gets_it() -> None:
    [line] = {line for block in JOBS for line in re.findall(r"kubectl (set env .*?) NAME=\$name(.*?) \|", block)}
    spec = named(rendered(HOUSE), "CronJob", "restore")["spec"]["jobTemplate"]["spec"]
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "one"}, "spec": spec}
    words = ["kubectl", *line[0].split(), "NAME=gateline/one.dump", *line[1].split()]
    done = subprocess.run(words, input=json.dumps(job), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [get] = yaml.safe_load(done.stdout)["spec"]["template"]["spec"]["initContainers"]
    assert {"name": "NAME", "value": "gateline/one.dump"} in get["env"]
    assert '"$NAME"' in get["command"][-1]


def test_each_dump_is_named_by_its_namespace_and_its_job() -> None:
    for name in ("backup", "restore", "list-dumps"):
        [pod] = pods_of(named(rendered(HOUSE), "CronJob", name))
        [of_dumps] = [
            each
            for each in (*pod["spec"].get("initContainers", []), *pod["spec"]["containers"])
            if "dumps.py" in " ".join(each["command"])
        ]
        told = {
            each["name"]: each.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath") for each in of_dumps["env"]
        }
        assert told["NAMESPACE"] == "metadata.namespace"
        assert told.get("JOB") == ("metadata.labels['job-name']" if name == "backup" else None)


def test_the_backup_is_made_at_the_hour_that_the_page_says() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    [(hour, minute, zone)] = re.findall(r"Every night at (\d\d):(\d\d) (\w+) the CronJob `backup`", page)
    spec = named(rendered(HOUSE), "CronJob", "backup")["spec"]

    assert spec["schedule"] == f"{int(minute)} {int(hour)} * * *"
    assert spec["timeZone"] == f"Etc/{zone}"


@pytest.mark.parametrize("outside", [False, True], ids=["a database inside", "a database outside"])
def test_the_drill_touches_nothing_of_production(tmp_path: Path, outside: bool) -> None:
    write_edited(tmp_path / "prod", database_outside if outside else lambda _: None)
    shutil.copytree(FOLDER / "overlays" / "drill", tmp_path / "drill")
    drill = rendered(tmp_path.resolve() / "drill")

    assert named(drill, "CronJob", "backup")["spec"]["suspend"] is True
    assert {each["spec"]["replicas"] for each in drill if each["kind"] == "Deployment"} == {0}
    assert stores(drill)["PGHOST"] == "postgres"
    assert not [each for each in drill if each["kind"] == "PrometheusRule"]
    places = {each["metadata"]["name" if each["kind"] == "Namespace" else "namespace"] for each in drill}
    assert places == {"gateline-drill"}
