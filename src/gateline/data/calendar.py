"""What the clock and the calendar say of a time stamp; always known ahead, in the local time of the people concerned."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from gateline.table import stamps_of
from gateline.workload.section import Section, TimeZone

CYCLES = ("hour_of_day", "day_of_week", "day_of_month", "day_of_year")


Harmonics = Annotated[int, Field(ge=0, le=12)]


class Calendar(Section):
    """Calendar features. A cycle with n harmonics gives n sines and n cosines, so that 23 o'clock is next to 0."""

    timezone: TimeZone = "UTC"
    hour_of_day: Harmonics = 0
    day_of_week: Harmonics = 0
    day_of_month: Harmonics = 0
    day_of_year: Harmonics = 0
    weekend: bool = False
    """1 on Saturday and Sunday."""
    special_days: tuple[date, ...] = ()
    """Local dates (holidays, closures, ...) that get a 1."""

    def names(self) -> list[str]:
        """Name the features in the order of `features`."""
        cyclic = [
            f"{cycle}_{wave}{harmonic}"
            for cycle in CYCLES
            for harmonic in range(1, getattr(self, cycle) + 1)
            for wave in ("sin", "cos")
        ]
        return cyclic + ["weekend"] * self.weekend + ["special_day"] * bool(self.special_days)

    def features(self, times: Any) -> np.ndarray:
        """Compute the features.

        Args:
            times: (N,) time stamps with a time zone.

        Returns:
            float32 (N, len(names())), within -1..1.
        """
        # Wall-clock time, as if it were UTC: whole days and seconds of the day are then plain arithmetic.
        local = stamps_of(times).as_unit("s").tz_convert(self.timezone).tz_localize(None)
        days, second = np.divmod(local.asi8, 86_400)  # (N,) since 1970-01-01, a Thursday
        weekday = (days + 3) % 7  # 0 is Monday
        phase = {
            "hour_of_day": lambda: (second // 3600 + second // 60 % 60 / 60 + second % 60 / 3600) / 24,
            "day_of_week": lambda: weekday / 7,
            "day_of_month": lambda: (np.asarray(local.day) - 1) / 31,
            "day_of_year": lambda: (np.asarray(local.day_of_year) - 1) / 365.25,
        }
        columns: list[np.ndarray] = []
        for cycle in CYCLES:
            if harmonics := getattr(self, cycle):
                angle = phase[cycle]()
                columns += [
                    function(2 * np.pi * harmonic * angle)
                    for harmonic in range(1, harmonics + 1)
                    for function in (np.sin, np.cos)
                ]
        if self.weekend:
            columns.append(weekday >= 5)
        if self.special_days:
            columns.append(np.isin(days, [day.toordinal() - date(1970, 1, 1).toordinal() for day in self.special_days]))
        features = np.empty((len(times), len(columns)), dtype=np.float32)
        for place, column in enumerate(columns):
            features[:, place] = column
        return features
