"""What Kubeflow takes as a `cron`: six fields, seconds first, each a list of numbers, names, ranges and steps.

Source: `parser.go` of github.com/robfig/cron v1, which Kubeflow's API server and its controller read the expression with.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
WEEKDAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
LONGEST = dict(zip(range(1, 13), (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31), strict=True))
"""Days of a month, at most."""
PART = re.compile(r"(?P<first>[*?]|\w+)(?:-(?P<last>\w+))?(?:/(?P<step>\d+))?")


@dataclass(frozen=True)
class _Field:
    name: str
    least: int
    most: int
    names: tuple[str, ...] = ()

    def number(self, text: str) -> int:
        if text.lower() in self.names:
            return self.names.index(text.lower()) + self.least
        if not text.isascii() or not text.isdigit() or not self.least <= int(text) <= self.most:
            named = f" or {self.names[0]} to {self.names[-1]}" if self.names else ""
            raise ValueError(f"{self.name}: {self.least} to {self.most}{named}, got {text!r}")
        return int(text)

    def numbers(self, text: str) -> set[int]:
        return {number for part in text.split(",") for number in self._part(part)}

    def _part(self, text: str) -> range:
        found = PART.fullmatch(text)
        every = found is not None and found["first"] in ("*", "?")
        if found is None or (every and found["last"]):
            raise ValueError(f"{self.name}: e.g. 3, 1,5, 1-5, * or */5, got {text!r}")
        first = self.least if every else self.number(found["first"])
        last = self.number(found["last"]) if found["last"] else self.most if every or found["step"] else first
        step = int(found["step"] or 1)
        if step < 1 or last < first:
            raise ValueError(f"{self.name}: a step of at least 1 and a range that goes up, got {text!r}")
        return range(first, last + 1, step)


FIELDS = (
    _Field("second", 0, 59),
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day", 1, 31),
    _Field("month", 1, 12, tuple(MONTHS)),
    _Field("weekday", 0, 6, tuple(WEEKDAYS)),
)


def check_cron(cron: str) -> None:
    """Refuse an expression that Kubeflow would, or whose day never comes.

    Raises:
        ValueError: says what was expected.
    """
    texts = cron.split()
    if len(texts) != len(FIELDS):
        names = " ".join(field.name for field in FIELDS)
        raise ValueError(f"`cron` with {len(FIELDS)} fields ({names}), got {cron!r}")
    try:
        *_, days, months, _ = (field.numbers(text) for field, text in zip(FIELDS, texts, strict=True))
    except ValueError as error:
        raise ValueError(f"`cron` with a {error} in {cron!r}") from None
    # With a weekday as well, either of the two is enough.
    if texts[-1][0] in "*?" and min(days) > max(LONGEST[month] for month in months):
        raise ValueError(f"`cron` with a day that one of its months has, got {cron!r}")
