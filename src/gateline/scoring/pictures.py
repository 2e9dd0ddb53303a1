"""The look of every picture in a report, and the pictures that every task has."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from gateline.evaluation import Figure
from gateline.manifest import Artifact
from gateline.scoring import INK, MODEL, SOFT

Draw = Callable[[Any], tuple[Any, str]]
"""Takes `matplotlib.pyplot`, gives a figure and its caption."""

LOOK: Mapping[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": SOFT,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "figure.dpi": 110,
    "legend.frameon": False,
}


def draw_all(pictures: Mapping[str, tuple[Draw, str]], folder: Path) -> list[Figure]:
    """Draw pictures into a folder, ``NAME.png`` each; the same numbers, the same bytes.

    Args:
        pictures: by name, what draws it and its title.
        folder: where to write.
    """
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update(LOOK)
    drawn = []
    for name, (draw, title) in pictures.items():
        with warnings.catch_warnings():
            # Words in a script that the font lacks are boxes in a picture, and no warning of the run.
            warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font", UserWarning)
            figure, caption = draw(plt)
            figure.savefig(folder / f"{name}.png", metadata={"Software": None}, bbox_inches="tight")
        plt.close(figure)
        drawn.append(Figure(name, title, caption))
    return drawn


def draw_training(plt: Any, model: Artifact) -> tuple[Any, str]:
    """The loss of both parts, epoch by epoch."""
    history = pd.DataFrame(model.read_json("history.json"))
    figure, axis = plt.subplots(figsize=(8, 3.4))
    axis.plot(history["epoch"], history["train_loss"], color=SOFT, marker="o", label="training (with dropout)")
    axis.plot(history["epoch"], history["validation_loss"], color=MODEL, marker="o", label="validation")
    axis.axvline(model.facts["best_epoch"], color=INK, linewidth=0.8, linestyle=":")
    axis.set_xlabel("epoch")
    axis.set_ylabel("loss")
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.legend()
    return figure, f"Loss per epoch. The weights of epoch {model.facts['best_epoch']} (dotted) were kept."
