"""What a comparison tells MLflow: one run for all, nested in it one for each variant and seed, found by tag.

Logging is idempotent, and everything that is logged stands in files, too: what MLflow kept from being logged is logged by
running the command again, without training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gateline.adapters.mlflow_server import connected
from gateline.adapters.tracking import (
    create_run,
    find_run,
    finish_run,
    log_curves,
    log_input,
    log_metrics,
    log_parameters,
    metric_key,
    steps_logged,
)
from gateline.manifest import Artifact, digest_of

LOGGED = "gateline.logged.variant"


def log_comparison(
    name: str, prepared: Artifact, monitor: str, runs: Sequence[Mapping[str, Any]], folder: Path
) -> None:
    """Log the runs that are not logged yet, and the table.

    Args:
        name: of the workload.
        prepared: what all runs read.
        monitor: what their best epochs were chosen by.
        runs: see `Comparing`.
        folder: holds ``comparison.md`` and ``comparison.json``.

    Raises:
        UnreachableError: MLflow does not answer.
    """
    comparison = digest_of([prepared.digest])[:12]
    with connected(name) as to:
        parent = find_run(to, comparison=comparison)
        if parent is None:
            made_from = {"prepared": prepared.digest, "raw": prepared.inputs["raw"]}
            parent = create_run(to, f"compare-{name}-{comparison}", {"comparison": comparison, **made_from})
            log_input(to, parent, f"{name}/prepared", prepared, "training")
        for run in runs:
            tag = {"variant": str(run["key"])}
            child = find_run(to, **tag) or create_run(to, f"{run['variant']}-{run['seed']}", tag, parent)
            if LOGGED in child.data.tags:
                continue
            run_id = child.info.run_id
            log_parameters(to, child, run["settings"])
            log_curves(to.client, run_id, run["history"], steps_logged(to.client, run_id))
            measured = {f"best_{monitor}": run["validation"].get(monitor)}
            measured |= {metric_key("test", name): value for name, value in run["test"].items()}
            numbers = [(key, 0, float(value)) for key, value in measured.items() if isinstance(value, int | float)]
            log_metrics(to.client, run_id, numbers)
            finish_run(to, child)
            to.client.set_tag(run_id, LOGGED, "yes")
        for table in ("comparison.md", "comparison.json"):
            to.client.log_artifact(parent.info.run_id, str(folder / table))
        finish_run(to, parent)
