"""The ledger: every decision about who is champion, in one order. Pure functions of its entries, no registry.

An entry names the champion that it expects. Replayed in order, it takes effect only if that is who is champion when its turn
comes; so of two that were written at once the first wins, and the other changes nothing (compare-and-set).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

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
        number: its place, which the registry allots; 0 before that.
        settled: the alias was seen to say what the ledger says after this entry.
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
    number: int = 0
    settled: bool = False

    def as_text(self) -> str:
        """Write it as the registry keeps it; place and settlement are the registry's to say."""
        content = {name: value for name, value in asdict(self).items() if name not in ("number", "settled")}
        return json.dumps({"format": FORMAT, **content})

    @classmethod
    def from_text(cls, text: str, number: int, *, settled: bool) -> Entry:
        """Read what `as_text` wrote.

        Raises:
            ValueError: it is no entry.
        """
        try:
            content = dict(json.loads(text))
            if content.pop("format") != FORMAT:
                raise ValueError(f"an entry of format {FORMAT}")
            return cls(**{**content, "missing": tuple(content["missing"])}, number=number, settled=settled)
        except (TypeError, KeyError) as error:
            raise ValueError(f"no entry of a ledger: {error}") from error


@dataclass(frozen=True)
class Step:
    """An entry, and what became of it when its turn came.

    Args:
        entry: what was decided.
        effective: it made its version champion.
        conflict: it wanted to, and the champion was another than it expected.
        before: who was champion.
        after: who is.
    """

    entry: Entry
    effective: bool
    conflict: bool
    before: int | None
    after: int | None


@dataclass(frozen=True)
class Ledger:
    """All entries in order, replayed.

    Args:
        entries: as they stand, by rising number.
        missing: numbers below the last that no entry has and that no entry knows of.
        altered: numbers of entries beside which another decision is kept than they say.
    """

    entries: tuple[Entry, ...]
    missing: tuple[int, ...] = ()
    altered: tuple[int, ...] = ()
    steps: tuple[Step, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", tuple(_replay(self.entries)))

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
                line = [*line, step.after]
        return tuple(line)

    def step_of(self, entry_id: str) -> Step | None:
        """Find what became of an entry; None if it is not there."""
        return next((step for step in self.steps if step.entry.id == entry_id), None)

    def last_about(self, version: int, kinds: Iterable[str] | None = None) -> Step | None:
        """Find the last entry about a version that was no conflict, of some kinds if they are given."""
        wanted = None if kinds is None else set(kinds)
        about = (
            step
            for step in reversed(self.steps)
            if step.entry.version == version and not step.conflict and (wanted is None or step.entry.kind in wanted)
        )
        return next(about, None)

    def attempts(self, version: int, champion: int | None, rows: str) -> int:
        """Say the how manieth challenger a version is that is compared with a champion on the same test rows: 1 for the first."""
        before = {entry.version for entry in self.entries if entry.rows == rows and entry.expected == champion} - {
            version
        }
        return 1 + len(before)

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
    seen: set[str] = set()
    for entry in entries:
        wants = entry.kind in CHANGES and entry.id not in seen
        holds = wants and entry.expected == champion
        effective = holds and (entry.version != champion or entry.kind == ACCEPTED)  # nobody wins against itself
        after = entry.version if effective else champion
        yield Step(entry, effective, wants and not holds, champion, after)
        champion = after
        seen.add(entry.id)


def as_record(step: Step) -> dict[str, Any]:
    """Write a step as JSON has it, for `gateline history --json` and for whoever is told."""
    effect = "conflict" if step.conflict else "champion" if step.effective else "none"
    content = asdict(step.entry)
    return {
        **content,
        "missing": list(step.entry.missing),
        "effect": effect,
        "before": step.before,
        "after": step.after,
    }
