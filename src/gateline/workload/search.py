"""Section `search`: which settings `gateline tune` may try, and how it chooses among them.

No step reads it, so editing it makes no step run again. Only settings of `model` and `training` can be searched: every
trial reads the same prepared folder, which a setting of `preprocess` would change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal, Union

import pydantic
from pydantic import Field, model_validator

from gateline.errors import WorkloadError, did_you_mean
from gateline.workload import Workload
from gateline.workload.section import Section, refusal_in_words, sections_in
from gateline.workload.training import Training

SEARCHED = ("model", "training")
Scalar = bool | int | float | str | None
Count = Annotated[int, Field(ge=1)]


class Setting(Section):
    """The values that one setting may take: a range of numbers, or a list of choices."""

    low: int | float | None = None
    high: int | float | None = None
    """The smallest and the largest value; both may be taken."""
    step: int | float | None = None
    """Only `low`, `low + step`, ... up to `high`."""
    log: bool = False
    """Look at orders of magnitude: as many trials between 0.001 and 0.01 as between 0.01 and 0.1."""
    choices: tuple[Scalar, ...] | None = None

    @model_validator(mode="after")
    def _range_or_choices(self) -> Setting:
        if self.choices is not None:
            if self.model_fields_set != {"choices"}:
                raise ValueError("either `choices`, or `low` and `high`")
            if len(set(map(repr, self.choices))) != len(self.choices) or len(self.choices) < 2:
                raise ValueError(f"two or more choices, each once, got {list(self.choices)}")
            return self
        if self.low is None or self.high is None:
            raise ValueError("`low` and `high`, or `choices`")
        if self.low >= self.high:
            raise ValueError(f"low < high, got {self.low} >= {self.high}")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError(f"with `log`, low > 0 and no `step`, got low {self.low} and step {self.step}")
        if self.step is not None and not _on_grid(self.high, self.low, self.step):
            raise ValueError(f"a positive `step` that leads from `low` to `high`, got {self.step}")
        return self


class Sampler(Section):
    """How the settings of the next trial are chosen."""

    kind: Literal["tpe", "random"] = "tpe"
    """tpe: near what was good so far (Bergstra et al. 2011, tree-structured Parzen estimator); random: anywhere."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    startup_trials: Count = 10
    """Trials chosen at random before tpe has seen enough."""


class Pruner(Section):
    """When a trial that looks hopeless is ended early."""

    kind: Literal["median", "none"] = "median"
    """median: when its best epoch so far is worse than the median of the other trials at the same epoch; none: never."""
    startup_trials: Count = 5
    """Trials that must be complete before one is ended."""
    warm_up_epochs: Annotated[int, Field(ge=0)] = 1
    """Epochs that every trial may have."""


class Search(Section):
    """What `gateline tune` tries. Judged by the best epoch's `training.monitor` on the validation part."""

    settings: Annotated[dict[str, Setting], Field(min_length=1)]
    """By dotted key, e.g. ``training.learning_rate``."""
    sampler: Sampler = Sampler()
    pruner: Pruner = Pruner()


@dataclass(frozen=True)
class Dimension:
    """One setting to search, checked against the section that it belongs to.

    Args:
        key: dotted, e.g. ``model.hidden_size``.
        present: what the workload says now, or the section's default.
        kind: what the section makes of the values.
        low: smallest value.
        high: largest value.
        step: from one value to the next; None for any value in between.
        log: whether orders of magnitude count.
        choices: the only values, for a choice.
    """

    key: str
    present: Scalar
    kind: Literal["integer", "float", "choice"]
    low: int | float = 0
    high: int | float = 0
    step: int | float | None = None
    log: bool = False
    choices: tuple[Scalar, ...] = ()

    def __contains__(self, value: object) -> bool:
        if self.kind == "choice":
            return any(_same(value, choice) for choice in self.choices)
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            return False
        return self.step is None or _on_grid(value, self.low, self.step)

    def tidy(self, value: Scalar) -> Scalar:
        """Take the rounding error out of a value on a grid: 0.3 for 0.30000000000000004."""
        if self.kind != "float" or self.step is None or not isinstance(value, int | float):
            return value
        low, step = Decimal(str(self.low)), Decimal(str(self.step))
        return float(low + step * round((Decimal(str(value)) - low) / step))

    def in_words(self) -> str:
        """Say which values it has."""
        if self.kind == "choice":
            return " or ".join("null" if choice is None else str(choice) for choice in self.choices)
        how = " by orders of magnitude" if self.log else f" in steps of {self.step}" if self.step else ""
        return f"{self.low} to {self.high}{how}"

    def facts(self) -> dict[str, Any]:
        """Say it in values that JSON knows."""
        return asdict(self) | {"choices": list(self.choices)}


def read_search(workload: Workload, model: type[Section]) -> tuple[Search, tuple[Dimension, ...]]:
    """Check the section `search` against the sections that it changes.

    Args:
        workload: all of it, or at least `search`, `model` and `training`.
        model: what the task reads its section `model` with.

    Raises:
        WorkloadError: there is no such section or setting, the setting cannot take one of the values, or the present
            value is none of them, so that it could not be compared.
    """
    if "search" not in workload.sections:
        raise WorkloadError(
            f"{workload.place}: search",
            expected="a section `search`, which says what may be tried",
            found="none",
            do="Add it; docs/tune.md shows one",
        )
    search = workload.section("search", Search)
    kinds: dict[str, type[Section]] = {"model": model, "training": Training}
    present = {name: workload.section(name, kind).model_dump(mode="json") for name, kind in kinds.items()}
    place = f"{workload.place}: search.settings"
    dimensions = tuple(
        _dimension(f"{place}.{key}", key, setting, kinds, present) for key, setting in search.settings.items()
    )
    for key in search.settings:
        _refuse_short_form(f"{place}.{key}", key, workload.sections)
    if "training.monitor" in search.settings or (
        "training.loss" in search.settings and present["training"]["monitor"] == "loss"
    ):
        raise WorkloadError(
            place,
            expected="trials that are measured by the same thing",
            found="the measure itself among the settings to search",
            do="Take training.monitor out; search training.loss only where training.monitor is a metric",
        )
    return search, dimensions


def _refuse_short_form(place: str, key: str, sections: Mapping[str, Any]) -> None:
    """Refuse a key inside of what the file writes as one word, where its value could not be written back."""
    inner: Any = sections
    path = key.split(".")
    for depth, part in enumerate(path[:-1], start=1):
        inner = inner.get(part, {}) if isinstance(inner, Mapping) else {}
        if not isinstance(inner, Mapping):
            outer = ".".join(path[:depth])
            raise WorkloadError(
                place,
                expected=f"`{outer}` written as keys and values",
                found=repr(inner),
                do=f"Write e.g. `{path[depth - 1]}: {{kind: {inner}, {path[depth]}: ...}}`, or search `{outer}` itself",
            )


def _dimension(
    place: str, key: str, setting: Setting, kinds: Mapping[str, type[Section]], sections: Mapping[str, Any]
) -> Dimension:
    name, _, inside = key.partition(".")
    if name not in SEARCHED or not inside:
        raise WorkloadError(
            place,
            expected="a setting of `model` or `training`, e.g. training.learning_rate",
            found=repr(key),
            do="Search only those; try another `preprocess` in a workload of its own, since each trial reads the same prepared data",
        )
    reader = _reader(place, kinds[name], inside.split("."))
    present: Any = sections
    for part in key.split("."):
        present = present.get(part) if isinstance(present, Mapping) else None
    if setting.choices is not None:
        dimension = _choice(place, key, reader, setting.choices, present)
    else:
        low, high = _read(place, reader, setting.low), _read(place, reader, setting.high)
        if isinstance(low, bool) or not isinstance(low, int | float):
            raise WorkloadError(
                place, expected="`choices` for what is no number", found="`low` and `high`", do="List the choices"
            )
        step = setting.step
        if isinstance(low, int):
            step = 1 if step is None and not setting.log else step
            if step is not None and step != int(step):
                raise WorkloadError(place, expected="a whole `step`", found=repr(step), do="Correct the workload file")
            dimension = Dimension(key, present, "integer", low, high, None if step is None else int(step), setting.log)
        else:
            dimension = Dimension(key, present, "float", low, high, step, setting.log)
    if dimension.present not in dimension:
        raise WorkloadError(
            place,
            expected=f"values with the present one among them, which every trial is compared with: {present!r}",
            found=dimension.in_words(),
            do=f"Add it, or change {key}",
        )
    return dimension


def _choice(
    place: str, key: str, reader: pydantic.TypeAdapter[Any], choices: tuple[Scalar, ...], present: Any
) -> Dimension:
    """Read the choices; one that names a whole section, such as a schedule, stays the name."""
    read = [(choice, _read(place, reader, choice)) for choice in choices]
    names = [choice for choice, meaning in read if isinstance(present, Mapping) and meaning == present]
    for choice, meaning in read:
        if isinstance(choice, bool) and not isinstance(meaning, bool):
            raise WorkloadError(place, expected="a number", found=repr(choice), do="Correct the workload file")
    values = tuple(meaning if isinstance(meaning, Scalar) else choice for choice, meaning in read)
    return Dimension(key, names[0] if names else present, "choice", choices=values)


def _reader(place: str, kind: type[pydantic.BaseModel], path: list[str]) -> pydantic.TypeAdapter[Any]:
    """Follow a path through nested sections to the field at its end, and find what reads it."""
    candidates: list[type[pydantic.BaseModel]] = [kind]
    for depth, part in enumerate(path):
        found = [section.model_fields[part] for section in candidates if part in section.model_fields]
        if not found:
            known = sorted({name for section in candidates for name in section.model_fields})
            raise WorkloadError(
                place,
                expected="a setting that is known there",
                found=f"the unknown key {part!r}",
                do=did_you_mean(part, known) if known else f"`{path[depth - 1]}` has no settings inside",
            )
        if depth == len(path) - 1:
            annotation: Any = Union[tuple(field.rebuild_annotation() for field in found)]  # noqa: UP007  (made here)
            return pydantic.TypeAdapter(annotation)
        candidates = [section for field in found for section in sections_in(field.annotation)]
    raise AssertionError(path)


def _read(place: str, reader: pydantic.TypeAdapter[Any], value: object) -> Any:
    """What the section makes of a value, e.g. 0.0 of 0 where it wants a float."""
    try:
        return reader.dump_python(reader.validate_python(value), mode="json")
    except pydantic.ValidationError as error:
        expected, found, do = refusal_in_words(error.errors(include_url=False))
        raise WorkloadError(place, expected=expected, found=found, do=do) from error


def _on_grid(value: int | float, low: int | float, step: int | float) -> bool:
    """Say whether `value` is `low` plus a whole number of steps, as the decimals are written."""
    return step > 0 and (Decimal(str(value)) - Decimal(str(low))) % Decimal(str(step)) == 0


def _same(one: object, other: object) -> bool:
    """Equal and of one kind: True is not 1 here."""
    return isinstance(one, bool) == isinstance(other, bool) and one == other
