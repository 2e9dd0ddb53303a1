"""The picture of a vocabulary says what was counted."""

from __future__ import annotations

import matplotlib as mpl
import pytest

from gateline.data.tokenizers import Tokenizer, vocabulary_report
from gateline.scoring.vocabulary import COLUMNS, coverage_in_words, draw_vocabulary

mpl.use("agg")


@pytest.mark.parametrize("kinds", [["word"], ["word", "character"]])
def test_bars_and_table_are_the_counts(kinds: list[str]) -> None:
    import matplotlib.pyplot as plt

    train, test = ["a a a $b", "$b c"], ["a x", "y"]
    reports = {}
    for kind in kinds:
        fitted = Tokenizer(kind=kind, words="spaces").fit(train)
        reports[kind] = vocabulary_report(fitted, {"train": fitted.encode(train).cut(3), "test": fitted.encode(test)})

    figure, caption = draw_vocabulary(plt, reports)
    figure.canvas.draw()  # a lone dollar sign would be a formula without an end

    assert len(figure.axes) == 2 * len(kinds)
    assert [bar.get_height() for bar in figure.axes[0].patches] == [3, 2, 1]
    assert "1 of word" in caption
    assert coverage_in_words(reports["word"]["parts"]["train"]) == ["2", "5", "0 (0.00 %)", "3", "1", "1"]
    assert coverage_in_words(reports["word"]["parts"]["test"])[2] == "2 (66.67 %)"
    assert len(COLUMNS) == 6
    plt.close(figure)
