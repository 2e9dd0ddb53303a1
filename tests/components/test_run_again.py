"""A command of the registry that is stopped, or asks to be run again, and is: it ends with what it had begun, once."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import mlflow
import pytest
import requests
from mlflow.exceptions import MlflowException
from typer.testing import CliRunner

from gateline.adapters.mlflow_server import Connection
from gateline.adapters.registry.changes import roll_back
from gateline.adapters.registry.ledger import append, new_entry, project, read_ledger
from gateline.cli import app
from gateline.errors import RegistryError
from gateline.ledger import AWAITING, PROMOTED, ROLLED_BACK
from tests.components.test_ledger import NAME, aliases, put, to

__all__ = ["to"]  # a fixture


def fail_once(patch: pytest.MonkeyPatch, request: str, *, behind: bool) -> list[str]:
    """Let one request of MLflow's client not get through, before or behind what it does; return a list that says so then."""
    do, failed = getattr(mlflow.MlflowClient, request), list[str]()

    def fail(*args: Any, **named: Any) -> Any:
        if failed:
            return do(*args, **named)
        failed.append(request)
        if behind:
            do(*args, **named)
        raise requests.ConnectionError("reset by peer")

    patch.setattr(mlflow.MlflowClient, request, fail)
    return failed


STOPS = [
    ("create_model_version", True),
    ("set_registered_model_alias", False),
    ("set_registered_model_alias", True),
]
"""Requests that fail, and whether the server did what they asked for."""


@pytest.mark.parametrize(("request_", "behind"), STOPS)
@pytest.mark.parametrize("goal", [[], ["--to", "2"]])
def test_a_rollback_that_is_run_again_goes_back_no_second_time(
    to: Connection, monkeypatch: pytest.MonkeyPatch, request_: str, behind: bool, goal: list[str]
) -> None:
    for version in (1, 2, 3):
        put(to, PROMOTED, version, version - 1 or None)
    run, failed = CliRunner(), fail_once(monkeypatch, request_, behind=behind)
    first = run.invoke(app, ["rollback", NAME, *goal])
    assert first.exit_code == 75, first.output
    assert failed
    again = run.invoke(app, ["rollback", NAME, *goal])
    assert again.exit_code == 0, again.output
    assert "version 2 is champion now, version 3 no more" in again.output
    ledger = read_ledger(to, NAME)
    assert aliases(to)["champion"] == ledger.champion == 2
    assert [entry.kind for entry in ledger.entries] == [PROMOTED, PROMOTED, PROMOTED, ROLLED_BACK]

    further = run.invoke(app, ["rollback", NAME])  # finished is finished: this is another one
    assert further.exit_code == 0, further.output
    assert "version 1 is champion now, version 2 no more" in further.output
    assert aliases(to) == {"champion": 1}


def aged(to: Connection, number: int, days: float) -> None:
    """Let an entry be so old."""
    tags = to.client.get_model_version(f"{NAME}.ledger", str(number)).tags
    content = json.loads(tags["gateline.entry"])
    content["at"] = (datetime.fromisoformat(content["at"]) - timedelta(days=days)).isoformat()
    to.client.set_model_version_tag(f"{NAME}.ledger", str(number), "gateline.entry", json.dumps(content))


@pytest.mark.parametrize("days", [0.0, 1.0])
@pytest.mark.parametrize("killed_behind", ["entry", "alias"])
def test_a_rollback_that_was_killed_swallows_none_after_it(to: Connection, killed_behind: str, days: float) -> None:
    for version in (1, 2, 3, 4):
        put(to, PROMOTED, version, version - 1 or None)
    entry = new_entry(ROLLED_BACK, 3, 4, "killed behind this", seen=read_ledger(to, NAME))
    ledger = append(to, NAME, entry)
    if killed_behind == "alias":
        project(to, NAME, ledger)
    aged(to, 5, days)
    left = [3, 2, 1] if killed_behind == "entry" or not days else [2, 1]  # a day later nobody runs it "again"
    for version in left:
        assert roll_back(to, NAME, None, print).after == version
        assert aliases(to) == {"champion": version}
    assert read_ledger(to, NAME).unsettled() == []


def test_a_rollback_to_nobody_that_is_run_again_is_one_entry(to: Connection) -> None:
    put(to, PROMOTED, 1, None)
    append(to, NAME, new_entry(ROLLED_BACK, None, 1, "stopped behind this", seen=read_ledger(to, NAME)))
    step = roll_back(to, NAME, None, print, nobody=True)
    assert (step.before, step.after) == (1, None)
    assert aliases(to) == {}
    with pytest.raises(RegistryError, match="a champion to go back from"):
        roll_back(to, NAME, None, print, nobody=True)
    assert len(read_ledger(to, NAME).entries) == 2


@pytest.mark.parametrize("behind", [False, True])
def test_a_rollback_has_ended_where_only_that_it_ended_is_not_written(
    to: Connection, monkeypatch: pytest.MonkeyPatch, behind: bool
) -> None:
    for version in (1, 2, 3):
        put(to, PROMOTED, version, version - 1 or None)
    failed = fail_once(monkeypatch, "set_model_version_tag", behind=behind)
    for left in (2, 1):
        done = CliRunner().invoke(app, ["rollback", NAME])
        assert done.exit_code == 0, done.output
        assert failed
        assert aliases(to) == {"champion": left}


def test_a_rollback_whose_end_cannot_be_noted_asks_to_be_run_again_and_swallows_none_after_it(
    to: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in (1, 2, 3):
        put(to, PROMOTED, version, version - 1 or None)

    def fail(*_: Any) -> None:
        raise MlflowException("down")

    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, "set_model_version_tag", fail)
        first = CliRunner().invoke(app, ["rollback", NAME])
    assert first.exit_code == 75, first.output
    assert "The alias is where the entry says" in first.output
    for left in (2, 1):
        done = CliRunner().invoke(app, ["rollback", NAME])
        assert done.exit_code == 0, done.output
        assert aliases(to) == {"champion": left}


def test_two_rollbacks_that_end_go_back_twice(to: Connection) -> None:
    for version in (1, 2, 3):
        put(to, PROMOTED, version, version - 1 or None)
    for left in (2, 1):
        assert roll_back(to, NAME, None, print).after == left
        assert aliases(to) == {"champion": left}


@pytest.mark.parametrize("error", [MlflowException("failed with exception"), KeyboardInterrupt()])
@pytest.mark.parametrize("words", [["rollback", NAME], ["promote", NAME, "3", "--force-reason", "a test"]])
def test_what_goes_wrong_while_somebody_is_told_is_said_and_ends_nothing(
    to: Connection, monkeypatch: pytest.MonkeyPatch, words: list[str], error: BaseException
) -> None:
    put(to, PROMOTED, 1, None)
    put(to, PROMOTED, 2, 1)

    def fail(*args: object) -> None:
        raise error

    monkeypatch.setattr("gateline.adapters.registry.who_is_told.require_version", fail)
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "the decision stands" in done.output
    assert aliases(to) == {"champion": 1 if words[0] == "rollback" else 3}


@pytest.mark.parametrize(("request_", "behind"), [*STOPS, ("delete_registered_model_alias", True)])
@pytest.mark.parametrize("goal", [[], ["2", "--expect", "1"]])
def test_an_approval_that_is_run_again_is_none_the_less_done(
    to: Connection, monkeypatch: pytest.MonkeyPatch, request_: str, behind: bool, goal: list[str]
) -> None:
    put(to, PROMOTED, 1, None)
    put(to, AWAITING, 2, 1)
    to.client.set_registered_model_alias(NAME, "challenger", "2")
    run, failed = CliRunner(), fail_once(monkeypatch, request_, behind=behind)
    assert run.invoke(app, ["promote", NAME, *goal]).exit_code == 75
    assert failed
    again = run.invoke(app, ["promote", NAME, *goal])
    assert again.exit_code == 0, again.output
    assert aliases(to) == {"champion": 2}
    assert [entry.kind for entry in read_ledger(to, NAME).entries] == [PROMOTED, AWAITING, PROMOTED]
