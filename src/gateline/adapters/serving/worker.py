"""Serve one registered version on a socket that is open already: `python -I worker.py < settings`.

Run by path in a process of its own, since a version comes with the package `gateline` as it was at its registration, and two
of these do not fit into one process. So this file and the one beside it import nothing of the project.

The first line of stdin is JSON, see `main`. What this process has to say goes to the descriptor `status`, one word a line:
`ready` (loaded, and has answered a request on itself), `failed REASON`, `draining` (accepts no more). It accepts nothing
before it reads the line `go`. When stdin ends, whoever started it is gone, and it ends as after SIGTERM.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import importlib.util
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

LEFT_OVER = 3
"""Exit code of one that had to end before it had answered everything."""
MOST_LARGE = 4
"""Requests of the largest size that a process holds at once."""
BUSY = b"busy"
"""In the place of a request that finds no room; told from a body by identity."""
RETRY_SECONDS = 1
"""What a client is told to wait when there is too much to do."""
SETTLING_SECONDS = 0.2
"""Until every connection that the kernel handed over has its protocol."""
JSON = b"application/json"
STATISTICS = "training_statistics.json"
LOADING_NICENESS = 10
"""A tenth of a processor where others ask for all of it, so that loading ends all the same."""
LONGEST_REASON = 500  # characters of a refusal
LONGEST_VALUE = 40  # of a value in one
REASON = "Error: "  # stands between the request, printed whole, and what MLflow or the model says of it


class Server(uvicorn.Server):
    """A server that hands over without losing a request.

    uvicorn's own end closes connections that are silent at that moment, though their next request may be on its way. This
    one first stops accepting (the socket stays open in other processes, and with it the queue of connections), then answers
    on each connection that is left until its client has read `Connection: close`.

    Args:
        config: of uvicorn.
        front: what says `Connection: close`.
        tell: takes the word `draining`.
        drain_seconds: after which what is left is left.
    """

    def __init__(self, config: uvicorn.Config, front: Front, tell: Callable[[str], None], drain_seconds: float) -> None:
        super().__init__(config)
        self._front, self._tell, self._drain_seconds = front, tell, drain_seconds
        self.left_over = False
        """Whether it ended with connections that had not been answered."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, answer what is left, end."""
        loop = asyncio.get_running_loop()
        # Not `close`, yet: a connection that was accepted a moment ago would find no server to belong to.
        for listening in [each for server in self.servers for each in server.sockets]:
            loop.remove_reader(listening.fileno())
        self._tell("draining")
        self._front.draining = True
        ends = loop.time() + self._drain_seconds
        await asyncio.sleep(SETTLING_SECONDS)
        while self.server_state.connections and loop.time() < ends and not self.force_exit:
            await asyncio.sleep(0.05)
        self.left_over = bool(self.server_state.connections)
        await super().shutdown(sockets)


class Front:
    """MLflow's server with its own door for requests to the model.

    POST /invocations calls what MLflow's own route calls, without the layers around it, which take as long as a small model;
    everything else is answered by MLflow's application. Each answer says which version it is from, and a refusal is one line.

    Args:
        model: as MLflow loaded it.
        name: of the registered model.
        version: that answers.
        most_bytes: of a request; all that are under way may have `MOST_LARGE` times as many.
        most_waiting: requests that are computed or wait; more are refused with status 503, so that nobody waits for long in
            vain, and memory is bounded.
    """

    def __init__(self, model: Any, name: str, version: int, most_bytes: int, most_waiting: int) -> None:
        from mlflow.environment_variables import MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT
        from mlflow.pyfunc import scoring_server

        self._application = scoring_server.init(model)
        self._invocations, self._model = scoring_server.invocations, model
        self._schema = model.metadata.get_input_schema()
        self._seconds = MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT.get()
        self._most_bytes, self._most_waiting = most_bytes, most_waiting
        self._waiting, self._held_bytes = 0, 0
        self._threads = ThreadPoolExecutor(min(32, (os.cpu_count() or 1) + 4))
        self._headers = [(b"gateline-model", name.encode()), (b"gateline-version", str(version).encode())]
        self.draining = False

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI has it."""

        async def write(message: Message) -> None:
            if message["type"] == "http.response.start":
                close = [(b"connection", b"close")] if self.draining else []
                message["headers"] = [*message.get("headers", ()), *self._headers, *close]
            await send(message)

        if scope["type"] != "http" or scope["path"] != "/invocations" or scope["method"] != "POST":
            await self._application(scope, receive, write)
            return
        self._waiting += 1
        held = Held()
        try:
            body = await self._body(receive, held)
            if body is BUSY:
                status, kind, text = (
                    503,
                    JSON,
                    refusal("service: expected less to do; found too much", "RESOURCE_EXHAUSTED"),
                )
            elif body is None:
                words = f"request: expected at most {self._most_bytes:,} bytes; found more"
                status, kind, text = 413, JSON, refusal(words)
            else:
                headers = dict(scope["headers"])
                status, kind, text = await self._answer(body, headers.get(b"content-type", b"").decode("latin-1"), held)
        finally:
            if not held.by_thread:
                self._let_go(held)
        content = text.encode()
        rest = [(b"content-length", str(len(content)).encode())]
        if status == 503:
            rest.append((b"retry-after", str(RETRY_SECONDS).encode()))
        if body is None and not self.draining:  # what was not read would be taken for the next request
            rest.append((b"connection", b"close"))
        await write({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind), *rest]})
        await write({"type": "http.response.body", "body": content})

    async def _answer(self, body: bytes, content_type: str, held: Held) -> tuple[int, bytes, str]:
        """Ask the model, in a thread: status, type and text of the answer."""
        from mlflow.exceptions import MlflowException

        loop = asyncio.get_running_loop()

        def done(_: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._let_go, held)

        asked = self._threads.submit(self._invocations, body, content_type, self._model, self._schema)
        held.by_thread = True  # which goes on computing also for a client that has not waited
        asked.add_done_callback(done)
        try:
            answer = await asyncio.wait_for(asyncio.wrap_future(asked), self._seconds)
        except TimeoutError:
            return 504, JSON, refusal(f"request: expected to be answered in {self._seconds} s; found no end")
        except MlflowException as error:
            code = str(error.error_code)
            # MLflow repeats what it could not read, be it 64 MiB.
            words = error.message.rpartition(REASON)[2].partition("Input:")[0][:LONGEST_REASON]
            if error.get_http_status_code() == 400:
                words = what_is_wrong(body, self._schema) or words
            return error.get_http_status_code(), JSON, refusal(words, code)
        except RecursionError:
            return 400, JSON, refusal("request: expected JSON as MLflow reads it; found some nested too deeply")
        return answer.status, answer.mimetype.encode(), answer.response

    async def _body(self, receive: Receive, held: Held) -> bytes | None:
        """Read a request: None if it is too long, `BUSY` if there is too much to do already.

        One that finds no room is read all the same: to close a connection under a client that writes would lose the answer.
        """
        parts, size, busy = [], 0, self._waiting > self._most_waiting
        while True:
            message = await receive()
            if message["type"] != "http.request":  # the client went away
                return b""
            part = message.get("body", b"")
            size += len(part)
            if size > self._most_bytes:
                return None
            busy = busy or self._held_bytes + len(part) > MOST_LARGE * self._most_bytes
            if not busy:
                parts.append(part)
                held.bytes += len(part)
                self._held_bytes += len(part)
            if not message.get("more_body"):
                return BUSY if busy else b"".join(parts)

    def _let_go(self, held: Held) -> None:
        self._waiting -= 1
        self._held_bytes -= held.bytes


@dataclass
class Held:
    """What a request takes up.

    Args:
        bytes: of its body.
        by_thread: whether a thread has it.
    """

    bytes: int = 0
    by_thread: bool = False


def refusal(words: str, code: str = "INVALID_PARAMETER_VALUE") -> str:
    """Write a refusal as MLflow does, in one line, without the request itself, which MLflow prints before the reason."""
    return json.dumps({"error_code": code, "message": " ".join(words.split())})


def what_is_wrong(body: bytes, schema: Any) -> str | None:
    """Name a column that stands twice in a refused request, or its first value that is no number where the model reads one.

    None if neither is why it was refused: MLflow says it then.
    """
    try:
        request = json.loads(body)
        split = request.get("dataframe_split")
        rows = (
            request.get("dataframe_records")
            if split is None
            else [dict(zip(split["columns"], row, strict=False)) for row in split["data"]]
        )
        names = [] if split is None else split["columns"]
        if twice := next((name for name in schema.input_names() if names.count(name) > 1), None):
            return (
                f"request, column {twice}: expected each column once; found it {names.count(twice)} times. "
                "Leave out all but one."
            )
        numbers = [column["name"] for column in schema.to_dict() if column["type"] == "double"]
        for place, row in enumerate(rows or []):
            for name in numbers:
                value = row.get(name)
                if isinstance(value, list | dict) or (isinstance(value, str) and not _is_number(value)):
                    return (
                        f"request, row {place}, column {name}: expected a number; found {str(value)[:LONGEST_VALUE]!r}. "
                        "Correct it, or leave it empty where it is not known."
                    )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        pass  # it is refused for another reason, which MLflow has said
    return None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


class Spelt:
    """A loaded model that refuses a request with a column that nobody knows, where it lacks one that is nearly spelt so.

    MLflow drops the first with a word to the log of the server alone, and the answer rests on the second as missing. Any other
    column that nobody knows passes: a client may send a wider table than the model reads.

    Args:
        model: as MLflow loaded it.
        known: columns of the table of training: a client may send along what is not read, the label, say.
    """

    def __init__(self, model: Any, known: Iterable[str]) -> None:
        self.metadata, self._model = model.metadata, model
        asked = model.metadata.get_input_schema()
        self._known = {*asked.input_names(), *known}
        self._optional = [name for name in asked.input_names() if name not in asked.required_input_names()]

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> Any:
        """Answer as the model does.

        Raises:
            MlflowException: a column may be misspelt.
        """
        from mlflow.exceptions import MlflowException

        there = names_of(data)
        absent = [name for name in self._optional if name not in there]
        for name in there:
            if name not in self._known and (close := difflib.get_close_matches(name, absent, n=1)):
                raise MlflowException.invalid_parameter_value(
                    f"request, column {name[:LONGEST_VALUE]}: expected columns that the model knows; "
                    f"found one that it does not, and no {close[0]}. "
                    f"Name it as the model does, or leave it out. Did you mean {close[0]!r}?"
                )
        return self._model.predict(data, params=params)


def names_of(data: Any) -> list[str]:
    """Name the columns of a request as MLflow hands it over.

    Of `dataframe_split` and `dataframe_records` it makes a frame, of `inputs` and `instances` columns by name, or leaves them a
    list of rows by name.
    """
    if isinstance(data, list):
        names = dict.fromkeys(name for row in data if isinstance(row, Mapping) for name in row)
    else:
        names = dict.fromkeys(data if isinstance(data, Mapping) else getattr(data, "columns", []))
    return [str(name) for name in names]


class Asked:
    """A loaded model that hands what it was asked and has answered to a log.

    Args:
        model: as MLflow loaded it.
        log: takes a request and its answer; must not wait and must not fail.
    """

    def __init__(self, model: Any, log: Callable[[Any, Any], None]) -> None:
        self.metadata, self._model, self._log = model.metadata, model, log

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> Any:
        """Answer as the model does."""
        answer = self._model.predict(data, params=params)
        self._log(data, answer)
        return answer


def load_aside(folder: Path) -> Any:
    """Load a version, see there, in a thread that yields to whoever answers meanwhile, and ends with its low priority."""
    with ThreadPoolExecutor(1, initializer=yield_to_others) as aside:
        return aside.submit(load, folder).result()


def yield_to_others() -> None:
    """Lower the priority of this thread, which Linux keeps by thread."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOADING_NICENESS)


def load(folder: Path) -> Any:
    """Load a version, and let it answer the example it was registered with.

    Args:
        folder: the logged model; whoever started this process has checked it.

    Raises:
        RuntimeError: it came without an example, or ran with a package that is not its own.
    """
    import mlflow
    import torch
    from mlflow.pyfunc.scoring_server import infer_and_parse_data

    torch.set_num_threads(1)  # requests are answered side by side, see docs/serving.md
    model = mlflow.pyfunc.load_model(str(folder))
    example = folder / "serving_input_example.json"
    if not example.is_file():
        raise RuntimeError("it was registered without an example to answer")
    rows = infer_and_parse_data(
        json.loads(example.read_text(encoding="utf-8")), schema=model.metadata.get_input_schema()
    )
    model.predict(rows)
    package = Path(str(sys.modules["gateline"].__file__)).resolve()
    if not package.is_relative_to(folder):
        raise RuntimeError(f"it ran with {package}, which is not registered with it")
    return model


def columns_of_table(folder: Path) -> list[str]:
    """Name the columns of the table that a logged model was trained on; none where it does not say."""
    for statistics in folder.rglob(STATISTICS):
        return list(json.loads(statistics.read_text(encoding="utf-8"))["schema"]["columns"])
    return []


def log_to(folder: str, name: str, version: int, columns: Iterable[str]) -> Any:
    """Open the log of what is asked and answered, whose file stands beside this one."""
    place = Path(__file__).with_name("prediction_log.py")
    spec = importlib.util.spec_from_file_location("gateline_prediction_log", place)
    if spec is None or spec.loader is None:
        raise RuntimeError(f"{place} cannot be read")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.PredictionLog(Path(folder), name, version, list(columns))


def end_with_stdin() -> None:
    """End as after SIGTERM when whoever started this process is gone."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Load, say so, wait for `go`, serve until told to end.

    Settings: `model` (a folder), `name`, `version`, `socket` and `status` (descriptors), `most_bytes`, `most_waiting`,
    `idle_seconds`, `drain_seconds`, and `log` (a folder, or null).
    """
    settings = json.loads(sys.stdin.readline())

    def tell(words: str) -> None:
        os.write(settings["status"], (" ".join(words.split()) + "\n").encode())

    began = time.monotonic()
    try:
        folder = Path(settings["model"])
        model = Spelt(load_aside(folder), columns_of_table(folder))
        read = model.metadata.get_input_schema().input_names()
        log = None if settings["log"] is None else log_to(settings["log"], settings["name"], settings["version"], read)
        asked = model if log is None else Asked(model, log.put)
        front = Front(asked, settings["name"], settings["version"], settings["most_bytes"], settings["most_waiting"])
    except Exception as error:  # noqa: BLE001  (whatever a registered version raises, the old one goes on)
        tell(f"failed {type(error).__name__}: {error}"[:500])
        sys.exit(1)
    tell(f"ready {time.monotonic() - began:.1f}")
    if sys.stdin.readline().strip() != "go":
        return
    threading.Thread(target=end_with_stdin, daemon=True).start()
    config = uvicorn.Config(
        front,
        loop="asyncio",
        http="h11",
        lifespan="off",
        log_level="warning",
        access_log=False,
        timeout_keep_alive=settings["idle_seconds"],
        timeout_graceful_shutdown=1,  # it has drained by then
    )
    listening = socket.socket(fileno=settings["socket"])
    # uvicorn sends the signal that ended it once more when it is done, and then there is a log to write.
    signal.signal(signal.SIGTERM, lambda *_: None)
    server = Server(config, front, tell, settings["drain_seconds"])
    try:
        server.run(sockets=[listening])
    finally:
        if log is not None:
            log.close()
    sys.stderr.flush()
    os._exit(LEFT_OVER if server.left_over else 0)  # a thread whose client has not waited would keep this process


if __name__ == "__main__":
    main()
