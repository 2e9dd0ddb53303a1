"""The lint of compiled pipelines finds each thing that it looks for, and nothing in what is compiled here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.utils.quantity import parse_quantity

from gateline.adapters.door import run_step
from gateline.adapters.kubeflow.compiled import faults
from gateline.workload import Workload
from gateline.workload.resources import read_resources
from pipelines.compile import compile_pipeline
from pipelines.compile import parser as compile_parser
from pipelines.lint import lint, parser

IMAGE = "registry.example/gateline@sha256:" + "0" * 64


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("compiled") / "training.yaml"
    compile_pipeline(compile_parser().parse_args(["--image", IMAGE, "--output", str(file)]))
    return file.read_text(encoding="utf-8")


def container(pipeline: Any, step: str) -> Any:
    return pipeline["deploymentSpec"]["executors"][f"exec-{step}"]["container"]


def pod(platform: Any, step: str) -> Any:
    return platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"][f"exec-{step}"]


def graph_with(pipeline: Any, name: str) -> Any:
    graphs = [pipeline["root"], *pipeline["components"].values()]
    return next(graph for graph in graphs if name in graph.get("dag", {}).get("tasks", {}))


def task(pipeline: Any, name: str) -> Any:
    return graph_with(pipeline, name)["dag"]["tasks"][name]


SPOILT: dict[str, tuple[Callable[..., object], str]] = {
    "tag": (lambda p, _: container(p, "train").update(image="gateline:latest"), "train: the image 'gateline:latest'"),
    "no memory limit": (
        lambda p, _: container(p, "ingest")["resources"].pop("resourceMemoryLimit"),
        "ingest: no MemoryLimit",
    ),
    "no limits": (lambda p, _: container(p, "evaluate").pop("resources"), "evaluate: no CpuLimit"),
    "a GPU elsewhere": (
        lambda p, _: container(p, "evaluate")["resources"].update(accelerator={"resourceCount": "1"}),
        "evaluate: asks for a GPU",
    ),
    "a key in a variable": (
        lambda p, _: container(p, "train")["env"].append({"name": "AWS_SECRET_ACCESS_KEY", "value": "x"}),
        "train: the variable AWS_SECRET_ACCESS_KEY holds a value",
    ),
    "a password as parameter": (
        lambda p, _: p["root"]["inputDefinitions"]["parameters"].update(mlflow_password={"parameterType": "STRING"}),
        "the pipeline: the parameter mlflow_password",
    ),
    "one try": (lambda p, _: task(p, "train").pop("retryPolicy"), "train: is not tried again"),
    "no time": (lambda _, k: pod(k, "register").pop("activeDeadlineSeconds"), "register: may run for ever"),
    "no limit of a task beside the steps": (
        lambda p, _: container(p, "conclude").pop("resources"),
        "conclude: no CpuLimit",
    ),
    "a GPU beside the steps": (
        lambda p, _: container(p, "ask")["resources"].update(accelerator={"resourceCount": "1"}),
        "ask: asks for a GPU",
    ),
    "a cached answer of the registry": (
        lambda p, _: task(p, "register").update(cachingOptions={"enableCache": True}),
        "register: is taken from a cache",
    ),
    "an input that nobody gives": (
        lambda p, _: graph_with(p, "train")["inputDefinitions"]["parameters"].pop("train_cpu"),
        "train: asks for train_cpu, which nobody gives",
    ),
    **{
        f"the parameter {name}": (
            lambda p, _, name=name: p["root"]["inputDefinitions"]["parameters"].update(
                {name: {"parameterType": "STRING"}}
            ),
            f"the pipeline: the parameter {name} would show a secret",
        )
        for name in (
            *("aws_key", "pwd", "webhook_url", "http_auth", "key", "passphrase", "db_pass", "private_key_pem"),
            *("api_key_value", "aws_access_key_id", "connection_string", "github_pat", "sas"),
        )
    },
    **{
        f"the variable {name}": (
            lambda p, _, name=name: container(p, "train")["env"].append({"name": name, "value": "x"}),
            f"train: the variable {name} holds a value",
        )
        for name in ("DB_PASS", "GITHUB_PAT", "AZURE_STORAGE_CONNECTION_STRING", "ACCOUNTKEY", "SSH_PRIVATE_KEY")
    },
    **{
        f"a value: {value[:24]}": (
            lambda p, _, value=value: container(p, "train")["env"].append({"name": "OPTIONS", "value": value}),
            f"exec-train.container.env.2.value: {says}",
        )
        for value, says in {
            "-h db password=hunter2": "a value given to password",
            "DefaultEndpointsProtocol=https;AccountKey=hunter2": "a value given to AccountKey",
            "https://x/data.csv?token=hunter2": "a value given to token",
            "https://x/data.csv?a=1&sig=hunter2": "an address that a signature lets in",
            "https://x/data.csv?X-Amz-Signature=hunter2": "an address that a signature lets in",
            "Authorization: Bearer hunter2": "a header that lets in",
            "Bearer hunter2hunter2hunter2": "a header that lets in",
            "-----BEGIN RSA PRIVATE KEY-----\nhunter2": "a private key",
            '{"password": "hunter2"}': "a value given to password",
        }.items()
    },
    "a token in a default": (
        lambda p, _: p["root"]["inputDefinitions"]["parameters"]["device"].update(
            defaultValue="https://x/data.csv?token=hunter2"
        ),
        "root.inputDefinitions.parameters.device.defaultValue: a value given to token",
    ),
    **{
        f"a script: {script[:30]}": (
            lambda p, _, script=script: container(p, "ask").update(command=["sh", "-c", script]),
            says,
        )
        for script, says in {
            "x --password hunter2": "ask: the command gives a value to --password",
            "curl -u me:hunter2 https://x": "ask: the command gives a user and a password to -u",
            "curl -H 'Authorization: Bearer hunter2' https://x": "exec-ask.container.command.2: a header that lets in",
            "sh -c 'x --token hunter2'": "ask: the command gives a value to --token",
            """x '{"password": "hunter2"}'""": "exec-ask.container.command.2: a value given to password",
            "don't --password hunter2": "ask: the command gives a value to --password",
        }.items()
    },
    "a key that begins with a dash": (
        lambda p, _: container(p, "ask").update(command=["ask", "--api-key", "-hunter2"]),
        "ask: the command gives a value to --api-key",
    ),
    "a key of a ConfigMap": (
        lambda _, k: pod(k, "train")["configMapAsEnv"][1]["keyToEnv"].append(
            {"configMapKey": "db_pass", "envVar": "DB"}
        ),
        "train: the variable DB comes from a ConfigMap",
    ),
    **{
        f"a secret in {kind}": (
            lambda _, k, kind=kind: (
                pod(k, "train")["podMetadata"].setdefault(kind, {}).update({"x/db_pass": "hunter2"})
            ),
            f"train: {kind} have x/db_pass",
        )
        for kind in ("annotations", "labels")
    },
    **{
        f"{who} of root": (
            lambda _, k, who=who: pod(k, "train")["securityContext"].update({who: 0}),
            f"train: {who} is root's, 0",
        )
        for who in ("runAsUser", "runAsGroup")
    },
    "root by a text": (
        lambda _, k: pod(k, "train")["securityContext"].update(runAsNonRoot="false"),
        "train: may run as root",
    ),
    "a limit of bananas": (
        lambda p, _: container(p, "conclude")["resources"].update(resourceCpuLimit="1 banana", cpuLimit=None),
        "conclude: no CpuLimit",
    ),
    "a limit of an unclosed parameter": (
        lambda p, _: container(p, "train")["resources"].update(resourceMemoryLimit="{{nothing"),
        "train: no MemoryLimit",
    ),
    "another fault beside a container without a command": (
        lambda p, _: (container(p, "ask").pop("command"), container(p, "train").update(image="gateline:latest")),
        "train: the image 'gateline:latest'",
    ),
    "a second task of the registry's answer": (
        lambda p, _: graph_with(p, "ask")["dag"]["tasks"].update(
            {"ask-2": {**task(p, "ask"), "cachingOptions": {"enableCache": True}}}
        ),
        "ask-2: is taken from a cache",
    ),
    "a second executor of the registry's answer": (
        lambda p, k: (
            p["deploymentSpec"]["executors"].update({"exec-ask-2": {"container": container(p, "ask")}}),
            p["components"].update({"comp-ask-2": {**p["components"]["comp-ask"], "executorLabel": "exec-ask-2"}}),
            k["platforms"]["kubernetes"]["deploymentSpec"]["executors"].update({"exec-ask-2": pod(k, "ask")}),
            graph_with(p, "ask")["dag"]["tasks"].update(
                {
                    "ask-2": {
                        **task(p, "ask"),
                        "componentRef": {"name": "comp-ask-2"},
                        "cachingOptions": {"enableCache": True},
                    }
                }
            ),
        ),
        "ask-2: is taken from a cache",
    ),
    "a password in a default": (
        lambda p, _: p["root"]["inputDefinitions"]["parameters"]["device"].update(
            defaultValue="http://admin:hunter2@mlflow:5000"
        ),
        "root.inputDefinitions.parameters.device.defaultValue: an address with a user or a password",
    ),
    "a password in a constant": (
        lambda p, _: task(p, "train")["inputs"]["parameters"].update(
            extra={"runtimeValue": {"constant": '{"url": "s3://me:hunter2@bucket"}'}}
        ),
        "train.inputs.parameters.extra.runtimeValue.constant: an address with a user",
    ),
    "a password in a variable": (
        lambda p, _: container(p, "train")["env"].append({"name": "DATABASE_URL", "value": "postgres://u:hunter2@h"}),
        "exec-train.container.env.2.value: an address with a user",
    ),
    "a password in what Kubernetes is told": (
        lambda _, k: pod(k, "train")["podMetadata"].update(annotations={"see": "https://hunter2@git.example/x"}),
        "exec-train.podMetadata.annotations.see: an address with a user",
    ),
    "a password in a word": (
        lambda p, _: container(p, "train")["command"].append("--password=hunter2"),
        "exec-train.container.command.21: a value given to password",
    ),
    "a password in two words": (
        lambda p, _: container(p, "train").update(args=["--db-password", "hunter2"]),
        "train: the command gives a value to --db-password",
    ),
    "a password in a script": (
        lambda p, _: container(p, "ask").update(command=["sh", "-c", "PGPASSWORD=hunter2 psql"]),
        "exec-ask.container.command.2: a value given to PGPASSWORD",
    ),
    "a password from a ConfigMap": (
        lambda _, k: pod(k, "train")["configMapAsEnv"][1]["keyToEnv"].append(
            {"configMapKey": "db", "envVar": "PGPASSWORD"}
        ),
        "train: the variable PGPASSWORD comes from a ConfigMap",
    ),
    "a limit of nothing": (
        lambda p, _: container(p, "conclude")["resources"].update(resourceCpuLimit="0", cpuLimit=0.0),
        "conclude: no CpuLimit",
    ),
    "a memory limit of nothing": (
        lambda p, _: container(p, "train")["resources"].update(resourceMemoryLimit="0Gi"),
        "train: no MemoryLimit",
    ),
    "part of a mesh": (
        lambda _, k: pod(k, "register")["podMetadata"]["labels"].pop("sidecar.istio.io/inject"),
        "register: has no label sidecar.istio.io/inject of false",
    ),
    "tries that end before a training does": (
        lambda p, _: task(p, "train")["retryPolicy"].update(backoffMaxDuration="600s"),
        "train: has 600 seconds for 11 tries, each of which may take 259200",
    ),
    "the run's id in a command": (
        lambda p, _: container(p, "ask").update(command=["ask", "--run", "{{$.pipeline_job_uuid}}"]),
        "exec-ask.container.command.2: '{{$.pipeline_job_uuid}}' is filled in by nobody",
    ),
    "the run's name in an argument": (
        lambda p, _: container(p, "train").update(args=["--name={{$.pipeline_job_name}}"]),
        "exec-train.container.args.0: '--name={{$.pipeline_job_name}}' is filled in by nobody",
    ),
    "the run's id in a variable": (
        lambda p, _: container(p, "train")["env"].append({"name": "RUN", "value": "{{$.pipeline_job_uuid}}"}),
        "exec-train.container.env.2.value: '{{$.pipeline_job_uuid}}' is filled in by nobody",
    ),
    "the run's id in a part of an input": (
        lambda p, _: task(p, "ask")["inputs"]["parameters"]["run"]["runtimeValue"].update(
            constant="run {{$.pipeline_job_uuid}}"
        ),
        "ask.inputs.parameters.run.runtimeValue.constant: 'run {{$.pipeline_job_uuid}}' is filled in by nobody",
    ),
    "what Kubeflow does not know of a run": (
        lambda p, _: task(p, "ask")["inputs"]["parameters"]["run"]["runtimeValue"].update(
            constant="{{$.pipeline_root}}"
        ),
        "'{{$.pipeline_root}}' is filled in by nobody",
    ),
    "root": (lambda _, k: pod(k, "validate").pop("securityContext"), "validate: may run as root"),
}


def test_what_is_compiled_has_no_fault(text: str) -> None:
    assert faults(text) == []


@pytest.mark.parametrize(
    "value",
    [
        *(
            "passport=1",
            "--path /data --compass north",
            "a bypass, a pattern",
            "surpass=2",
            "10001:10001",
            "basic training",
        ),
        *("https://x/data.csv?page=2", "sha256:0", "patience=3", '{"keys": ["a"], "path": "x"}', "authorized users"),
    ],
)
def test_what_only_looks_like_a_secret_is_none(value: str, text: str) -> None:
    pipeline, platform = yaml.safe_load_all(text)
    container(pipeline, "train")["env"].append({"name": "PATH_OF_PASSPORTS", "value": value})
    container(pipeline, "ask")["command"] += ["sh", "-c", f"x {value}", "--user", "10001:10001"]
    assert faults(yaml.safe_dump_all([pipeline, platform])) == []


@pytest.mark.parametrize("fault", SPOILT)
def test_each_fault_is_found(fault: str, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil, says = SPOILT[fault]
    pipeline, platform = yaml.safe_load_all(text)
    spoil(pipeline, platform)
    file = tmp_path / "spoilt.yaml"
    file.write_text(yaml.safe_dump_all([pipeline, platform]), encoding="utf-8")

    assert run_step(parser(), lint, [str(file)]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert "hunter2" not in said
    assert len(said.splitlines()) == 1


def test_only_train_has_gpus_and_memory_to_share_and_every_pod_its_servers(text: str) -> None:
    pipeline, platform = yaml.safe_load_all(text)
    steps = [label.removeprefix("exec-") for label in pipeline["deploymentSpec"]["executors"]]
    assert [step for step in steps if "accelerator" in container(pipeline, step)["resources"]] == ["train"]
    assert [step for step in steps if pod(platform, step).get("emptyDirMounts")] == ["train"]
    for step in steps:
        first, second = pod(platform, step)["configMapAsEnv"]
        assert [each["envVar"] for each in first["keyToEnv"]] == ["MLFLOW_TRACKING_URI"]
        assert (first.get("optional", False), second["optional"]) == (False, True)
        variables = {each["name"]: each["value"] for each in container(pipeline, step)["env"]}
        assert variables["GATELINE_IMAGE"] == IMAGE
        assert len(variables["GATELINE_PIPELINE_DIGEST"]) == 64


def test_resources_of_a_workload(root: Path) -> None:
    workload = Workload.read(root / "workloads" / "flight_delays.yaml")
    asked = {
        "train": {
            "cpu": 4,
            "memory": "16Gi",
            "gpus": 1,
            "gpu_type": "amd.com/gpu",
            "node_selector": {"pool": "gpu", "cloud.google.com/gke-accelerator": "nvidia-tesla-t4", "spot": ""},
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}, {"operator": "Exists"}],
        }
    }
    pods = read_resources(Workload(**{**vars(workload), "sections": {**workload.sections, "resources": asked}}))

    assert (pods["train"].cpu, pods["train"].memory, pods["validate"].cpu) == ("4", "16Gi", "1")
    assert pods["train"].model_dump()["gpus"] == 1


def test_nodes_that_ask_for_other_gpus_are_refused(root: Path) -> None:
    workload = Workload.read(root / "workloads" / "flight_delays.yaml")
    sections = {
        **workload.sections,
        "training": {**workload.sections["training"], "nodes": 2},
        "resources": {"train": {"gpu_type": "amd.com/gpu"}},
    }
    with pytest.raises(ValueError, match=r"gpu_type: expected nvidia\.com/gpu where training.nodes is above 1"):
        read_resources(Workload(**{**vars(workload), "sections": sections}))


@pytest.mark.parametrize(("cpu", "memory"), [(0.5, "512k"), ("500m", "0.5Gi"), ("2", "16G"), (8, "1Ti"), (1, "64Ki")])
def test_resources_that_kubernetes_reads_are_taken(cpu: Any, memory: str, root: Path) -> None:
    workload = Workload.read(root / "workloads" / "flight_delays.yaml")
    asked = {"train": {"cpu": cpu, "memory": memory}}
    pods = read_resources(Workload(**{**vars(workload), "sections": {**workload.sections, "resources": asked}}))
    assert parse_quantity(pods["train"].memory) == parse_quantity(memory) > 0
    assert parse_quantity(pods["train"].cpu) == parse_quantity(cpu) > 0


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"trian": {"cpu": 1}}, "Did you mean 'train'?"),
        ({"train": {"memory": "16 GB"}}, "16 GB"),
        ({"train": {"memory": "512K"}}, "512K"),
        ({"train": {"memory": "0Gi"}}, "above 0"),
        ({"train": {"cpu": 0}}, "above 0"),
        ({"train": {"cpu": "0m"}}, "above 0"),
        ({"train": {"gpu": 1}}, "Did you mean 'gpus'?"),
        ({"evaluate": {"gpus": 1}}, "gpus"),
        ({"train": {"gpu_type": ""}}, "resources.train.gpu_type"),
        ({"train": {"gpu_type": "a gpu"}}, "resources.train.gpu_type"),
        ({"train": {"node_selector": {"a pool": "gpu"}}}, "resources.train.node_selector"),
        ({"train": {"node_selector": {"pool": "g p"}}}, "resources.train.node_selector.pool"),
        ({"train": {"tolerations": [{"keys": "gpu"}]}}, "Did you mean 'key'?"),
        ({"train": {"tolerations": [{"key": "gpu", "effect": "NoStart"}]}}, "resources.train.tolerations"),
        ({"train": {"tolerations": [{"key": "gpu", "operator": "Exists", "value": "x"}]}}, "no `value`"),
        ({"train": {"tolerations": [{"effect": "NoSchedule"}]}}, "a `key`"),
        ([1], "steps and what they get"),
        ({"train": 4}, "resources.train: expected a mapping of keys; found 4"),
        ({"train": "gpu"}, "resources.train: expected a mapping of keys; found 'gpu'"),
        ({"evaluate": 0}, "resources.evaluate: expected a mapping of keys; found 0"),
        ({"train": [{"cpu": 4}]}, "resources.train: expected a mapping of keys"),
    ],
)
def test_resources_that_cannot_be_are_refused(asked: Any, says: str, root: Path) -> None:
    workload = Workload.read(root / "workloads" / "flight_delays.yaml")
    with pytest.raises(ValueError, match=says.replace("?", r"\?")):
        read_resources(Workload(**{**vars(workload), "sections": {**workload.sections, "resources": asked}}))
