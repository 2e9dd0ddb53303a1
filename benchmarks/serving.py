"""Requests per second, and a promotion under load: ``python -m benchmarks.serving``.

Trains two small forecasters (the tests' tiny problem: two series of 30 hourly rows in a request, 6.6 kB), registers both in a
registry of its own, and serves them. First as many requests as go through; then 200 a second over 16 kept connections, while
the other version is promoted. The load comes from the same machine, and takes its share of the cores.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mlflow

from benchmarks import command
from benchmarks.load import Answers, Load
from benchmarks.machine import ROOT, where
from benchmarks.tables import markdown, write_result
from gateline.adapters.mlflow_server import connected
from gateline.adapters.registry import changes
from tests.tiny import write_tiny

RATE, CONNECTIONS = 200.0, 16
AS_MANY_AS_GO = 1e6
EPOCHS = (1, 3)
PROMOTED_AFTER = 2.0
SLOWEST_P99_MS = 250.0
"""Longest that 99 of 100 requests may take around the promotion."""
LEAST_SHARE = 0.98
"""Of the rate asked, that must be answered."""


def register(folder: Path) -> None:
    """Train two models, the second for longer, and register them as versions 1 and 2."""
    from gateline.adapters.expectations import validate
    from gateline.adapters.ingestion import ingest
    from gateline.evaluation import evaluate
    from gateline.manifest import open_artifact
    from gateline.preprocessing import preprocess
    from gateline.training import RunSettings, train
    from gateline.workload import Workload
    from gateline.workload.source import Source

    path = write_tiny(folder)
    workload = Workload.read(path)
    raw = ingest(workload.section("source", Source), folder / "raw")
    validate(workload, raw.path, folder / "report", as_of=datetime(2024, 3, 12, tzinfo=UTC))
    report = open_artifact(folder / "report", "report")
    prepared = preprocess(workload, raw, report, folder / "prepared")
    for epochs in EPOCHS:
        sections = {**workload.sections, "training": {**workload.sections["training"], "epochs": epochs}}
        trained = Workload(workload.name, workload.task, workload.description, workload.place, sections)
        model = train(trained, prepared, folder / "model", RunSettings(seed=7))
        evaluate(workload, prepared, model, folder / "evaluation")
        flags = [
            f"--{kind}={folder / kind}" for kind in ("raw", "report", "prepared", "model", "evaluation", "release")
        ]
        subprocess.run(
            [sys.executable, "-m", "components.register", f"--workload={path}", *flags],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        shutil.rmtree(folder / "model.checkpoint", ignore_errors=True)


def processor_seconds(pid: int) -> float:
    """Time of the processor that the processes of a service have taken so far."""
    ticks = 0
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        user, system = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[11:13]
        ticks += int(user) + int(system)
    return ticks / os.sysconf("SC_CLK_TCK")


@contextmanager
def served(folder: Path, workers: int) -> Iterator[tuple[int, int]]:
    """Serve the champion on a free port until the block ends; give port and process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", "from gateline.cli import app; app(prog_name='gateline')", "serve", "tiny"]
    command += ["--port", str(port), "--workers", str(workers), "--poll-seconds", "1"]
    process = subprocess.Popen(
        command, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(600):
            with socket.socket() as tried:
                if tried.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield port, process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def row(what: str, workers: int, answers: Answers, seconds: float | None = None) -> dict[str, Any]:
    """What is written of one run, and how much of the processor each answer took."""
    return {
        "processor_ms": None if seconds is None else round(1000 * seconds / len(answers.latencies), 2),
        "what": what,
        "workers": workers,
        "requests": len(answers.latencies) + len(answers.failures),
        "failures": len(answers.failures),
        "per_second": round(len(answers.latencies) / answers.seconds, 1),
        **{f"p{share}_ms": round(1000 * answers.latency(share / 100), 1) for share in (50, 95, 99)},
        "versions": answers.seen,
        "went_back": answers.went_back,
    }


def run(seconds: float) -> list[dict[str, Any]]:
    """Measure everything in a folder that is gone afterwards."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="gateline-serving-") as scratch:
        folder = Path(scratch)
        os.environ["MLFLOW_TRACKING_URI"] = uri = f"sqlite:///{folder / 'mlflow.db'}"
        register(folder)
        model = mlflow.artifacts.download_artifacts("models:/tiny/1", tracking_uri=uri)
        body = Path(model, "serving_input_example.json").read_bytes()

        def promote(version: int) -> None:
            with connected("tiny", create=False) as to:
                changes.promote(to, "tiny", version, lambda _: None, why="asked for by the benchmark")

        for workers in (1, 2):
            promote(1)
            with served(folder, workers) as (port, pid):
                Load("127.0.0.1", port, body, AS_MANY_AS_GO, 1).run(20 / AS_MANY_AS_GO)
                before = processor_seconds(pid)
                many = Load("127.0.0.1", port, body, AS_MANY_AS_GO, CONNECTIONS).run(600 / AS_MANY_AS_GO)
                rows.append(row("as many as go", workers, many, processor_seconds(pid) - before))
                if workers == 2:

                    def later() -> None:
                        time.sleep(PROMOTED_AFTER)
                        promote(2)

                    promoted = Load("127.0.0.1", port, body, RATE, CONNECTIONS).run(seconds, later)
                    rows.append(row(f"{RATE:g} a second, a promotion after {PROMOTED_AFTER:g} s", workers, promoted))
    return rows


def short_of(last: dict[str, Any]) -> list[str]:
    """Say in what a run with a promotion falls short of the reach."""
    said = {
        f"{last['failures']} requests failed": last["failures"] > 0,
        f"answered by versions {last['versions']}": last["versions"] != [1, 2],
        f"{last['went_back']} answers of the old version after the new": last["went_back"] > 0,
        f"{last['per_second']:g} a second answered": last["per_second"] < LEAST_SHARE * RATE,
        f"99 of 100 within {last['p99_ms']:g} ms": last["p99_ms"] > SLOWEST_P99_MS,
    }
    return [words for words, true in said.items() if true]


def main() -> None:
    flags = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    flags.add_argument(
        "--seconds", type=command.seconds, default=20.0, help="of load around the promotion (default: 20)"
    )
    args = flags.parse_args()
    rows = run(args.seconds)
    head = [
        "load",
        "processes",
        "requests",
        "failed",
        "answers/s",
        "processor",
        "median",
        "95 %",
        "99 %",
        "versions",
        "went back",
    ]
    cells = [
        [
            each["what"],
            str(each["workers"]),
            f"{each['requests']:,}",
            str(each["failures"]),
            f"{each['per_second']:,.0f}",
            "–" if each["processor_ms"] is None else f"{each['processor_ms']:.1f} ms",
            *(f"{each[f'p{share}_ms']:,.0f} ms" for share in (50, 95, 99)),
            ", then ".join(map(str, each["versions"])),
            str(each["went_back"]),
        ]
        for each in rows
    ]
    missed = short_of(rows[-1])
    words = (
        f"\n\nLatencies count from the moment a request was due. Processor: of the serving processes, per answer. Load of the "
        f"machine when it was done, from everything that ran on its {where()['cores']} cores: {os.getloadavg()[1]:.1f}. Reach: {RATE:g} requests "
        f"a second are answered while version 2 takes over from version 1, 99 of 100 within {SLOWEST_P99_MS:g} ms, none fails, and none "
        f"is answered by the old version once a connection has heard of the new; "
        f"{'**not reached**: ' + '; '.join(missed) if missed else 'reached'}."
    )
    machine = where()
    write_result(
        "serving",
        {"machine": machine, "load_average": os.getloadavg(), "rows": rows},
        markdown(head, cells) + words,
        command.sizes_to_record(flags, args, "seconds"),
    )


if __name__ == "__main__":
    sys.exit(command.in_one_line(main))
