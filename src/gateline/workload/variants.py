"""Variants of a workload's network, which `gateline compare` trains beside each other.

The standard ones differ in one thing from a plain network of one layer: `lstm`, `gru`, `bidirectional`, `stacked` (two
layers) and `attention` (over the steps, or in place of the last one). Everything else stays as the workload has it.
`present` is the workload as it is; one of the workload's section `variants` changes that by dotted keys of `model` and
`training`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pydantic

from gateline.errors import WorkloadError, did_you_mean
from gateline.workload import Workload
from gateline.workload.overrides import with_settings
from gateline.workload.section import Section

PRESENT = "present"
CHANGED = ("model", "training")
PLAIN: Mapping[str, Any] = {
    "cell": "lstm",
    "bidirectional": False,
    "num_layers": 1,
    "attention": "none",
    "pooling": "last",
}
"""A network of one layer that reads forwards, for the keys that a task's model has."""
STANDARD: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    "lstm": ({"cell": "lstm"},),
    "gru": ({"cell": "gru"},),
    "bidirectional": ({"bidirectional": True},),
    "stacked": ({"num_layers": 2},),
    "attention": ({"attention": "dot"}, {"pooling": "attention"}),
}
"""What each sets; of several, the first whose keys and values the model has."""


def own_variants(workload: Workload) -> dict[str, dict[str, Any]]:
    """Read the section `variants`: settings by dotted key for each name.

    Raises:
        WorkloadError: a name is taken or cannot be one, or what stands there are no settings of `model` or `training`.
    """
    place, variants = f"{workload.place}: variants", workload.sections.get("variants", {})
    if not isinstance(variants, Mapping):
        raise WorkloadError(
            place, expected="settings by name of a variant", found=repr(variants)[:80], do="Write e.g. `wide: {...}`"
        )
    for name, settings in variants.items():
        if not re.fullmatch(r"[a-z][a-z0-9_]*", str(name)) or name in (PRESENT, *STANDARD):
            raise WorkloadError(
                f"{place}.{name}",
                expected=f"a name of lower-case letters, digits and _, other than {', '.join((PRESENT, *STANDARD))}",
                found=repr(name),
                do="Rename it",
            )
        if not isinstance(settings, Mapping) or not settings:
            raise WorkloadError(
                f"{place}.{name}",
                expected="settings by dotted key, e.g. model.hidden_size: 32",
                found=repr(settings)[:80],
                do="Write at least one",
            )
        for key in settings:
            section, _, inside = str(key).partition(".")
            if section not in CHANGED or not inside:
                raise WorkloadError(
                    f"{place}.{name}.{key}",
                    expected="a setting of `model` or `training`, e.g. model.hidden_size",
                    found=repr(key),
                    do="Compare only those: all variants read the same prepared data",
                )
    return {str(name): dict(settings) for name, settings in variants.items()}


def variants_of(workload: Workload, model: type[Section]) -> list[str]:
    """Name the variants that apply to a workload, `present` first."""
    standard = [name for name in STANDARD if _standard(name, workload, model) is not None]
    return [PRESENT, *standard, *own_variants(workload)]


def with_variant(workload: Workload, name: str, model: type[Section]) -> tuple[Workload, dict[str, Any]]:
    """Make the workload of a variant.

    Args:
        workload: all of it.
        name: of the variant.
        model: what the task reads its section `model` with.

    Returns:
        The workload, and the settings that were set.

    Raises:
        WorkloadError: there is no such variant, or it does not apply to this task's model.
    """
    if name == PRESENT:
        return workload, {}
    own = own_variants(workload)
    if name in own:
        return with_settings(workload, own[name], f"{workload.place}: variants.{name}"), own[name]
    if name not in STANDARD:
        raise WorkloadError(
            f"{workload.place}: variant {name}",
            expected="a variant of this workload",
            found=repr(name),
            do=did_you_mean(name, variants_of(workload, model)),
        )
    settings = _standard(name, workload, model)
    if settings is None:
        raise WorkloadError(
            f"{workload.place}: variant {name}",
            expected="a variant that applies to the model of this workload",
            found=f"{name!r}, which its settings do not allow ({_why_not(name, workload, model)})",
            do=f"Leave it out; {', '.join(variants_of(workload, model))} apply",
        )
    changed = with_settings(workload, settings)
    return changed, settings


def _standard(name: str, workload: Workload, model: type[Section]) -> dict[str, Any] | None:
    """Settings of a standard variant; None if the model does not have them, or refuses them."""
    plain = {key: value for key, value in PLAIN.items() if _takes(model, key, value)}
    for setting in STANDARD[name]:
        if not all(_takes(model, key, value) for key, value in setting.items()):
            continue
        if all(key in ("attention", "pooling") and key not in plain for key in setting):
            continue  # every network of this kind attends, so that one that does differs from none
        settings = {f"model.{key}": value for key, value in {**plain, **setting}.items()}
        if _refusal(workload, settings, model) is None:
            return settings
    return None


def _why_not(name: str, workload: Workload, model: type[Section]) -> str:
    plain = {key: value for key, value in PLAIN.items() if _takes(model, key, value)}
    for setting in STANDARD[name]:
        if all(_takes(model, key, value) for key, value in setting.items()):
            refusal = _refusal(workload, {f"model.{k}": v for k, v in {**plain, **setting}.items()}, model)
            if refusal is not None:
                return f"expected {refusal.expected}; found {refusal.found}"
            return "all its networks have it"
    return f"`model` has no {' or '.join(key for setting in STANDARD[name] for key in setting)} of that kind"


def _refusal(workload: Workload, settings: Mapping[str, Any], model: type[Section]) -> WorkloadError | None:
    try:
        with_settings(workload, settings).section("model", model)
    except WorkloadError as error:
        return error
    return None


def _takes(model: type[Section], key: str, value: Any) -> bool:
    """Say whether a model has a setting that may have a value."""
    field = model.model_fields.get(key)
    if field is None or (
        key == "cell" and field.default != PLAIN["cell"]
    ):  # cells that read pictures are of another kind
        return False
    try:
        pydantic.TypeAdapter(field.rebuild_annotation()).validate_python(value)
    except pydantic.ValidationError:
        return False
    except WorkloadError:
        return False
    return True
