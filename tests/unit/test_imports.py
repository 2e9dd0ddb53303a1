"""A step runs where only its own packages are installed; and the packages of a kind stay apart."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from pipelines.stages import SEARCHED, STEPS, module_of, words_of

RunWithout = Callable[..., "subprocess.CompletedProcess[str]"]

ABSENT_IN_IMAGE_OF = {
    "ingest": {"torch", "great_expectations", "kfp", "dvc", "sklearn", "matplotlib", "typer"},
    "validate": {"torch", "kfp", "dvc", "duckdb", "sklearn", "typer"},
    "preprocess": {"great_expectations", "kfp", "dvc", "duckdb", "sklearn", "typer"},
    "train": {"great_expectations", "kfp", "dvc", "duckdb", "sklearn", "typer"},
    "evaluate": {"great_expectations", "kfp", "dvc", "duckdb", "typer"},
    "register": {"great_expectations", "kfp", "dvc", "duckdb", "typer"},
}

DOORS_AND_ADAPTERS = {"mlflow", "kfp", "dvc", "great_expectations"}


def test_every_step_has_its_list() -> None:
    assert tuple(ABSENT_IN_IMAGE_OF) == STEPS


@pytest.mark.parametrize("step", STEPS)
def test_step_starts_where_only_its_own_packages_are(
    step: str, run_without: RunWithout, root: Path, tmp_path: Path
) -> None:
    """It gets as far as its workload, and refuses one that is not there in one line."""
    command = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"][step]["cmd"]
    settings = {
        "--workload": "no_such_file.yaml",
        "--seed": "7",
        "--device": "cpu",
        "--precision": "float32",
        "--processes": "1",
    }
    flags = re.findall(r"--\w+", command)
    argv = [part for flag in flags for part in (flag, settings.get(flag, str(tmp_path / flag.strip("-"))))]
    done = run_without(ABSENT_IN_IMAGE_OF[step], "-m", f"components.{step}", *argv)
    assert done.returncode == 2, done.stderr
    assert "no such file" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_core_imports_without_the_doors(run_without: RunWithout, root: Path) -> None:
    package = root / "src" / "gateline"
    modules = sorted(
        "gateline"
        + "".join(f".{part}" for part in path.relative_to(package).with_suffix("").parts if part != "__init__")
        for path in package.rglob("*.py")
        if path.relative_to(package).parts[0] not in ("adapters", "cli.py", "cli")
    )
    code = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"
    done = run_without(DOORS_AND_ADAPTERS | {"typer", "duckdb", "fsspec"}, "-c", code, *modules)
    assert done.returncode == 0, done.stderr


def test_importing_the_library_is_cheap(run_without: RunWithout) -> None:
    done = run_without(
        {"torch", "pandas", "numpy", "pyarrow", "yaml", "pydantic"}, "-c", "import gateline, gateline.errors"
    )
    assert done.returncode == 0, done.stderr


def test_checking_the_settings_of_a_direct_forecaster_does_not_wait_for_symbolic_shapes(
    run_without: RunWithout,
) -> None:
    """What torch computes of a network on the device "meta" by Python imports sympy, more than a second at every command."""
    code = (
        "from gateline.adapters.explanation import check_sections\nfrom gateline.workload import Workload\n"
        "check_sections(Workload.read('workloads/flight_delays.yaml'))"
    )
    done = run_without({"sympy"}, "-c", code)
    assert done.returncode == 0, done.stderr


def test_modules_are_found_by_name_only_where_stages_can_follow(root: Path) -> None:
    """`pipelines.stages` follows written imports and written names; a search in another package it would miss."""
    finders = {"import_module", "__import__", "iter_modules", "walk_packages"}
    found = []
    for path in sorted((root / "src" / "gateline").rglob("*.py")):
        names = {
            node.id if isinstance(node, ast.Name) else node.attr
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Name | ast.Attribute)
        }
        says_where = any(word.startswith("gateline.") and word.endswith(".") for word in words_of(path))
        if names & finders and not says_where and module_of(path.relative_to(root).as_posix()) not in SEARCHED:
            found.append(path.name)
    assert not found, f"write the package into the name, or add it to SEARCHED in pipelines/stages.py: {found}"


def test_rooms_are_thin(root: Path) -> None:
    limits = {"__main__.py": 60, "component.py": 40}
    long = {
        str(path.relative_to(root)): lines
        for name, limit in limits.items()
        for path in (root / "components").glob(f"*/{name}")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > limit
    }
    assert not long
