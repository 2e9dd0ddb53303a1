"""Change values in the text of a YAML file and nothing else: comments, order and layout stay to the letter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from gateline.errors import WorkloadError

NOWHERE = object()
"""Equal to no content: a key leads through something that is no mapping."""


def with_values(text: str, values: Mapping[str, bool | int | float | str | None], place: object) -> str:
    """Set values at dotted keys; a key that is not in the text is added to its mapping.

    Args:
        text: a YAML file whose outermost value is a mapping.
        values: one value per dotted key.
        place: names the file in an error.

    Raises:
        WorkloadError: the text is written in a way that this cannot follow, e.g. with anchors at those keys.
    """
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    edits = [_edit(text, root, key.split("."), value) for key, value in values.items()]
    changed = text
    for start, end, new in sorted(edits, reverse=True):
        changed = changed[:start] + new + changed[end:]
    if _read(changed) != _expected(text, values):
        raise WorkloadError(
            place,
            expected="plain `key: value` lines",
            found="another way of writing",
            do=f"Set by hand: {', '.join(f'{key}: {_written(value)}' for key, value in values.items())}",
        )
    return changed


def _edit(text: str, root: yaml.Node | None, path: list[str], value: Any) -> tuple[int, int, str]:
    """Say which characters to replace by what."""
    node = root
    for depth, part in enumerate(path):
        if not isinstance(node, yaml.MappingNode) or (not node.value and not node.flow_style):
            return 0, 0, ""  # which the comparison at the end finds
        inner = next((inner for key, inner in node.value if key.value == part), None)
        if inner is None:
            new = value
            for missing in reversed(path[depth + 1 :]):
                new = {missing: new}
            return _insertion(text, node, f"{part}: {_written(new)}")
        node = inner
    if node is None or not isinstance(node, yaml.ScalarNode):
        return 0, 0, ""
    start, end = node.start_mark.index, node.end_mark.index
    return start, end, _written(value) if end > start else f" {_written(value)}"


def _insertion(text: str, node: yaml.MappingNode, entry: str) -> tuple[int, int, str]:
    """Add an entry to a mapping: after its last value that stands on one line with its key."""
    if node.flow_style:
        at = node.value[-1][1].end_mark.index if node.value else node.start_mark.index + 1
        return at, at, f", {entry}" if node.value else entry
    indent = " " * node.value[0][0].start_mark.column
    for key, value in reversed(node.value):
        if key.start_mark.line == value.end_mark.line:
            at = text.find("\n", value.end_mark.index)
            at = len(text) if at < 0 else at
            return at, at, f"\n{indent}{entry}"
    at = node.value[0][0].start_mark.index
    return at, at, f"{entry}\n{indent}"


def _written(value: Any) -> str:
    return yaml.safe_dump([value], default_flow_style=True, width=10**6, allow_unicode=True).strip()[1:-1]


def _read(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None


def _expected(text: str, values: Mapping[str, Any]) -> Any:
    content = _unshared(yaml.safe_load(text))
    for key, value in values.items():
        *path, last = key.split(".")
        inner = content
        for part in path:
            inner = inner.setdefault(part, {}) if isinstance(inner, dict) else None
        if not isinstance(inner, dict):
            return NOWHERE
        inner[last] = value
    return content


def _unshared(value: Any) -> Any:
    """Copy what aliases share, so that a change in one place is one in that place only."""
    if isinstance(value, dict):
        return {key: _unshared(inner) for key, inner in value.items()}
    return [_unshared(inner) for inner in value] if isinstance(value, list) else value
