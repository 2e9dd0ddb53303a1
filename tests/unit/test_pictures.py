"""What every picture of a report has in common."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

from gateline.scoring.pictures import draw_all


def titled(title: str) -> Any:
    def draw(plt: Any) -> tuple[Any, str]:
        figure, axis = plt.subplots(figsize=(2, 1))
        axis.set_title(title)
        figure.tight_layout()
        return figure, ""

    return draw


def test_words_that_the_font_lacks_are_no_warning_of_the_run(tmp_path: Path) -> None:
    """`Glyph 25105 missing from font(s) DejaVu Sans` stood between the lines of `gateline run`."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        draw_all({"a": (titled("\u6211\u5011"), "")}, tmp_path)
    assert not told


def test_other_warnings_are_told(tmp_path: Path) -> None:
    def draw(plt: Any) -> tuple[Any, str]:
        warnings.warn("Mean of empty slice", RuntimeWarning, stacklevel=1)
        return titled("a")(plt)

    with pytest.warns(RuntimeWarning, match="Mean of empty slice"):
        draw_all({"a": (draw, "")}, tmp_path)
