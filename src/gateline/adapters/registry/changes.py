"""Change who is champion by hand: promote and roll back. Each names the champion that it replaces, and is one entry of the ledger."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from gateline.adapters.mlflow_server import Connection
from gateline.adapters.registry.decision import decision_behind
from gateline.adapters.registry.ledger import (
    CHALLENGER,
    CHAMPION,
    append,
    damaged,
    exists,
    in_words,
    is_recent,
    lost,
    meanwhile,
    moved_by_hand,
    new_entry,
    number_with_alias,
    project,
    put_right,
    read_both,
    require_version,
    settle,
)
from gateline.adapters.registry.model_files import model_files
from gateline.adapters.registry.serving_check import CHECK_TAG, PASSED
from gateline.errors import RegistryError
from gateline.ledger import ACCEPTED, AWAITING, NOT_PROMOTED, PROMOTED, ROLLED_BACK, Entry, Ledger, Step

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

Say = Callable[[str], None]


def promote(
    to: Connection, name: str, version: int | None, say: Say, *, expect: int | None = None, why: str | None = None
) -> Step | None:
    """Make a version champion: the challenger that waits for approval, or another one for a reason that a person gives.

    Args:
        to: MLflow.
        name: of the registered model.
        version: its number; None: the challenger.
        say: takes what is said meanwhile.
        expect: the champion that is to be replaced; None: whoever is champion now.
        why: needed for a version that no decision speaks for; stands in the ledger.

    Returns:
        The entry and what became of it; None if the version is champion already.

    Raises:
        RegistryError: the version is not there, may not be promoted, the champion is another than expected, or the ledger is damaged
            and no version or reason is given.
    """
    if why is not None and not why.strip():
        raise RegistryError("--force-reason", expected="a reason", found="none", do="Say why; it stands in the ledger")
    ledger, alias = read_both(to, name)
    damage = damaged(name, ledger) or lost(to, name, ledger)
    if damage is not None and (why is None or version is None):
        raise damage
    known = bool(ledger.entries) and damage is None
    by_hand = known and alias != ledger.champion and not ledger.explains(alias)
    if by_hand and version not in (alias, ledger.champion) and exists(to, name, ledger.champion):
        raise moved_by_hand(name, ledger.champion, alias)
    if not by_hand and damage is None:
        ledger = put_right(to, name, ledger, alias, say)
    version = version if version is not None else _challenger(to, name, ledger)
    found = require_version(to, name, version)
    _check_allowed(name, found)
    last = _last_change(ledger)
    again = version == ledger.champion and last is not None and expect == last.before  # stopped behind its entry
    if expect is not None and expect != ledger.champion and not again:
        raise RegistryError(
            f"{name}: --expect",
            expected=f"version {expect} to be champion",
            found=in_words(ledger.champion),
            do=f"Look at `gateline history {name}`, and name the champion that is to be replaced",
        )
    if by_hand and version in (alias, ledger.champion):
        done = (
            f"accepted: the alias was {in_words(alias)}, set by hand, where the ledger said {in_words(ledger.champion)}"
        )
        entry = new_entry(ACCEPTED, version, ledger.champion, why or done, seen=ledger)
    elif version == ledger.champion and damage is None:
        _is_challenger_no_more(to, name, version)
        say(f"{name} version {version} is champion already")
        return None
    else:
        speaks_for = _decision_for(name, version, ledger, why)
        if why is None and speaks_for is not None:
            decision_behind(to, name, ledger, speaks_for)  # what is approved is what was decided
        reason = why or (f"approved: {speaks_for.reason}" if speaks_for else "")
        decision = None if speaks_for is None else speaks_for.decision
        forced = speaks_for is None or speaks_for.kind != AWAITING or speaks_for.expected != ledger.champion
        entry = new_entry(
            PROMOTED,
            version,
            ledger.champion,
            reason,
            seen=ledger,
            decision=decision,
            forced=forced,
            missing=ledger.missing,
            accepts=ledger.not_as_written,
        )
    _check_files(name, found)
    return _enter(to, name, entry)


def roll_back(
    to: Connection, name: str, target: int | None, say: Say, *, nobody: bool = False, why: str | None = None
) -> Step:
    """Go back to a champion before, or finish the rollback that was stopped between its entry and the alias.

    Args:
        to: MLflow.
        name: of the registered model.
        target: its number; None: the one before the present champion.
        say: takes what is said meanwhile.
        nobody: leave the model without a champion.
        why: stands in the ledger.

    Returns:
        The entry and what became of it: the last one, where that is what the same command had begun.

    Raises:
        RegistryError: there was none before, it was never champion, its files are gone, the champion changed meanwhile, or the ledger
            is damaged.
    """
    ledger, alias = read_both(to, name)
    begun = _begun(ledger, alias, target, nobody=nobody)
    if exists(to, name, ledger.champion) and (begun is not None or not (nobody and alias is None)):
        ledger = put_right(to, name, ledger, alias, say)
        if begun is not None:
            _is_challenger_no_more(to, name, begun.after)
            settle(to, name, begun.entry)  # the next rollback is another one
            say(
                f"entry {begun.entry.number} rolled back already and was stopped before it had ended, so nothing more is rolled back; "
                f"to go back further, name a version: `gateline rollback {name} --to VERSION`"
            )
            return begun
    elif (damage := damaged(name, ledger)) is not None:
        raise damage
    if target is None and ledger.champion is None and alias is None:
        raise RegistryError(
            name,
            expected="a champion to go back from",
            found="none",
            do=f"Correct the name, or name a version by `--to`; see `gateline history {name}`",
        )
    if not nobody:
        target = _champion_before(name, ledger, target)
        version = require_version(to, name, target)
        _check_allowed(name, version)
        _check_files(name, version)
    present = in_words(ledger.champion)
    why = why or f"rolled back from {present}"
    return _enter(to, name, new_entry(ROLLED_BACK, target, ledger.champion, why, seen=ledger))


def _begun(ledger: Ledger, alias: int | None, target: int | None, *, nobody: bool) -> Step | None:
    """Find the rollback that was stopped before it had ended, if it is what is asked for now: run again, it goes back no second time.

    Of an old one whose alias was moved nothing is left to finish but to say so, and what is asked for now is another one.
    """
    last = _last_change(ledger)
    if last is None or last.entry.settled or last.entry.kind != ROLLED_BACK:
        return None
    if alias == last.after and not is_recent(last.entry):
        return None
    if nobody or last.after is None:
        return last if nobody and last.after is None else None
    return last if target in (None, last.after) else None


def _last_change(ledger: Ledger) -> Step | None:
    return next((step for step in reversed(ledger.steps) if step.effective), None)


def _is_challenger_no_more(to: Connection, name: str, champion: int | None) -> None:
    if champion is not None and number_with_alias(to, name, CHALLENGER) == champion:
        to.client.delete_registered_model_alias(name, CHALLENGER)


def _enter(to: Connection, name: str, entry: Entry) -> Step:
    """Write an entry and move the alias, if it took effect.

    Raises:
        RegistryError: another entry was faster.
        TryAgainError: the alias could not be moved, or that it was could not be noted.
    """
    ledger = append(to, name, entry)
    step = ledger.step_of(entry.id)
    if step is None or step.conflict:
        raise RegistryError(
            f"champion of {name}",
            expected=f"{in_words(entry.expected)}, which was to be replaced",
            found=meanwhile(step, entry.expected),
            do=f"Nothing was changed; look at `gateline history {name}` and decide again",
        )
    _is_challenger_no_more(to, name, entry.version)
    project(to, name, ledger)
    settle(to, name, step.entry)  # last, and not left out: what is stopped before is finished when it is run again
    return step


def _challenger(to: Connection, name: str, ledger: Ledger) -> int:
    waiting = next(
        (step.entry for step in reversed(ledger.steps) if step.entry.kind == AWAITING and not step.conflict), None
    )
    found = None if waiting is None or waiting.version == ledger.champion else waiting.version
    found = found if found is not None else number_with_alias(to, name, CHALLENGER)
    if found is None and waiting is not None:
        found = waiting.version  # champion already, as by a command that was stopped behind that and is run again
    if found is None:
        raise RegistryError(
            name,
            expected="a challenger that waits",
            found="none",
            do=f"Name a version: `gateline history {name}` lists them",
        )
    return found


def _champion_before(name: str, ledger: Ledger, target: int | None) -> int:
    if target is None:
        if len(ledger.line) < 2:
            raise RegistryError(
                f"{name}: {in_words(ledger.champion)}",
                expected="a champion before it",
                found="none",
                do=f"Name one with `--to VERSION`, or leave nobody champion with `--to none`; see `gateline history {name}`",
            )
        return ledger.line[-2]
    if not any(step.effective and step.after == target for step in ledger.steps):
        raise RegistryError(
            f"{name}: --to",
            expected="a version that was champion",
            found=f"version {target}, which never was",
            do=f"Use `gateline promote {name} {target}`",
        )
    if target == ledger.champion:
        raise RegistryError(
            f"{name}: --to", expected="another than the champion", found=f"version {target}", do="It is champion now"
        )
    return target


def _decision_for(name: str, version: int, ledger: Ledger, why: str | None) -> Entry | None:
    """Find what speaks for a version, and refuse one that nothing speaks for unless a person gives a reason."""
    last = ledger.last_about(version)
    entry = None if last is None else last.entry
    if why is not None or (entry is not None and entry.kind == AWAITING and entry.expected == ledger.champion):
        return entry
    do = f"Give a reason with `--force-reason`, and it stands in the ledger: `gateline promote {name} {version} --force-reason WHY`"
    if entry is None:
        found = "none: it was never compared"
    elif entry.kind == AWAITING:
        found = f"one against {in_words(entry.expected)}, and {in_words(ledger.champion)} is champion now"
        do = f"Run register again, it compares with the new champion. {do}"
    elif entry.kind == NOT_PROMOTED:
        found = f"a no: {entry.reason}"
    else:
        found = "one that has been acted on: it was champion before"
        do = f"Use `gateline rollback {name} --to {version}`. {do}"
    raise RegistryError(f"{name} version {version}", expected="a decision for it", found=found, do=do)


def _check_allowed(name: str, version: ModelVersion) -> None:
    """Refuse a version that was not seen to answer as the trained model does; no reason makes up for it."""
    found = str(version.tags.get(CHECK_TAG, ""))
    if found.startswith(PASSED):
        return
    do = (
        "correct what failed and register again"
        if found
        else "run register with that model again, it tries the version"
    )
    raise RegistryError(
        f"{name} version {version.version}",
        expected=f"a version that answered as the trained model does, to be {CHAMPION}",
        found=found
        or "one that was never tried: it was registered before there was a serving check, or register was stopped",
        do=f"No reason makes up for it; {do}",
    )


def _check_files(name: str, version: ModelVersion) -> None:
    with model_files(name, version):
        pass  # they are there, and those that were registered
