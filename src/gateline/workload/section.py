"""What every section of a workload has in common: frozen, no unknown keys, one clear line when it is wrong."""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, TypeVar

import pydantic
from pydantic import AfterValidator, BeforeValidator, ConfigDict, PlainSerializer

from gateline.errors import WorkloadError, did_you_mean, examples

UNIT_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}


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
    return timedelta(seconds=float(match[1]) * UNIT_SECONDS[match[2]])


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
        raise WorkloadError(name, expected="a mapping of keys", found=repr(value)[:80], do="Write `key: value` lines")
    try:
        return kind.model_validate(dict(value))
    except pydantic.ValidationError as error:
        # A mistyped key makes two: one unknown, one missing. The unknown one says what is meant.
        problems = sorted(error.errors(include_url=False), key=lambda problem: problem["type"] != "extra_forbidden")
        first = problems[0]
        location = ".".join([name, *(str(part) for part in first["loc"])])
        others = [".".join([name, *(str(part) for part in problem["loc"])]) for problem in problems[1:]]
        more = f" (also look at {examples(others)})" if others else ""
        if first["type"] == "extra_forbidden":
            raise WorkloadError(
                location,
                expected="a key that is known here",
                found=f"the unknown key {first['loc'][-1]!r}{more}",
                do=did_you_mean(str(first["loc"][-1]), _known_keys(kind, first["loc"][:-1])),
            ) from error
        cause = first.get("ctx", {}).get("error")
        if isinstance(cause, WorkloadError):  # a validator that knows which key it is about, and what to do
            key = cause.where.partition(".")[2]
            raise WorkloadError(
                f"{name}.{key}", expected=cause.expected, found=cause.found + more, do=cause.do
            ) from error
        expected, found = _in_words(first)
        raise WorkloadError(location, expected=expected, found=found + more, do="Correct the workload file") from error


def _in_words(problem: Any) -> tuple[str, str]:
    if problem["type"] == "missing":
        return "a value for this key", "none"
    message = str(problem["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
    return message, repr(problem["input"])[:80]


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
