"""The ledger in MLflow: a registered model `NAME.ledger`, one version for each entry, and the alias that follows from it.

MLflow's store gives a new version the highest number plus one under a primary key, in the transaction that writes its tags. So
entries are in one order, without gaps, and none is visible before those below it. The alias `champion` only shows what the
entries say: it is moved after the entry is written, until both agree.
"""

from __future__ import annotations

import getpass
import os
import random
import socket
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from gateline.adapters.mlflow_server import Connection
from gateline.adapters.registry.kept_decision import digest_in
from gateline.errors import RegistryError, TryAgainError, examples
from gateline.ledger import ADOPTED, Entry, Ledger, Step
from gateline.workload.address import without_users

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

CHAMPION, CHALLENGER = "champion", "challenger"
SUFFIX = ".ledger"
ENTRY_TAG, SETTLED_TAG, DECISION_TAG = "gateline.entry", "gateline.settled", "gateline.decision"
HIGHEST_TAG = "gateline.entries"
"""On `NAME.ledger` itself, with the number's last digit behind it: the highest number of an entry, so that one is missed that was the
last. A tag for each digit, since MLflow has no compare-and-set: of two who write at once neither writes over the other. An earlier
Gateline wrote one without a digit."""
DESCRIPTION = (
    "Ledger of {name}, written by Gateline: each version is one decision. Only added to; do not delete any of it."
)
WAIT_SECONDS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4)
"""Before each further try to write, give or take a half, so that many at once do not meet again and again."""
LOOKS = (0.0, 0.1, 0.3)
"""Seconds before each look at an alias that nothing explains: a process that is at work explains it by the next."""
PAGE = 5_000
SETTLE_AFTER_SECONDS = 600
"""How old an entry must be before another process settles it: no process is that long between its entry and the alias."""


def read_ledger(to: Connection, name: str) -> Ledger:
    """Read and replay all entries of a model; none where there is no ledger."""
    highest = _highest(to, name)  # before the entries: it says of none that they do not have
    found: list[ModelVersion] = []
    page: str | None = None
    while True:  # by rising number, so that what is added meanwhile moves nothing from one page to another
        answer = to.client.search_model_versions(
            f"name = '{name}{SUFFIX}'", max_results=PAGE, order_by=["version_number ASC"], page_token=page
        )
        found += answer
        page = answer.token
        if not page:
            break
    entries, altered, said = [], [], set()
    for version in found:
        number, settled = int(version.version), SETTLED_TAG in version.tags
        try:
            entry = Entry.from_text(version.tags.get(ENTRY_TAG, ""), number, settled=settled)
        except ValueError:
            continue  # it is missed by its number
        entries.append(entry)
        kept = version.tags.get(DECISION_TAG)
        if kept is not None:
            said.add(digest_in(kept))
            if digest_in(kept) != entry.decision:
                altered.append(number)
    entries.sort(key=lambda entry: entry.number)
    for entry in entries:
        # The first entry that rests on a decision keeps it, an approval after it does not; one that no entry keeps was removed.
        if entry.decision is not None and entry.decision not in said:
            said.add(entry.decision)
            altered.append(entry.number)
    altered = sorted(set(altered))
    last = max((int(version.version) for version in found), default=0)
    last = max(last, highest)
    known = {entry.number for entry in entries} | {number for entry in entries for number in entry.missing}
    accepted = {number for entry in entries for number in entry.accepts}
    return Ledger(
        tuple(entries),
        tuple(number for number in range(1, last + 1) if number not in known),
        tuple(number for number in altered if number not in accepted),
    )


def new_entry(kind: str, version: int | None, expected: int | None, reason: str, *, seen: Ledger, **more: Any) -> Entry:
    """Make an entry of this moment and this person, who decided by the ledger as they had seen it."""
    moment, last = datetime.now(UTC).isoformat(timespec="milliseconds"), seen.last
    return Entry(
        uuid.uuid4().hex,
        kind,
        version,
        expected,
        author(),
        moment,
        reason[:2000],
        seen=0 if last is None else last.number,
        seen_digest=None if last is None else seen.digests()[last.number],
        **more,
    )


def author() -> str:
    """Say who decides: the person that a CI system names, else the user of this process and its machine."""
    for ci, variable in (("GitHub", "GITHUB_ACTOR"), ("GitLab", "GITLAB_USER_LOGIN"), ("Jenkins", "BUILD_USER_ID")):
        if os.environ.get(variable):
            return f"{os.environ[variable]} ({ci})"
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def append(to: Connection, name: str, entry: Entry, *, tags: dict[str, str] | None = None) -> Ledger:
    """Write an entry once, however often it must be sent, and read the ledger with it.

    Raises:
        TryAgainError: the registry did not take it after several tries.
    """
    from mlflow.exceptions import MlflowException

    readable = {"gateline.kind": entry.kind, "gateline.by": entry.by}
    if entry.version is not None:
        readable["gateline.version"] = str(entry.version)
    problem: object = None
    for wait in (0.0, *WAIT_SECONDS):
        time.sleep(wait * random.uniform(0.5, 1.5))  # noqa: S311  (only to spread the tries)
        try:
            to.client.create_model_version(
                f"{name}{SUFFIX}",
                f"gateline-ledger:/{name}",
                tags={ENTRY_TAG: entry.as_text(), **readable, **(tags or {})},
                description=f"{entry.kind}: {entry.reason}",
                await_creation_for=0,
            )
        except MlflowException as error:
            if error.get_http_status_code() in (401, 403):
                raise
            problem = error
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                _create(to, name)
        ledger = read_ledger(to, name)
        if ledger.step_of(entry.id) is not None:
            _note_highest(to, name, ledger.entries[-1].number)
            return ledger
    raise TryAgainError(
        f"{name}{SUFFIX}",
        expected="the registry to take an entry",
        found=f"none after {len(WAIT_SECONDS) + 1} tries ({' '.join(without_users(problem).split())[:160]})",
        do="Nothing was changed; run the same command again",
    )


def _highest(to: Connection, name: str) -> int:
    """Read the highest number that an entry was given, as far as it was noted."""
    found = to.client.search_registered_models(f"name = '{name}{SUFFIX}'")
    tags = found[0].tags if found else {}
    noted = [str(tags.get(key, "")) for key in (HIGHEST_TAG, *(_highest_tag(digit) for digit in range(10)))]
    return max((int(each) for each in noted if each.isdecimal()), default=0)


def _highest_tag(number: int) -> str:
    return f"{HIGHEST_TAG}.{number % 10}"


def _note_highest(to: Connection, name: str, number: int) -> None:
    """Note the number of the last entry, never a lower one; the entry stands without it."""
    from mlflow.exceptions import MlflowException

    try:
        if number > _highest(to, name):
            to.client.set_registered_model_tag(f"{name}{SUFFIX}", _highest_tag(number), str(number))
    except MlflowException:
        pass  # the next entry notes it


def _create(to: Connection, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        to.client.create_registered_model(f"{name}{SUFFIX}", description=DESCRIPTION.format(name=name))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":  # else another process was faster
            raise


def project(to: Connection, name: str, ledger: Ledger, own: Entry | None = None) -> Ledger:
    """Move the alias to where the ledger says, until both agree; then the process's own entry is settled.

    Whoever moves it to a champion that is none any more finds out by reading again, and moves it on. So when the last process
    has ended, the alias is right, whatever the order was.

    Raises:
        RegistryError: the champion's version was deleted.
        TryAgainError: it could not be moved, or others promote without end.
    """
    from mlflow.exceptions import MlflowException

    problem = None
    for wait in (0.0, *WAIT_SECONDS):
        time.sleep(wait * random.uniform(0.5, 1.5))  # noqa: S311  (only to spread the tries)
        wanted = ledger.champion
        try:
            if wanted is None:
                to.client.delete_registered_model_alias(name, CHAMPION)
            else:
                to.client.set_registered_model_alias(name, CHAMPION, str(wanted))
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                raise gone(name, ledger) from error
            problem = error  # two that write at once
            continue
        ledger = read_ledger(to, name)
        if ledger.champion == wanted:
            written = None if own is None else ledger.step_of(own.id)
            if written is not None:
                with suppress(Exception):  # the alias is right, and a later command settles the entry
                    settle(to, name, written.entry)
            return ledger
    raise TryAgainError(
        f"alias {CHAMPION} of {name}",
        expected=f"version {ledger.champion}, as its ledger says",
        found=f"no way to move it ({' '.join(without_users(problem).split())[:160]})",
        do="The decision stands in the ledger, and the next command moves the alias; run the same command again",
    )


def settle(to: Connection, name: str, entry: Entry) -> None:
    """Mark an entry as one that the alias was seen to agree with.

    Raises:
        TryAgainError: the registry did not take that after several tries.
    """
    import requests
    from mlflow.exceptions import MlflowException

    problem: object = None
    for wait in (0.0, *WAIT_SECONDS[:3]):
        time.sleep(wait)
        try:
            to.client.set_model_version_tag(f"{name}{SUFFIX}", str(entry.number), SETTLED_TAG, "true")
        except (MlflowException, requests.RequestException) as error:
            problem = error
        else:
            return
    raise TryAgainError(
        f"entry {entry.number} of {name}{SUFFIX}",
        expected="the registry to note that it was carried out",
        found=f"no way to write it ({' '.join(without_users(problem).split())[:160]})",
        do="The alias is where the entry says; run the same command again, and it ends with that",
    )


def is_recent(entry: Entry) -> bool:
    """Say whether the process that wrote an entry may still be at work between it and the alias."""
    return (datetime.now(UTC) - datetime.fromisoformat(entry.at)).total_seconds() <= SETTLE_AFTER_SECONDS


def version_by_alias(to: Connection, name: str, alias: str) -> ModelVersion | None:
    """Find the version that has an alias; None if none has."""
    from mlflow.exceptions import MlflowException

    try:
        return to.client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def open_ledger(to: Connection, name: str, say: Callable[[str], None]) -> Ledger:
    """Read the ledger, and put right what a killed process left: whoever changes anything begins here.

    Raises:
        RegistryError: entries are missing or were edited, the champion was deleted, or the alias was moved by other means than
            Gateline.
    """
    return put_right(to, name, *read_both(to, name), say)


def champion_of(to: Connection, name: str) -> int | None:
    """Say who is champion, for whoever only uses it; changes and repairs nothing.

    Where a command is at work, or was stopped, between entry and alias, the ledger says it.

    Raises:
        RegistryError: entries are missing, or the alias was moved by other means than Gateline.
        TryAgainError: the ledger changes without end.
    """
    ledger, alias = read_both(to, name)
    if ledger.missing:
        raise entries_missing(name, ledger)
    if not ledger.entries:
        if alias is not None and (problem := lost(to, name, ledger)) is not None:
            raise problem
        return alias
    if not exists(to, name, ledger.champion):
        raise gone(name, ledger)
    if alias != ledger.champion and not ledger.explains(alias):
        raise moved_by_hand(name, ledger.champion, alias)
    return ledger.champion


def read_both(to: Connection, name: str) -> tuple[Ledger, int | None]:
    """Read the ledger, and the version that the alias `champion` shows, as of one moment.

    They are two requests, and another process may promote between them. So an alias that the ledger does not explain counts
    only if the ledger reads the same before and behind it, several times.

    Raises:
        TryAgainError: others write without end.
    """
    seen: list[tuple[Ledger, int | None]] = []
    for wait in (*LOOKS, *WAIT_SECONDS):
        time.sleep(wait)
        ledger, alias = read_ledger(to, name), number_with_alias(to, name)
        if alias == ledger.champion or ledger.explains(alias):
            return ledger, alias
        if read_ledger(to, name) != ledger or (ledger, alias) not in seen:
            seen = []
        seen.append((ledger, alias))
        if len(seen) == len(LOOKS):
            return ledger, alias
    raise TryAgainError(
        f"{name}{SUFFIX}",
        expected=f"the same entries before and behind the alias {CHAMPION}",
        found="others that are written without end",
        do="Nothing was changed; run the same command again",
    )


def put_right(to: Connection, name: str, ledger: Ledger, alias: int | None, say: Callable[[str], None]) -> Ledger:
    """Do what `open_ledger` does, where ledger and alias have been read."""
    if (damage := damaged(name, ledger) or lost(to, name, ledger)) is not None:
        raise damage
    if not ledger.entries and alias is not None:
        entry = new_entry(ADOPTED, alias, None, f"there was an alias {CHAMPION}, and no ledger yet", seen=ledger)
        say(f"{name} version {alias} is champion by its alias; its ledger begins with that")
        ledger = project(to, name, append(to, name, entry), entry)
    elif alias != ledger.champion:
        if not ledger.explains(alias):
            raise (
                moved_by_hand(name, ledger.champion, alias) if exists(to, name, ledger.champion) else gone(name, ledger)
            )
        say(
            f"repaired: the alias {CHAMPION} of {name} was {in_words(alias)}, and the ledger says "
            f"{in_words(ledger.champion)}; a command was stopped in between"
        )
        ledger = project(to, name, ledger)
    for entry in ledger.unsettled():
        if not is_recent(entry):
            settle(to, name, entry)
    return ledger


def number_with_alias(to: Connection, name: str, alias: str = CHAMPION) -> int | None:
    """Say which version has an alias."""
    found = version_by_alias(to, name, alias)
    return None if found is None else int(found.version)


def exists(to: Connection, name: str, version: int | None) -> bool:
    """Say whether the registry still has a version; nobody is always there."""
    from mlflow.exceptions import MlflowException

    try:
        return version is None or to.client.get_model_version(name, str(version)) is not None
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise


def require_version(to: Connection, name: str, version: int) -> ModelVersion:
    """Find a version.

    Raises:
        RegistryError: there is none of that number, or it was deleted.
    """
    if not exists(to, name, version):
        raise RegistryError(
            f"{name} version {version}",
            expected="a registered version",
            found="none, or a deleted one",
            do=f"See `gateline history {name}`",
        )
    return to.client.get_model_version(name, str(version))


def entries_missing(name: str, ledger: Ledger) -> RegistryError:
    """Say that the ledger is damaged, and how to begin anew."""
    return RegistryError(
        f"{name}{SUFFIX}",
        expected="every entry from 1 on",
        found=f"no entry {examples(ledger.missing)}, deleted or damaged: who is champion cannot be told from the rest",
        do=f"Say who is: `gateline promote {name} VERSION --force-reason WHY` goes on from there",
    )


def damaged(name: str, ledger: Ledger) -> RegistryError | None:
    """Say what is wrong with a ledger that nothing may be decided by until a person says who is champion; None of a whole one."""
    if ledger.missing:
        return entries_missing(name, ledger)
    if not (edits := ledger.edits()):
        return None
    return RegistryError(
        f"{name}{SUFFIX}",
        expected="every entry, and the decision beside it, as it was written",
        found="; ".join(edits),
        do="Restore it from a backup of MLflow's database, or say who is champion: "
        f"`gateline promote {name} VERSION --force-reason WHY` accepts it as it is and goes on from there",
    )


def lost(to: Connection, name: str, ledger: Ledger) -> RegistryError | None:
    """Say that the whole ledger was deleted: versions of the model say what was decided, which is written behind an entry only."""
    if ledger.entries or not any(
        DECISION_TAG in version.tags for version in to.client.search_model_versions(f"name = '{name}'")
    ):
        return None
    return RegistryError(
        f"{name}{SUFFIX}",
        expected="the ledger by which versions of the model were decided about",
        found="none: it was deleted, and what a person undid cannot be told",
        do="Restore it from a backup of MLflow's database, or say who is champion: "
        f"`gateline promote {name} VERSION --force-reason WHY` begins another one",
    )


def moved_by_hand(name: str, expected: int | None, found: int | None) -> RegistryError:
    """Say that somebody moved the alias, and how to accept it or to undo it; neither is done unasked."""
    accept = (
        f"`gateline promote {name} {found}` accepts it"
        if found is not None
        else f"`gateline rollback {name} --to none` accepts it"
    )
    undo = f", `gateline promote {name} {expected}` undoes it" if expected is not None else ""
    return RegistryError(
        f"alias {CHAMPION} of {name}",
        expected=f"{in_words(expected)}, as its ledger says",
        found=f"{in_words(found)}, set by other means than Gateline",
        do=f"{accept}{undo}; nothing was changed",
    )


def gone(name: str, ledger: Ledger) -> RegistryError:
    """Say that the champion was deleted, and what to put in its place."""
    return RegistryError(
        f"{name} {in_words(ledger.champion)}",
        expected=f"the champion that the ledger of {name} names",
        found="none: the version was deleted in the registry",
        do=f"`gateline rollback {name}` goes back to the champion before it, `gateline promote {name} VERSION` to another",
    )


def meanwhile(step: Step | None, expected: int | None) -> str:
    """Say what an entry that took no effect found in place of the champion that it expected."""
    before = None if step is None else step.before
    if step is None or before != expected:
        return f"{in_words(before)}, set meanwhile"
    return f"that one, and decisions made meanwhile, behind entry {step.entry.seen}, that it had not seen"


def in_words(version: int | None) -> str:
    """Name a version, or nobody."""
    return "nobody" if version is None else f"version {version}"
