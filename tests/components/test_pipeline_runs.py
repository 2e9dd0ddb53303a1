"""A scheduled run ends early only where nothing has changed, says why in MLflow, and every run's end is told."""

from __future__ import annotations

import argparse
import dataclasses
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from benchmarks import promotion_race
from components.ask.__main__ import parser as ask_parser
from components.ask.__main__ import step as ask_step
from components.conclude.__main__ import parser as conclude_parser
from components.conclude.__main__ import step as conclude_step
from components.preprocess.__main__ import parser as preprocess_parser
from components.preprocess.__main__ import step as preprocess_step
from gateline.adapters.door import run_step
from gateline.adapters.kubeflow.pipeline_runs import Question, ask, conclude
from gateline.adapters.kubeflow.raw_sources import marks_of
from gateline.adapters.kubeflow.run_notes import (
    KIND,
    KIND_TAG,
    TAG,
    Failure,
    forget_failure,
    note_failure,
    note_release,
    read_notes,
)
from gateline.adapters.mlflow_server import OUTER_RUN, Connection, connected
from gateline.adapters.provenance import KUBEFLOW_RUN, KUBEFLOW_RUN_TAG
from gateline.adapters.registry.ledger import append, new_entry, project, read_ledger
from gateline.adapters.tracking import say_where
from gateline.errors import Preempted
from gateline.ledger import PROMOTED
from gateline.workload.source import File
from tests.steps import argv_of
from tests.tiny import write_tiny

NAME = "tiny"
FIRST = Question("run-1", "a" * 64, "b" * 64, "c" * 64)
WELL = json.dumps({"state": "SUCCEEDED", "error": {}})
FAILED = json.dumps({"state": "FAILED", "error": {"code": 1, "message": "train: out of memory"}})


@pytest.fixture
def to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mlflow_database: Path) -> Iterator[Connection]:
    """A registry with two versions that were tried."""
    monkeypatch.chdir(tmp_path)
    files = tmp_path / "files"
    files.mkdir()
    tags = promotion_race.write_tried(files)
    with connected(NAME) as connection:
        connection.client.create_registered_model(NAME)
        for _ in range(2):
            connection.client.create_model_version(NAME, str(files), tags=tags)
        yield connection


def registers(to: Connection, run: str, version: int, *, promoted: bool = True) -> None:
    """What register notes in a run."""
    decided = {
        "name": NAME,
        "version": version,
        "alias": "champion" if promoted else "challenger",
        "promoted": promoted,
        "mlflow_run_id": "x",
    }
    with pytest.MonkeyPatch.context() as of_the_step:
        of_the_step.setenv(KUBEFLOW_RUN, run)
        note_release(to, decided)


def promote(to: Connection, version: int, expected: int | None) -> None:
    entry = new_entry(PROMOTED, version, expected, "a test", seen=read_ledger(to, NAME))
    project(to, NAME, append(to, NAME, entry), entry)


def again(number: int, **changes: str) -> Question:
    return dataclasses.replace(FIRST, run=f"run-{number}", **changes)


def tags_of(to: Connection, run: str) -> dict[str, str]:
    conditions = f"tags.`{KIND_TAG}` = '{KIND}' and tags.`{TAG}run` = '{run}'"
    (found,) = to.client.search_runs([to.experiment_id], conditions)
    return {**{key.removeprefix(TAG): value for key, value in found.data.tags.items()}, "status": found.info.status}


def test_a_run_ends_early_where_nothing_changed_and_mlflow_says_why(to: Connection) -> None:
    assert ask(NAME, [], FIRST, only_if_changed=True) == (True, "no earlier run of the pipeline ended well")
    promote(to, 1, None)  # what register does in this run is no change for the next
    registers(to, "run-1", 1)
    assert conclude(NAME, "run-1", WELL) == [f"{NAME}: run run-1 SUCCEEDED: champion none, now version 1"]

    go, reason = ask(NAME, [], again(2), only_if_changed=True)

    assert (go, reason) == (False, "neither data nor code, settings or champion changed since run run-1")
    (line,) = conclude(NAME, "run-2", WELL)
    assert "ended early" in line
    tags = tags_of(to, "run-2")
    assert (tags["outcome"], tags["reason"], tags["status"]) == ("UNCHANGED", reason, "FINISHED")
    assert ask(NAME, [], again(3), only_if_changed=True)[0] is False, "it is the last that ran which counts"
    assert ask(NAME, [], again(4), only_if_changed=False) == (True, "it was asked for")


def test_two_schedules_of_one_workload_end_early_though_their_settings_differ(to: Connection) -> None:
    other = {"settings": "d" * 64}
    for number, settings in ((1, {}), (2, other)):
        assert ask(NAME, [], again(number, **settings), only_if_changed=True)[0]
        conclude(NAME, f"run-{number}", WELL)

    assert [ask(NAME, [], again(3 + n, **each), only_if_changed=True) for n, each in enumerate(({}, other, {}))] == [
        (False, f"neither data nor code, settings or champion changed since run run-{number}") for number in (1, 2, 1)
    ]
    changed = {"data": "0" * 64}
    assert ask(NAME, [], again(6, **changed), only_if_changed=True)[0]
    conclude(NAME, "run-6", WELL)
    go, reason = ask(NAME, [], again(7, **other, **changed), only_if_changed=True)
    assert (go, reason) == (True, "since run run-2, what the workload pins of the raw data changed")
    assert ask(NAME, [], again(8, settings="e" * 64, **changed), only_if_changed=True) == (
        True,
        "since run run-6, the workload or the settings changed",
    )


@pytest.mark.parametrize("promoted", [True, False], ids=["the run promoted before", "the run promoted nothing"])
def test_a_champion_that_somebody_made_during_a_run_is_a_change_for_the_next(promoted: bool, to: Connection) -> None:
    ask(NAME, [], FIRST, only_if_changed=True)
    if promoted:
        promote(to, 1, None)
    registers(to, "run-1", 1, promoted=promoted)
    promote(to, 2, 1 if promoted else None)
    before = "version 1" if promoted else "none"
    assert conclude(NAME, "run-1", WELL) == [f"{NAME}: run run-1 SUCCEEDED: champion none, now version 2"]

    go, reason = ask(NAME, [], again(2), only_if_changed=True)

    assert (go, reason) == (True, f"since run run-1, the champion changed ({before}, now version 2)")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"data": "0" * 64}, "what the workload pins of the raw data changed"),
        ({"code": "0" * 64}, "the code changed"),
        ({"settings": "0" * 64}, "the workload or the settings changed"),
        ({"data": "0" * 64, "code": "1" * 64}, "raw data changed and the code changed"),
        ("champion", "the champion changed (version 1, now version 2)"),
        ("pipeline", "the pipeline or its images changed"),
    ],
)
def test_each_change_lets_it_run(change: Any, says: str, to: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATELINE_PIPELINE_DIGEST", "d" * 64)
    promote(to, 1, None)
    ask(NAME, [], FIRST, only_if_changed=True)
    conclude(NAME, "run-1", WELL)
    if change == "champion":
        promote(to, 2, 1)
    if change == "pipeline":
        monkeypatch.setenv("GATELINE_PIPELINE_DIGEST", "e" * 64)

    go, reason = ask(NAME, [], again(2, **(change if isinstance(change, dict) else {})), only_if_changed=True)

    assert go
    assert says in reason
    assert tags_of(to, "run-2")["reason"] == reason


def preprocess_without_a_report(folder: Path) -> int:
    """Run the step as Kubeflow does, on folders that are not there."""
    executor_input = {"outputs": {"outputFile": str(folder / "executor_output.json")}}
    words = [*argv_of("preprocess", write_tiny(folder), folder), "--executor-input", json.dumps(executor_input)]
    return run_step(preprocess_parser(), preprocess_step, words)


def test_a_step_that_refuses_writes_down_what_kubeflow_would_not_hand_on(
    to: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KUBEFLOW_RUN, "run-1")
    ask(NAME, [], FIRST, only_if_changed=True)
    assert preprocess_without_a_report(tmp_path) == 2

    (failure,) = read_notes(NAME, "run-1").failures
    assert (failure.step, failure.exit_code) == ("preprocess", 2)
    assert "found no such folder" in failure.said
    (line,) = conclude(NAME, "run-1", json.dumps({"state": "FAILED", "error": {"message": "no more retries left"}}))
    assert line == f"{NAME}: run run-1 FAILED: no more retries left; preprocess ended with 2: {failure.said}"
    assert "preprocess ended with 2" in tags_of(to, "run-1")["reason"]
    assert read_notes(NAME, "run-2").failures == []


def run_try(folder: Path, work: Callable[[argparse.Namespace], None]) -> int:
    """Run one try of train as Kubeflow does."""
    flags = argparse.ArgumentParser(prog="python -m components.train")
    flags.add_argument("--workload")
    executor_input = json.dumps({"outputs": {"outputFile": str(folder / "executor_output.json")}})
    argv = ["--workload", json.dumps({"name": NAME, "task": "forecasting"}), "--executor-input", executor_input]
    return run_step(flags, work, argv)


def preempted(_: argparse.Namespace) -> None:
    raise Preempted("SIGTERM")


def test_a_note_of_a_failed_try_is_gone_when_the_next_begins(
    to: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next try ends well, or is killed without a word: either way what the first noted is true no more."""
    monkeypatch.setenv(KUBEFLOW_RUN, "run-1")
    ask(NAME, [], FIRST, only_if_changed=True)
    assert run_try(tmp_path, preempted) == 75
    assert [failure.step for failure in read_notes(NAME, "run-1").failures] == ["train"]
    seen: list[Failure] = []

    assert run_try(tmp_path, lambda _: seen.extend(read_notes(NAME, "run-1").failures)) == 0

    assert seen == [], "it is gone at once, since who is killed can note nothing in the end"
    assert read_notes(NAME, "run-1").failures == []
    assert run_try(tmp_path, preempted) == 75, "each try notes its own end"
    assert [failure.exit_code for failure in read_notes(NAME, "run-1").failures] == [75]


def test_a_step_still_points_the_run_around_it_to_ours(
    to: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KUBEFLOW_RUN, "run-1")
    monkeypatch.setenv(OUTER_RUN, "the-run-of-a-plugin")
    seen: list[str | None] = []

    def work(_: argparse.Namespace) -> None:
        with connected(NAME) as of_the_step:
            seen.append(of_the_step.outer_run_id)

    assert run_try(tmp_path, work) == 0
    assert seen == ["the-run-of-a-plugin"]


def test_without_mlflow_a_step_begins_all_the_same(
    to: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KUBEFLOW_RUN, "run-1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert run_try(tmp_path, lambda _: None) == 0


def test_a_run_that_registered_ended_well_whatever_kubeflow_says(
    to: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kubeflow's word for the steps stays FAILED where a try failed before a good one (kubeflow/pipelines#13591)."""
    monkeypatch.setenv(KUBEFLOW_RUN, "run-1")
    ask(NAME, [], FIRST, only_if_changed=True)
    text = json.dumps({"name": NAME, "task": "forecasting"})
    registers(to, "run-1", 1, promoted=False)
    note_failure(text, "register", 1, "KeyError: 'x'")
    assert conclude(NAME, "run-1", FAILED) == [
        f"{NAME}: run run-1 FAILED: train: out of memory; register ended with 1: KeyError: 'x'"
    ]
    forget_failure(text, "register")

    assert conclude(NAME, "run-1", FAILED) == [f"{NAME}: run run-1 SUCCEEDED: champion none, as before"]

    assert (tags_of(to, "run-1")["outcome"], tags_of(to, "run-1")["status"]) == ("SUCCEEDED", "FINISHED")
    assert ask(NAME, [], again(2), only_if_changed=True)[0] is False


def test_what_is_noted_of_failures_is_the_last_try_of_each_step_without_passwords(
    to: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KUBEFLOW_RUN, "run-1")
    text = json.dumps({"name": NAME, "task": "forecasting"})
    note_failure(text, "train", 75, "MLflow is away")
    note_failure(text, "ingest", 75, "SIGTERM")
    note_failure(text, "train", 1, "KeyError: 'x' at https://me:hidden@store.example/x")
    note_failure(text, "conclude", 2, "beside the steps")
    note_failure("{", "validate", 2, "no workload: this costs no traceback")
    assert read_notes(NAME, "run-1").failures == [
        Failure("ingest", 75, "SIGTERM"),
        Failure("train", 1, "KeyError: 'x' at https://store.example/x"),
    ]
    ask(NAME, [], FIRST, only_if_changed=True)
    assert conclude(NAME, "run-1", WELL) == [f"{NAME}: run run-1 SUCCEEDED: champion none, as before"]


@pytest.mark.parametrize("state", ["SUCCEEDED", "COMPLETE"])
def test_both_words_of_kubeflow_for_a_good_end_tell_of_the_champion(state: str, to: Connection) -> None:
    ask(NAME, [], FIRST, only_if_changed=True)
    promote(to, 1, None)

    assert conclude(NAME, "run-1", json.dumps({"state": state})) == [
        f"{NAME}: run run-1 SUCCEEDED: champion none, now version 1"
    ]
    tags = tags_of(to, "run-1")
    assert (tags["outcome"], tags["reason"]) == ("SUCCEEDED", "SUCCEEDED: champion none, now version 1")
    assert tags["status"] == "FINISHED"


def test_what_failed_is_tried_again_though_nothing_changed(to: Connection) -> None:
    ask(NAME, [], FIRST, only_if_changed=True)
    (line,) = conclude(NAME, "run-1", FAILED)
    assert line == f"{NAME}: run run-1 FAILED: train: out of memory"
    assert tags_of(to, "run-1")["status"] == "FAILED"

    assert ask(NAME, [], again(2), only_if_changed=True)[0] is True


def test_a_task_that_is_tried_again_goes_on_with_its_run(to: Connection) -> None:
    for _ in range(2):
        ask(NAME, [], FIRST, only_if_changed=True)
        conclude(NAME, "run-1", WELL)
    assert tags_of(to, "run-1")["outcome"] == "SUCCEEDED"


def test_the_runs_of_the_steps_are_marked(to: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KUBEFLOW_RUN, "run-1")
    ours, other = (to.client.create_run(to.experiment_id) for _ in range(2))
    say_where(to, ours, "train")
    assert to.client.get_run(ours.info.run_id).data.tags[KUBEFLOW_RUN_TAG] == "run-1"

    conclude(NAME, "run-1", FAILED)

    assert to.client.get_run(ours.info.run_id).data.tags[f"{TAG}outcome"] == "FAILED"
    assert f"{TAG}outcome" not in to.client.get_run(other.info.run_id).data.tags


class Listener:
    """A web server that keeps what it is sent, and answers HEAD with an ETag."""

    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []
        self.status, self.etag = 200, '"one"'
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(outer.status)
                self.end_headers()

            def do_HEAD(self) -> None:
                self.send_response(outer.status)
                self.send_header("ETag", outer.etag)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/a-secret-path"


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener()
    threading.Thread(target=made.server.serve_forever, daemon=True).start()
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_a_webhook_is_told_and_one_that_does_not_answer_fails_nothing(
    to: Connection, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATELINE_WEBHOOK", listener.url)
    ask(NAME, [], FIRST, only_if_changed=True)

    assert conclude(NAME, "run-1", FAILED) == [f"{NAME}: run run-1 FAILED: train: out of memory"]
    (heard,) = listener.heard
    assert (heard["workload"], heard["run"], heard["outcome"]) == (NAME, "run-1", "FAILED")

    listener.status = 500
    _, line = conclude(NAME, "run-1", FAILED)
    assert line == "not told: the address in GATELINE_WEBHOOK answered 500"
    assert listener.url not in line


def test_an_address_with_another_file_behind_it_is_a_change(to: Connection, listener: Listener) -> None:
    files = [File(name="sales", url=listener.url, sha256="0" * 64)]
    ask(NAME, files, FIRST, only_if_changed=True)
    conclude(NAME, "run-1", WELL)
    assert ask(NAME, files, again(2), only_if_changed=True)[0] is False

    listener.status = 503  # not to know is no change
    assert marks_of(files) == ""
    assert ask(NAME, files, again(3), only_if_changed=True)[0] is False

    listener.status, listener.etag = 200, '"two"'
    assert ask(NAME, files, again(4), only_if_changed=True) == (
        True,
        "since run run-1, what lies at the addresses of the raw data changed",
    )


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., int]:
    """Run the two tasks as a pod does."""
    workload = str(write_tiny(tmp_path))

    def run(number: int, status: str | None = None) -> int:
        if status is not None:
            argv = ["--workload", workload, "--run", f"run-{number}", "--status", status]
            return run_step(conclude_parser(), conclude_step, argv)
        argv = ["--workload", workload, "--run", f"run-{number}", "--only-if-changed", "true"]
        argv += ["--data-digest", "a", "--code-version", "b", "--settings-digest", "c", "--go", str(tmp_path / "x/go")]
        return run_step(ask_parser(), ask_step, argv)

    return run


def test_the_command_lines_answer_in_a_file_and_in_the_log(
    to: Connection, run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = []
    for number in (1, 2):
        assert run(number) == 0
        answers.append((tmp_path / "x" / "go").read_text())
        assert run(number, WELL) == 0
    assert answers == ["yes", "no"]
    said = capsys.readouterr().out
    assert "tiny: ends early: neither data nor code" in said
    assert "tiny: run run-1 SUCCEEDED" in said
    assert run(3, "no JSON") == 2
