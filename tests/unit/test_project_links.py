"""The file of a workload is found again whatever settings the library has got since."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateline.adapters.registry.project_links import RAW_SECTIONS, ProjectLinks
from gateline.passport import code_version
from gateline.tasks.forecasting import TASK
from gateline.workload import Workload
from gateline.workload.source import Source
from gateline.workload.training import WITHOUT_EFFECT, Training
from tests.tiny import tiny_workload

BEFORE = "0" * 64


def registered_by(code: str, **settings: Any) -> ProjectLinks:
    """What is registered of the tiny workload by a library whose networks had other settings."""
    file = Workload("tiny", "forecasting", tiny_workload()["description"], "", tiny_workload())
    workload = {
        "name": "tiny",
        "task": file.task,
        "description": file.description,
        "source": file.section("source", Source).model_dump(mode="json"),
        "model": file.section("model", TASK.Model).model_dump(mode="json") | settings,
        "training": file.section("training", Training).model_dump(mode="json", exclude=WITHOUT_EFFECT),
        **{name: json.loads(text) for name, text in file.recorded(*RAW_SECTIONS).items()},
    }
    workload["model"] = {name: value for name, value in workload["model"].items() if value != "not there"}
    return ProjectLinks(Path.cwd(), {"code": {"version": code}}, workload, {})


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "workloads").mkdir()
    return tmp_path


def write_file(**changes: Any) -> None:
    Path("workloads/tiny.yaml").write_text(yaml.safe_dump(tiny_workload(**changes)))


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"num_layers": 7}, "model.num_layers"),  # its default was another
        ({"num_layers": "not there"}, "model.num_layers"),  # it is new
        ({"peepholes": True}, "model.peepholes"),  # it is no more
    ],
)
def test_a_setting_that_the_library_changed_breaks_no_older_model(settings: dict[str, Any], named: str) -> None:
    write_file()
    found = registered_by(BEFORE, **settings).workload_file()
    assert found.state == "unchecked", found
    assert named in found.words
    assert registered_by(code_version(), **settings).workload_file().state == "broken", "this very library wrote it"
    assert registered_by(BEFORE).workload_file().state == "holds"


def test_a_file_that_this_library_cannot_read_any_more_is_not_called_changed() -> None:
    write_file(model__peepholes=True)
    assert registered_by(BEFORE, peepholes=True).workload_file().state == "unchecked"
    assert registered_by(code_version()).workload_file().state == "broken"

    write_file(model__peepholes=True, gates__min_examples=1)
    found = registered_by(BEFORE, peepholes=True).workload_file()
    assert found.state == "broken", "what it writes elsewhere is compared nevertheless"
    assert "gates" in found.words


@pytest.mark.parametrize(
    ("change", "section"),
    [
        ({"model__hidden_size": 13}, "model"),
        ({"training__epochs": 4}, "training"),
        ({"source__licence": "MIT"}, "source"),
        ({"gates__min_examples": 1}, "gates"),
        ({"schema__keys": []}, "schema"),
        ({"description": "Another."}, "description"),
    ],
)
def test_what_the_file_writes_is_compared_under_any_library(change: dict[str, Any], section: str) -> None:
    write_file(**change)
    for code in (BEFORE, code_version()):
        found = registered_by(code, num_layers=7 if code == BEFORE else 1).workload_file()
        assert found.state == "broken", found
        assert section in found.words
