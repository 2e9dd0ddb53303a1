"""Are quantiles where they say they are?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gateline.scoring import MODEL, SOFT


def share_below(quantiles: Mapping[float, np.ndarray], target: np.ndarray) -> dict[str, float]:
    """Share of the observed targets below each quantile (W, U), by level."""
    observed = np.isfinite(target)
    return {f"{level:g}": float((target[observed] < values[observed]).mean()) for level, values in quantiles.items()}


def draw_quantile_calibration(plt: Any, curves: Mapping[str, Mapping[str, float]]) -> tuple[Any, str]:
    """Draw the share of targets below each quantile over its level, of the model and of baselines that have quantiles."""
    figure, axis = plt.subplots(figsize=(5, 4.4))
    axis.plot([0, 1], [0, 1], color=SOFT, linewidth=0.8, linestyle=":")
    for name, shares in curves.items():
        style = {"color": MODEL, "linewidth": 2.2, "zorder": 3} if name == "model" else {"linewidth": 1.1, "alpha": 0.8}
        axis.plot(
            [float(level) for level in shares], list(shares.values()), marker="o", label=name.replace("_", " "), **style
        )
    axis.set_xlabel("level of the quantile")
    axis.set_ylabel("share of the test part's targets below it")
    axis.legend(loc="upper left")
    return figure, "On the dotted line a quantile is where it says it is; above it too high, below it too low."
