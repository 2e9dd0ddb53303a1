"""The picture of a vocabulary: what is frequent, and how well it covers each part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateline.scoring import MODEL, SOFT

SHOWN = 15
"""Tokens with a bar."""
COLUMNS = ("texts", "tokens", "unknown", "longest", "texts cut", "tokens cut")


def draw_vocabulary(plt: Any, reports: Mapping[str, Mapping[str, Any]]) -> tuple[Any, str]:
    """Draw one or more vocabularies, see `gateline.data.tokenizers.vocabulary_report`.

    Args:
        plt: matplotlib.pyplot.
        reports: by what is read with each, e.g. the column.
    """
    figure, axes = plt.subplots(2, len(reports), figsize=(6.5 * len(reports) + 1.5, 5.2), squeeze=False)
    for place, (name, report) in enumerate(reports.items()):
        bars, table = axes[0, place], axes[1, place]
        frequent = report["most_frequent"][:SHOWN]
        bars.bar(range(len(frequent)), [count for _, count in frequent], color=MODEL, width=0.75)
        bars.set_xticks(range(len(frequent)), [plain(token) for token, _ in frequent], rotation=60, ha="right")
        bars.set_ylabel("times in the training part")
        bars.set_title(f"{name}: {report['size']:,} tokens")
        rows = [[part, *coverage_in_words(found)] for part, found in report["parts"].items()]
        table.axis("off")
        drawn = table.table(cellText=rows, colLabels=["part", *COLUMNS], loc="upper center", edges="horizontal")
        drawn.auto_set_font_size(False)
        drawn.set_fontsize(9)
        drawn.scale(1, 1.5)
        for cell in drawn.get_celld().values():
            cell.set_edgecolor(SOFT)
    figure.tight_layout()
    once = ", ".join(f"{report['once']:,} of {name}" for name, report in reports.items())
    return figure, (
        "The most frequent tokens of the training part, and what the vocabulary does not know of each part. Tokens seen once in "
        f"training: {once}. A low bar before a token stands for the space before it."
    )


def coverage_in_words(found: Mapping[str, Any]) -> list[str]:
    """Write the coverage of one part, in the order of COLUMNS."""
    unknown = f"{found['unknown']:,} ({100 * found['unknown_rate']:.2f} %)"
    numbers = [f"{found[key]:,}" for key in ("texts", "tokens", "longest", "texts_cut", "tokens_cut")]
    return [*numbers[:2], unknown, *numbers[2:]]


def plain(text: str) -> str:
    """Keep a token from being taken for a formula."""
    return text.replace("$", r"\$")
