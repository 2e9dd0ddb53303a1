"""Section `budgets`: smaller (or larger) runs of a workload by name, each a few settings that replace those of the file.

No step reads it. `gateline run NAME --budget smoke` makes of it the workload `NAME_smoke`, with artifacts, an experiment
and a registered model of its own, so that a run to try something never touches what NAME has in production.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gateline.errors import WorkloadError, did_you_mean
from gateline.workload import OPTIONAL, SECTIONS, Workload
from gateline.workload.overrides import with_settings

CHANGED = tuple(name for name in SECTIONS if name not in OPTIONAL)
"""Sections that a budget may change."""


def read_budgets(workload: Workload) -> dict[str, dict[str, Any]]:
    """Read the section `budgets`: settings by dotted key for each name.

    Args:
        workload: all of it.

    Returns:
        The settings of each budget; nothing where the workload has no such section.

    Raises:
        WorkloadError: a name cannot be part of a workload's name, or what stands there are no settings by dotted key.
    """
    place = f"{workload.place}: budgets"
    budgets = workload.sections.get("budgets", {})
    if not isinstance(budgets, Mapping):
        raise WorkloadError(
            place, expected="settings by name of a budget", found=repr(budgets)[:80], do="Write e.g. `smoke: {...}`"
        )
    for name, settings in budgets.items():
        if not re.fullmatch(r"[a-z][a-z0-9_]*", str(name)):
            raise WorkloadError(
                f"{place}.{name}",
                expected="a name of lower-case letters, digits and _",
                found=repr(name),
                do="Give it such a name",
            )
        if not isinstance(settings, Mapping) or not settings:
            raise WorkloadError(
                f"{place}.{name}",
                expected="settings by dotted key, e.g. training.epochs: 1",
                found=repr(settings)[:80],
                do="Write at least one",
            )
        for key in settings:
            section, _, inside = str(key).partition(".")
            if section not in CHANGED:
                raise WorkloadError(
                    f"{place}.{name}.{key}",
                    expected="a key that begins with a section, e.g. training.epochs",
                    found=repr(key),
                    do=did_you_mean(section, CHANGED),
                )
            if not inside:
                raise WorkloadError(
                    f"{place}.{name}.{key}",
                    expected="single settings of a section by dotted key, e.g. training.epochs: 1",
                    found="a whole section",
                    do=f"Write `{section}.KEY: VALUE` lines",
                )
    return {str(name): dict(settings) for name, settings in budgets.items()}


def budget_name(name: str, budget: str) -> str:
    """Name the workload that a budget makes of another.

    Example:
        >>> budget_name("rides", "smoke")
        'rides_smoke'
    """
    return f"{name}_{budget}"


def with_budget(workload: Workload, budget: str) -> Workload:
    """Make the workload that a budget stands for, without the sections that no step reads.

    Raises:
        WorkloadError: there is no such budget, or one of its keys leads into something that has no keys.
    """
    budgets = read_budgets(workload)
    if budget not in budgets:
        raise WorkloadError(
            f"{workload.place}: budgets",
            expected=f"a budget named {budget!r}",
            found=", ".join(budgets) or "none",
            do=did_you_mean(budget, budgets)
            if budgets
            else f"Add e.g. `budgets: {{{budget}: {{training.epochs: 1}}}}`",
        )
    place = f"{workload.place}: budgets.{budget}"
    changed = with_settings(workload, budgets[budget], place)
    sections = {name: section for name, section in changed.sections.items() if name not in OPTIONAL}
    return replace(changed, name=budget_name(workload.name, budget), place=place, sections=sections)
