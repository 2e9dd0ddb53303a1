"""What every section of a workload has in common: frozen, no unknown keys, one clear line when it is wrong."""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Annotated, Any, TypeVar

import pydantic
from pydantic import AfterValidator, BeforeValidator, ConfigDict, PlainSerializer

from gateline.errors import WorkloadError, did_you_mean, examples
from gateline.workload.address import without_users

UNIT_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
LONGEST = 80  # characters of a value in a message


class Section(pydantic.BaseModel):
    """A part of a workload file: read once, never changed, and without keys that nobody reads."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=False, allow_inf_nan=False, use_attribute_docstrings=True
    )


S = TypeVar("S", bound=Section)


def parse_span(value: object) -> timedelta:
    """Read a span of time such as ``1h``, ``15min`` or ``2d``.

    Raises:
        ValueError: it is no number followed by one of s, min, h, d, w, or it is not positive.
    """
    if isinstance(value, timedelta):
        return value
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|min|h|d|w)", str(value).strip())
    if not match or float(match[1]) <= 0:
        raise ValueError(
            f"a span of time is a positive number and one of {', '.join(UNIT_SECONDS)}, e.g. 1h; got {value!r}"
        )
    try:
        return timedelta(seconds=float(match[1]) * UNIT_SECONDS[match[2]])
    except OverflowError:
        raise ValueError(f"a span of time of less than 2.7 million years; got {value!r}") from None


def format_span(span: timedelta) -> str:
    """Write a span of time in its largest whole unit.

    Example:
        >>> format_span(timedelta(hours=48))
        '2d'
    """
    seconds = span.total_seconds()
    for unit in ("w", "d", "h", "min"):
        if seconds % UNIT_SECONDS[unit] == 0:
            return f"{seconds // UNIT_SECONDS[unit]:.0f}{unit}"
    return f"{seconds:g}s"


def _known_timezone(name: str) -> str:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"an IANA time zone such as Europe/Berlin, got {name!r}") from error
    return name


TimeZone = Annotated[str, AfterValidator(_known_timezone)]
Span = Annotated[timedelta, BeforeValidator(parse_span), PlainSerializer(format_span)]


def read_section(name: str, kind: type[S], value: object) -> S:
    """Turn a mapping into a section.

    Args:
        name: dotted key that stands before every key in an error.
        kind: the section's class.
        value: what the file says.

    Raises:
        WorkloadError: a key is unknown, missing, or its value cannot be used; names the key and up to five more.
    """
    if not isinstance(value, Mapping):
        raise WorkloadError(name, expected="a mapping of keys", found=_shown(value), do="Write `key: value` lines")
    try:
        return kind.model_validate(dict(value))
    except pydantic.ValidationError as error:
        # A mistyped key makes two: one unknown, one missing. The unknown one says what is meant.
        problems = sorted(error.errors(include_url=False), key=lambda problem: problem["type"] != "extra_forbidden")
        places = list(dict.fromkeys(_place(problem, value) for problem in problems))
        first = [problem for problem in problems if _place(problem, value) == places[0]]
        around = [
            place for place in places[1:] if place == places[0][: len(place)]
        ]  # what is in it is wrong, so it is too
        location, *others = [".".join([name, *map(str, place)]) for place in places if place not in around]
        more = f" (also look at {examples(others)})" if others else ""
        if first[0]["type"] == "extra_forbidden":
            key = str(places[0][-1])
            raise WorkloadError(
                location,
                expected="a key that is known here",
                found=f"the unknown key {key!r}{more}",
                do=did_you_mean(key, _known_keys(kind, places[0][:-1])),
            ) from error
        cause = first[0].get("ctx", {}).get("error")
        if isinstance(cause, WorkloadError):  # a validator that knows which key it is about
            location = f"{name}.{cause.where.partition('.')[2]}"
        expected, found, do = refusal_in_words(first)
        raise WorkloadError(location, expected=expected, found=found + more, do=do) from error


def _place(problem: Any, value: object) -> tuple[int | str, ...]:
    """Say where a problem is: of a value that may be one of several types, without the type's name that comes last."""
    location: tuple[int | str, ...] = problem["loc"]
    outer: Any = value
    for part in location[:-1]:
        try:
            outer = outer[part]
        except (LookupError, TypeError):
            return location
    of_a_type = location and outer is problem["input"] and problem["type"] not in ("missing", "extra_forbidden")
    return location[:-1] if of_a_type else location


def refusal_in_words(problems: Sequence[Any]) -> tuple[str, str, str]:
    """Say what was expected of a value, what was found, and what to do, from pydantic's problems with it."""
    problem, do = problems[0], "Correct the workload file"
    kind, value, context = problem["type"], problem["input"], problem.get("ctx", {})
    cause = context.get("error")
    if isinstance(cause, WorkloadError):
        return cause.expected, cause.found, cause.do
    if kind == "missing":
        return "a value for this key", "none", do
    if kind == "union_tag_invalid":
        names = re.findall(r"'(\w+)'", context["expected_tags"])
        return f"one of {', '.join(names)}", repr(context["tag"]), did_you_mean(context["tag"], names)
    if kind in ("union_tag_not_found", "model_attributes_type"):
        return "a name, or keys with `kind` among them", "null" if value is None else _shown(value), do
    if kind == "too_short":
        return f"at least {context['min_length']} in it", _shown(value), do
    if kind == "value_error":
        expected, got, found = re.match(r"(.*?)(?:[,;] (got) (.*))?$", str(cause), re.DOTALL).groups()  # type: ignore[union-attr]
        return expected, without_users(found) if got else _named(expected, value), do
    words = [str(each["msg"]).removeprefix("Input should be ") for each in problems]
    return ", or ".join(dict.fromkeys(words)), _shown(value), do


def _named(message: str, value: Any) -> str:
    """Show those keys of a section that a message names, instead of all of it."""
    if not isinstance(value, Mapping):
        return _shown(value)
    keys = dict.fromkeys(re.findall(r"`(\w+)", message))
    named = [f"`{key}: {value[key]}`" if key in value else f"no `{key}`" for key in keys]
    return without_users(", ".join(named))[:LONGEST] or "something else"


def _shown(value: object) -> str:
    return without_users(repr(value))[:LONGEST]


def _known_keys(kind: type[pydantic.BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Follow a location through nested sections as far as it is one, and list the keys known there."""
    kinds = [kind]
    for part in map(str, location):
        fields = [each.model_fields[part] for each in kinds if part in each.model_fields]
        nested = [section for field in fields for section in sections_in(field.annotation)]
        # Of several kinds of section under one key, the location names the one that is meant.
        named = [each for each in nested or kinds if each.__name__.lower() == part.replace("_", "").lower()]
        kinds = named or nested or kinds
    return sorted({field.alias or name for each in kinds for name, field in each.model_fields.items()})


def sections_in(annotation: Any) -> list[type[pydantic.BaseModel]]:
    """List the sections that a field's type names, also inside unions and containers."""
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return [annotation]
    return [section for argument in getattr(annotation, "__args__", ()) for section in sections_in(argument)]
