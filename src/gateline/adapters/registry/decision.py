"""What register decided about a challenger: its record, and its entry in the ledger, which is where it is read back from."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from gateline.adapters.mlflow_server import Connection
from gateline.adapters.registry.kept_decision import digest_of_decision, keep, read_kept
from gateline.adapters.registry.ledger import (
    CHALLENGER,
    DECISION_TAG,
    SUFFIX,
    append,
    in_words,
    meanwhile,
    new_entry,
    number_with_alias,
    project,
)
from gateline.errors import RegistryError, TryAgainError
from gateline.judgement import Check, Verdict
from gateline.ledger import AWAITING, NOT_PROMOTED, PROMOTED, ROLLED_BACK, Entry, Ledger, Step
from gateline.promotion import Decision
from gateline.workload.gates import Gates

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


def as_record(decision: Decision, gates: Gates, champion: ModelVersion | None) -> dict[str, Any]:
    """Write a decision as `decision.json` has it; a winner waits where the workload asks for approval."""
    waits = decision.promote and gates.approval == "required"
    return {
        "promoted": decision.promote and not waits,
        "awaiting_approval": waits,
        "reasons": decision.reasons,
        "checks": [_said(check) for check in decision.checks],
        "comparison": dict(decision.comparison),
        "rows": decision.rows,
        "champion_before": None if champion is None else int(champion.version),
        "decided_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _said(check: Check) -> dict[str, Any]:
    return {"name": check.name, "passed": check.passed, "reason": check.reason}


def enter(
    to: Connection,
    name: str,
    version: ModelVersion,
    champion: ModelVersion | None,
    decided: Mapping[str, Any],
    ledger: Ledger,
    tags: Mapping[str, str] | None = None,
) -> Step:
    """Write the decision into the ledger, at its entry some tags more, and move the aliases.

    A decision that stands there already, because its register was stopped behind it, is not written again.

    Returns:
        The entry and what became of it.

    Raises:
        TryAgainError: another champion was set, or another challenger compared on these rows, since the ledger was read.
    """
    number = int(version.version)
    expected = None if champion is None else int(champion.version)
    kind = PROMOTED if decided["promoted"] else AWAITING if decided["awaiting_approval"] else NOT_PROMOTED
    digest, kept = digest_of_decision(decided), keep(to, str(version.run_id), decided)
    step = ledger.last_about(number)
    if (
        step is None
        or (step.entry.kind, step.entry.expected, step.entry.decision) != (kind, expected, digest)
        or (kind == PROMOTED and ledger.champion != number)
    ):
        checks = decided["checks"]
        why = [check["reason"] for check in checks if not check["passed"]]
        why = why or [check["reason"] for check in checks if check["name"] == "champion"]
        reason = "; ".join(why)
        entry = new_entry(kind, number, expected, reason, seen=ledger, decision=digest, rows=decided.get("rows"))
        ledger = append(to, name, entry, tags={DECISION_TAG: kept, **(tags or {})})
        step = ledger.step_of(entry.id)
        if step is None or step.before != expected or step.conflict:
            raise TryAgainError(
                f"champion of {name}",
                expected=f"{in_words(expected)}, which the challenger was compared with",
                found=meanwhile(step, expected),
                do="Run register again; it compares with the champion then",
            )
        if kind == PROMOTED:
            project(to, name, ledger, entry)
    # Behind the entry, which it repeats: what took no effect is not said of the version.
    to.client.set_model_version_tag(name, version.version, DECISION_TAG, kept)
    if kind != PROMOTED:
        to.client.set_registered_model_alias(name, CHALLENGER, version.version)
    elif number_with_alias(to, name, CHALLENGER) == number:
        to.client.delete_registered_model_alias(name, CHALLENGER)
    return step


def decision_behind(to: Connection, name: str, ledger: Ledger, entry: Entry) -> dict[str, Any] | None:
    """Read the decision that an entry rests on: its own, or for an approval the one that was approved.

    Returns:
        The decision; None if the entry rests on none.

    Raises:
        RegistryError: what is kept is not what the entry says was decided.
    """
    if entry.decision is None:
        return None
    where = f"{name}{SUFFIX} entry {entry.number}"
    problem = RegistryError(
        where,
        expected=f"the decision of digest {entry.decision[:12]} in its tag {DECISION_TAG}",
        found="nothing",
        do="Somebody removed it, and what was decided cannot be told; restore the tag from a backup of MLflow's database",
    )
    for each in reversed(ledger.entries):
        if each.decision != entry.decision or each.number > entry.number:
            continue
        text = to.client.get_model_version(f"{name}{SUFFIX}", str(each.number)).tags.get(DECISION_TAG)
        if text is None:
            continue  # an approval keeps no copy
        try:
            return read_kept(to, text, where, entry.decision)
        except RegistryError as error:
            problem = error
    raise problem


def recorded(to: Connection, name: str, ledger: Ledger, champion: ModelVersion, verdict: Verdict) -> dict[str, Any]:
    """Read back, from the ledger, the decision that made a version champion; without one it was made champion by hand.

    Raises:
        RegistryError: the decision was changed since.
    """
    number = int(champion.version)
    made = (each for each in reversed(ledger.steps) if each.effective and each.entry.version == number)
    step = next((each for each in made if each.entry.kind == PROMOTED), None)
    decided = None if step is None or step.entry.forced else decision_behind(to, name, ledger, step.entry)
    if decided is not None:
        if DECISION_TAG not in champion.tags:  # register was stopped behind the entry
            kept = keep(to, str(champion.run_id), decided)
            to.client.set_model_version_tag(name, champion.version, DECISION_TAG, kept)
        return {**decided, "promoted": True}
    by_hand = Check("champion", True, "it was made champion by other means than register")
    return {
        "promoted": True,
        "awaiting_approval": False,
        "reasons": [*verdict.reasons, by_hand.reason],
        "checks": [_said(check) for check in (*verdict.checks, by_hand)],
        "comparison": {},
        "champion_before": None,
        "decided_at": None,
    }


def rolled_back(name: str, version: int, ledger: Ledger) -> Check | None:
    """Say that a person took the championship from this very model: register does not give it back."""
    entry = ledger.undone_by_a_person(version)
    if entry is None:
        return None
    reason = (
        f"version {version} was {'rolled back' if entry.kind == ROLLED_BACK else 'replaced'} by {entry.by} at {entry.at} "
        f"({entry.reason}), and only a person makes it champion "
        f"again: `gateline promote {name} {version} --force-reason WHY`"
    )
    return Check("rolled_back", False, reason)
