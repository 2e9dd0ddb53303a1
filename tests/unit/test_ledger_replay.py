"""The replay of a ledger: what an entry says of the entry that its writer had seen last."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateline.errors import RegistryError
from gateline.ledger import ACCEPTED, AWAITING, NOT_PROMOTED, PROMOTED, ROLLED_BACK, Entry, Ledger

AT = "2026-01-01T00:00:00+00:00"


def kept(
    entries: list[Entry], kind: str, version: int | None, expected: int | None, seen: int, rows: str = ""
) -> Entry:
    """Add an entry as the registry keeps and gives it back, by a writer who had seen those up to a number."""
    digest = Ledger(tuple(entries)).digests()[seen] if seen else None
    entry = Entry(
        f"{len(entries)}", kind, version, expected, "me", AT, "", rows=rows or None, seen=seen, seen_digest=digest
    )  # fmt: skip
    entries.append(Entry.from_text(entry.as_text(), len(entries) + 1, settled=False))
    return entries[-1]


def replayed(*rows: tuple[Any, ...]) -> Ledger:
    entries: list[Entry] = []
    for row in rows:
        kept(entries, *row)
    return Ledger(tuple(entries))


def test_a_champion_that_was_another_in_between_is_not_the_one_that_was_seen() -> None:
    ledger = replayed((PROMOTED, 1, None, 0), (PROMOTED, 2, 1, 1), (ROLLED_BACK, 1, 2, 2), (PROMOTED, 3, 1, 1))
    assert ledger.champion == 1
    assert ledger.steps[-1].conflict
    assert replayed((PROMOTED, 1, None, 0), (NOT_PROMOTED, 2, 1, 1), (PROMOTED, 3, 1, 1)).champion == 3


def test_entries_of_an_earlier_gateline_keep_the_rule_of_then() -> None:
    old = '{"format": 1, "id": "%d", "kind": "%s", "version": %d, "expected": %s, "by": "me", "at": "2026-01-01T00:00:00+00:00", "reason": "", '
    old += '"decision": null, "forced": false, "missing": [], "rows": null}'
    texts = [old % row for row in [(1, PROMOTED, 1, "null"), (2, PROMOTED, 2, "1"), (3, ROLLED_BACK, 1, "2")]]
    texts.append(old % (4, PROMOTED, 3, "1"))
    ledger = Ledger(tuple(Entry.from_text(text, number, settled=True) for number, text in enumerate(texts, 1)))
    assert ledger.champion == 3
    assert ledger.changed is None


@pytest.mark.parametrize("kind", [PROMOTED, AWAITING])
def test_whoever_was_not_counted_with_another_challenger_of_the_same_rows_takes_no_effect(kind: str) -> None:
    first = (PROMOTED, 1, None, 0, "a")
    for between, overtaken in {
        (NOT_PROMOTED, 2, 1, 1, "a"): True,
        (NOT_PROMOTED, 2, 1, 1, "b"): False,
        (NOT_PROMOTED, 3, 1, 1, "a"): False,
    }.items():
        ledger = replayed(first, between, (kind, 3, 1, 1, "a"))
        assert ledger.steps[-1].conflict is overtaken, between
        if not overtaken:
            continue
        again = replayed(first, between, (kind, 3, 1, 1, "a"), (kind, 3, 1, 3, "a"))
        assert not again.steps[-1].conflict, "it had seen the other"
        assert again.attempts([3], 1, "a") == 2
    assert replayed(first, (AWAITING, 2, 1, 1, "a"), (NOT_PROMOTED, 3, 1, 1, "a")).steps[-1].conflict is False


def test_an_entry_that_was_changed_is_found_by_those_that_had_seen_it() -> None:
    entries: list[Entry] = []
    for row in [
        (PROMOTED, 1, None, 0),
        (PROMOTED, 2, 1, 1),
        (PROMOTED, 3, 1, 1),
        (PROMOTED, 4, 2, 3),
        (NOT_PROMOTED, 5, 4, 4),
    ]:
        kept(entries, *row)  # fmt: skip
    assert Ledger(tuple(entries)).changed is None, "two that were written at once had seen the same"
    for place in range(4):
        content = {**json.loads(entries[place].as_text()), "reason": "another"}
        forged = Entry.from_text(json.dumps(content), place + 1, settled=True)
        found = Ledger((*entries[:place], forged, *entries[place + 1 :])).changed
        assert found == {0: (1, 1, 2), 1: (2, 3, 4), 2: (2, 3, 4), 3: (4, 4, 5)}[place]
    without = Ledger((*entries[:2], *entries[3:]), missing=(3,))
    assert without.changed is None, "an entry that is gone is missed by its number"
    rest = [*entries[:2], *entries[3:]]
    known = Entry("6", PROMOTED, 6, 4, "me", AT, "", missing=(3,), seen=5, seen_digest=Ledger(tuple(rest)).digests()[5])
    rest.append(Entry.from_text(known.as_text(), 6, settled=False))
    assert Ledger(tuple(rest)).changed is None, "whoever knew of it had seen the rest"
    forged = Entry.from_text(json.dumps({**json.loads(rest[3].as_text()), "by": "another"}), 5, settled=False)
    assert Ledger((*rest[:3], forged, rest[4])).changed == (2, 5, 6)
    settled = Entry.from_text(entries[0].as_text(), 1, settled=True)
    assert Ledger((settled, *entries[1:])).changed is None


def edited(entry: Entry, **changes: Any) -> Entry:
    """Edit an entry as whoever may write to the registry can."""
    return Entry.from_text(json.dumps({**json.loads(entry.as_text()), **changes}), entry.number, settled=False)


def test_what_a_person_accepts_counts_as_unchanged_until_it_is_edited_again() -> None:
    entries = list(replayed((PROMOTED, 1, None, 0), (PROMOTED, 2, 1, 1), (PROMOTED, 3, 2, 2)).entries)
    assert "accepts" not in entries[0].as_text(), "an earlier Gateline reads it, and its digest stays"
    entries[0] = edited(entries[0], by="another")
    forged = Ledger(tuple(entries))
    assert forged.changed == (1, 1, 2)
    assert forged.not_as_written == (1,)
    seen_digest = forged.digests()[3]
    way_out = Entry("4", PROMOTED, 3, 3, "me", AT, "", seen=3, seen_digest=seen_digest, accepts=forged.not_as_written)
    entries.append(Entry.from_text(way_out.as_text(), 4, settled=False))
    assert entries[3].accepts == (1,)
    kept(entries, NOT_PROMOTED, 5, 3, 4)
    assert Ledger(tuple(entries)).changed is None
    for place in range(3):
        again = [*entries[:place], edited(entries[place], by="a third"), *entries[place + 1 :]]
        for length in (4, 5):
            assert Ledger(tuple(again[:length])).changed == (1, 1, 2), (place, length)
    assert Ledger((*entries[:3], edited(entries[3], by="a third"), entries[4])).changed == (4, 4, 5)


def test_who_was_accepted_as_champion_that_it_was_already_is_not_its_own_predecessor() -> None:
    """Version 2 was champion, somebody moved the alias away, a person undid that: back from 2 is 1."""
    ledger = replayed((PROMOTED, 1, None, 0), (PROMOTED, 2, 1, 1), (ACCEPTED, 2, 2, 2))
    assert ledger.line == (1, 2)


def test_what_a_newer_gateline_says_beside_is_no_damage_and_another_form_asks_for_an_upgrade() -> None:
    entries: list[Entry] = []
    known = kept(entries, PROMOTED, 1, None, 0)
    content = json.loads(known.as_text())

    more = Entry.from_text(json.dumps(content | {"mood": "good"}), 1, settled=False)

    assert more.version == 1
    assert more.digest != known.digest
    with pytest.raises(RegistryError, match="newer Gateline"):
        Entry.from_text(json.dumps(content | {"format": 2}), 1, settled=False)
    with pytest.raises(ValueError, match="format"):
        Entry.from_text(json.dumps(content | {"format": 0}), 1, settled=False)


@pytest.mark.parametrize(
    "values",
    [
        {"version": "two"},
        {"version": True},
        {"seen": 1.0},
        {"at": "gestern"},
        {"at": "2026-01-01T00:00:00"},
        {"at": 5},
        {"reason": None},
        {"rows": ["a"]},
        {"forced": "no"},
        {"missing": "no"},
        {"accepts": [None]},
    ],
)
def test_values_of_another_type_are_no_entry(values: dict[str, Any]) -> None:
    content = json.loads(Entry("1", PROMOTED, 1, None, "me", AT, "", seen=0).as_text())
    with pytest.raises(ValueError, match=next(iter(values)) if "gestern" not in values.values() else "gestern"):
        Entry.from_text(json.dumps(content | values), 1, settled=False)
