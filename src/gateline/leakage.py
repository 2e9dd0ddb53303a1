"""What of a test part a model has seen: whether its own split gave those rows to training or validation.

No list of rows is kept with a model, only the rule by which its data were divided. A rule by time, by a column or by a digest
gives a row its part whatever the other rows are; so the rule of the champion is asked about the test rows of the challenger. A
column says that only of the data that it stands in: others may give the same row another value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from gateline.data.examples import ExampleSplit, columns_of, parts_of_rows
from gateline.data.prepared_windows import STATE, open_store, read_windows
from gateline.data.text_parts import PlaceSplit
from gateline.manifest import Artifact
from gateline.table import TABLE, read_table

SEEN = ("train", "validation")
"""Parts that shape a model: it is trained on one, and chosen by the other."""
EXAMPLE_SPLIT: TypeAdapter[Any] = TypeAdapter(ExampleSplit)


def seen_by(model: Artifact, prepared: Artifact) -> str | None:
    """Say what of a test part a model was trained or chosen on.

    Args:
        model: its facts name the rule, see `gateline.training`.
        prepared: the test part, and the rule that it was made by.

    Returns:
        A sentence; None where there is nothing, or nothing can be told, see `why_untold`.
    """
    rule, own = model.facts.get("split"), prepared.facts.get("split")
    if model.inputs.get("prepared") == prepared.digest or not isinstance(rule, Mapping) or not isinstance(own, Mapping):
        return None
    if _unreadable(rule, own) is not None:
        return None
    kind = rule.get("rule")
    if kind == "time":
        return _by_time(rule, prepared)
    if kind == "place":
        same_text = model.facts.get("raw") == prepared.inputs.get("raw")
        return _by_place(PlaceSplit.model_validate(rule), PlaceSplit.model_validate(own)) if same_text else None
    if kind in ("column", "hash", "folds"):
        return _by_row(rule, own, prepared)
    return None


def why_untold(model: Artifact, prepared: Artifact) -> str | None:
    """Say why it cannot be told what of a test part a model has seen; None if it can, see `seen_by`."""
    rule, own = model.facts.get("split"), prepared.facts.get("split")
    if model.inputs.get("prepared") == prepared.digest:
        return None
    if not isinstance(rule, Mapping):
        return "it keeps no rule by which its data were split"
    if not isinstance(own, Mapping):
        return "no rule says how the test part was split off"
    kind = rule.get("rule")
    if kind == "place" and model.facts.get("raw") != prepared.inputs.get("raw"):
        return "a text is cut by place, and it was trained on another text"
    if (why := _unreadable(rule, own)) is not None:
        return why
    if kind in ("column", "hash", "folds"):
        missing = sorted(_columns_needed(rule, own, prepared) - set(read_table(prepared.path / TABLE).columns))
        if missing:
            return f"the test rows have no column {', '.join(missing)}, which its split goes by"
        if kind == "column" and model.facts.get("raw") != prepared.inputs.get("raw"):
            return f"it was trained on other data, whose column {rule['column']} may have divided the rows otherwise"
        return None
    return None if kind in ("time", "place") else f"a split by the rule {kind!r} says nothing of single rows"


def _unreadable(rule: Mapping[str, Any], own: Mapping[str, Any]) -> str | None:
    """Say why the rule of a model cannot be asked about rows that another one divided; None if it can."""
    from gateline.tasks.forecasting import Split

    kinds: dict[str, Callable[[Any], Any]] = {"time": Split.model_validate, "place": PlaceSplit.model_validate}
    kinds |= dict.fromkeys(("column", "hash", "folds"), EXAMPLE_SPLIT.validate_python)
    theirs, mine = kinds.get(str(rule.get("rule"))), kinds.get(str(own.get("rule")))
    if theirs is None:
        return None  # what is said of it is said by `why_untold`
    if theirs is not mine:
        return f"its rows were split by the rule {rule['rule']!r}, and the test part by {own.get('rule')!r}"
    try:
        theirs(dict(rule))
    except ValidationError as error:
        return f"another version of Gateline wrote the rule by which its data were split: {error.errors()[0]['msg']}"
    return None


def _by_time(rule: Mapping[str, Any], prepared: Artifact) -> str | None:
    from gateline.tasks.forecasting import Split

    split = Split.model_validate(dict(rule)).parts()
    store, origins = open_store(prepared), read_windows(prepared, "test")
    times = np.asarray(store.arrays["time"])
    horizon = int(prepared.read_json(STATE)["windows"]["horizon"])
    first, last = times[origins], times[origins + horizon - 1]
    bounds = [split.bounds(part) for part in SEEN]
    seen = np.logical_or.reduce([(first < after) & (last >= begin) for begin, after in bounds])
    if not seen.any():
        return None
    begins, until = (np.datetime64(int(second), "s") for second in (first.min(), bounds[-1][1]))
    return (
        f"{int(seen.sum())} of {len(seen)} windows; it was trained and chosen on what lies before {until}, "
        f"and the test part begins {begins}"
    )


def _by_place(rule: PlaceSplit, own: PlaceSplit) -> str | None:
    first, after = own.test
    for part in SEEN:
        begins, ends = getattr(rule, part)
        if begins < after and first < ends:
            return f"its {part} part is {begins:.0%} to {ends:.0%} of the text, and the test part {first:.0%} to {after:.0%}"
    return None


def _by_row(rule: Mapping[str, Any], own: Mapping[str, Any], prepared: Artifact) -> str | None:
    theirs, mine = EXAMPLE_SPLIT.validate_python(dict(rule)), EXAMPLE_SPLIT.validate_python(dict(own))
    keys = _keys(prepared)
    table = read_table(prepared.path / TABLE)
    columns = {name: table[name].to_numpy() for name in table.columns}
    if not _columns_needed(rule, own, prepared) <= columns.keys():
        return None
    test = parts_of_rows(columns, mine, keys) == "test"
    seen = test & np.isin(parts_of_rows(columns, theirs, keys).astype(str), SEEN)
    if not seen.any():
        return None
    return f"its own split gives {int(seen.sum())} of the {int(test.sum())} test rows to training or validation"


def _columns_needed(rule: Mapping[str, Any], own: Mapping[str, Any], prepared: Artifact) -> set[str]:
    both = (EXAMPLE_SPLIT.validate_python(dict(each)) for each in (rule, own))
    return {column for each in both for column in columns_of(each, _keys(prepared))}


def _keys(prepared: Artifact) -> tuple[str, ...]:
    return tuple(prepared.read_json(STATE).get("schema", {}).get("keys", ()))
