"""The ledger: every decision about who is champion, in one order. Pure functions of its entries, no registry.

An entry names the champion that it expects, and the last entry that its writer had seen. Replayed in order, it takes effect only if
that is who is champion when its turn comes, and nobody became champion since that entry; so of two that were written at once the
first wins, and the other changes nothing (compare-and-set).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from itertools import takewhile
from typing import Any, NamedTuple

from gateline.errors import RegistryError
from gateline.manifest import digest_of

ADOPTED, PROMOTED, ROLLED_BACK, ACCEPTED = "adopted", "promoted", "rolled back", "accepted by hand"
NOT_PROMOTED, AWAITING = "not promoted", "awaiting approval"
CHANGES = (ADOPTED, PROMOTED, ROLLED_BACK, ACCEPTED)
"""Kinds of entries that make a version champion; the others say what was decided and change nothing."""
FORMAT = 1


@dataclass(frozen=True)
class Entry:
    """One decision.

    Args:
        id: of whoever wrote it, so that an entry that was sent twice counts once.
        kind: one of CHANGES, NOT_PROMOTED or AWAITING.
        version: what the decision is about; None where a rollback leaves nobody champion.
        expected: the champion when it was decided, None for nobody.
        by: who decided.
        at: when, ISO 8601 in UTC, by the clock of whoever wrote it.
        reason: in a sentence.
        decision: digest of the decision that a challenger got, if it rests on one.
        rows: digest of the test rows that it was compared on.
        forced: a person promoted it against its decision.
        missing: numbers of entries that somebody deleted or damaged and that this one knows of.
        seen: number of the last entry that its writer had seen when it decided, 0 for none; None of an earlier Gateline, which
            did not say it.
        seen_digest: digest of that one with all before it.
        accepts: numbers of entries that are other than they were and that this one takes, with all up to `seen`, as they are now: those
            beside which another decision is kept, and the last of those of which one was changed. Kept only where there are any.
        number: its place, which the registry allots; 0 before that.
        settled: the alias was seen to say what the ledger says after this entry.
        digest: of what the registry keeps of it, place and settlement apart.
    """

    id: str
    kind: str
    version: int | None
    expected: int | None
    by: str
    at: str
    reason: str
    decision: str | None = None
    forced: bool = False
    missing: tuple[int, ...] = ()
    rows: str | None = None
    seen: int | None = None
    seen_digest: str | None = None
    accepts: tuple[int, ...] = ()
    number: int = 0
    settled: bool = False
    digest: str = ""

    def as_text(self) -> str:
        """Write it as the registry keeps it; place and settlement are the registry's to say."""
        content = {name: value for name, value in asdict(self).items() if name not in ("number", "settled", "digest")}
        if not self.accepts:
            del content["accepts"]
        return json.dumps({"format": FORMAT, **content})

    @classmethod
    def from_text(cls, text: str, number: int, *, settled: bool) -> Entry:
        """Read what `as_text` wrote.

        What a newer Gateline says beside that is left out here, and counts in the digest.

        Raises:
            ValueError: it is no entry, or a value of it is of another type than one that `as_text` writes.
            RegistryError: a newer Gateline wrote it in a form of its own.
        """
        try:
            content = dict(json.loads(text))
            digest, form = digest_of(content), content["format"]
            if isinstance(form, int) and form > FORMAT:
                raise RegistryError(
                    f"entry {number} of the ledger",
                    expected=f"format {FORMAT} or one before it",
                    found=f"format {form}, of a newer Gateline",
                    do="Upgrade Gateline here",
                )
            if form != FORMAT:
                raise ValueError(f"an entry of format {FORMAT}")
            known = {each.name for each in fields(cls)} - {"number", "settled", "digest"}
            content = {name: value for name, value in content.items() if name in known}
            content |= {"missing": tuple(content["missing"]), "accepts": tuple(content.get("accepts", ()))}
            entry = cls(**content, number=number, settled=settled, digest=digest)
            _require_types(entry)
            return entry
        except (TypeError, KeyError) as error:
            raise ValueError(f"no entry of a ledger: {error}") from error


def _require_types(entry: Entry) -> None:
    """Refuse an entry that somebody edited to values that nothing can be computed with.

    Raises:
        ValueError: it is one.
    """
    values: dict[str, Any] = vars(entry)
    wrong = [name for name in ("id", "kind", "by", "at", "reason") if not isinstance(values[name], str)]
    wrong += [name for name in ("decision", "rows", "seen_digest") if not isinstance(values[name], str | None)]
    wrong += [name for name in ("version", "expected", "seen") if type(values[name]) not in (int, type(None))]
    wrong += [name for name in ("missing", "accepts") if any(type(each) is not int for each in values[name])]
    wrong += [] if type(values["forced"]) is bool else ["forced"]
    if wrong:
        raise ValueError(f"no entry of a ledger: {', '.join(wrong)} of another type")
    if datetime.fromisoformat(entry.at).tzinfo is None:
        raise ValueError(f"no entry of a ledger: at {entry.at!r}, without an offset")


@dataclass(frozen=True)
class Step:
    """An entry, and what became of it when its turn came.

    Args:
        entry: what was decided.
        effective: it made its version champion.
        conflict: it wanted to, or to be approved, and the champion was another than it expected, or it was overtaken by an entry
            that its writer had not seen.
        before: who was champion.
        after: who is.
    """

    entry: Entry
    effective: bool
    conflict: bool
    before: int | None
    after: int | None


class Changed(NamedTuple):
    """One of the entries `first` to `last` is not what the writer of entry `by` had seen."""

    first: int
    last: int
    by: int

    def __str__(self) -> str:
        """Say it."""
        which = f"entry {self.last}" if self.first == self.last else f"one of the entries {self.first} to {self.last}"
        return f"{which} is not what entry {self.by} had seen: changed since"


@dataclass(frozen=True)
class Ledger:
    """All entries in order, replayed.

    Args:
        entries: as they stand, by rising number.
        missing: numbers below the last that no entry has and that no entry knows of.
        altered: numbers of entries beside which another decision is kept than they say, and that no entry accepts.
    """

    entries: tuple[Entry, ...]
    missing: tuple[int, ...] = ()
    altered: tuple[int, ...] = ()
    steps: tuple[Step, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", tuple(_replay(self.entries)))

    @property
    def last(self) -> Entry | None:
        """The last entry."""
        return self.entries[-1] if self.entries else None

    @property
    def changed(self) -> Changed | None:
        """Find the first entry by which one before it was changed since.

        Each names a digest of all entries that its writer had seen. Two that were written at once may name the same. What a person
        accepted counts as unchanged for as long as it stays as that person had seen it.
        """
        digests = self.digests()
        accepted = [
            (entry.seen, entry.seen_digest) for entry in self.entries if entry.accepts and entry.seen is not None
        ]
        held = max((seen for seen, digest in accepted if digests.get(seen) == digest), default=0)
        gone = set(range(1, max(digests, default=0))) - digests.keys()
        for entry in self.entries:
            gone -= set(entry.missing)
            if entry.seen is None or entry.seen <= held:
                continue
            if any(number <= entry.seen for number in gone):
                continue  # it had seen one that is gone since, which is missed by its number
            if digests.get(entry.seen) != entry.seen_digest:
                return Changed(held + 1, entry.seen, entry.number)
            held = entry.seen
        return None

    @property
    def not_as_written(self) -> tuple[int, ...]:
        """Numbers that an entry accepts whose writer goes on from the ledger as it is."""
        changed = self.changed
        return tuple(sorted({*self.altered, *(() if changed is None else (changed.last,))}))

    def edits(self) -> list[str]:
        """Say what somebody edited since it was written, in sentences; none where all is as it was."""
        said = [] if self.changed is None else [str(self.changed)]
        if self.altered:
            which = ", ".join(map(str, self.altered))
            said.append(f"the decision kept at entries {which} was changed, or removed, since it was made")
        return said

    def digests(self) -> dict[int, str]:
        """Digest, by number, each entry with all before it."""
        found, before = {}, ""
        for entry in self.entries:
            found[entry.number] = before = digest_of([before, entry.digest])
        return found

    @property
    def champion(self) -> int | None:
        """Who is champion; None if nobody is."""
        return self.steps[-1].after if self.steps else None

    @property
    def line(self) -> tuple[int, ...]:
        """Champions that a rollback can go back through, the present one last: who was rolled back from is not among them."""
        line: list[int] = []
        for step in self.steps:
            if step.effective and step.after is None:
                line = []
            elif step.effective and step.after is not None:
                going_back = step.entry.kind == ROLLED_BACK and step.after in line
                line = line[: line.index(step.after)] if going_back else line
                line = (
                    line if line[-1:] == [step.after] else [*line, step.after]
                )  # who was accepted as champion was it already
        return tuple(line)

    def step_of(self, entry_id: str) -> Step | None:
        """Find what became of an entry; None if it is not there."""
        return next((step for step in self.steps if step.entry.id == entry_id), None)

    def last_about(self, version: int) -> Step | None:
        """Find the last entry about a version that was no conflict."""
        about = (step for step in reversed(self.steps) if step.entry.version == version and not step.conflict)
        return next(about, None)

    def attempts(self, versions: Iterable[int], champion: int | None, rows: str) -> int:
        """Say the how manieth challenger a model is that is compared with a champion on the same test rows: 1 for the first.

        Args:
            versions: all that have its weights, which make the same errors each time.
            champion: that it is compared with.
            rows: digest of the test rows.
        """
        compared = {entry.version for entry in self.entries if entry.rows == rows and entry.expected == champion}
        return 1 + len(compared.difference(versions))

    def undone_by_a_person(self, version: int) -> Entry | None:
        """Find the entry by which a person took the championship from a version, unless it got it again since.

        That is a rollback, a promotion by force, or an alias that was moved by hand and accepted.
        """
        found = None
        for step in self.steps:
            by_hand = step.entry.kind in (ROLLED_BACK, ACCEPTED) or step.entry.forced
            if step.effective and by_hand and step.before == version and step.after != version:
                found = step.entry
            elif step.effective and step.after == version:
                found = None
        return found

    def explains(self, alias: int | None) -> bool:
        """Say whether a process that died, or is still at work, would leave the alias where it is.

        Whoever changes the champion writes the entry first and moves the alias then; until it has seen both agree, its
        entry is not settled. So the alias may be anywhere that the championship was since the first such entry.
        """
        effective = [step for step in self.steps if step.effective]
        first = next((place for place, step in enumerate(effective) if not step.entry.settled), len(effective))
        return any(alias in (step.before, step.after) for step in effective[first:])

    def unsettled(self) -> list[Entry]:
        """List the entries that took effect and whose alias nobody has seen to agree."""
        return [step.entry for step in self.steps if step.effective and not step.entry.settled]


def _replay(entries: Sequence[Entry]) -> Iterable[Step]:
    champion: int | None = None
    ids: set[str] = set()
    changed = 0  # number of the entry that made the champion what it is
    earlier: list[Entry] = []
    for entry in entries:
        new = entry.id not in ids
        overtaken = _overtaken(entry, earlier, changed)
        conflict = new and (
            (entry.kind in CHANGES and (overtaken or entry.expected != champion))
            or (entry.kind == AWAITING and overtaken)
        )
        holds = new and entry.kind in CHANGES and not conflict
        effective = holds and (entry.version != champion or entry.kind == ACCEPTED)  # nobody wins against itself
        after = entry.version if effective else champion
        yield Step(entry, effective, conflict, champion, after)
        champion, changed = after, entry.number if effective else changed
        ids.add(entry.id)
        earlier.append(entry)


def _overtaken(entry: Entry, before: Sequence[Entry], changed: int) -> bool:
    """Say whether what its writer had not seen would have mattered.

    That is a change of champion, even one that was undone, or another challenger on the same test rows, which leaves this one a
    smaller share of the error that the gates allow.
    """
    if entry.seen is None:
        return False
    seen = entry.seen
    others = {
        (each.expected, each.rows)
        for each in takewhile(lambda each: each.number > seen, reversed(before))
        if each.version != entry.version
    }
    compared = entry.expected is not None and entry.rows is not None
    return changed > seen or (compared and (entry.expected, entry.rows) in others)


def as_record(step: Step) -> dict[str, Any]:
    """Write a step as JSON has it, for `gateline history --json` and for whoever is told."""
    effect = "conflict" if step.conflict else "champion" if step.effective else "none"
    content = asdict(step.entry)
    return {
        **content,
        "missing": list(step.entry.missing),
        "accepts": list(step.entry.accepts),
        "effect": effect,
        "before": step.before,
        "after": step.after,
    }
