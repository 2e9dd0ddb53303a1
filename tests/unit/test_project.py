"""What is found by name in a project."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from gateline.adapters import search
from gateline.adapters.dvc_run import run_workload
from gateline.adapters.project import Project
from gateline.adapters.search.tuned_file import how_to_run
from gateline.errors import WorkloadError

USABLE = {
    "workloads": ["tiny"],
    "seed": 7,
    "device": "cpu",
    "precision": "float32",
    "processes": 1,
    "checkpoints": "beside",
}


def project_with(folder: Path, **params: Any) -> Project:
    """A project of one workload that DVC could be asked to run."""
    (folder / "workloads").mkdir()
    (folder / ".dvc").mkdir()
    (folder / "dvc.yaml").write_text("stages: {}\n")
    (folder / "workloads" / "tiny.yaml").write_text("name: tiny\ntask: forecasting\ndescription: Tiny.\n")
    (folder / "params.yaml").write_text(yaml.safe_dump({**USABLE, **params}))
    return Project(folder)


def test_a_model_that_a_budget_registered_is_found_by_its_name_and_a_workload_of_that_name_comes_first(
    tmp_path: Path,
) -> None:
    project = Project(tmp_path)
    (tmp_path / "workloads").mkdir()
    own, made = project.workload_path("tiny"), project.budget_path("tiny_smoke")
    made.parent.mkdir(parents=True)
    for path in (own, made):
        path.write_text("name: of no matter")

    assert project.resolve_registered("tiny") == own
    assert project.resolve_registered(str(own)) == own
    assert project.resolve_registered("tiny_smoke") == made
    with pytest.raises(WorkloadError, match="no such workload"):
        project.resolve("tiny_smoke")
    with pytest.raises(WorkloadError, match="no such workload"):
        project.resolve_registered("tiny_smok")
    other = project.workload_path("tiny_smoke")
    other.write_text("name: of no matter")
    assert project.resolve_registered("tiny_smoke") == other


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("seed", "seven", "a whole number from 0 to 2^63 - 1; found 'seven'"),
        ("seed", "7", "a whole number from 0 to 2^63 - 1; found '7'"),
        ("seed", 1.5, "a whole number from 0 to 2^63 - 1; found 1.5"),
        ("seed", True, "a whole number from 0 to 2^63 - 1; found True"),
        ("seed", -1, "a whole number from 0 to 2^63 - 1; found -1"),
        ("seed", None, "a whole number from 0 to 2^63 - 1; found none"),
        ("processes", 2.5, "a whole number from 1; found 2.5"),
        ("processes", 0, "a whole number from 1; found 0"),
        ("device", ["cpu"], "auto, cpu, cuda; found ['cpu']"),
        ("checkpoints", None, "an address, a folder of this machine, or beside; found none"),
        ("checkpoints", 5, "an address, a folder of this machine, or beside; found 5"),
    ],
)
def test_every_reader_of_params_yaml_refuses_a_setting_of_the_wrong_kind_alike(
    name: str, value: object, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = project_with(tmp_path, **{name: value})
    monkeypatch.setattr("gateline.adapters.dvc_run._repro", lambda *_, **__: pytest.fail("DVC was asked"))

    said = set()
    for read in (
        project.run_settings,
        lambda: search._run_settings(project),
        lambda: run_workload(project, "tiny", print),
    ):
        with pytest.raises(WorkloadError) as caught:
            read()
        said.add(str(caught.value))

    assert said == {f"{tmp_path}/params.yaml: {name}: expected {expected}. Correct it."}


def test_settings_that_can_be_used_are_read_and_a_missing_one_is_named(tmp_path: Path) -> None:
    project = project_with(tmp_path, seed=2**63 - 1)
    assert project.run_settings().seed == 2**63 - 1
    params = {name: value for name, value in USABLE.items() if name != "precision"}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    with pytest.raises(WorkloadError, match="found no precision"):
        project.run_settings()
    with pytest.raises(WorkloadError, match="found no precision"):
        search._run_settings(project)


def test_a_tuned_workload_is_said_to_run_only_where_it_does(tmp_path: Path) -> None:
    project = Project(tmp_path)

    assert how_to_run(project, tmp_path / "workloads" / "zz.yaml") == "`gateline run zz`"
    assert "move it into workloads/" in how_to_run(project, tmp_path / "elsewhere" / "zz.yaml")
