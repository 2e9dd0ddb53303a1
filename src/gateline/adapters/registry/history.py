"""What the ledger and the passports say, for people: the history of a model, and what changed from one version to another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gateline.adapters.mlflow_server import Connection
from gateline.adapters.registry.decision import decision_behind
from gateline.adapters.registry.ledger import (
    CHALLENGER,
    CHAMPION,
    exists,
    in_words,
    number_with_alias,
    read_both,
    read_ledger,
    require_version,
)
from gateline.adapters.registry.registered import registered
from gateline.adapters.registry.versions import PASSPORT_TAG
from gateline.errors import RegistryError
from gateline.ledger import Ledger, Step

KINDS: Mapping[str, tuple[str, ...]] = {
    "data": ("raw", "artifacts", "dvc_md5"),
    "settings": ("workload", "settings", "seed"),
    "code": ("code", "pipeline"),
    "environment": ("lock_file", "python", "libraries", "images", "machine", "served"),
}
"""Links of a passport by what they are about; any other is named by itself."""
NOT_COMPARED = ("verdict", "format")
"""What follows from the rest: it differs wherever anything does."""


@dataclass(frozen=True)
class History:
    """The ledger of a model beside what its aliases say now."""

    name: str
    ledger: Ledger
    champion_alias: int | None
    challenger_alias: int | None

    def remarks(self) -> list[str]:
        """Say what is not as it should be."""
        said = []
        if self.ledger.missing:
            said.append(f"entries {', '.join(map(str, self.ledger.missing))} are missing: deleted or damaged")
        said += self.ledger.edits()
        if self.champion_alias is not None and not self.ledger.entries:
            said.append(
                f"the alias {CHAMPION} is {in_words(self.champion_alias)}, and there is no ledger: none was begun, or it was deleted"
            )
        elif self.champion_alias != self.ledger.champion:
            why = "a command was stopped in between, the next one repairs it"
            if not self.ledger.explains(self.champion_alias):
                why = "somebody moved it by other means than Gateline"
            said.append(
                f"the alias {CHAMPION} is {in_words(self.champion_alias)}, the ledger says {in_words(self.ledger.champion)}: {why}"
            )
        return said


def read_history(to: Connection, name: str) -> History:
    """Read ledger and aliases, and change nothing.

    Raises:
        RegistryError: there is neither a ledger nor a model of that name.
    """
    ledger, alias = read_both(to, name)
    if not ledger.entries and not to.client.search_registered_models(f"name = '{name}'"):
        raise RegistryError(
            name,
            expected="a registered model",
            found="none",
            do=f"Correct the name, or make one: `gateline run {name}`",
        )
    return History(name, ledger, alias, number_with_alias(to, name, CHALLENGER))


@dataclass(frozen=True)
class Explanation:
    """Why a version is, or is not, champion.

    Args:
        version: its number.
        champion: the version it was compared with; None for none.
        decided: the decision, as `decision.json` has it; empty where there is none.
        entries: of the ledger about it.
        changes: by kind, what differs in the passports: dotted name, value of the champion, value of this version.
        remarks: what could not be told.
    """

    version: int
    champion: int | None
    decided: Mapping[str, Any]
    entries: tuple[Step, ...]
    changes: Mapping[str, list[tuple[str, Any, Any]]]
    remarks: tuple[str, ...]


def explain(to: Connection, name: str, version: int) -> Explanation:
    """Find the last decision about a version, and what changed against the champion that it was compared with.

    Raises:
        RegistryError: there is no such version.
        TryAgainError: the store did not give the files of one this time.
    """
    require_version(to, name, version)
    ledger = read_ledger(to, name)
    steps = tuple(step for step in ledger.steps if step.entry.version == version)
    remarks: list[str] = []
    decided = _decided(to, name, ledger, steps, remarks)
    champion = decided.get("champion_before", steps[-1].before if steps else None)
    passports: list[dict[str, Any] | None] = [
        _passport(to, name, number, remarks) for number in (champion, version) if number is not None
    ]
    changes: dict[str, list[tuple[str, Any, Any]]] = {}
    if len(passports) == 2 and passports[0] is not None and passports[1] is not None:
        changes = differences(passports[0], passports[1])
    return Explanation(version, champion, decided, steps, changes, tuple(remarks))


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, list[tuple[str, Any, Any]]]:
    """Compare two passports link by link.

    Returns:
        By kind of link: dotted name, value before, value after; a kind without a difference has an empty list.
    """
    found: dict[str, list[tuple[str, Any, Any]]] = {kind: [] for kind in KINDS}
    flat = dict(_flat(before)), dict(_flat(after))
    for key in dict.fromkeys([*flat[0], *flat[1]]):
        top = key.split(".")[0]
        if top in NOT_COMPARED or flat[0].get(key) == flat[1].get(key) or _follows(key):
            continue
        kind = next((kind for kind, tops in KINDS.items() if top in tops), top)
        found.setdefault(kind, []).append((key, flat[0].get(key), flat[1].get(key)))
    return found


def _follows(key: str) -> bool:
    """Say whether a link only repeats another: folders of the model and the evaluation follow from settings, code and data."""
    parts = key.split(".")
    made = ("model", "evaluation")
    return parts[0] in ("artifacts", "dvc_md5") and (parts[1] in made or parts[-1] in made or "inputs" in parts)


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


def _decided(to: Connection, name: str, ledger: Ledger, steps: tuple[Step, ...], remarks: list[str]) -> dict[str, Any]:
    """Read the last decision that the entries rest on; one that was changed since is not shown, and that is said.

    One without effect, because others were faster, counts only where there is no other.
    """
    for step in sorted(steps, key=lambda step: (step.conflict, -step.entry.number)):
        try:
            decided = decision_behind(to, name, ledger, step.entry)
        except RegistryError as error:
            remarks.append(f"the decision is not shown: {error}")
            return {}
        if decided is not None:
            return decided
    return {}


def _passport(to: Connection, name: str, version: int, remarks: list[str]) -> dict[str, Any] | None:
    """Fetch what travels inside a version: its passport, with the sections of the workload that made it."""
    if not exists(to, name, version):
        remarks.append(f"version {version} was deleted, so what changed cannot be told")
        return None
    found = to.client.get_model_version(name, str(version))
    try:
        with registered(found) as files:
            passport, workload = dict(files.passport()), files.workload()
    except (RegistryError, OSError, ValueError, TypeError) as error:
        traced = PASSPORT_TAG in found.tags
        lacks = f"the passport of version {version} cannot be read" if traced else f"version {version} has no passport"
        why = error.found if isinstance(error, RegistryError) else " ".join(str(error).split())[:200]
        remarks.append(f"{lacks}, so what changed cannot be told: {why}")
        return None
    return {**passport, "workload": workload}
