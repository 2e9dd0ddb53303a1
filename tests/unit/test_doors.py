"""Every door calls the same command lines: the steps' own flags, `dvc.yaml`, `MLproject` and the Kubeflow components."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateline.workload import SECTIONS_OF_STEP
from pipelines.stages import STEPS

WRITES = {
    "ingest": "raw",
    "validate": "report",
    "preprocess": "prepared",
    "train": "model",
    "evaluate": "evaluation",
    "register": "release",
}

ONLY_BY_HAND = {"validate": {"--as-of"}}
"""Flags that a person may give and no door does."""

OF_KUBEFLOW = "--executor-input"
"""What Kubeflow alone gives, and every step takes: where it looks for outputs."""

Command = dict[str, str]  # value of each flag, in their order


def command_of(text: str, step: str) -> Command:
    """Read one command line and give the value of each flag."""
    words = shlex.split(text)
    assert words[:3] == ["python", "-m", f"components.{step}"]
    flags, values = words[3::2], words[4::2]
    assert len(flags) == len(values) == len(set(flags)), f"a flag without a value, or twice: {text}"
    return dict(zip(flags, values, strict=True))


def flags_of(step: str) -> dict[str, bool]:
    """Say which flags a step knows, and whether it must be given each."""
    parser = importlib.import_module(f"components.{step}.__main__").parser()
    return {action.option_strings[0]: action.required for action in parser._actions if action.dest != "help"}


@pytest.fixture
def stages(root: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))
    return dict(content["stages"])


@pytest.fixture
def project(root: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((root / "MLproject").read_text(encoding="utf-8")))


@pytest.fixture
def run_settings(root: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8")))


def kubeflow_command(step: str) -> Command:
    factory = getattr(importlib.import_module(f"components.{step}.component"), step)
    component = factory("registry/image@sha256:" + "0" * 64)
    return command_of(shlex.join(map(str, component.component_spec.implementation.container.command)), step)


def steps_of_command(text: str) -> dict[str, Command]:
    """Take a chain of command lines of `MLproject` apart."""
    setting, *lines = text.split(" && ")
    assert setting == 'export PATH="$PWD/.venv/bin:$PATH"'
    steps = [re.match(r"python -m components\.(\w+) ", line) for line in lines]
    return {match[1]: command_of(line, match[1]) for match, line in zip(steps, lines, strict=True) if match}


@pytest.mark.parametrize("step", STEPS)
def test_doors_agree_on_the_flags(step: str, stages: dict[str, Any], project: dict[str, Any]) -> None:
    known = flags_of(step)
    flags = [flag for flag in known if flag not in ONLY_BY_HAND.get(step, set())]
    assert list(command_of(stages[step]["cmd"], step)) == flags
    assert list(kubeflow_command(step)) == [*flags, OF_KUBEFLOW]
    assert list(steps_of_command(project["entry_points"][step]["command"])[step]) == flags
    assert not any(known[flag] for flag in ONLY_BY_HAND.get(step, set())), "a door would be refused"


@pytest.mark.parametrize("task", ["ask", "conclude"])
def test_the_tasks_beside_the_steps_are_given_their_flags(task: str) -> None:
    assert list(kubeflow_command(task)) == [*flags_of(task), OF_KUBEFLOW]


def test_main_runs_the_six_steps_in_order_with_the_same_command_lines(project: dict[str, Any]) -> None:
    entries = project["entry_points"]
    assert set(entries) == {"main", *STEPS}
    main = steps_of_command(entries["main"]["command"])
    assert tuple(main) == STEPS
    for step in STEPS:
        assert {step: main[step]} == steps_of_command(entries[step]["command"])


@pytest.mark.parametrize("step", STEPS)
def test_mlflow_and_dvc_use_the_same_values(step: str, stages: dict[str, Any], project: dict[str, Any]) -> None:
    dvc = stages[step]["cmd"].replace("${item.workload}", "{workload}").replace("${", "{")
    assert command_of(dvc, step) == steps_of_command(project["entry_points"][step]["command"])[step]


def test_defaults_of_mlflow_are_those_of_params(project: dict[str, Any], run_settings: dict[str, Any]) -> None:
    for name, entry in project["entry_points"].items():
        defaults = {key: value["default"] for key, value in entry["parameters"].items()}
        assert defaults.pop("workload") in run_settings["workloads"]
        assert defaults == ({key: run_settings[key] for key in defaults} if name in ("main", "train") else {})
        used = set(re.findall(r"\{(\w+)\}", entry["command"]))
        assert used == set(entry["parameters"])


@pytest.mark.parametrize("step", STEPS)
def test_stage_reads_and_writes_the_folders_of_its_flags(step: str, stages: dict[str, Any]) -> None:
    folders = [value for value in command_of(stages[step]["cmd"], step).values() if value.startswith("artifacts/")]
    *inputs, output = folders
    assert output == "artifacts/${item.workload}/" + WRITES[step]
    assert [each for each in stages[step]["deps"] if each.startswith("artifacts/")] == inputs
    (out,) = stages[step]["outs"]
    # DVC would bring a release back from its run cache without asking the registry, unless the stage keeps its outs.
    assert out == ({output: {"persist": True}} if step == "register" else output)


@pytest.mark.parametrize("step", STEPS)
def test_stage_depends_on_the_sections_that_its_step_sees(step: str, stages: dict[str, Any]) -> None:
    described = ["description"] if step == "evaluate" else []  # its report and model card begin with it
    sections = {"workloads/${item.workload}.yaml": ["name", "task", *described, *SECTIONS_OF_STEP[step]]}
    settings = ["seed", "device", "precision", "processes"] if step == "train" else []
    assert stages[step]["params"] == [*settings, sections]


@pytest.mark.parametrize("step", STEPS)
def test_stage_runs_for_every_workload(step: str, stages: dict[str, Any]) -> None:
    assert stages[step]["matrix"] == {"workload": "${workloads}"}
    assert tuple(stages) == STEPS


def test_every_workload_of_params_is_there(root: Path, run_settings: dict[str, Any]) -> None:
    missing = [name for name in run_settings["workloads"] if not (root / "workloads" / f"{name}.yaml").is_file()]
    assert not missing
