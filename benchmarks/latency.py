"""How long one window takes through the registered model, beside its bare network: ``python -m benchmarks.latency``.

Needs what `gateline run flight_delays` leaves in `artifacts/`. Registers that model in a registry of its own, with the code
as it is now, loads it as a client does, and asks for windows of the test part one at a time. The ways to ask take turns,
so that a busy machine is as hard on each, and the processor's time is measured beside the clock's, since the clock also
counts the turns of other processes. Every answer is compared with the network's own.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import torch

from benchmarks import command
from benchmarks.machine import ROOT, where
from benchmarks.tables import markdown, write_result

# Of gateline nothing is imported up here: what is measured is the package that comes with the registered model.

WORKLOAD = "flight_delays"
CHAMPION = f"models:/{WORKLOAD}@champion"
WINDOWS = 50
WARM_UP = 50
ALLOWED_MS = 2.0

Way = Callable[[int], Any]


def register(artifacts: Path, scratch: Path) -> Any:
    """Register a model of finished folders as champion of a new registry, and load it from there."""
    uri = f"sqlite:///{scratch / 'mlflow.db'}"
    flags = [f"--{kind}={artifacts / kind}" for kind in ("raw", "report", "prepared", "model", "evaluation")]
    workload = ROOT / "workloads" / f"{WORKLOAD}.yaml"
    subprocess.run(
        [
            sys.executable,
            "-m",
            "components.register",
            f"--workload={workload}",
            *flags,
            f"--release={scratch / 'release'}",
        ],
        cwd=scratch,  # there MLflow puts the files
        env={**os.environ, "MLFLOW_TRACKING_URI": uri, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    mlflow.set_tracking_uri(uri)
    return mlflow.pyfunc.load_model(CHAMPION)


def only_mlflow(answer: pd.DataFrame) -> Any:
    """Load the registered model again and let it do nothing but answer: what it still takes is MLflow's own."""
    model = mlflow.pyfunc.load_model(CHAMPION)

    def predict(context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:  # noqa: ARG001
        return answer

    model.unwrap_python_model().predict = predict
    return model


def requests(predictor: Any, prepared: Any, origins: np.ndarray) -> list[pd.DataFrame]:
    """Cut windows from the prepared table as a client sends them: time stamps as text, nothing that is not known yet."""
    from gateline.table import TABLE, read_table

    encoding = predictor.encoding
    table = read_table(prepared.path / TABLE)[[name for name, _, _ in predictor.input_columns]]
    time_column = encoding.schema.time.column
    table[time_column] = table[time_column].dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    cut = []
    for row in origins:
        rows = table.iloc[row - predictor.lookback : row + predictor.horizon].reset_index(drop=True)
        rows.loc[predictor.lookback :, [encoding.target, *encoding.past]] = np.nan
        cut.append(rows)
    return cut


def ways_to_ask(model: Any, artifacts: Path, rng: np.random.Generator) -> dict[str, Way]:
    """Set up the ways to forecast one window, and check that they agree.

    Returns:
        By name, a function of the number of a window.
    """
    from gateline.data.prepared_windows import open_windows
    from gateline.manifest import open_artifact
    from gateline.model_folder import load_network, read_model_json
    from gateline.tasks import task_named

    prepared = open_artifact(artifacts / "prepared", "prepared")
    config = read_model_json(artifacts / "model", "config.json")
    task = task_named(config["task"])
    predictor: Any = task.load_predictor(artifacts / "model")
    network = task.build(task.Model(**config["model"]), config["shapes"])
    load_network(network, artifacts / "model")
    network.eval()

    dataset: Any = task.dataset(prepared, "test")
    chosen = rng.choice(len(dataset), WINDOWS, replace=False)
    batches = [dataset.__getitems__(chosen[[number]]) for number in range(WINDOWS)]
    asked = requests(predictor, prepared, open_windows(prepared, "test")[chosen])

    def bare(number: int) -> torch.Tensor:
        with torch.inference_mode():
            answer: torch.Tensor = network(batches[number])
        return answer

    encoding = predictor.encoding
    for number in range(WINDOWS):
        batch = batches[number]
        expected = encoding.scalers[encoding.target].inverse(bare(number).numpy(), batch.series.numpy()).ravel()
        for frame in (model.predict(asked[number]), predictor.predict(asked[number])):
            np.testing.assert_allclose(frame[encoding.target], expected, rtol=1e-5)
    nothing = only_mlflow(model.predict(asked[0]))
    return {
        "bare forward pass": bare,
        "MLflow around a model that does nothing": lambda number: nothing.predict(asked[number]),
        "the library's predictor": lambda number: predictor.predict(asked[number]),
        "the registered model": lambda number: model.predict(asked[number]),
    }


def take_turns(ways: Mapping[str, Way], rounds: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Time every way once per round, in an order that changes, on a window that changes.

    Returns:
        By name, (rounds, 2) milliseconds: by the clock, and of the processor.
    """
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for turn in range(WARM_UP + rounds):
        for name in rng.permutation(list(ways)).tolist():
            began = time.perf_counter(), time.thread_time()
            ways[name](turn % WINDOWS)
            ended = time.perf_counter(), time.thread_time()
            if turn >= WARM_UP:
                taken[name].append((1e3 * (ended[0] - began[0]), 1e3 * (ended[1] - began[1])))
    return {name: np.array(times) for name, times in taken.items()}


def describe(taken: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Reduce times to medians and 95th percentiles, and compare the medians with those of the first way."""
    medians = {name: np.median(times, axis=0) for name, times in taken.items()}
    clock, processor = next(iter(medians.values()))
    return {
        name: {
            "median_ms": round(float(medians[name][0]), 3),
            "p95_ms": round(float(np.quantile(times[:, 0], 0.95)), 3),
            "beyond_bare_ms": round(float(medians[name][0] - clock), 3),
            "processor_median_ms": round(float(medians[name][1]), 3),
            "processor_p95_ms": round(float(np.quantile(times[:, 1], 0.95)), 3),
            "processor_beyond_bare_ms": round(float(medians[name][1] - processor), 3),
            "processor_times_bare": round(float(medians[name][1] / processor), 2),
        }
        for name, times in taken.items()
    }


def main() -> None:
    """Measure, print a table, write the result."""
    flags = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=__doc__)
    flags.add_argument(
        "--artifacts", type=Path, default=ROOT / "artifacts" / WORKLOAD, help="folders of a finished run"
    )
    flags.add_argument("--rounds", type=command.count, default=1000, help="times each way is asked")
    flags.add_argument("--seed", type=command.seed, default=0, help="of the choice of windows and the order of turns")
    given = flags.parse_args()
    artifacts = given.artifacts.resolve()
    if not (artifacts / "evaluation" / "manifest.json").exists():
        flags.error(f"expected the folders of a finished run in {artifacts}; run `gateline run {WORKLOAD}`")
    began = time.monotonic()
    rng = np.random.default_rng(given.seed)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        model = register(artifacts, scratch)
        from gateline.device import configure_process

        configure_process("cpu", "float32")
        ways = ways_to_ask(model, artifacts, rng)
        # Called over and over, the network finds its weights in the nearest cache; in its turn, it does not.
        over_and_over = take_turns({"over and over": ways["bare forward pass"]}, given.rounds, rng)
        figures = describe(take_turns(ways, given.rounds, rng))
    alone = describe(over_and_over)["over and over"]
    libraries = {name: importlib.metadata.version(name) for name in ("mlflow", "pandas")}
    result = {
        "where": {**where(), **libraries},
        "workload": WORKLOAD,
        "threads": torch.get_num_threads(),
        "seed": given.seed,
        "rounds": given.rounds,
        "wall_seconds": round(time.monotonic() - began, 1),
        "ways": figures,
        "bare_over_and_over": alone,
    }
    write_result(
        "latency", result, in_words(figures, alone, given.rounds), command.sizes_to_record(flags, given, "rounds")
    )


def in_words(figures: Mapping[str, Mapping[str, float]], alone: Mapping[str, float], rounds: int) -> str:
    """Lay the figures out as a table, and say whether the reach is held."""
    rows = [
        [
            name,
            f"{row['median_ms']:.2f} ms",
            f"{row['p95_ms']:.2f} ms",
            f"{row['processor_median_ms']:.2f} ms",
            f"{row['processor_p95_ms']:.2f} ms",
            f"{row['processor_beyond_bare_ms']:+.2f} ms",
            f"{row['processor_times_bare']:.1f}",
        ]
        for name, row in figures.items()
    ]
    head = ["one window", "clock", "95 %", "processor", "95 %", "beyond the bare pass", "times the bare pass"]
    registered = figures["the registered model"]
    held = {clock: registered[clock] <= ALLOWED_MS for clock in ("beyond_bare_ms", "processor_beyond_bare_ms")}
    return (
        f"{markdown(head, rows)}\n\n"
        f"Medians over {rounds} rounds. Called over and over instead of in turn, so that its weights stay in the cache, the "
        f"bare pass takes {alone['processor_median_ms']:.2f} ms. Reach: the registered model at most {ALLOWED_MS:g} ms beyond "
        f"the bare pass at the median: {_held(held['processor_beyond_bare_ms'])} by the processor's time "
        f"({registered['processor_beyond_bare_ms']:+.2f} ms), {_held(held['beyond_bare_ms'])} by the clock "
        f"({registered['beyond_bare_ms']:+.2f} ms), which counts what else runs on the machine."
    )


def _held(yes: bool) -> str:
    return "held" if yes else "**missed**"


if __name__ == "__main__":
    sys.exit(command.in_one_line(main))
