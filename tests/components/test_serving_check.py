"""What was registered is asked golden requests in an environment of its own; what fails is marked and not promoted."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
import yaml

from gateline.adapters import answer_requests
from gateline.adapters.registry.golden_requests import GoldenRequest, _scale
from gateline.adapters.registry.serving_check import ANSWERS_AGREE, difference, excess
from gateline.adapters.registry.serving_environment import Interpreter, environments, fresh_environment, python_for
from gateline.errors import EXIT_TRY_AGAIN, TryAgainError
from gateline.workload.gates import Serving
from tests.steps import run_here


def register(made: Path, folder: Path, workload: Path) -> int:
    target = folder / "strong"
    if not target.exists():
        shutil.copytree(made / "strong", target)
    return run_here("register", workload, target)


def with_limits(made: Path, folder: Path, **limits: Any) -> Path:
    workload = yaml.safe_load((made / "tiny.yaml").read_text())
    workload["gates"]["serving"] = limits
    path = folder / "limited.yaml"
    path.write_text(yaml.safe_dump(workload))
    return path


def version(number: str = "1") -> Any:
    return client().get_model_version("tiny", number)


def client() -> mlflow.MlflowClient:
    return mlflow.MlflowClient(os.environ["MLFLOW_TRACKING_URI"])


def test_a_model_that_fails_is_registered_marked_and_not_promoted(
    made: Path, here: Callable[[], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = here()
    assert register(made, folder, with_limits(made, folder, start_seconds=0.001)) == 2
    said = capsys.readouterr().err
    assert "gates.serving.start_seconds allows 0.001" in said
    assert len(said.splitlines()) == 1
    assert version().tags["gateline.serving_check"].startswith("failed: start_seconds")
    assert client().get_registered_model("tiny").aliases == {}

    assert register(made, folder, made / "tiny.yaml") == 0, "under other limits, it is another version"

    assert version().tags["gateline.serving_check"].startswith("failed: start_seconds")
    passed, _, measured = version("2").tags["gateline.serving_check"].partition(": ")
    assert passed == "passed"
    assert {"one row", "many rows", "longest", "missing value", "columns in another order", "wrong type"} <= set(
        json.loads(measured)["requests"]
    )
    assert 0 < json.loads(measured)["latency_ms"] < 10_000
    assert 50 < json.loads(measured)["memory_mb"] < 8192
    assert client().get_registered_model("tiny").aliases == {"champion": 2}


@pytest.mark.parametrize(("seconds", "mark"), [(1.0, "failed: no answer after"), (900.0, "")])
def test_a_version_that_never_answers_takes_more_than_it_may_unless_it_may_take_that_long(
    seconds: float, mark: str, made: Path, here: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateline.adapters.registry.serving_check.CHECK_SECONDS", 2)
    monkeypatch.setattr("subprocess.Popen.communicate", communicate_late)
    folder = here()

    code = register(made, folder, with_limits(made, folder, start_seconds=seconds, latency_ms=1))

    assert code == (2 if mark else EXIT_TRY_AGAIN)
    assert version().tags.get("gateline.serving_check", "").startswith(mark)
    assert bool(version().tags.get("gateline.serving_check")) is bool(mark)
    assert client().get_registered_model("tiny").aliases == {}


def communicate_late(process: subprocess.Popen[str], *_: Any, timeout: float | None = None) -> tuple[str, str]:
    """As a process that computes for ever; whoever waits without an end has killed it."""
    if timeout is not None:
        raise subprocess.TimeoutExpired(process.args, timeout)
    process.wait()
    return "", ""


def test_a_version_that_cannot_be_asked_keeps_its_mark(
    made: Path, here: Callable[[], Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library was upgraded since, or its files cannot be fetched: no fault of the model, and no mark of one."""
    folder = here()
    require_approval = with_limits(made, folder)
    workload = yaml.safe_load(require_approval.read_text())
    workload["gates"]["approval"] = "required"  # so that the same model is tried again: nobody is champion
    require_approval.write_text(yaml.safe_dump(workload))
    assert register(made, folder, require_approval) == 0
    mark = version().tags["gateline.serving_check"]
    assert mark.startswith("passed")

    real = metadata.version
    with monkeypatch.context() as upgraded:
        upgraded.setattr(metadata, "version", lambda name: "9.9.9" if name == "numpy" else real(name))
        assert register(made, folder, require_approval) == 0, "it is tried with its own requirements"
    assert [int(found.version) for found in client().search_model_versions("name = 'tiny'")] == [1]

    (model,) = [path.parent for path in (folder / "mlruns").rglob("MLmodel")]
    right = (model / "served_model.py").read_text()
    (model / "served_model.py").write_text(right + "# changed\n")
    assert register(made, folder, require_approval) == 2
    assert "other files than it was registered with" in capsys.readouterr().err
    assert version().tags["gateline.serving_check"].startswith("failed: other files")
    (model / "served_model.py").write_text(right)
    assert register(made, folder, require_approval) == 0
    assert version().tags["gateline.serving_check"].startswith("passed")

    model.rename(model.with_name("away"))
    capsys.readouterr()
    assert register(made, folder, require_approval) == EXIT_TRY_AGAIN
    assert "no fault of the model" in capsys.readouterr().err
    assert version().tags["gateline.serving_check"].startswith("passed")


def test_drafts_of_environments_that_were_killed_are_removed(index: Path) -> None:
    for name, seconds in (("old.tmp12", 1e9), ("new.tmp13", time.time())):
        (environments() / name / "lib").mkdir(parents=True)
        os.utime(environments() / name, (seconds, seconds))
    fresh_environment(["tiny-thing==1.0"], print)
    names = {path.name for path in environments().iterdir()}
    assert "old.tmp12" not in names
    assert "new.tmp13" in names, "another process may be at work on it"


def test_limits_are_those_of_the_workload() -> None:
    measured = {"start_seconds": 3.0, "latency_ms": 20.0, "memory_mb": 500.0}
    assert excess(measured, Serving()) is None
    for key, value in measured.items():
        assert excess(measured, Serving(**{key: value})) is None, "what is allowed may be reached"
        assert key in str(excess(measured, Serving(**{key: value / 2})))
        assert key in str(excess(measured | {key: math.nan}, Serving())), "what was not measured is no pass"


def test_what_an_environment_lacks_is_said() -> None:
    numpy, absent = f"numpy=={mlflow.__version__}", "no-such-distribution==1.0"
    here = [f"pytest=={pytest.__version__}"]
    assert answer_requests.unmet(here) == []
    (wrong, missing) = answer_requests.unmet([*here, numpy, absent])
    assert wrong.startswith(numpy)
    assert missing == f"{absent} (here none)"


def golden(expected: dict[str, Any] | None) -> GoldenRequest:
    return GoldenRequest("one row", "{}", expected)


def test_answers_are_compared_to_five_digits() -> None:
    expected = {"columns": ["shop", "sales"], "data": [["east", 100.0], ["west", None]]}

    def answer(shop: str, sales: float | None) -> dict[str, Any]:
        return {"predictions": [{"shop": shop, "sales": sales}, {"shop": "west", "sales": None}]}

    near, far = 100 * (1 + ANSWERS_AGREE / 2), 100 * (1 + 5 * ANSWERS_AGREE)
    assert difference(golden(expected), answer("east", near)) is None
    assert difference(golden(expected), answer("east", far)) == "another sales"
    assert difference(golden(expected), answer("east", None)) == "another sales"
    assert difference(golden(expected), answer("north", 100.0)) == "another shop"
    assert "rows of" in str(difference(golden(expected), {"predictions": answer("east", 100.0)["predictions"][:1]}))
    assert "the trained model answers it" in str(difference(golden(expected), {"refused": "no"}))
    assert "the trained model refuses it" in str(difference(golden(None), answer("east", 100.0)))
    assert difference(golden(None), {"refused": "no"}) is None


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e9])
def test_answers_agree_alike_in_every_unit(unit: float) -> None:
    expected = {"columns": ["number", "sales"], "data": [[100_001, 0.002 * unit], [2, 1.2 * unit]]}

    def answer(number: int, *sales: float) -> dict[str, Any]:
        rows = zip((number, 2), sales, strict=True)
        return {"predictions": [{"number": first, "sales": value * unit} for first, value in rows]}

    asked = GoldenRequest("many rows", "{}", expected, scale=1.2 * unit)
    assert difference(asked, answer(100_001, 0.002 + 2e-7, 1.2 + 2e-7)) is None, "as another CPU rounds in float32"
    assert difference(asked, answer(100_001, 0.009, 1.209)) == "another sales"
    assert difference(asked, answer(100_001, 0.002 + 5e-5, 1.2)) == "another sales"
    assert difference(asked, answer(100_000, 0.002, 1.2)) == "another number"


def test_lists_are_compared_number_by_number() -> None:
    asked = golden({"columns": ["ends"], "data": [[[1.0, [2.0, None]]], [["a"]]]})
    assert difference(asked, {"predictions": [{"ends": [1.0 + 1e-6, [2.0, None]]}, {"ends": ["a"]}]}) is None
    for other in ([1.0, [2.1, None]], [1.0, [2.0, 3.0]], [1.0, [2.0]], [1.0], 1.0, None):
        assert difference(asked, {"predictions": [{"ends": other}, {"ends": ["a"]}]}) == "another ends"


def test_the_scale_of_answers_is_that_of_their_unit() -> None:
    class Forecasts:
        input_columns = [("shop", "text", True), ("sales", "float", True), ("price", "float", True)]
        output_columns = [("shop", "text"), ("sales", "float"), ("sales_low_90", "float")]
        place_columns = ["shop"]

    predictor: Any = Forecasts()
    frames = [pd.DataFrame({"sales": [1.0, None, -40.0], "price": 900.0})]
    answers = [{"columns": ["shop", "sales", "sales_low_90"], "data": [["a", 0.1, -50.0]]}, None]
    assert _scale(predictor, frames, answers) == 50.0
    assert _scale(predictor, frames, [None]) == 40.0
    predictor.output_columns = [("sales_are_high", "text"), ("probability_yes", "float")]
    assert _scale(predictor, frames, [None]) == 1.0


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package index of one small distribution, and a cache of this test's own."""
    folder = tmp_path / "index"
    folder.mkdir()
    info = "tiny_thing-1.0.dist-info"
    with zipfile.ZipFile(folder / "tiny_thing-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny_thing.py", "ANSWER = 42\n")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-thing\nVersion: 1.0\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", f"tiny_thing.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


def test_a_fresh_environment_holds_the_requirements_and_nothing_of_this_one(index: Path) -> None:
    said: list[str] = []

    chosen = python_for("fresh", ["tiny-thing==1.0"], said.append)

    (python,) = chosen.command
    assert chosen.environment == "fresh"
    run = [python, "-I", "-c", "import tiny_thing, sys; print(tiny_thing.ANSWER, sys.prefix)"]
    answer, prefix = subprocess.run(run, check=True, capture_output=True, text=True).stdout.split()
    assert answer == "42"
    assert Path(prefix).parent == environments()
    assert subprocess.run([python, "-I", "-c", "import numpy"], capture_output=True).returncode == 1
    assert len(said) == 1
    assert python_for("fresh", ["tiny-thing==1.0"], said.append) == chosen
    assert len(said) == 1, "it is built once"


def test_an_environment_that_cannot_be_built_is_no_fault_of_the_model(index: Path) -> None:
    with pytest.raises(TryAgainError, match=r"pip to install tiny-thing==2\.0.*found ERROR") as refusal:
        fresh_environment(["tiny-thing==2.0"], print)
    assert refusal.value.exit_code == EXIT_TRY_AGAIN
    assert list(environments().iterdir()) == [], "nothing half-built is left"


def test_environments_that_nobody_used_for_a_day_are_removed_but_the_newest(index: Path) -> None:
    environments().mkdir(parents=True)
    for number in range(6):
        (environments() / str(number)).mkdir()
        used = environments() / str(number) / "last_used"
        used.touch()
        os.utime(used, (1e9 + number, 1e9 + number))
    fresh_environment(["tiny-thing==1.0"], print)
    assert {"4", "5"} < {path.name for path in environments().iterdir()}
    assert len(list(environments().iterdir())) == 3


def test_in_an_image_its_own_python_is_the_environment(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATELINE_IMAGE", "registry.example/register@sha256:" + "a" * 64)
    monkeypatch.setenv("PATH", "/nowhere")
    assert python_for("fresh", ["tiny-thing==1.0"], print) == Interpreter(
        [sys.executable], f"process in {os.environ['GATELINE_IMAGE']}"
    )
    assert not environments().exists()


def test_a_python_that_can_make_no_environment_says_that_none_was_made(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    said: list[str] = []
    assert python_for("fresh", ["tiny-thing==1.0"], said.append) == Interpreter([sys.executable], "process")
    assert len(said) == 1
    assert "not in a fresh environment" in said[0]


def test_where_an_engine_has_the_image_the_model_is_tried_in_it(
    made: Path, here: Callable[[], Path], index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine is a script that knows one image, notes its arguments and runs the command here."""
    name = "registry.example/register@sha256:" + "a" * 64
    engine = tmp_path / "bin" / "podman"
    engine.parent.mkdir()
    engine.write_text(
        f"""#!/bin/bash
echo "$@" >> {tmp_path}/arguments
[ "$1 $2 $3" = "image inspect {name}" ] && echo '[{{"RepoDigests": ["{name}"]}}]' && exit 0
while [ "$1" != "{name}" ]; do shift || exit 1; done
shift 2
exec {sys.executable} "$@"
"""
    )
    engine.chmod(0o755)
    monkeypatch.setenv("PATH", f"{engine.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("GATELINE_IMAGE", name)
    folder = here()

    assert register(made, folder, with_limits(made, folder, environment="fresh")) == 0

    inspected, ran = (tmp_path / "arguments").read_text().splitlines()
    assert inspected == f"image inspect {name}"
    assert ran.startswith("run --rm --interactive --network none --volume /")
    assert ":ro" in ran
    passed, _, measured = version().tags["gateline.serving_check"].partition(": ")
    assert passed == "passed"
    assert json.loads(measured)["environment"] == f"container of {name}"
