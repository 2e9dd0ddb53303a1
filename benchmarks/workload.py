"""What a workload's full budget comes to over several seeds: ``python -m benchmarks.workload NAME [--seeds 7 0 1]``.

Runs ingest to preprocess once, then train and evaluate for each seed, and writes `benchmarks/results/workload_NAME.json`
(commit, machine, settings, wall-clock, metrics of the model and of the baselines with their intervals, mean and spread) and
the table of `docs/workloads/NAME.md`, between ``<!-- measured -->`` and ``<!-- /measured -->``. A seed that was measured
with these very settings and this scoring is not measured again; ``--again`` does. ``--page`` measures nothing and writes the table of what
stands in the result; where the workload, or the code that scores and the baselines, have been changed since, it says so. The
test part is read once per seed: choose settings on the validation part, with ``gateline tune`` or by hand, before.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import command
from benchmarks.machine import ROOT, shown_commits, where
from benchmarks.scoring_code import scoring_code
from benchmarks.tables import markdown, read_result, write_json, write_table
from gateline.adapters.document import marks
from gateline.adapters.expectations import validate
from gateline.adapters.ingestion import ingest
from gateline.evaluation import evaluate
from gateline.manifest import Artifact, digest_of, open_artifact
from gateline.preprocessing import preprocess
from gateline.tasks import task_named
from gateline.training import RunSettings, train
from gateline.workload import OPTIONAL, Workload
from gateline.workload.budgets import with_budget
from gateline.workload.gates import Gates
from gateline.workload.source import Source
from gateline.workload.training import Training

PAGES = ROOT / "docs" / "workloads"
TABLE = "measured"
DEVICES, PRECISIONS = ("cpu", "cuda", "auto"), ("float32", "auto", "bfloat16", "float16")
EARLIER = (
    "Measured with earlier settings of [workloads/{name}.yaml](../../workloads/{name}.yaml): the file has been changed since, and "
    "what it says now has not been measured."
)
EARLIER_SCORING = (
    "Scored before a baseline, a metric or the way to its interval was changed: model and predictions are those of the commit, "
    "what stands beside them may differ today."
)
MOST_METRICS = 6  # columns that fit beside each other, what the gates ask for first; the JSON file has all


def prepare(workload: Workload, folder: Path) -> Artifact:
    """Run ingest, validate and preprocess."""
    mirror = os.environ.get("GATELINE_MIRROR")
    raw = ingest(workload.section("source", Source), folder / "raw", mirror=Path(mirror) if mirror else None)
    validate(workload, folder / "raw", folder / "report", as_of=datetime.now(UTC))
    return preprocess(workload, raw, open_artifact(folder / "report", "report"), folder / "prepared")


def measure(workload: Workload, prepared: Artifact, folder: Path, run: RunSettings) -> dict[str, Any]:
    """Train and evaluate with one seed."""
    began, used = time.monotonic(), time.process_time()
    model = train(workload, prepared, folder / f"model-{run.seed}", run)
    trained, used = time.monotonic(), time.process_time() - used
    evaluation = evaluate(workload, prepared, model, folder / f"evaluation-{run.seed}")
    metrics, verdict = evaluation.read_json("metrics.json"), evaluation.facts["verdict"]
    best = model.read_json("history.json")[model.facts["best_epoch"] - 1]
    return {
        "seed": run.seed,
        "where": where(),
        "scored_with": scoring_code(workload.task),
        "train_seconds": round(trained - began, 1),
        "train_processor_seconds": round(used, 1),  # of all threads; what else ran on the machine does not count
        "evaluate_seconds": round(time.monotonic() - trained, 1),
        "parameters": model.facts["parameters"],
        "best_epoch": model.facts["best_epoch"],
        "epochs": model.facts["epochs"],
        "validation": {name: value for name, value in best.items() if name.startswith("validation_")},
        "num_examples": metrics["num_examples"],
        "test": metrics["test"],
        "intervals": metrics["intervals"],
        "slices": metrics["slices"],
        "baseline_slices": metrics["baseline_slices"],
        "baselines": metrics["baselines"],
        "passed": verdict["passed"],
        "reasons": [] if verdict["passed"] else verdict["reasons"],
    }


def settings_key(workload: Workload, run: RunSettings) -> str:
    """Digest of what shapes a result: all sections that a step reads, device and precision."""
    sections = {name: section for name, section in workload.sections.items() if name not in OPTIONAL}
    return digest_of({"sections": sections, "device": run.device, "precision": run.precision})


def measured_with(workload: Workload, settings: str) -> RunSettings | None:
    """Find the device and precision with which a result's digest is that of the workload; None: it has been changed since."""
    tried = (RunSettings(0, device, precision) for device in DEVICES for precision in PRECISIONS)
    return next((run for run in tried if settings_key(workload, run) == settings), None)


def summary_of(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation of every metric over the seeds."""
    names = [name for name, value in runs[0]["test"].items() if isinstance(value, int | float)]
    values = {name: [run["test"][name] for run in runs if run["test"].get(name) is not None] for name in names}
    return {
        "mean": {name: statistics.fmean(found) for name, found in values.items() if found},
        "spread": {name: statistics.stdev(found) if len(found) > 1 else None for name, found in values.items()},
    }


def table_of(
    workload: Workload, runs: Sequence[Mapping[str, Any]], leading: str, command: str, earlier: Sequence[str] = ()
) -> str:
    """Write model and baselines, and the seeds, as Markdown.

    Args:
        workload: what was measured.
        runs: one for each seed.
        leading: the metric of the gates.
        command: what prints this.
        earlier: sentences at the end on what has been changed since.
    """
    summary = summary_of(runs)
    asked = [name for name in workload.section("gates", Gates).limits if name in summary["mean"]]
    names = list(dict.fromkeys([leading, *asked, *summary["mean"]]))[: max(MOST_METRICS, 1 + len(asked))]
    seeds = f"{len(runs)} seed" + ("s" if len(runs) > 1 else "")
    rows: list[list[str]] = [
        [f"**model**, {seeds}", *(_with_spread(summary["mean"].get(n), summary["spread"].get(n)) for n in names)]
    ]
    baselines = [
        [name.replace("_", " "), *(short(_mean([run["baselines"][name].get(n) for run in runs])) for n in names)]
        for name in sorted(
            runs[0]["baselines"], key=lambda name: _order(_mean([run["baselines"][name].get(leading) for run in runs]))
        )
    ]
    # The first figure, which is the loss where there is one, and the one that the best epoch was chosen by.
    monitor = f"validation_{workload.section('training', Training).monitor}"
    measured = list(runs[0]["validation"])
    watched = list(dict.fromkeys([measured[0], monitor if monitor in measured else measured[0], *measured[1:]]))[:2]
    by_seed = [
        [
            run["seed"],
            short(run["test"][leading]) + _between(run["intervals"].get(leading)),
            *(short(run["validation"][name]) for name in watched),
            f"{run['best_epoch']} of {run['epochs']}",
            _trained_in(run),
            f"{run['evaluate_seconds']:.0f} s",
            "passed" if run["passed"] else "refused",
        ]
        for run in runs
    ]
    measures = [name.replace("_", " ") for name in watched]
    head = ["seed", f"test {leading} (95 %)", *measures, "best epoch", "trained in", "evaluated in", "gates"]
    machine = runs[-1]["where"]
    said = (
        f"`{command}` prints this: {runs[0]['num_examples']:,} test "
        f"{task_named(workload.task).examples_are}, "
        f"{runs[0]['parameters']:,} weights; {machine['cores']} cores of {machine['cpu']}, torch {machine['torch']}, "
        f"{shown_commits(run['where'] for run in runs)}. Mean ± standard deviation over the seeds."
    )
    tables = [markdown(["test part", *names], rows + baselines), markdown(head, by_seed)]
    return "\n\n".join([said, *tables, *earlier])


def short(value: float | None) -> str:
    """Four digits."""
    return "–" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _trained_in(run: Mapping[str, Any]) -> str:
    """Say the seconds by the clock, and those of the processor in a result that holds them (older ones do not)."""
    used = run.get("train_processor_seconds")
    return f"{run['train_seconds']:.0f} s" + ("" if used is None else f", {used:.0f} s of processor")


def _with_spread(mean: float | None, spread: float | None) -> str:
    return f"**{short(mean)}**" + (f" ± {spread:.2g}" if spread is not None else "")


def _between(interval: Sequence[float] | None) -> str:
    return f" ({short(interval[0])} – {short(interval[1])})" if interval else ""


def _mean(values: Sequence[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return statistics.fmean(found) if found else None


def _order(value: float | None) -> float:
    return float("inf") if value is None else value


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing; write after every seed."""
    flags = argparse.ArgumentParser(prog="python -m benchmarks.workload", description=__doc__)
    flags.add_argument("name", help="of a workload in workloads/")
    flags.add_argument("--seeds", type=command.seed, nargs="+", default=[7, 0, 1])
    flags.add_argument("--budget", help="measure this budget instead of the full one; changes no document")
    flags.add_argument("--device", default="cpu")
    flags.add_argument("--precision", default="float32")
    flags.add_argument("--again", action="store_true", help="measure seeds again that stand in the result")
    flags.add_argument("--page", action="store_true", help="measure nothing, write the table of what was measured")
    given = flags.parse_args(argv)
    workload = Workload.read(ROOT / "workloads" / f"{given.name}.yaml")
    if given.budget:
        workload = with_budget(workload, given.budget)
    leading, result = workload.section("gates", Gates).metric, f"workload_{workload.name}"
    if given.page:
        _write_recorded(workload, result)
        return
    runs_wanted = [RunSettings(seed, given.device, given.precision) for seed in given.seeds]
    key = settings_key(workload, runs_wanted[0])
    before = read_result(result)
    runs: dict[int, Any] = {}
    if before.get("settings") == key and not given.again:
        code = scoring_code(workload.task)
        runs = {run["seed"]: run for run in before["runs"] if run.get("scored_with") == code}
    missing = [run for run in runs_wanted if run.seed not in runs]
    with tempfile.TemporaryDirectory() as scratch:
        prepared = prepare(workload, Path(scratch)) if missing else None
        for run in missing:
            assert prepared is not None
            runs[run.seed] = measure(workload, prepared, Path(scratch), run)
            found = runs[run.seed]
            interval = _between(found["intervals"].get(leading))
            print(
                f"seed {run.seed}: test {leading} {short(found['test'][leading])}{interval}, trained in "
                f"{found['train_seconds']} s, gates {'passed' if found['passed'] else '; '.join(found['reasons'])}",
                flush=True,
            )
            write_json(result, _as_result(workload, key, leading, list(runs.values())))
    shown = [runs[seed] for seed in given.seeds]
    more = [word for name in ("budget", "device", "precision") for word in _given(flags, given, name)]
    _write_page(workload, table_of(workload, shown, leading, _command(given.name, *more)))


def _write_recorded(workload: Workload, result: str) -> None:
    """Write the page of a workload from its result."""
    found = read_result(result)
    if not found:
        raise SystemExit(f"benchmarks/results/{result}.json is not there: measure first, without --page")
    run = measured_with(workload, found["settings"])
    more = ["--page"] if run is None else [part for part in (_unless("device", run), _unless("precision", run)) if part]
    code = scoring_code(workload.task)
    same_scoring = all(each.get("scored_with") == code for each in found["runs"])
    earlier = [EARLIER.format(name=workload.name)] * (run is None) + [EARLIER_SCORING] * (not same_scoring)
    text = table_of(workload, found["runs"], found["gate_metric"], _command(workload.name, *more), earlier)
    _write_page(workload, text)


def _command(name: str, *more: str) -> str:
    return " ".join(["python -m benchmarks.workload", name, *more])


def _unless(name: str, run: RunSettings) -> str:
    """The flag by which a setting differs from the default; nothing where it does not."""
    value, default = getattr(run, name), getattr(RunSettings(0), name)
    return "" if value == default else f"--{name} {value}"


def _write_page(workload: Workload, text: str) -> None:
    """Write a table into the workload's page, or print it where there is none."""
    page = PAGES / f"{workload.name}.md"
    if page.is_file():
        write_table(page, TABLE, text)
    else:
        print(
            f"{text}\n\n(docs/workloads/{page.name} is not there, or it would show this between {' and '.join(marks(TABLE))})"
        )


def _given(flags: argparse.ArgumentParser, given: argparse.Namespace, name: str) -> list[str]:
    """The words of a flag that was not left at its default."""
    value = getattr(given, name)
    return [] if value == flags.get_default(name) else [f"--{name}", str(value)]


def _as_result(workload: Workload, key: str, leading: str, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "workload": workload.name,
        "task": workload.task,
        "settings": key,
        "gate_metric": leading,
        **summary_of(runs),
        "runs": list(runs),
    }


if __name__ == "__main__":
    sys.exit(command.in_one_line(main))
