"""The code behind a recorded figure that is not the model's: baselines, metrics and intervals; a record older than it is no record of today's."""

from __future__ import annotations

import ast

from benchmarks.machine import ROOT
from gateline.manifest import digest_of

PACKAGES = ("baselines", "scoring")
MODULES = (
    "comparison", "conformal", "edit_distance", "frame_metrics", "intervals", "judgement", "metrics", "paired", "paired_errors",
    "probabilities", "text_metrics",
)  # fmt: skip
"""What a score or a verdict is made of, outside those packages; what a model is made of is told by the commit."""
DRAWN = "pictures"  # modules that end so draw, and change no figure


def scoring_code(task: str) -> str:
    """Digest of the code by which a task is scored: of its syntax, so that comments and line breaks do not count.

    Args:
        task: name of a module in `gateline.scoring`.
    """
    import grimp  # takes a second, and no other benchmark needs it

    graph = grimp.build_graph(
        "gateline", include_external_packages=False, exclude_type_checking_imports=True, cache_dir=None
    )
    start = f"gateline.scoring.{task}"
    reached = {start, *graph.find_upstream_modules(start)} - {"gateline"}
    return digest_of(
        {
            module: _syntax(module)
            for module in sorted(reached)
            if module.split(".")[1] in PACKAGES + MODULES and not module.endswith(DRAWN)
        }
    )


def _syntax(module: str) -> str:
    path = ROOT / "src" / module.replace(".", "/")
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.dump(ast.parse(file.read_text(encoding="utf-8")))
