"""What is found by name in a project."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateline.adapters.project import Project
from gateline.errors import WorkloadError


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
