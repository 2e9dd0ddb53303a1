"""`gateline check` before anything is fetched: local files that are nowhere are named, with the page that says how to get them."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateline.adapters.explanation import explain
from gateline.adapters.project import Project

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
