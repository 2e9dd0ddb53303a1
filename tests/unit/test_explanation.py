"""`gateline check` before anything is fetched: local files that are nowhere are named, with the page that says how to get them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from gateline.adapters.explanation import _hours_left_out, explain
from gateline.adapters.project import Project
from gateline.tasks import task_named
from gateline.workload import Workload
from tests.tiny import tiny_workload

WORKLOAD = Path(__file__).parents[2] / "workloads" / "vital_signs.yaml"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    (tmp_path / "workloads").mkdir()
    (tmp_path / "workloads" / WORKLOAD.name).write_bytes(WORKLOAD.read_bytes())
    (tmp_path / "params.yaml").write_text("workloads: []\nseed: 7\n")
    monkeypatch.delenv("GATELINE_MIRROR", raising=False)
    return Project.find(tmp_path)


def absent(project: Project) -> list[str]:
    return [note for note in explain(project, "vital_signs").notes if "is not there" in note]


def test_a_file_that_nothing_fetches_is_named_while_it_is_absent(project: Project) -> None:
    (note,) = absent(project)
    assert note.startswith("data/set-a_long.csv.gz (source.files.measurements) is not there")
    assert "docs/workloads" not in note

    page = project.root / "docs" / "workloads" / "vital_signs.md"
    page.parent.mkdir(parents=True)
    page.touch()
    assert absent(project)[0].endswith("; docs/workloads/vital_signs.md says how to get it")

    (project.root / "data").mkdir()
    (project.root / "data" / "set-a_long.csv.gz").touch()
    assert absent(project) == []


def test_a_mirror_without_the_file_changes_nothing(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mirror").mkdir()
    monkeypatch.setenv("GATELINE_MIRROR", str(tmp_path / "mirror"))
    assert len(absent(project)) == 1


@pytest.mark.parametrize(
    ("frequency", "stride", "noted"),
    [
        ("1h", 1, ""),
        ("1h", 5, ""),
        ("1h", 3, "8 of the day's 24 steps"),
        ("1h", 10, "12 of the day's 24 steps"),
        ("1h", 48, "1 of the day's 24 steps"),
        ("5min", 4, "72 of the day's 288 steps"),
        ("1d", 4, ""),
        ("7d", 7, ""),
    ],
)
def test_a_stride_that_leaves_out_hours_of_the_day_is_noted(
    tmp_path: Path, project: Project, frequency: str, stride: int, noted: str
) -> None:
    """With a factor in common with the steps of a day, training never begins at some of them."""
    content = tiny_workload(schema__time={"column": "time", "frequency": frequency})
    windows = {**content["preprocess"]["windows"], "stride": 1}
    content["preprocess"]["windows"] = windows
    content["budgets"] = {"small": {"preprocess.windows": {**windows, "stride": stride}}}
    path = tmp_path / "tiny.yaml"

    notes = []
    for written in (
        content,
        {**content, "preprocess": {**content["preprocess"], "windows": {**windows, "stride": stride}}},
    ):
        path.write_text(yaml.safe_dump(written))
        workload = Workload.read(path)
        notes.append(list(_hours_left_out(workload, task_named("forecasting"))))

    in_budget, everywhere = notes
    assert [note.split(":")[0] for note in in_budget] == (["tiny_small"] if noted else [])
    assert [note.split(":")[0] for note in everywhere] == (["tiny", "tiny_small"] if noted else [])
    assert all(noted in note for note in (*in_budget, *everywhere))


def test_no_workload_but_traffic_trains_on_some_hours_of_the_day_only() -> None:
    """Origins of `traffic` are 20 minutes apart: each hour has some."""
    noted = set()
    for path in sorted(WORKLOAD.parent.glob("*.yaml")):
        workload = Workload.read(path)
        noted |= {note.split(":")[0] for note in _hours_left_out(workload, task_named(workload.task))}

    assert noted == {"traffic"}
