"""What register decided about a challenger: its record, and its entry in the ledger."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from gateline.adapters.mlflow_server import Connection
from gateline.adapters.registry.ledger import (
    CHALLENGER,
    append,
    in_words,
    new_entry,
    number_with_alias,
    project,
)
from gateline.errors import TryAgainError
from gateline.ledger import AWAITING, NOT_PROMOTED, PROMOTED, Ledger, Step
from gateline.manifest import digest_of
from gateline.promotion import Check, Decision, Verdict
from gateline.workload.gates import Gates

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

DECISION_TAG = "gateline.decision"


def as_record(decision: Decision, gates: Gates, champion: ModelVersion | None) -> dict[str, Any]:
    """Write a decision as `decision.json` has it; a winner waits where the workload asks for approval."""
    waits = decision.promote and gates.approval == "required"
    return {
        "promoted": decision.promote and not waits,
        "awaiting_approval": waits,
        "reasons": decision.reasons,
        "checks": [vars(check) for check in decision.checks],
        "comparison": dict(decision.comparison),
        "champion_before": None if champion is None else int(champion.version),
        "decided_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def enter(
    to: Connection,
    name: str,
    version: ModelVersion,
    champion: ModelVersion | None,
    decided: Mapping[str, Any],
    ledger: Ledger,
) -> Step | None:
    """Write the decision into the ledger and move the aliases.

    A decision that stands there already, because its register was stopped behind it, is not written again.

    Returns:
        The entry and what became of it; None if it stood there.

    Raises:
        TryAgainError: another champion was set since the comparison.
    """
    number = int(version.version)
    expected = None if champion is None else int(champion.version)
    kind = PROMOTED if decided["promoted"] else AWAITING if decided["awaiting_approval"] else NOT_PROMOTED
    digest = digest_of({key: value for key, value in decided.items() if key != "decided_at"})
    last, step = ledger.last_about(number), None
    if last is None or (last.entry.kind, last.entry.expected, last.entry.decision) != (kind, expected, digest):
        checks = decided["checks"]
        why = [check["reason"] for check in checks if not check["passed"]]
        why = why or [check["reason"] for check in checks if check["name"] == "champion"]
        reason = "; ".join(why)
        entry = new_entry(kind, number, expected, reason, decision=digest)
        ledger = append(to, name, entry, tags={DECISION_TAG: json.dumps(decided)})
        step = ledger.step_of(entry.id)
        if step is None or step.before != expected:
            raise TryAgainError(
                f"champion of {name}",
                expected=f"{in_words(expected)}, which the challenger was compared with",
                found=f"{in_words(None if step is None else step.before)}, set meanwhile",
                do="Run register again; it compares with the new champion",
            )
        if kind == PROMOTED:
            project(to, name, ledger, entry)
    if kind != PROMOTED:
        to.client.set_registered_model_alias(name, CHALLENGER, version.version)
    elif number_with_alias(to, name, CHALLENGER) == number:
        to.client.delete_registered_model_alias(name, CHALLENGER)
    return step


def recorded(champion: ModelVersion, verdict: Verdict) -> dict[str, Any]:
    """Read back the decision that made a version champion; without one it was made champion by hand."""
    try:
        decided: dict[str, Any] = json.loads(champion.tags[DECISION_TAG])
        if decided["promoted"] or decided["awaiting_approval"]:
            return {**decided, "promoted": True}
    except (KeyError, TypeError, ValueError):
        pass
    by_hand = Check("champion", True, "it was made champion by other means than register")
    return {
        "promoted": True,
        "awaiting_approval": False,
        "reasons": [*verdict.reasons, by_hand.reason],
        "checks": [vars(check) for check in (*verdict.checks, by_hand)],
        "comparison": {},
        "champion_before": None,
        "decided_at": None,
    }


def rolled_back(name: str, version: int, ledger: Ledger) -> Check | None:
    """Say that a person took the championship from this very model: register does not give it back."""
    entry = ledger.rolled_back_from(version)
    if entry is None:
        return None
    reason = (
        f"version {version} was rolled back by {entry.by} at {entry.at} ({entry.reason}), and only a person makes it champion "
        f"again: `gateline promote {name} {version} --force-reason WHY`"
    )
    return Check("rolled_back", False, reason)
