"""A small search, as tests run it: in this process, or as `python -m tests.components.searching FOLDER TRIALS PROCESSES`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateline.adapters.door import refuse
from gateline.adapters.search import Outcome, search
from gateline.adapters.search.interruption import Interruption
from gateline.adapters.search.study import Problem
from gateline.adapters.search.worker import Place
from gateline.errors import EXIT_DONE, EXIT_TRY_AGAIN, GatelineError, Preempted
from gateline.manifest import Artifact, open_artifact, write_artifact
from gateline.tasks.forecasting import TASK, ForecastingPreprocess
from gateline.training import RunSettings
from gateline.workload import Workload
from gateline.workload.schema import Schema
from gateline.workload.search import read_search
from tests.tiny import tiny_table, tiny_workload

SEARCH: Mapping[str, Any] = {
    "settings": {
        "training.learning_rate": {"low": 0.0001, "high": 0.05, "log": True},
        "model.hidden_size": {"low": 4, "high": 12, "step": 4},
        "model.attention": {"choices": ["none", "dot"]},
    },
    "sampler": {"startup_trials": 2},
    "pruner": {"kind": "none"},
}


def prepare(folder: Path) -> Artifact:
    """Write a small `prepared` that names a `raw`, without the steps before it."""
    content = tiny_workload()
    with write_artifact(folder / "raw", "raw") as draft:
        draft.facts["rows"] = 1
    with write_artifact(folder / "prepared", "prepared", {"raw": open_artifact(folder / "raw", "raw")}) as draft:
        schema = Schema.model_validate(content["schema"])
        TASK.prepare(
            tiny_table(hours=24 * 65), schema, ForecastingPreprocess.model_validate(content["preprocess"]), draft
        )
    return open_artifact(folder / "prepared", "prepared")


def problem_of(prepared: Path, **changes: Any) -> Problem:
    """A problem with poor present settings: nearly any other is better."""
    changes = {"training__epochs": 2, "training__learning_rate": 0.0001, "search": SEARCH, **changes}
    workload = Workload.read(json.dumps(tiny_workload(**changes)))
    settings, dimensions = read_search(workload, TASK.Model)
    return Problem(workload, open_artifact(prepared, "prepared"), RunSettings(7), settings, dimensions, "mae")


def run(
    problem: Problem, folder: Path, trials: int, processes: int = 1, storage: str = ""
) -> tuple[Outcome, list[str]]:
    """Search; return the outcome and what was said of the trials."""
    said: list[str] = []
    written = folder / "tuned.yaml"
    written.write_text("a workload")
    place = Place(storage or f"sqlite:///{folder / 'studies.db'}", folder / "search")
    with Interruption() as interruption:
        outcome = search(problem, place, trials, processes, interruption, said.append, lambda *_: written)
    return outcome, said


def main() -> int:
    """Search as a process of its own; its exit code is what `gateline tune` would give."""
    folder, trials, processes = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    changes = json.loads(sys.argv[4]) if len(sys.argv) > 4 else {}
    try:
        run(problem_of(folder / "prepared", **changes), folder, trials, processes)
    except GatelineError as error:
        return refuse(str(error), error.exit_code)
    except Preempted as stop:
        return refuse(str(stop), EXIT_TRY_AGAIN)
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
