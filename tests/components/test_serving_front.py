"""A serving process takes on only what it can hold: beyond that it says so at once, and is there again afterwards."""

from __future__ import annotations

import asyncio
import json
import os
import re
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import pandas as pd
import pytest
from mlflow.models import infer_signature
from mlflow.pyfunc import PythonModel  # type: ignore[attr-defined]  # as MLflow documents it
from mlflow.types import ColSpec, Schema

from gateline.adapters.serving import worker
from gateline.adapters.serving.prediction_log import PredictionLog
from gateline.adapters.serving.worker import MOST_LARGE, Asked, Front

BODY = json.dumps({"dataframe_split": {"columns": ["size"], "data": [[1.0]]}}).encode()
GO_ON = threading.Event()


class Slow(PythonModel):
    """Answers when it is told to."""

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:  # noqa: ARG002
        """Wait, then give back what was asked."""
        assert GO_ON.wait(30)
        return model_input


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("slow") / "model"
    rows = pd.DataFrame({"size": [1.0]})
    mlflow.pyfunc.save_model(folder, python_model=Slow(), signature=infer_signature(rows, rows))
    loaded = mlflow.pyfunc.load_model(str(folder))
    loaded.unwrap_python_model().predict = Slow().predict  # the event of this process, not a pickled copy's
    return loaded


async def ask(front: Front, *parts: bytes) -> tuple[int, dict[bytes, bytes], dict[str, Any]]:
    """Send one request to the application; status, headers and content of its answer."""
    left, said = list(parts), []

    async def receive() -> dict[str, Any]:
        body = left.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(left)}

    async def send(message: Any) -> None:
        said.append(message)

    headers = [(b"content-type", b"application/json")]
    await front({"type": "http", "method": "POST", "path": "/invocations", "headers": headers}, receive, send)
    return said[0]["status"], dict(said[0]["headers"]), json.loads(said[1]["body"])


@pytest.mark.parametrize(("most_bytes", "most_waiting", "held"), [(1000, 2, 2), (len(BODY), 100, MOST_LARGE)])
def test_more_than_it_holds_is_refused_and_later_answered(
    model: Any, most_bytes: int, most_waiting: int, held: int
) -> None:
    async def talk() -> None:
        GO_ON.clear()
        front = Front(model, "tiny", 1, most_bytes, most_waiting)
        waiting = [asyncio.create_task(ask(front, BODY[:10], BODY[10:])) for _ in range(held)]
        await asyncio.sleep(0.1)

        status, headers, said = await ask(front, BODY)
        assert (status, headers[b"retry-after"], said["error_code"]) == (503, b"1", "RESOURCE_EXHAUSTED")
        assert b"connection" not in headers, "it was read, so the connection can be used again"

        GO_ON.set()
        assert [each[0] for each in await asyncio.gather(*waiting)] == [200] * held
        assert (await ask(front, BODY))[0] == 200

    asyncio.run(talk())


class Echo:
    """A model that answers with what it was asked; `size` must be there, `weight` may be left out."""

    def __init__(self) -> None:
        columns = [ColSpec("double", "size"), ColSpec("double", "weight", required=False)]
        self.metadata = SimpleNamespace(get_input_schema=lambda: Schema([*columns]))

    def predict(self, data: pd.DataFrame, params: Any = None) -> pd.DataFrame:  # noqa: ARG002
        """Give it back."""
        return data


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (["size", "weight"], None),
        (["size"], None),
        (["size", "label"], None),  # of the table, and not read
        (["size", "weight", "wieght"], None),  # nothing is left out, so nothing is misspelt
        (["size", "ward"], None),  # of a wider table
        (
            ["size", "ward", "wieght"],
            "column wieght: .* and no weight. Name it as the model does, or leave it out. Did you mean 'weight'[?]",
        ),
    ],
)
@pytest.mark.parametrize("written", ["dataframe_split", "dataframe_records", "inputs", "instances"])
def test_a_column_that_may_be_left_out_is_not_misspelt_in_silence(
    columns: list[str], words: str | None, written: str
) -> None:
    model = worker.Spelt(Echo(), ["size", "weight", "label"])
    row = dict.fromkeys(columns, 1.0)
    rows: dict[str, Any] = {
        "dataframe_split": {"columns": columns, "data": [list(row.values())]},
        "dataframe_records": [row],
        "inputs": {name: [value] for name, value in row.items()},
        "instances": [row],
    }
    asked = {written: rows[written]}
    found = asyncio.run(ask(Front(model, "tiny", 1, 1000, 2), json.dumps(asked).encode()))

    if words is None:
        assert found[0] == 200
    else:
        assert found[0] == 400
        assert re.fullmatch(f"request, {words}", found[2]["message"])


def test_a_column_that_stands_twice_is_named(model: Any) -> None:
    GO_ON.set()
    asked = {"dataframe_split": {"columns": ["size", "note", "size"], "data": [[1.0, "a", 2.0]]}}
    status, _, said = asyncio.run(ask(Front(model, "tiny", 1, 1000, 2), json.dumps(asked).encode()))
    assert status == 400
    assert said["message"] == (
        "request, column size: expected each column once; found it 2 times. Leave out all but one."
    )


@pytest.mark.parametrize(
    "asked",
    [
        {"dataframe_split": {"columns": ["size", "note"], "data": [[1.0, "a"], [2.0, 5]]}},
        {"dataframe_records": [{"size": 1.0, "note": "a"}, {"size": 2.0, "note": 5}]},
        {"inputs": {"size": [1.0, 2.0], "note": ["a", "b"]}},
        {"inputs": [{"size": 1.0}, {"size": 2.0, "note": "a"}]},
        {"instances": [{"size": 1.0, "note": "a"}, {"size": 2.0, "note": "b"}]},
    ],
    ids=lambda asked: next(iter(asked)),
)
def test_a_log_changes_no_answer_and_keeps_what_the_model_reads(asked: Any, model: Any, tmp_path: Path) -> None:
    GO_ON.set()
    body = json.dumps(asked).encode()
    status, _, expected = asyncio.run(ask(Front(model, "tiny", 1, 1000, 2), body))
    assert status == 200

    log = PredictionLog(tmp_path, "tiny", 1, ["size"])
    found = asyncio.run(ask(Front(Asked(model, log.put), "tiny", 1, 1000, 2), body))
    log.close()

    assert (found[0], found[2]) == (200, expected)
    for part in ("inputs", "answers"):
        rows = pd.read_parquet(tmp_path / "tiny" / part, partitioning=None)
        assert rows["size"].tolist() == [1.0, 2.0]
        assert set(rows) == {"size", "gateline_time", "gateline_version", "gateline_request"}


def test_a_log_that_fails_is_said_and_changes_no_answer(
    model: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    GO_ON.set()
    log = PredictionLog(tmp_path, "tiny", 1, ["size"])
    monkeypatch.setattr(log, "_has_room", lambda _: 1 / 0)
    assert asyncio.run(ask(Front(Asked(model, log.put), "tiny", 1, 1000, 2), BODY))[0] == 200
    log.close()
    assert "1 requests were answered and not kept: division by zero" in capsys.readouterr().err


def test_loading_yields_to_what_answers_and_answering_does_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    priorities: dict[str, int] = {}

    def load(folder: Path) -> str:
        priorities["loading"] = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        return folder.name

    monkeypatch.setattr(worker, "load", load)
    before = os.getpriority(os.PRIO_PROCESS, 0)
    assert worker.load_aside(tmp_path / "model") == "model"
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before < priorities["loading"]
