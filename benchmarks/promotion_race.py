"""Promote from many processes at once, and kill some of them: ``python -m benchmarks.promotion_race``.

A real MLflow server stands between the processes and the database (PostgreSQL where its programs are installed, and SQLite).
In each round of the race every process wants to replace the same champion by a version of its own. In the second part
processes are killed (SIGKILL) at random moments; each time, the next command must find or make champion and ledger agree.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from benchmarks import command
from benchmarks.machine import where
from benchmarks.tables import markdown, write_result

POSTGRESQL = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
MODEL = "race"
PROCESSES, ROUNDS, KILLS = 8, 50, 30
SECONDS_TO_START = 120
fork = multiprocessing.get_context("fork")  # MLflow is imported once, not by each process that is killed


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """Run PostgreSQL with an empty database; as the user `postgres` where this process is root, which it refuses to be."""
    programs, data, port = POSTGRESQL[-1], folder / "postgresql", free_port()
    data.mkdir()
    user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    if user:
        folder.chmod(0o755)
        shutil.chown(data, "postgres")
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": "/"}
    subprocess.run(
        [*user, programs / "initdb", "-D", data, "-A", "trust", "-U", "gateline", "-E", "UTF8"], check=True, **quiet
    )
    options = f"-p {port} -k {data} -c listen_addresses=127.0.0.1"
    control: list[str | Path] = [*user, programs / "pg_ctl", "-D", data, "-w", "-o", options, "-l", data / "log"]
    subprocess.run([*control, "start"], check=True, **quiet)
    try:
        yield f"postgresql+psycopg2://gateline@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], check=True, **quiet)


@contextmanager
def server(folder: Path, store: str) -> Iterator[str]:
    """Run a tracking server over a database."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "2"]
    command += ["--backend-store-uri", store, "--artifacts-destination", str(folder / "store")]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    environment |= {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            for _ in range(SECONDS_TO_START * 4):
                with suppress(OSError):
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
                    break
                time.sleep(0.25)
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()


def write_tried(folder: Path) -> dict[str, str]:
    """Write as little of a registered model as a promotion looks at; return the tags of a version that was tried."""
    from gateline.adapters.registry.serving_check import CHECK_TAG, PASSED
    from gateline.adapters.registry.versions import MODEL_TAG, SERVED_FOLDER
    from gateline.manifest import open_artifact, write_artifact

    with write_artifact(folder / "model", "model") as draft:
        (draft.path / "weights.pt").write_bytes(b"")
    flavor = {"artifacts": {SERVED_FOLDER: {"path": "model"}}}
    (folder / "MLmodel").write_text(json.dumps({"flavors": {"python_function": flavor}}))
    digest = open_artifact(folder / "model", "model").digest
    return {MODEL_TAG: digest, CHECK_TAG: f"{PASSED}: {{}}"}


def add_versions(count: int) -> list[int]:
    """Register versions that all have the same files."""
    from gateline.adapters.mlflow_server import connected

    with connected(MODEL, create=False) as to, tempfile.TemporaryDirectory() as scratch:
        tags = write_tried(Path(scratch))
        # A server takes files from within a run only.
        run = to.client.create_run(to.client.create_experiment(f"files of {MODEL}"))
        to.client.log_artifacts(run.info.run_id, scratch, "model")
        source = f"{run.info.artifact_uri}/model"
        to.client.create_registered_model(MODEL)
        made = [to.client.create_model_version(MODEL, source, run.info.run_id, tags=tags) for _ in range(count)]
        return [int(version.version) for version in made]


def promote_once(version: int, expect: int | None, why: str) -> str:
    """Promote one version, and say what came of it."""
    from gateline.adapters.mlflow_server import connected
    from gateline.adapters.registry.changes import promote
    from gateline.errors import GatelineError

    try:
        with connected(MODEL, create=False) as to:
            step = promote(to, MODEL, version, lambda _: None, expect=expect, why=why)
        return "already" if step is None else "won"
    except GatelineError as error:
        return f"lost: {error.found}" if "meanwhile" in str(error) or "--expect" in error.where else f"failed: {error}"


def take_part(versions: tuple[int, int], rounds: int, line: Barrier, answers: Any) -> None:
    """Want, in each round, to replace whoever is champion when it begins."""
    from gateline.adapters.mlflow_server import connected
    from gateline.adapters.registry.ledger import append, new_entry, project, read_ledger
    from gateline.ledger import PROMOTED

    with connected(MODEL, create=False) as to:
        for number in range(rounds):
            line.wait()
            ledger = read_ledger(to, MODEL)
            before = ledger.champion
            line.wait()  # all have read: all expect the same champion
            version = versions[0] if before != versions[0] else versions[1]
            entry = new_entry(PROMOTED, version, before, f"round {number}", seen=ledger)
            began = time.monotonic()
            ledger = append(to, MODEL, entry)
            step = ledger.step_of(entry.id)
            won = step is not None and step.effective
            if won:
                project(to, MODEL, ledger, entry)
            answers.put((number, version, before, won, time.monotonic() - began))


def race(processes: int, rounds: int) -> dict[str, Any]:
    """Let processes promote at once, round by round, and see what the ledger says in the end."""
    versions = add_versions(2 * processes)
    line, answers = fork.Barrier(processes), fork.Queue()
    began = time.monotonic()
    workers = [
        fork.Process(target=take_part, args=(pair, rounds, line, answers))
        for pair in zip(versions[::2], versions[1::2], strict=True)
    ]
    for worker in workers:
        worker.start()
    found = [answers.get(timeout=600) for _ in range(processes * rounds)]
    for worker in workers:
        worker.join()
    seconds = time.monotonic() - began
    winners = Counter(number for number, _, _, won, _ in found if won)
    # As the processes say it, not as the ledger does: each winner replaced the one of the round before.
    wins = sorted(
        ((number, before, version) for number, version, before, won, _ in found if won), key=lambda win: win[0]
    )
    return {
        "processes": processes,
        "rounds": rounds,
        "rounds_with_one_winner": sum(winners[number] == 1 for number in range(rounds)),
        "different_winners": len({version for _, version, _, won, _ in found if won}),
        "median_seconds_of_a_promotion": sorted(each[-1] for each in found)[len(found) // 2],
        "linear": len(wins) == rounds and all(one[2] == other[1] for one, other in pairwise(wins)),
        "seconds": round(seconds, 1),
        **state(),
    }


def state() -> dict[str, Any]:
    """Say what ledger and alias are, read afresh."""
    from gateline.adapters.mlflow_server import connected
    from gateline.adapters.registry.ledger import number_with_alias, read_ledger

    with connected(MODEL, create=False) as to:
        ledger, alias = read_ledger(to, MODEL), number_with_alias(to, MODEL)
    return {
        "entries": len(ledger.entries),
        "conflicts": sum(step.conflict for step in ledger.steps),
        "missing": len(ledger.missing),
        "unsettled": len(ledger.unsettled()),
        "champion_in_ledger": ledger.champion,
        "champion_by_alias": alias,
        "agree": ledger.champion == alias,
    }


def championships() -> list[tuple[int, int | None]]:
    """List who became champion by which entry, read afresh."""
    from gateline.adapters.mlflow_server import connected
    from gateline.adapters.registry.ledger import read_ledger

    with connected(MODEL, create=False) as to:
        return [(step.entry.number, step.after) for step in read_ledger(to, MODEL).steps if step.effective]


def promote_on_and_on(versions: list[int], seed: int, complaints: Path) -> None:
    """Promote one version after the other, until somebody kills this process; write down what is neither won nor lost."""
    draw = random.Random(seed)
    while True:
        became = promote_once(draw.choice(versions), None, "again")
        if became.startswith("failed"):
            with complaints.open("a") as file:
                file.write(f"{became}\n")


def kill_at_random(processes: int, kills: int, seed: int, complaints: Path) -> dict[str, Any]:
    """Kill all processes that promote at random moments, and let the next command put right what they left."""
    from gateline.adapters.mlflow_server import connected
    from gateline.adapters.registry.ledger import open_ledger

    with connected(MODEL, create=False) as to:
        versions = [int(version.version) for version in to.client.search_model_versions(f"name = '{MODEL}'")]
    draw, apart, agreed, refused, linear = random.Random(seed), 0, 0, 0, 0
    before = championships()
    for turn in range(kills):
        workers = [
            fork.Process(target=promote_on_and_on, args=(versions, seed + turn * 100 + place, complaints))
            for place in range(processes)
        ]
        for worker in workers:
            worker.start()
        time.sleep(draw.uniform(0.5, 4))
        for worker in workers:
            os.kill(worker.pid or 0, signal.SIGKILL)
        for worker in workers:
            worker.join()
        time.sleep(0.2)  # what the server still works at
        apart += not state()["agree"]
        try:
            with connected(MODEL, create=False) as to:
                open_ledger(to, MODEL, lambda _: None)
        except Exception as error:  # noqa: BLE001  (counted, and shown)
            print(f"turn {turn}: {error}")
            refused += 1
        after, now = state(), championships()
        agreed += after["agree"]
        linear += not after["missing"] and now[: len(before)] == before  # what was decided before stands
        before = now
    failed = complaints.read_text().splitlines() if complaints.exists() else []
    print(*failed[:5], sep="\n")
    return {
        "processes": processes,
        "refused_falsely": len(failed),
        "kills": kills * processes,
        "turns": kills,
        "left_apart": apart,
        "agree_after_the_next_command": agreed,
        "linear_after_each_turn": linear,
        "refused": refused,
        "seed": seed,
        **state(),
    }


def measure(database: str, processes: int, rounds: int, kills: int, seed: int) -> dict[str, Any]:
    """Run both parts on one kind of database."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with postgresql(folder) if database == "postgresql" else _sqlite(folder) as store, server(folder, store) as uri:
            os.environ["MLFLOW_TRACKING_URI"] = uri
            return {
                "race": race(processes, rounds),
                "killed": kill_at_random(processes, kills, seed, folder / "failed"),
            }


@contextmanager
def _sqlite(folder: Path) -> Iterator[str]:
    yield f"sqlite:///{folder}/mlflow.db"


def main() -> None:
    """Run, print, write."""
    flags = argparse.ArgumentParser(prog="python -m benchmarks.promotion_race", description=__doc__)
    flags.add_argument("--processes", type=command.count, default=PROCESSES)
    flags.add_argument("--rounds", type=command.count, default=ROUNDS)
    flags.add_argument(
        "--kills", type=command.count, default=KILLS, help=f"times that all are killed (default: {KILLS})"
    )
    flags.add_argument("--seed", type=command.seed, default=0)
    flags.add_argument("--database", choices=("postgresql", "sqlite"), help="only this one")
    args = flags.parse_args()
    databases = [args.database] if args.database else ["postgresql"] * bool(POSTGRESQL) + ["sqlite"]
    found = {each: measure(each, args.processes, args.rounds, args.kills, args.seed) for each in databases}
    rows = [
        [
            name,
            f"{each['race']['rounds_with_one_winner']} of {each['race']['rounds']}",
            str(each["race"]["conflicts"]),
            "yes" if each["race"]["linear"] and each["race"]["agree"] else "no",
            f"{each['race']['median_seconds_of_a_promotion']:.2f}",
            str(each["killed"]["kills"]),
            str(each["killed"]["refused_falsely"]),
            str(each["killed"]["left_apart"]),
            f"{each['killed']['agree_after_the_next_command']} of {each['killed']['turns']}",
            f"{each['killed']['linear_after_each_turn']} of {each['killed']['turns']}",
        ]
        for name, each in found.items()
    ]
    head = [
        "database", "rounds with one winner", "lost races in the ledger", "linear, alias right", "median s of a promotion",
        "processes killed", "promotions refused falsely", "alias behind after a kill", "agree after the next command", "linear",
    ]  # fmt: skip
    text = (
        f"{args.processes} processes promote at once through a real MLflow server, {where()['cores']} cores:\n\n"
        + markdown(head, rows)
    )
    sizes = command.sizes_to_record(flags, args, "processes", "rounds", "kills", "database")
    write_result("promotion_race", {"where": where(), "seed": args.seed, **found}, text, sizes)


if __name__ == "__main__":
    sys.exit(command.in_one_line(main))
