"""`gateline serve` answers through a promotion, a broken version and the death of a process, and loses nothing."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest

from benchmarks.load import Load
from gateline.adapters.mlflow_server import connected
from gateline.adapters.registry import changes
from gateline.adapters.registry.ledger import append, new_entry, project, read_ledger
from gateline.adapters.serving.service import MOST_BYTES
from gateline.ledger import PROMOTED
from tests.browser import BROWSER, PHONE, assert_reads_well
from tests.steps import ROOT, run_here
from tests.tiny import tiny_table

pytestmark = pytest.mark.slow  # registers two models, and loads each in processes of their own

RATE, SECONDS = 40.0, 10.0
PATIENCE_SECONDS = 90.0
COMMAND = [sys.executable, "-c", "from gateline.cli import app; app(prog_name='gateline')"]


class Served:
    """A running `gateline serve tiny`, and its registry."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.folder = folder
        self.environment = {
            **os.environ,
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
            "PYTHONPATH": str(ROOT / "src"),
        }
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.said = folder / "serve.log"
        argv = [*COMMAND, "serve", "tiny", "--port", str(self.port), "--poll-seconds", "0.2", *flags]
        with self.said.open("w") as out:
            self.process = subprocess.Popen(argv, cwd=folder, env=self.environment, stdout=out, stderr=out)
        self.client = mlflow.MlflowClient(self.environment["MLFLOW_TRACKING_URI"])

    def ask(self, body: bytes) -> tuple[int, dict[str, Any], int]:
        """Status, content and version of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read()), int(answer.headers["gateline-version"])

    def promote(self, version: int | str) -> None:
        promote(self.folder, int(version))

    def promote_unseen(self, version: int | str) -> None:
        """Write the entry of a promotion that nobody looks at first, as if the files became bad behind it."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{self.folder}/mlflow.db")
            with connected("tiny", create=False) as to:
                seen = read_ledger(to, "tiny")
                entry = new_entry(PROMOTED, int(version), seen.champion, "asked for by a test", seen=seen, forced=True)
                project(to, "tiny", append(to, "tiny", entry), entry)

    def stored(self, version: int) -> Path:
        """Where MLflow keeps the files of a version."""
        source = str(self.client.get_model_version("tiny", str(version)).source)
        location = str(self.client.get_logged_model(source.removeprefix("models:/")).artifact_location)
        return Path(location.removeprefix("file://"))

    def wait_for(self, words: str) -> None:
        ends = time.monotonic() + PATIENCE_SECONDS
        while words not in self.said.read_text():
            assert time.monotonic() < ends, f"never said {words!r}:\n{self.said.read_text()}"
            assert self.process.poll() is None, self.said.read_text()
            time.sleep(0.05)


@pytest.fixture(scope="module")
def registered(made: Path, mlflow_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a registry that holds the weak model as version 1 and champion, and the strong one as version 2."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "mlflow.db").write_bytes(mlflow_template.read_bytes())
    here, before = Path.cwd(), dict(os.environ)
    os.chdir(folder)
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
    try:
        for which in ("weak", "strong"):
            shutil.copytree(made / which, folder / which)
            assert run_here("register", made / "tiny.yaml", folder / which) == 0
    finally:
        os.chdir(here)
        os.environ.clear()
        os.environ.update(before)
    return folder


def promote(folder: Path, version: int | None) -> None:
    """Make a version champion as a person does, with a reason; None: nobody."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        with connected("tiny", create=False) as to:
            if version is None:
                changes.roll_back(to, "tiny", None, print, nobody=True)
            else:
                changes.promote(to, "tiny", version, print, why="asked for by a test")


@pytest.fixture
def served(registered: Path) -> Iterator[Served]:
    promote(registered, 1)
    service = Served(registered, "--log", "predictions")
    service.wait_for("/invocations")
    yield service
    if service.process.poll() is None:
        service.process.kill()
    service.process.wait()


@pytest.fixture(scope="module")
def body(registered: Path) -> bytes:
    """The example that version 1 was registered with, as a client sends it."""
    uri = f"sqlite:///{registered}/mlflow.db"
    folder = mlflow.artifacts.download_artifacts("models:/tiny/1", tracking_uri=uri)
    return Path(folder, "serving_input_example.json").read_bytes()


def test_a_promotion_under_load_loses_no_request(served: Served, body: bytes) -> None:
    assert served.ask(body)[2] == 1

    def promote() -> None:
        time.sleep(1)
        served.promote(2)

    answers = Load("127.0.0.1", served.port, body, RATE, connections=8).run(SECONDS, promote)

    assert answers.failures == []
    assert len(answers.latencies) == RATE * SECONDS
    if answers.seen == [1]:  # a busy machine was not done with loading
        served.wait_for("Version 2 answers now")
    assert served.ask(body)[2] == 2
    assert answers.went_back == 0

    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(timeout=60) == 0
    kept = [pd.read_parquet(served.folder / "predictions" / "tiny" / part) for part in ("inputs", "answers")]
    for rows in kept:
        assert rows["gateline_request"].nunique() == RATE * SECONDS + 2
    assert {1, 2} == set(kept[1]["gateline_version"])
    assert {"shop", "time", "sales", "flags"} < set(kept[1].columns)


@pytest.mark.parametrize("changed", ["weights", "code"])
def test_a_version_whose_files_were_changed_is_not_loaded(
    served: Served, body: bytes, tmp_path: Path, changed: str
) -> None:
    assert served.ask(body)[2] == 1
    stored = served.stored(2)
    file = next(stored.rglob("weights.pt" if changed == "weights" else "gateline/__init__.py"))
    before = file.read_bytes()
    ran = tmp_path / "ran"
    code = f"open({str(ran)!r}, 'w')\n".encode() + before
    try:
        file.write_bytes(code if changed == "code" else before[:-1] + bytes([before[-1] ^ 1]))
        served.promote_unseen(2)
        served.wait_for("Version 2 does not load, so version 1 goes on")
        assert served.ask(body)[2] == 1
        assert "the files that were registered" in served.said.read_text()

        asked = json.loads(body)["dataframe_split"]
        pd.DataFrame(asked["data"], columns=asked["columns"]).to_csv(tmp_path / "in.csv", index=False)
        argv = [*COMMAND, "predict", "tiny", "--input", "in.csv", "--output", "out.csv"]
        done = subprocess.run(argv, cwd=tmp_path, env=served.environment, capture_output=True, text=True)
        assert (done.returncode, len(done.stderr.strip().splitlines())) == (2, 1), done.stderr
        assert "tiny version 2: expected the files that were registered" in done.stderr
        assert not ran.exists()
    finally:
        file.write_bytes(before)


def test_a_version_that_does_not_load_and_a_process_that_dies_change_nothing_for_who_asks(
    served: Served, body: bytes
) -> None:
    assert served.ask(body)[2] == 1
    good = served.client.get_model_version("tiny", "2")
    broken = served.client.create_model_version("tiny", f"{served.folder}/nothing", good.run_id)

    served.promote_unseen(broken.version)
    served.wait_for(f"Version {broken.version} does not load, so version 1 goes on")
    assert served.ask(body)[2] == 1

    served.promote(1)
    (worker,) = children(served.process.pid)
    os.kill(worker, signal.SIGKILL)
    status, _, version = served.ask(body)  # waits in the queue until another process is ready
    assert (status, version) == (200, 1)
    served.wait_for("is gone")


def test_what_is_said_of_the_champion_by_others_than_gateline_changes_nothing_for_who_asks(
    served: Served, body: bytes
) -> None:
    assert served.ask(body)[2] == 1

    served.client.set_registered_model_alias("tiny", "champion", "2")
    served.wait_for("set by other means than Gateline")
    time.sleep(1)
    assert served.ask(body)[2] == 1
    assert served.said.read_text().count("so version 1 goes on") == 1
    flags = ["serve", "tiny", "--port", "0"]
    done = subprocess.run([*COMMAND, *flags], cwd=served.folder, env=served.environment, capture_output=True, text=True)
    assert (done.returncode, len(done.stderr.strip().splitlines())) == (2, 1), done.stderr
    served.promote(1)
    served.wait_for("The registry says again who is champion: version 1.")

    database = served.folder / "mlflow.db"
    aside = database.rename(served.folder / "aside.db")
    database.write_text("not a database")
    served.wait_for("a SQLite file of MLflow")
    assert served.ask(body)[2] == 1
    aside.rename(database)

    promote(served.folder, None)
    served.wait_for("Nobody is champion now; version 1 goes on")
    assert served.ask(body)[2] == 1


def test_a_request_that_is_too_large_is_refused(served: Served, body: bytes) -> None:
    assert served.ask(body)[0] == 200
    with socket.create_connection(("127.0.0.1", served.port), timeout=PATIENCE_SECONDS) as connection:
        head = f"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: {MOST_BYTES + 1}\r\n\r\n"
        connection.sendall(head.encode() + b" " * (MOST_BYTES + 1))
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer
    assert answer.endswith(b'expected at most 67,108,864 bytes; found more"}')
    assert served.ask(body)[0] == 200


def test_a_refusal_is_one_line_that_names_row_and_column(served: Served, body: bytes) -> None:
    asked = json.loads(body)
    price = asked["dataframe_split"]["columns"].index("price")
    asked["dataframe_split"]["data"][7][price] = -3

    status, said, version = served.ask(json.dumps(asked).encode())

    assert (status, version) == (400, 1)
    assert said["message"] == (
        "request, row 7, column price: expected values from 0 to 100; found -3.0. "
        "Correct them, or leave them empty where they are not known."
    )
    for value in ("cheap", [1.5], {"of": 2}):
        asked["dataframe_split"]["data"][7][price] = value
        status, said, _ = served.ask(json.dumps(asked).encode())
        assert status == 400
        assert said["message"].startswith("request, row 7, column price: expected a number; found "), said
    assert served.ask(b"{")[0] == 400
    assert served.ask(body)[0] == 200


def test_a_file_is_answered_as_a_request_is_and_a_stopped_run_goes_on(
    registered: Path, body: bytes, served: Served, tmp_path: Path
) -> None:
    _, said, _ = served.ask(body)
    asked = json.loads(body)["dataframe_split"]
    rows = pd.DataFrame(asked["data"], columns=asked["columns"])
    rows.sample(frac=1, random_state=0).to_csv(tmp_path / "in.csv", index=False)
    flags = ["--input", "in.csv", "--output", "out.PARQUET", "--batch-rows", "1", "--log", "log"]
    argv = [*COMMAND, "predict", "tiny", *flags]

    stopped = subprocess.Popen(argv, cwd=tmp_path, env=served.environment, stderr=subprocess.PIPE, text=True)
    ends = time.monotonic() + PATIENCE_SECONDS
    while not list(tmp_path.glob("out.PARQUET.parts/*.parquet")) and time.monotonic() < ends:
        time.sleep(0.002)
    stopped.send_signal(signal.SIGTERM)
    stopped.communicate(timeout=60)
    first = tmp_path / "out.PARQUET.parts" / "000000.parquet"
    if stopped.returncode == 75 and first.exists():  # else it was faster than the signal, and done
        begun = first.stat().st_mtime_ns
        served.promote(2)  # one file is answered by one version all the same
        again = subprocess.Popen(argv, cwd=tmp_path, env=served.environment)
        while again.poll() is None and first.exists():
            with contextlib.suppress(FileNotFoundError):
                assert first.stat().st_mtime_ns == begun, "what was answered is not asked again"
            time.sleep(0.01)
        assert again.wait(timeout=60) == 0

    answer = pd.read_parquet(tmp_path / "out.PARQUET")
    expected = pd.DataFrame(said["predictions"]).sort_values(["shop", "time"], ignore_index=True)
    pd.testing.assert_frame_equal(answer.drop(columns="gateline_version"), expected, check_dtype=False, rtol=1e-5)
    assert set(answer["gateline_version"]) == {1}
    assert len(pd.read_parquet(tmp_path / "log" / "tiny" / "inputs")) == len(rows)
    assert not (tmp_path / "out.PARQUET.parts").exists()

    (tmp_path / "mine.csv.parts").mkdir()
    (tmp_path / "mine.csv.parts" / "letter.txt").write_text("not of this command")
    mine = [*COMMAND, "predict", "tiny", "--input", "in.csv", "--output", "mine.csv"]
    done = subprocess.run(mine, cwd=tmp_path, env=served.environment, capture_output=True, text=True)
    assert (done.returncode, "nothing was deleted" in done.stderr) == (2, True)
    assert (tmp_path / "mine.csv.parts" / "letter.txt").exists()

    rows.loc[3, "price"] = -1.0
    rows.to_csv(tmp_path / "in.csv", index=False)
    done = subprocess.run(argv, cwd=tmp_path, env=served.environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert "row 3, column price" in done.stderr.replace("rows 3", "row 3")
    assert "in.csv, among rows" in done.stderr


def test_what_was_asked_and_new_rows_are_compared_with_the_training_part(registered: Path, tmp_path: Path) -> None:
    table = tiny_table()
    new = table[table["time"] >= "2024-02-28"]
    new.to_csv(tmp_path / "same.csv", index=False)
    new.assign(price=new["price"] + 8).to_parquet(tmp_path / "moved.parquet")
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{registered}/mlflow.db"}
    environment["PYTHONPATH"] = str(ROOT / "src")

    def drift(*flags: str) -> tuple[int, dict[str, Any]]:
        argv = [*COMMAND, "drift", "tiny", "--output", "found", *flags]
        done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode in (0, 3), done.stderr
        return done.returncode, json.loads((tmp_path / "found" / "drift.json").read_text())

    assert drift("--data", "same.csv", "--fail-on", "never")[0] == 0
    new.drop(columns="price").to_csv(tmp_path / "absent.csv", index=False)
    code, found = drift("--data", "absent.csv")
    assert code == 3
    assert {(each["column"], each["size"]) for each in found["findings"] if each["kind"] == "missing"} >= {
        ("price", 1.0)
    }
    new.assign(time=pd.to_datetime(new["time"]).dt.strftime("%d/%m/%Y %H:%M")).to_csv(
        tmp_path / "unread.csv", index=False
    )
    code, found = drift("--data", "unread.csv")
    assert code == 3
    assert ("time", "missing", 1.0) in {(each["column"], each["kind"], each["size"]) for each in found["findings"]}
    new.head(15).to_csv(tmp_path / "few.csv", index=False)
    few = [*COMMAND, "drift", "models:/tiny", "--data", "few.csv"]
    done = subprocess.run(few, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, len(done.stderr.strip().splitlines())) == (2, 1), done.stderr
    assert "at least 20 rows" in done.stderr

    answer = [*COMMAND, "predict", "models:/tiny@champion", "--input", "same.csv", "--output", "o.csv", "--log", "log"]
    assert subprocess.run(answer, cwd=tmp_path, env=environment).returncode == 0
    (answers,) = (tmp_path / "log" / "tiny" / "answers").glob("day=*/*.parquet")
    for number in range(4):  # one request is answered with a few rows
        shutil.copy(answers, answers.with_name(f"again-{number}.parquet"))
    code, found = drift("--predictions", "log", "--fail-on", "never")
    assert found["rows"]["rows"] == len(new)
    assert any(each["column"].startswith("answers: ") for each in found["findings"])
    assert not [note for note in found["notes"] if "shop" in note], "a key is not compared, however many rows there are"
    assert not [each for each in found["findings"] if "shop" in each["column"]]
    (day,) = (tmp_path / "log" / "tiny" / "inputs").iterdir()
    (asked,) = day.glob("*.parquet")
    rows = pd.read_parquet(asked)
    unlike: list[dict[str, Any]] = [{"price": "dear", "note": "a"}, {"price": 1.0, "note": 5}]
    for number, values in enumerate(unlike):  # older versions kept what a client sent along
        rows.head(1).assign(**values).to_parquet(day / f"000000-{number}.parquet")
    assert drift("--predictions", "log", "--fail-on", "never")[1]["rows"]["rows"] == len(new)
    foreign = day / "foreign.parquet"
    for content in (b"PAR1", new.to_parquet()):
        foreign.write_bytes(content)
        argv = [*COMMAND, "drift", "tiny", "--predictions", "log"]
        done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert (done.returncode, len(done.stderr.strip().splitlines())) == (2, 1), done.stderr
        assert "day=" in done.stderr
        assert "foreign.parquet: expected a part of a log" in done.stderr
    foreign.unlink()
    day.rename(day.with_name("day=2020-01-01"))
    old = [*COMMAND, "drift", "tiny", "--predictions", "log"]
    done = subprocess.run(old, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert "Name an earlier day by --since" in done.stderr
    wrong = [*COMMAND, "drift", "tiny", "--data", "moved.parquet", "--predictions", "lgo"]
    done = subprocess.run(wrong, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, "no log" in done.stderr) == (2, True), done.stderr
    (tmp_path / "empty").mkdir()
    code, found = drift("--data", "moved.parquet", "--predictions", "empty")
    assert any("a log of predictions of version" in note for note in found["notes"])
    assert (code, found["verdict"]) == (3, "drift")
    assert {each["column"] for each in found["findings"] if each["verdict"] == "drift"} == {"price"}
    page = (tmp_path / "found" / "drift.html").read_text(encoding="utf-8")
    assert "less than a year: a season" in page
    client = mlflow.MlflowClient(environment["MLFLOW_TRACKING_URI"])
    metrics = client.get_run(found["mlflow_run_id"]).data.metrics
    assert metrics["drift/price/distribution"] > 0.5
    assert metrics["drift/num_drift"] >= 1
    if BROWSER is not None:
        shutil.copy(tmp_path / "found" / "drift.html", tmp_path / "report.html")
        assert_reads_well(tmp_path, PHONE, title="tiny: drift", pictures=False)


def test_what_cannot_be_served_is_said_in_one_line(registered: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{registered}/mlflow.db"}
    environment["PYTHONPATH"] = str(ROOT / "src")
    for name, port, words in (("tiny", 0, "another process listens"), ("absent", 0, "a model that was promoted")):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            asked = str(taken.getsockname()[1] if "listens" in words else port)
            done = subprocess.run(
                [*COMMAND, "serve", name, "--port", asked],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
            )
        assert done.returncode == 2
        assert words in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
