"""What Kubeflow's page shows of a step, and the note of how it ended, as a container writes them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateline.adapters.door import run_step
from gateline.errors import DataError, Preempted
from gateline.manifest import write_artifact


def executor_input(folder: Path, **outputs: str) -> str:
    """What Kubeflow says, with the address of each output."""
    artifacts = {
        name: {"artifacts": [{"name": name, "uri": uri, "metadata": {}, "type": {"schemaTitle": "system.Artifact"}}]}
        for name, uri in outputs.items()
    }
    return json.dumps({"inputs": {}, "outputs": {"artifacts": artifacts, "outputFile": str(folder / "out.json")}})


def run(step: Callable[[argparse.Namespace], None], *argv: str) -> int:
    parser = argparse.ArgumentParser(prog="python -m components.evaluate")
    parser.add_argument("--evaluation", type=Path)
    return run_step(parser, step, argv)


def told(folder: Path) -> dict[str, Any]:
    return {
        name: each["artifacts"][0] for name, each in json.loads((folder / "out.json").read_text())["artifacts"].items()
    }


def test_metrics_and_pages_point_into_the_folder_in_the_store(tmp_path: Path) -> None:
    here = tmp_path / "evaluation"

    def step(args: argparse.Namespace) -> None:
        assert set(vars(args)) == {"evaluation"}, "a step knows nothing of Kubeflow"
        with write_artifact(args.evaluation, "evaluation") as draft:
            draft.facts |= {"metrics": {"mae": 2.5, "undefined": None}, "verdict": {"passed": False, "reasons": []}}

    text = executor_input(
        tmp_path, evaluation="s3://b/run/evaluation", evaluation_report="s3://b/run/1", test_metrics="s3://b/run/2"
    )
    assert run(step, "--evaluation", str(here), "--executor-input", text) == 0

    outputs = told(tmp_path)
    assert outputs["evaluation"]["uri"] == "s3://b/run/evaluation"
    assert outputs["evaluation"]["metadata"]["verdict"] == "rejected"
    assert outputs["evaluation_report"]["uri"] == "s3://b/run/evaluation/report.html"
    assert outputs["test_metrics"]["metadata"] == {"mae": 2.5}
    assert outputs["test_metrics"]["uri"] == "s3://b/run/evaluation/metrics.json"
    assert json.loads((tmp_path / "outcome.json").read_text()) == {"exit_code": 0, "said": ""}


def test_of_a_training_its_best_epoch_is_shown(tmp_path: Path) -> None:
    def step(_: argparse.Namespace) -> None:
        with write_artifact(tmp_path / "model", "model") as draft:
            draft.facts |= {"best_epoch": 2, "parameters": 70}
            draft.write_json("history.json", [{"epoch": 1, "loss": 3.0}, {"epoch": 2, "loss": 1.0}])

    parser = argparse.ArgumentParser(prog="python -m components.train")
    parser.add_argument("--model", type=Path)
    text = executor_input(tmp_path, model="/o/model", training_metrics="/o/m")
    assert run_step(parser, step, ["--model", str(tmp_path / "model"), "--executor-input", text]) == 0
    assert told(tmp_path)["training_metrics"]["metadata"] == {"best_epoch": 2, "loss": 1.0, "parameters": 70}


def refuse(_: argparse.Namespace) -> None:
    raise DataError("table", expected="rows", found="none", do="Find some")


def stop(_: argparse.Namespace) -> None:
    raise Preempted("SIGTERM")


def leave(_: argparse.Namespace) -> None:
    raise SystemExit(75)


@pytest.mark.parametrize(
    ("step", "code", "says"),
    [(refuse, 2, "table: expected rows; found none. Find some."), (stop, 75, "found SIGTERM"), (leave, 75, "")],
)
def test_how_a_step_ended_stays_in_its_folder(
    step: Callable[[argparse.Namespace], None], code: int, says: str, tmp_path: Path
) -> None:
    argv = ("--executor-input", executor_input(tmp_path / "task", evaluation="/o/e"))
    if step is leave:
        with pytest.raises(SystemExit):
            run(step, *argv)
    else:
        assert run(step, *argv) == code
    note = json.loads((tmp_path / "task" / "outcome.json").read_text())
    assert note["exit_code"] == code
    assert says in note["said"]
    assert not (tmp_path / "task" / "out.json").exists()


def test_a_step_that_started_processes_and_left_with_their_0_is_done(tmp_path: Path) -> None:
    def step(_: argparse.Namespace) -> None:
        with write_artifact(tmp_path / "evaluation", "evaluation"):
            pass
        raise SystemExit(0)

    text = executor_input(tmp_path, evaluation="/o/e")
    assert run(step, "--evaluation", str(tmp_path / "evaluation"), "--executor-input", text) == 0
    assert len(told(tmp_path)["evaluation"]["metadata"]["digest"]) == 64


def test_a_bug_is_noted_and_shown(tmp_path: Path) -> None:
    def bug(_: argparse.Namespace) -> None:
        raise KeyError("lookback")

    with pytest.raises(KeyError):
        run(bug, "--executor-input", executor_input(tmp_path, evaluation="/o/e"))
    assert json.loads((tmp_path / "outcome.json").read_text()) == {"exit_code": 1, "said": "KeyError: 'lookback'"}


def test_without_kubeflow_nothing_is_written_and_other_doors_take_no_such_flag(tmp_path: Path) -> None:
    assert run(lambda _: None) == 0
    assert list(tmp_path.iterdir()) == []
    assert run(lambda _: None, "--executor-input", "{{$}}") == 2
    with pytest.raises(SystemExit):
        run_step(argparse.ArgumentParser(prog="python -m pipelines.lint"), lambda _: None, ["--executor-input", "{}"])
