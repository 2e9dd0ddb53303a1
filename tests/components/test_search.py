"""`gateline tune` on a small problem: trials are done once, whatever happens to the processes that do them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import mlflow
import optuna
import pytest
import torch
from mlflow.entities import Run

from gateline.adapters.progress import MEASURED
from gateline.adapters.search import Outcome
from gateline.adapters.search.study import Problem, shown_storage
from gateline.errors import DataError, GatelineError, UnreachableError
from gateline.training import train
from gateline.workload import Workload
from gateline.workload.overrides import with_settings
from tests.components import searching
from tests.components.searching import SEARCH, problem_of, run

ROOT = Path(__file__).resolve().parents[2]
TOTAL = 4

Values = list[tuple[int, dict[str, Any], float | None]]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return searching.prepare(tmp_path_factory.mktemp("prepared")).path


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path) -> Path:
    """The folder of `undisturbed`, with its MLflow."""
    folder = tmp_path_factory.mktemp("undisturbed")
    shutil.copy(mlflow_template, folder / "mlflow.db")
    return folder


@pytest.fixture(scope="module")
def undisturbed(prepared: Path, tracked: Path) -> Outcome:
    """A search that nothing happened to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tracked / 'mlflow.db'}")
        patch.chdir(tracked)
        return run(problem_of(prepared), tracked, TOTAL)[0]


@pytest.fixture
def folder(tmp_path: Path, prepared: Path, mlflow_database: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with an MLflow of its own and the prepared data."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prepared").symlink_to(prepared)
    return tmp_path


def values(outcome: Outcome) -> Values:
    return [(result.number, dict(result.settings), result.value) for result in outcome.results]


def epochs_of(history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The records without what differs from run to run: how fast it was."""
    return [{key: value for key, value in record.items() if key not in MEASURED} for record in history]


def trials_in(folder: Path, problem: Problem) -> list[optuna.trial.FrozenTrial]:
    study = optuna.load_study(study_name=problem.study_name, storage=f"sqlite:///{folder / 'studies.db'}")
    return study.get_trials()


def runs_of(problem: Problem, uri: str | None = None) -> tuple[Run, dict[str, list[Run]]]:
    """The run of the study, and those nested in it by the tag that names their trial."""
    client = mlflow.MlflowClient(uri or os.environ["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name(problem.workload.name)
    assert experiment is not None
    (parent,) = client.search_runs([experiment.experiment_id], f"tags.`gateline.study` = '{problem.study_name}'")
    nested: dict[str, list[Run]] = {}
    for each in client.search_runs([experiment.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"):
        nested.setdefault(each.data.tags["gateline.trial"].rpartition("/")[2], []).append(each)
    return parent, nested


def start(folder: Path, trials: int, processes: int = 1, **changes: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.components.searching",
            str(folder),
            str(trials),
            str(processes),
            json.dumps(changes),
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(what: Callable[[], object], process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 120
    while not what():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.02)


def test_the_present_settings_are_tried_first_and_each_value_is_that_of_its_best_epoch(undisturbed: Outcome) -> None:
    first = undisturbed.results[0]
    assert dict(first.settings) == undisturbed.problem.present
    assert [result.number for result in undisturbed.results] == list(range(TOTAL))
    for result in undisturbed.results:
        assert result.value == min(record["validation_mae"] for record in result.history)
    assert undisturbed.best is not None
    assert undisturbed.best.value == min(result.value for result in undisturbed.results if result.value is not None)
    assert undisturbed.best.number != 0


def test_training_with_the_best_settings_gives_the_same_epochs_again(undisturbed: Outcome, tmp_path: Path) -> None:
    """So the workload that is written back does what the table promises."""
    problem, best = undisturbed.problem, undisturbed.best
    assert best is not None
    model = train(with_settings(problem.workload, best.settings), problem.prepared, tmp_path / "model", problem.run)
    assert epochs_of(model.read_json("history.json")) == epochs_of(best.history)


def test_trials_are_runs_nested_in_one_of_the_study(undisturbed: Outcome, tracked: Path) -> None:
    uri = f"sqlite:///{tracked / 'mlflow.db'}"
    parent, nested = runs_of(undisturbed.problem, uri)
    assert parent.info.status == "FINISHED"
    assert undisturbed.best is not None
    assert parent.data.metrics["best_mae"] == undisturbed.best.value
    assert parent.data.tags["gateline.best_trial"] == str(undisturbed.best.number)
    assert sorted(nested) == [str(number) for number in range(TOTAL)]
    client = mlflow.MlflowClient(uri)
    assert [file.path for file in client.list_artifacts(parent.info.run_id, "workload")] == ["workload/tuned.yaml"]
    for result in undisturbed.results:
        (each,) = nested[str(result.number)]
        assert each.info.status == "FINISHED"
        assert each.data.tags["gateline.state"] == "complete"
        assert each.data.params["training.learning_rate"] == json.dumps(result.settings["training.learning_rate"])
        assert each.data.params["training.batch_size"] == "64"
        curve = [(p.step, p.value) for p in client.get_metric_history(each.info.run_id, "validation_mae")]
        assert curve == [(record["epoch"], record["validation_mae"]) for record in result.history]


def test_a_search_that_goes_on_is_the_search_that_was_not_stopped(
    folder: Path, prepared: Path, undisturbed: Outcome
) -> None:
    problem = problem_of(prepared)
    first, _ = run(problem, folder, 2)
    assert values(first) == values(undisturbed)[:2]
    second, said = run(problem, folder, TOTAL)
    assert values(second) == values(undisturbed)
    assert [line.split(":")[0] for line in said] == ["trial 2", "trial 3"]
    third, said = run(problem, folder, TOTAL)
    assert (values(third), said) == (values(second), [])


def test_another_search_space_begins_another_study(folder: Path, prepared: Path) -> None:
    run(problem_of(prepared), folder, 1)
    wider = {**SEARCH, "settings": {**SEARCH["settings"], "model.hidden_size": {"low": 4, "high": 16, "step": 4}}}
    outcome, said = run(problem_of(prepared, search=wider), folder, 1)
    assert len(said) == len(outcome.results) == 1
    assert outcome.problem.study_name != problem_of(prepared).study_name
    assert problem_of(prepared, training__batch_size=32).study_name != problem_of(prepared).study_name


@pytest.mark.slow  # starts processes
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_trial_whose_process_ended_is_gone_on_with_from_its_checkpoint(
    number: signal.Signals, folder: Path, prepared: Path
) -> None:
    changes = {"training__epochs": 6, "training__patience": 6}
    whole = folder / "whole"
    whole.mkdir()
    reference, _ = run(problem_of(prepared, **changes), whole, 2)
    process = start(folder, 2, **changes)
    checkpoint = folder / "search" / "trial-0001" / "model.checkpoint"
    wait_for(lambda: list(checkpoint.glob("*/best-*.pt")) and list(checkpoint.glob("*/last.pt")), process)
    process.send_signal(number)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == (75 if number == signal.SIGTERM else -number), said
    problem = problem_of(prepared, **changes)
    before = trials_in(folder, problem)
    assert [trial.state.name for trial in before] == ["COMPLETE", "RUNNING"]
    assert not list(folder.rglob("*.tmp"))

    again = start(folder, 2, **changes)
    said = again.communicate(timeout=120)[1]

    assert again.returncode == 0, said
    assert "from the checkpoint" in said
    after = trials_in(folder, problem)
    assert [trial.state.name for trial in after] == ["COMPLETE", "COMPLETE"]
    assert after[1].params == before[1].params
    assert [(trial.number, trial.value) for trial in after] == [(n, value) for n, _, value in values(reference)]
    assert after[1].intermediate_values == {
        record["epoch"]: record["validation_mae"] for record in reference.results[1].history
    }
    assert sorted(path.name for path in (folder / "search").iterdir()) == ["claims.lock", "tracking.lock"]
    assert {trial: len(runs) for trial, runs in runs_of(problem)[1].items()} == {"0": 1, "1": 1}


@pytest.mark.slow  # starts processes
def test_two_processes_share_a_study_and_do_no_trial_twice(folder: Path, prepared: Path) -> None:
    problem = problem_of(prepared)
    processes = [start(folder, 5), start(folder, 5)]
    said = [process.communicate(timeout=240)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    found = trials_in(folder, problem)
    assert [(trial.number, trial.state.name) for trial in found] == [(n, "COMPLETE") for n in range(5)]
    assert {trial: len(runs) for trial, runs in runs_of(problem)[1].items()} == {str(n): 1 for n in range(5)}
    overlapping = [
        (one.number, other.number)
        for one in found
        for other in found
        if one.number < other.number and other.datetime_start < one.datetime_complete  # type: ignore[operator]
    ]
    assert overlapping, "they did not work side by side"


@pytest.mark.slow  # starts processes
def test_a_killed_worker_costs_no_trial(folder: Path, prepared: Path) -> None:
    """Of two processes that one command started, one is killed within a trial; the other does that trial, too."""
    problem = problem_of(prepared)
    process = start(folder, 4, processes=2)
    wait_for(lambda: len(list((folder / "search").glob("trial-*/lock"))) == 2, process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    workers = [pid for pid in map(int, children) if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    said = process.communicate(timeout=240)[1]
    assert process.returncode == 0, said
    assert [trial.state.name for trial in trials_in(folder, problem)] == ["COMPLETE"] * 4


KILLED_AT_12 = """
import os, sys
from gateline.adapters.search import trial
from tests.components import searching
train = trial.train
trial.train = lambda workload, *rest, **more: (
    os._exit(137) if workload.sections["model"]["hidden_size"] == 12 else train(workload, *rest, **more))
sys.exit(searching.main())
"""


@pytest.mark.slow  # starts processes
def test_a_trial_whose_process_is_killed_each_time_fails_and_the_search_goes_on(folder: Path, prepared: Path) -> None:
    """As the system does with who takes too much memory: nobody hears of it."""
    settings, sampler = {"model.hidden_size": {"choices": [8, 12]}}, {"kind": "random", "seed": 0}
    changes: dict[str, Any] = {
        "search": {"settings": settings, "sampler": sampler},
        "model__hidden_size": 8,
        "training__epochs": 1,
    }
    codes = [
        subprocess.run(
            [sys.executable, "-c", KILLED_AT_12, str(folder), "2", "1", json.dumps(changes)],
            check=False,
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"},
        ).returncode
        for _ in range(4)
    ]
    assert codes == [137, 137, 137, 0]
    _, nested = runs_of(problem_of(prepared, **changes))
    assert {number: runs[0].data.tags["gateline.state"] for number, runs in nested.items()} == {
        "0": "complete",
        "1": "failed",
    }


HOPELESS = {"settings": {"training.learning_rate": {"choices": [0.02, 1e-7]}}, "sampler": {"kind": "random", "seed": 1}}


def test_a_hopeless_trial_is_pruned_and_a_repeated_one_is_not_trained_again(folder: Path, prepared: Path) -> None:
    search = {**HOPELESS, "pruner": {"startup_trials": 1, "warm_up_epochs": 0}}
    changes = {"training__learning_rate": 0.02, "training__epochs": 3}
    outcome, said = run(problem_of(prepared, search=search, **changes), folder, 6)
    good = [result for result in outcome.results if result.settings["training.learning_rate"] == 0.02]
    bad = [result for result in outcome.results if result.settings["training.learning_rate"] == 1e-7]
    assert len(good) >= 2, "the seed of the sampler decides; choose another"
    assert len(bad) >= 1
    assert {(result.state, len(result.history)) for result in bad} == {("pruned", 1)}
    assert {(result.state, len(result.history)) for result in good} == {("complete", 3)}
    assert {result.same_as for result in good[1:]} == {0}
    assert "as trial 0" in said[good[1].number]
    _, nested = runs_of(outcome.problem)
    states = {int(number): runs[0].data.tags["gateline.state"] for number, runs in nested.items()}
    assert states == {result.number: result.state for result in outcome.results}
    assert nested[str(bad[0].number)][0].info.status == "KILLED"


def test_settings_that_diverge_or_that_no_model_can_have_fail_and_the_search_goes_on(
    folder: Path, prepared: Path
) -> None:
    settings = {
        "training.learning_rate": {"choices": [0.02, 1e20]},
        "model.decoder": {"choices": ["recurrent", "linear"]},
    }
    search = {"settings": settings, "sampler": {"kind": "random", "seed": 3}, "pruner": {"kind": "none"}}
    outcome, said = run(problem_of(prepared, search=search, training__learning_rate=0.02), folder, 6)
    reasons = {result.reason.split(":")[0].split(",")[0]: result for result in outcome.results if result.reason}
    assert len(outcome.results) == 6
    assert any("finite" in result.reason for result in outcome.results), said
    assert any("`attention: none` where no decoder" in result.reason for result in outcome.results), said
    assert all(result.state == "failed" and result.value is None for result in reasons.values())
    assert outcome.best is not None
    assert outcome.best.settings["model.decoder"] == "recurrent"
    _, nested = runs_of(outcome.problem)
    failed = [runs[0] for runs in nested.values() if runs[0].info.status == "FAILED"]
    assert len(failed) == sum(result.state == "failed" for result in outcome.results)
    assert all(each.data.tags["gateline.reason"] for each in failed)


TOO_LARGE = 12
"""Stands for a size that a section takes and no machine has the memory for, which a test must not fill."""


def train_in_too_little_memory(workload: Workload, *rest: Any, **more: Any) -> Any:
    if workload.sections["model"]["hidden_size"] == TOO_LARGE:
        torch.empty(2**58)  # more than a process can address
    return train(workload, *rest, **more)


@pytest.mark.parametrize(
    ("key", "present", "bad", "words"),
    [
        ("model.inventory.service_level", 0.9, 0.99999, "validation windows"),
        ("model.hidden_size", 8, TOO_LARGE, "can't allocate memory"),
    ],
)
def test_settings_that_the_data_refuse_or_that_do_not_fit_into_memory_fail_and_the_search_goes_on(
    key: str, present: float, bad: float, words: str, folder: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateline.adapters.search.trial.train", train_in_too_little_memory)
    search = {
        "settings": {key: {"choices": [present, bad]}, "training.learning_rate": {"low": 0.001, "high": 0.05}},
        "sampler": {"kind": "random"},
        "pruner": {"kind": "none"},
    }
    changes = {"model__inventory": {"service_level": 0.9}, "model__hidden_size": 8, "training__learning_rate": 0.02}
    outcome, said = run(problem_of(prepared, search=search, **changes), folder, 4)
    states = {result.number: result.state for result in outcome.results}
    assert states == {r.number: "failed" if r.settings[key] == bad else "complete" for r in outcome.results}
    assert set(states.values()) == {"complete", "failed"}, "the seed of the sampler decides; choose another"
    assert all(words in result.reason for result in outcome.results if result.state == "failed"), said


def test_data_that_refuse_the_present_settings_end_the_search(folder: Path, prepared: Path) -> None:
    """Every training with them would be refused, so it is no news of a trial."""
    problem = problem_of(prepared, model__inventory={"service_level": 0.99999})
    for _ in range(2):
        with pytest.raises(DataError, match="validation windows"):
            run(problem, folder, 2)


def test_a_bug_in_a_trial_is_no_bad_setting(folder: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr("gateline.adapters.search.trial.train", broken)
    with pytest.raises(RuntimeError, match="mat1"):
        run(problem_of(prepared), folder, 1)


def test_what_mlflow_missed_is_logged_by_the_next_run_without_training(
    folder: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = problem_of(prepared)
    with monkeypatch.context() as away:
        away.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        away.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        outcome, _ = run(problem, folder, 2)
    assert isinstance(outcome.unlogged, UnreachableError)
    assert outcome.unlogged.exit_code == 75
    assert len(outcome.results) == 2
    again, said = run(problem, folder, 2)
    assert said == []
    assert again.unlogged is None
    _, nested = runs_of(problem)
    assert sorted(nested) == ["0", "1"]


@pytest.mark.parametrize(
    ("storage", "words", "code"),
    [
        ("somewhere", "expected the address of a database", 2),
        ("nosuch://me:secret@host/db", "expected the address of a database", 2),
        ("sqlite:////nowhere/at/all.db", "nowhere/at/all.db", 2),
        ("sqlite:///{folder}/no.db", "expected a database", 2),
        ("mysql://me:secret@127.0.0.1:1/db?password=secret", "mysql://127.0.0.1:1/db", 2),
    ],
)
def test_a_storage_that_cannot_be_used_is_refused_without_its_password(
    storage: str, words: str, code: int, folder: Path, prepared: Path
) -> None:
    (folder / "no.db").write_text("this is no database" * 100)
    with pytest.raises(GatelineError) as refusal:
        run(problem_of(prepared), folder, 1, storage=storage.format(folder=folder))
    assert words in str(refusal.value)
    assert refusal.value.exit_code == code
    assert "secret" not in str(refusal.value)


def test_the_shown_address_has_no_credentials() -> None:
    assert shown_storage("postgresql://me:s3cret@db.example:5432/optuna?sslpassword=x") == (
        "postgresql://db.example:5432/optuna"
    )
