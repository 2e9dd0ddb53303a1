"""Other values at dotted keys of a workload: what a search, a budget or a variant changes."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gateline.errors import WorkloadError
from gateline.workload import Workload


def with_settings(workload: Workload, values: Mapping[str, Any], place: str | None = None) -> Workload:
    """Copy a workload with other values at dotted keys.

    Args:
        workload: all of it, or some of its sections.
        values: one value by dotted key; a mapping or a list replaces all of what stands there.
        place: names in an error where the values stand.

    Raises:
        WorkloadError: a key leads into something that has no keys, e.g. into one word or a list.
    """
    sections = copy.deepcopy(dict(workload.sections))
    for key, value in values.items():
        *path, last = key.split(".")
        inner: Any = sections
        for depth, part in enumerate(path, start=1):
            inner = inner.setdefault(part, {})
            if not isinstance(inner, dict):
                outer = ".".join(path[:depth])
                raise WorkloadError(
                    f"{place or workload.place}: {key}",
                    expected=f"`{outer}` written as keys and values",
                    found=repr(inner)[:80],
                    do=f"Set `{outer}` itself",
                )
        inner[last] = copy.deepcopy(value)
    return replace(workload, sections=sections)
