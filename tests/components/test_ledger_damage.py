"""A ledger that somebody damaged, or an alias that somebody moved: it is said, nothing is decided by it, and a person can go on from there."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import mlflow
import pytest
from typer.testing import CliRunner

from gateline.adapters.mlflow_server import Connection
from gateline.adapters.registry.changes import promote, roll_back
from gateline.adapters.registry.decision import enter
from gateline.adapters.registry.history import explain, read_history
from gateline.adapters.registry.ledger import append, champion_of, new_entry, open_ledger, read_ledger
from gateline.cli import app
from gateline.errors import RegistryError
from gateline.ledger import ACCEPTED, NOT_PROMOTED, PROMOTED
from tests.components.test_ledger import NAME, Meanwhile, aliases, put, said, to

__all__ = ["to"]  # a fixture


@pytest.mark.parametrize("entries", [1, 3])
def test_a_deleted_last_entry_is_missed(to: Connection, entries: int) -> None:
    for version in range(1, entries + 1):
        put(to, PROMOTED, version, version - 1 or None)
    to.client.delete_model_version(f"{NAME}.ledger", str(entries))
    with pytest.raises(RegistryError, match=f"no entry {entries}, deleted or damaged"):
        open_ledger(to, NAME, print)
    promote(to, NAME, 4, print, why="the last entry was deleted")
    assert aliases(to) == {"champion": 4}
    assert read_ledger(to, NAME).missing == ()


def test_a_deleted_last_entry_is_missed_whoever_noted_its_number_last(to: Connection) -> None:
    """Another writes and notes the next entry just before this one notes its own."""
    append(to, NAME, new_entry(NOT_PROMOTED, 1, None, "a test", seen=read_ledger(to, NAME)))
    append_next = partial(append, to, NAME, new_entry(NOT_PROMOTED, 3, None, "the next", seen=read_ledger(to, NAME)))
    other = Meanwhile(to.client, "set_registered_model_tag", append_next)
    meanwhile = to._replace(client=cast(mlflow.MlflowClient, other))
    append(meanwhile, NAME, new_entry(NOT_PROMOTED, 2, None, "this one", seen=read_ledger(to, NAME)))
    assert other.do is None
    to.client.delete_model_version(f"{NAME}.ledger", "3")
    assert read_ledger(to, NAME).missing == (3,)


def test_an_alias_that_a_person_moved_is_neither_undone_nor_taken_unasked(to: Connection) -> None:
    put(to, PROMOTED, 1, None)
    put(to, PROMOTED, 2, 1)
    to.client.set_registered_model_alias(NAME, "champion", "1")
    for command in (lambda: open_ledger(to, NAME, print), lambda: promote(to, NAME, 3, print, why="better")):
        with pytest.raises(RegistryError) as refusal:
            command()
        assert "expected version 2, as its ledger says; found version 1" in str(refusal.value)
        assert f"gateline promote {NAME} 1" in refusal.value.do
    assert aliases(to) == {"champion": 1}
    step = promote(to, NAME, 1, print)
    assert step is not None
    assert (step.entry.kind, step.before, step.after) == (ACCEPTED, 2, 1)
    assert said(lambda say: open_ledger(to, NAME, say)) == []

    to.client.set_registered_model_alias(NAME, "champion", "4")
    undone = promote(to, NAME, 1, print)
    assert undone is not None
    assert (undone.entry.kind, undone.after) == (ACCEPTED, 1)
    assert aliases(to) == {"champion": 1}


def test_a_deleted_champion_and_a_deleted_entry_are_named(to: Connection) -> None:
    put(to, PROMOTED, 1, None)
    put(to, PROMOTED, 2, 1)
    to.client.delete_model_version(NAME, "2")
    for look in (lambda: open_ledger(to, NAME, print), lambda: champion_of(to, NAME)):
        with pytest.raises(RegistryError, match=r"tiny version 2: .* deleted in the registry.*gateline rollback tiny"):
            look()
    promote(to, NAME, 3, print, why="version 2 was deleted")
    assert aliases(to) == {"champion": 3}

    to.client.delete_model_version(f"{NAME}.ledger", "2")
    with pytest.raises(RegistryError, match="no entry 2, deleted or damaged"):
        open_ledger(to, NAME, print)
    with pytest.raises(RegistryError, match="no entry 2"):
        roll_back(to, NAME, None, print, nobody=True)
    promote(to, NAME, 3, print, why="entry 2 was deleted by mistake")
    assert read_ledger(to, NAME).champion == 3
    assert said(lambda say: open_ledger(to, NAME, say)) == []


def test_a_decision_that_was_changed_is_neither_shown_nor_approved(to: Connection) -> None:
    put(to, PROMOTED, 1, None)
    two = to.client.get_model_version(NAME, "2")
    check = {"name": "champion", "passed": True, "reason": "it is shown to be better"}
    decided = {"promoted": False, "awaiting_approval": True, "checks": [check], "champion_before": 1}
    enter(to, NAME, two, to.client.get_model_version(NAME, "1"), decided, open_ledger(to, NAME, print))
    assert explain(to, NAME, 2).decided == decided
    assert read_history(to, NAME).remarks() == []

    forged = json.dumps({**decided, "checks": [{**check, "reason": "far better"}]})
    to.client.set_model_version_tag(NAME, "2", "gateline.decision", forged)
    assert explain(to, NAME, 2).decided == decided, "the ledger says what was decided, not the version"
    to.client.set_model_version_tag(f"{NAME}.ledger", "2", "gateline.decision", forged)
    explained = explain(to, NAME, 2)
    assert not explained.decided
    assert "the decision is not shown: tiny.ledger entry 2: expected the decision of digest" in explained.remarks[0]
    assert "entries 2 was changed" in read_history(to, NAME).remarks()[0]
    with pytest.raises(RegistryError, match=r"tiny\.ledger: .*entries 2 was changed"):
        promote(to, NAME, 2, print)
    promote(to, NAME, 1, print, why="looked at, version 1 stays")
    assert read_history(to, NAME).remarks() == []
    with pytest.raises(RegistryError, match=r"tiny\.ledger entry 2"):
        promote(to, NAME, 2, print)
    assert aliases(to) == {"champion": 1, "challenger": 2}


def edit(to: Connection, number: int, **values: Any) -> None:
    tags = to.client.get_model_version(f"{NAME}.ledger", str(number)).tags
    forged = json.dumps({**json.loads(tags["gateline.entry"]), **values})
    to.client.set_model_version_tag(f"{NAME}.ledger", str(number), "gateline.entry", forged)


def test_by_a_ledger_of_which_an_entry_was_edited_nothing_is_decided_until_a_person_accepts_it(to: Connection) -> None:
    for version in (1, 2, 3):
        put(to, PROMOTED, version, version - 1 or None)
    assert read_history(to, NAME).remarks() == []
    edit(to, 2, by="somebody else")
    remark = "entry 2 is not what entry 3 had seen: changed since"
    assert read_history(to, NAME).remarks() == [remark]
    refused: list[Callable[[], Any]] = [
        lambda: open_ledger(to, NAME, print),
        lambda: promote(to, NAME, 4, print),
        lambda: promote(to, NAME, None, print, why="no version"),
        lambda: roll_back(to, NAME, None, print),
    ]
    for command in refused:
        with pytest.raises(RegistryError, match=f"found {remark}.*gateline promote tiny VERSION --force-reason WHY"):
            command()
    to.client.delete_registered_model_alias(NAME, "champion")
    with pytest.raises(RegistryError, match=remark):
        roll_back(to, NAME, None, print, nobody=True)
    assert aliases(to) == {}
    assert len(read_ledger(to, NAME).entries) == 3

    promote(to, NAME, 4, print, why="looked at entry 2: only its author was edited")
    assert read_ledger(to, NAME).entries[-1].accepts == (2,)
    assert aliases(to) == {"champion": 4}
    assert read_history(to, NAME).remarks() == []
    assert said(lambda say: open_ledger(to, NAME, say)) == []
    roll_back(to, NAME, 3, print)
    assert aliases(to) == {"champion": 3}
    edit(to, 2, by="a third")
    assert read_history(to, NAME).remarks() == [remark]


@pytest.mark.parametrize(("number", "values"), [(2, {"seen": "abc"}), (3, {"version": "two"}), (3, {"at": "gestern"})])
def test_an_entry_that_was_edited_to_another_type_is_damaged_and_has_the_way_out_of_one(
    to: Connection, number: int, values: dict[str, Any]
) -> None:
    for version in (1, 2, 3):
        put(to, PROMOTED, version, version - 1 or None)
    edit(to, number, **values)
    run = CliRunner()
    told = run.invoke(app, ["history", NAME])
    assert told.exit_code == 0, told.output
    assert f"entries {number} are missing: deleted or damaged" in told.output
    for refused in (["rollback", NAME], ["promote", NAME, "4"]):
        done = run.invoke(app, refused)
        assert done.exit_code == 2, done.output
        assert "--force-reason WHY" in done.output

    out = run.invoke(app, ["promote", NAME, "4", "--force-reason", "looked at it"])
    assert out.exit_code == 0, out.output
    assert aliases(to) == {"champion": 4}
    assert read_history(to, NAME).remarks() == []
    assert run.invoke(app, ["rollback", NAME, "--to", "1"]).exit_code == 0
    assert aliases(to) == {"champion": 1}


def test_a_ledger_or_a_decision_that_was_deleted_is_no_beginning(to: Connection) -> None:
    decided = {"promoted": False, "awaiting_approval": False, "checks": [{"name": "a", "passed": False, "reason": "b"}]}
    put(to, PROMOTED, 1, None)
    version, champion = (to.client.get_model_version(NAME, number) for number in ("2", "1"))
    enter(to, NAME, version, champion, decided, read_ledger(to, NAME))
    assert read_ledger(to, NAME).edits() == []

    text = to.client.get_model_version(f"{NAME}.ledger", "2").tags["gateline.decision"]
    to.client.delete_model_version_tag(f"{NAME}.ledger", "2", "gateline.decision")
    with pytest.raises(RegistryError, match="decision"):
        open_ledger(to, NAME, print)
    to.client.set_model_version_tag(f"{NAME}.ledger", "2", "gateline.decision", text)
    open_ledger(to, NAME, print)
    for damage in ("removed", "edited"):
        if damage == "removed":
            to.client.delete_model_version_tag(f"{NAME}.ledger", "2", "gateline.decision")
        else:
            to.client.set_model_version_tag(f"{NAME}.ledger", "2", "gateline.decision", json.dumps({"promoted": True}))
        promote(to, NAME, 2, print, why=f"looked at what was {damage}")  # whom that decision was about
        open_ledger(to, NAME, print)
        promote(to, NAME, 1, print, why="and back")
        promote(to, NAME, 2, print, why="and there")
        assert read_ledger(to, NAME).edits() == []

    to.client.delete_registered_model(f"{NAME}.ledger")
    for attempt in (lambda: open_ledger(to, NAME, print), lambda: promote(to, NAME, 3, print)):
        with pytest.raises(RegistryError, match="found none: it was deleted"):
            attempt()
    step = promote(to, NAME, 1, print, why="the backup is of before")
    assert step is not None
    assert read_ledger(to, NAME).champion == 1
    assert said(lambda say: open_ledger(to, NAME, say)) == []
