"""From what is there and what is wanted to the next call: pure, so that every state a killed `apply` leaves can be tested.

Kubeflow cannot edit a recurring run. A change makes the new one disabled, disables the old one, deletes it and enables the new
one: what Kubeflow refuses to make leaves the old one on, at no moment are two of a schedule enabled, and whatever state a kill
leaves is where the next `apply` goes on.

A recurring run that has started nothing yet counts from when it was made, disabled or not. So a new one that an earlier `apply` left
beside an enabled old one would, once enabled, run again what the old one has run since: it is made anew.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from pipelines.schedule.declared import Wanted

MARK = re.compile(r"^gateline schedule ([a-z][a-z0-9_-]*)/([a-z][a-z0-9_]*) ([0-9a-f]{64})$", re.MULTILINE)
"""Project, name of the schedule, digest."""


@dataclass(frozen=True)
class Found:
    """A recurring run on the cluster that `apply` made, now or earlier.

    Args:
        id: Kubeflow's.
        name: of its schedule.
        digest: of what it was made from, see `Wanted.digest`.
        enabled: whether it starts runs.
        created: when, as text that sorts by time.
    """

    id: str
    name: str
    digest: str
    enabled: bool
    created: str


@dataclass(frozen=True)
class Call:
    """One call to Kubeflow: what, and on which recurring run (None: on one that is yet to be made)."""

    do: Literal["create", "enable", "disable", "delete"]
    name: str
    id: str | None = None


def mark_of(wanted: Wanted) -> str:
    """Write what tells, in the description of a recurring run, whose it is."""
    return f"gateline schedule {wanted.project}/{wanted.name} {wanted.digest}"


def calls_for(wanted: Sequence[Wanted], found: Iterable[Found], made: Collection[str] = ()) -> list[Call]:
    """Say which calls lead from what is there to what is wanted.

    Args:
        wanted: by the file; a schedule that is not in it any more goes.
        found: recurring runs of the same project.
        made: names of the schedules of which this very `apply` made a recurring run.

    Returns:
        Calls in order: first all that make one, disabled, so that nothing is turned off for what is then refused; an id it has,
        and is enabled, when this is asked again.
    """
    there = sorted(found, key=lambda run: (run.created, run.id), reverse=True)
    first: list[Call] = []
    calls: list[Call] = []
    for each in wanted:
        of_it = [run for run in there if run.name == each.name]
        # Of two that are right an enabled one, else the newest: it has the least behind it, and two who apply at once agree.
        right = max((run for run in of_it if run.digest == each.digest), key=lambda run: run.enabled, default=None)
        others = [run for run in of_it if run is not right]
        if right and not right.enabled and each.name not in made and any(run.enabled for run in others):
            first.append(Call("delete", each.name, right.id))
            right = None
        if right is None:
            first.append(Call("create", each.name))
        calls += [Call("disable", each.name, run.id) for run in others if run.enabled]
        calls += [Call("delete", each.name, run.id) for run in others]
        if right is None and each.schedule.enabled:
            calls.append(Call("enable", each.name))
        elif right is not None and right.enabled != each.schedule.enabled:
            calls.append(Call("enable" if each.schedule.enabled else "disable", each.name, right.id))
    names = {each.name for each in wanted}
    calls += [Call("delete", run.name, run.id) for run in there if run.name not in names]
    return first + calls


def in_words(wanted: Sequence[Wanted], found: Sequence[Found]) -> list[str]:
    """Say, schedule by schedule, what `apply` would do."""
    calls = calls_for(wanted, found)
    lines = []
    for name in dict.fromkeys([*(each.name for each in wanted), *(run.name for run in found)]):
        done = [call.do for call in calls if call.name == name]
        there = any(run.name == name for run in found)
        if not done:
            words = "= as it should be"
        elif "create" in done:
            words = "~ replace: it was made from something else" if there else "+ create"
        elif all(each.name != name for each in wanted):
            words = "- delete: the file does not name it"
        elif done == ["delete"] * len(done) or "delete" in done:
            words = "~ go on where an earlier apply was stopped: " + ", ".join(done)
        else:
            words = f"~ {done[0]}"
        lines.append(f"{name}: {words}")
    return lines
