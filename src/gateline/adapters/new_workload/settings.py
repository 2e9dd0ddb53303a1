"""First settings for a forecast of a table that nobody has looked at yet: windows, split, transform, gates.

They are a start that runs, not a search: each stands in the workload with the reason for it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

import pandas as pd

from gateline.adapters.new_workload.inference import DAY, FoundTable
from gateline.errors import DataError
from gateline.intervals import block_length
from gateline.workload.section import format_span

TRAIN_SHARE, VALIDATE_SHARE = 0.70, 0.15
MIN_LOOKBACK, MIN_WINDOWS = 4, 20
WINDOWS_PER_EPOCH = 20_000
SKEWED = 1.5
ENOUGH_BLOCKS = 20


@dataclass(frozen=True)
class Settings:
    """What `gateline new` proposes.

    Args:
        lookback, horizon: steps of the grid.
        season: steps after which the series looks alike; None: none that is whole.
        season_words: what the season is, for people.
        validate_from, test_from: first time stamps of the two later parts.
        transform, transform_why, transform_scale: of the target; the scale in its unit.
        test_windows: about as many as the test part will hold, all series together.
        train_windows: likewise.
        test_times: about as many points of time at which a test window begins.
    """

    lookback: int
    horizon: int
    season: int | None
    season_words: str
    validate_from: datetime
    test_from: datetime
    transform: str
    transform_why: str
    transform_scale: float
    train_windows: int
    test_windows: int
    test_times: int

    @property
    def tells_chance(self) -> bool:
        """Whether the test part is long enough for a difference to a baseline to be told from chance, see `enough_blocks`."""
        return enough_blocks(self.test_times, self.horizon)


def propose(table: FoundTable, lookback: int | None, horizon: int | None) -> Settings:
    """Choose settings for a table.

    Args:
        table: what was found out.
        lookback: steps of the past that the user asked for.
        horizon: steps ahead that the user asked for.

    Raises:
        DataError: there are fewer rows than windows of that length need.
    """
    season, season_words = season_of(table.frequency)
    usual_lookback, usual_horizon = _usual_windows(table.frequency, season)
    back, ahead = lookback or usual_lookback, horizon or usual_horizon
    while not _fits(table, back, ahead) and (
        (lookback is None and back > MIN_LOOKBACK) or (horizon is None and ahead > 1)
    ):
        if lookback is None and (back > MIN_LOOKBACK):
            back = max(MIN_LOOKBACK, back // 2)
        if horizon is None:
            ahead = max(1, min(ahead // 2, back))
    if not _fits(table, back, ahead):
        raise DataError(
            "rows",
            expected=f"at least {_steps_needed(back, ahead)} time stamps for windows of {back} + {ahead} steps in three parts",
            found=f"{table.steps} from {table.first} to {table.last}",
            do="Give a longer file" + (", or a shorter --lookback or --horizon" if lookback or horizon else ""),
        )
    validate_from, test_from = _split(table)
    transform, why, scale = _transform(table)
    present = table.rows / (table.steps * table.series)  # series that begin late or end early have fewer windows
    begins = (table.last - test_from) / table.frequency - ahead + 2
    train = ((validate_from - table.first) / table.frequency - back - 2 * ahead) * present * table.series
    test = begins * present * table.series
    kept = season if season is not None and season < table.steps // 10 else None
    return Settings(
        *(back, ahead, kept, season_words, validate_from, test_from, transform, why, scale),
        *(max(1, math.floor(number)) for number in (train, test, begins)),
    )


def enough_blocks(positions: int, dependence: int) -> bool:
    """Say whether a test part has so many blocks that a bound on a difference is hardly wider than that of a longer one.

    With MIN_BLOCKS of them a good model may fail for the width of the bound alone; with ENOUGH_BLOCKS, Student's t is a
    tenth above a normal's quantile.

    Args:
        positions: points of time, or examples that have nothing to do with each other.
        dependence: steps that a window forecasts; 1 for independent examples.
    """
    return positions >= ENOUGH_BLOCKS * block_length(positions, dependence)


def season_of(frequency: timedelta) -> tuple[int | None, str]:
    """Say after how many steps a series of this frequency usually looks alike.

    Example:
        >>> season_of(timedelta(minutes=15))
        (96, 'a day')
    """
    if frequency >= 7 * DAY:
        year = round(timedelta(days=364) / frequency)
        return (year, "a year") if year > 1 else (None, "")
    if frequency >= DAY:
        return (7, "a week") if frequency == DAY else (None, "")
    for whole, words in ((DAY, "a day"), (timedelta(hours=1), "an hour"), (timedelta(minutes=1), "a minute")):
        steps = whole / frequency
        if steps.is_integer() and 1 < steps <= 300:
            return int(steps), words
    return None, ""


def _usual_windows(frequency: timedelta, season: int | None) -> tuple[int, int]:
    if frequency >= 7 * DAY:
        return 52, 4
    if frequency >= DAY:
        return 28, 7
    if season is None:
        return 96, 12
    if frequency >= timedelta(hours=1):
        return max(2 * season, 12), max(season // 2, 4)
    return season, max(season // 8, 4)


def _steps_needed(lookback: int, horizon: int) -> int:
    """Count the time stamps below which a part would hold too few windows.

    The past of a validation or test window may reach into the part before; its targets may not, and an embargo of one
    horizon keeps the parts apart.
    """
    for_test = (2 * horizon + MIN_WINDOWS) / (1 - TRAIN_SHARE - VALIDATE_SHARE)
    for_train = (lookback + 2 * horizon + 2 * MIN_WINDOWS) / TRAIN_SHARE
    return math.ceil(max(for_test, for_train))


def _fits(table: FoundTable, lookback: int, horizon: int) -> bool:
    return table.steps >= _steps_needed(lookback, horizon)


def _split(table: FoundTable) -> tuple[datetime, datetime]:
    """Put the boundaries at midnights where a part is at least four days, else on the grid."""

    def boundary(share: float) -> datetime:
        step = round(table.steps * share)
        exact = table.first + step * table.frequency
        midnight = pd.Timestamp(exact).round("D").to_pydatetime()
        if table.frequency < DAY and table.steps * VALIDATE_SHARE * table.frequency >= 4 * DAY:
            return midnight
        return exact

    return boundary(TRAIN_SHARE), boundary(TRAIN_SHARE + VALIDATE_SHARE)


def _transform(table: FoundTable) -> tuple[str, str, float]:
    low = table.of_role("target")[0].low
    scale = float(f"{table.typical:.1g}") or 1.0
    if table.skewness > SKEWED and low is not None and low >= 0:
        return (
            "log1p",
            f"no value is negative and the skewness is {table.skewness:.1f}: large values would rule the loss",
            scale,
        )
    if abs(table.skewness) > 2 * SKEWED:
        return "arcsinh", f"the skewness is {table.skewness:.1f}: a few extreme values would rule the loss", scale
    return "none", f"the skewness is only {table.skewness:.1f}", 1.0


def span_in_words(steps: int, frequency: timedelta) -> str:
    """Say how long a number of steps is.

    Example:
        >>> span_in_words(48, timedelta(hours=1))
        '2d'
    """
    return format_span(steps * frequency)
