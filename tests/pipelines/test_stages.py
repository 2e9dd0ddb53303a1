"""DVC runs again what changed and nothing else."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from gateline.workload import SECTIONS
from pipelines.stages import SOURCES, STEPS, Sources, differences

OUTS = ("raw", "report", "prepared", "model", "evaluation", "release")


def test_each_stage_lists_every_file_that_its_step_imports_and_no_other(root: Path) -> None:
    stages = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    wrong = differences(root, stages)
    assert not wrong, "run `make stages`, which changes these lines of dvc.yaml:\n" + "\n".join(wrong)


def test_what_a_step_has_nothing_to_do_with_does_not_run_it_again(root: Path) -> None:
    """An independent look: names that anyone would call foreign to a step, not what the generator finds."""
    stages = yaml.safe_load((root / "dvc.yaml").read_text())["stages"]
    foreign = {
        "ingest": ("cli.py", "cells", "tracking.py", "expectations.py"),
        "validate": ("cli.py", "cells", "models", "training.py", "ingestion.py", "registry.py"),
        "preprocess": ("cli.py", "tracking.py", "expectations.py", "ingestion.py", "evaluation.py"),
        "train": ("cli.py", "expectations.py", "ingestion.py", "registry.py", "evaluation.py", "baselines", "scoring"),
        "evaluate": ("cli.py", "expectations.py", "ingestion.py", "registry.py", "training", "training.py"),
        "register": ("cli.py", "expectations.py", "ingestion.py", "scoring"),
    }
    for step, names in foreign.items():
        listed = [dependency for dependency in stages[step]["deps"] if dependency.startswith("src/")]
        assert [d for d in listed if set(d.split("/")) & set(names)] == [], step


def test_every_data_file_is_named_by_some_step_or_by_the_command_line(root: Path) -> None:
    sources = Sources(root)
    of_steps = set().union(*(sources.of_step(step) for step in STEPS))
    command_line = "\n".join(
        path.read_text(encoding="utf-8")
        for path in (root / "src" / "gateline").rglob("*.py")
        if path.relative_to(root).as_posix() not in of_steps
    )
    orphans = [path for path in sorted(sources.data_files() - of_steps) if Path(path).name not in command_line]
    assert not orphans, "no string names these files, so no stage can depend on them"


def dvc(folder: Path, *argv: str) -> str:
    """Run DVC as the tests' own Python has it, and give what it says."""
    done = subprocess.run([sys.executable, "-m", "dvc", *argv], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def up_to_date(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the stages with one workload whose folders hold anything, all of it committed to DVC."""
    root, folder = Path(__file__).resolve().parents[2], tmp_path_factory.mktemp("stages")
    for name in ("dvc.yaml", "params.yaml", ".dvcignore"):
        shutil.copy(root / name, folder / name)
    for source in SOURCES.values():
        shutil.copytree(root / source, folder / source, ignore=shutil.ignore_patterns("__pycache__"))
    settings = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))
    write_yaml(folder / "params.yaml", {**settings, "workloads": ["tiny"]})
    sections = {section: {"setting": 1} for section in SECTIONS}
    (folder / "workloads").mkdir()
    write_yaml(
        folder / "workloads" / "tiny.yaml", {"name": "tiny", "task": "forecasting", "description": "Sales.", **sections}
    )
    for out in OUTS:
        (folder / "artifacts" / "tiny" / out).mkdir(parents=True)
        (folder / "artifacts" / "tiny" / out / "content").write_text(out, encoding="utf-8")
    dvc(folder, "init", "--no-scm", "--quiet")
    dvc(folder, "commit", "--force", "--quiet")
    return folder


def write_yaml(path: Path, content: object) -> None:
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def would_run(folder: Path) -> list[str]:
    """List the steps that see a change themselves; those after them run again only if a folder they read comes out different."""
    return re.findall(r"^Running stage '(\w+)@tiny'", dvc(folder, "repro", "--dry"), flags=re.MULTILINE)


def test_nothing_runs_again_when_nothing_changed(up_to_date: Path) -> None:
    assert would_run(up_to_date) == []


@pytest.mark.parametrize(
    ("file", "key", "runs_again"),
    [
        ("workloads/tiny.yaml", "description", ["evaluate"]),
        ("workloads/tiny.yaml", "gates", ["evaluate", "register"]),
        ("workloads/tiny.yaml", "evaluation", ["evaluate"]),
        ("workloads/tiny.yaml", "training", ["train"]),
        ("workloads/tiny.yaml", "model", ["train"]),
        ("workloads/tiny.yaml", "preprocess", ["preprocess"]),
        ("workloads/tiny.yaml", "schema", ["validate", "preprocess"]),
        ("workloads/tiny.yaml", "source", ["ingest"]),
        ("workloads/tiny.yaml", "task", list(STEPS)),
        ("params.yaml", "seed", ["train"]),
        ("params.yaml", "device", ["train"]),
        ("params.yaml", "precision", ["train"]),
    ],
)
def test_a_changed_setting_runs_again_only_the_steps_that_see_it(
    up_to_date: Path, file: str, key: str, runs_again: list[str]
) -> None:
    path = up_to_date / file
    before = path.read_text(encoding="utf-8")
    try:
        write_yaml(path, {**yaml.safe_load(before), key: {"setting": 2} if key in SECTIONS else "other"})
        assert would_run(up_to_date) == runs_again
    finally:
        path.write_text(before, encoding="utf-8")


def test_what_tools_write_into_source_folders_is_no_change(up_to_date: Path) -> None:
    cache = up_to_date / SOURCES["gateline"] / "tasks" / "__pycache__"
    cache.mkdir(parents=True, exist_ok=True)
    (cache / "x.cpython-311.pyc").write_bytes(os.urandom(8))
    assert would_run(up_to_date) == []
