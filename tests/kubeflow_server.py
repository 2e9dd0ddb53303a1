"""A server that speaks the part of Kubeflow's v2beta1 interface that schedules need, made from the types of kfp-server-api.

Bodies are read into the generated models, which refuse what the real server would: unknown modes, a wrong type. It is a process's
own HTTP server, so the client of kfp talks to it as to the real one.
"""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kfp_server_api

from tests.kubeflow_clock import due

PREFIX = "/apis/v2beta1"
LOGIN = "/oauth2/sign_in"


class AwayError(Exception):
    """The server is to break the connection instead of answering."""


class ForbiddenError(Exception):
    """The server is to answer 403."""


@dataclass
class Kubeflow:
    """What the server holds.

    Args:
        profile: the one namespace in which the user may do anything; None: a Kubeflow without profiles.
        runs: recurring runs by id.
        going_on: runs that recurring runs started and that have not ended: of which one each is.
        started: runs.
        looks: what is said of a run, look by look.
        calls: method and path of every request that changes something.
        now: its clock; every id that it gives takes a second.
        times: those that recurring runs ran while `wait` was called, by the name of the schedule.
        before: asked with method and path before a request is answered; may raise `AwayError`.
        login: what starts with this is sent on to a page to log in, as before a Kubeflow with profiles; "" is everything.
        after: asked after what it changes is done and before the answer goes out; may raise `AwayError`.
    """

    profile: str | None = None
    runs: dict[str, kfp_server_api.V2beta1RecurringRun] = field(default_factory=dict)
    going_on: dict[str, str] = field(default_factory=dict)
    pipelines: dict[str, kfp_server_api.V2beta1Pipeline] = field(default_factory=dict)
    versions: dict[str, kfp_server_api.V2beta1PipelineVersion] = field(default_factory=dict)
    experiments: dict[str, kfp_server_api.V2beta1Experiment] = field(default_factory=dict)
    started: list[kfp_server_api.V2beta1Run] = field(default_factory=list)
    looks: list[dict[str, Any]] = field(default_factory=lambda: [{"state": "SUCCEEDED"}])
    calls: list[str] = field(default_factory=list)
    enabled_at_once: int = 0
    before: Callable[[str], None] = lambda _: None
    after: Callable[[str], None] = lambda _: None
    token: str | None = None
    login: str | None = None
    url: str = ""
    made: int = 0
    now: datetime = datetime(2026, 1, 1, 10, tzinfo=UTC)
    times: list[tuple[str, datetime]] = field(default_factory=list)
    last: dict[str, datetime] = field(default_factory=dict)

    def moment(self) -> tuple[str, datetime]:
        """A new id, and a time that is later than all before."""
        self.made += 1
        self.now += timedelta(seconds=1)
        return f"id-{self.made:04d}", self.now

    def wait(self, days: int = 0) -> None:
        """Let days pass, hour by hour, and look at each whether an enabled recurring run is due; each run ends at once."""
        for hour in range(24 * days + 1):
            self.now += timedelta(hours=min(hour, 1))
            for number, run in self.runs.items():
                while run.mode == "ENABLE" and (time := due(run, self.last.get(number), self.now)) is not None:
                    self.last[number] = time
                    self.times.append((run.display_name.split()[0], time))

    def require(self, namespace: str | None) -> None:
        """Let nobody do anything beside the profile; what names no namespace is shared by all, or Kubeflow's own."""
        if self.profile is not None and namespace != self.profile:
            raise ForbiddenError(f"User is not authorized in namespace {namespace!r}")

    def watch(self) -> None:
        """Remember how many recurring runs of one schedule were ever enabled at the same time."""
        names = [run.display_name.split()[0] for run in self.runs.values() if run.mode == "ENABLE"]
        self.enabled_at_once = max([self.enabled_at_once, *map(names.count, names)])


API = kfp_server_api.ApiClient()


def _read(body: bytes, kind: str) -> Any:
    return API.deserialize(SimpleNamespace(data=body.decode()), kind)


def _equals(query: dict[str, list[str]]) -> str | None:
    predicates = json.loads(query.get("filter", ["{}"])[0] or "{}").get("predicates", [])
    return predicates[0]["stringValue"] if predicates else None


def _namespace(query: dict[str, list[str]]) -> str | None:
    return query.get("namespace", [None])[0]


def _answer(state: Kubeflow, method: str, path: str, query: dict[str, list[str]], body: bytes, kind: str) -> Any:
    if path == "/healthz":
        return {"multi_user": False}
    if path == "/experiments" and method == "GET":
        state.require(_namespace(query))
        name = _equals(query)
        return {
            "experiments": [
                API.sanitize_for_serialization(each)
                for each in state.experiments.values()
                if name in (None, each.display_name)
            ]
        }
    if path == "/experiments":
        made = _read(body, "V2beta1Experiment")
        state.require(made.namespace)
        made.experiment_id, made.created_at = state.moment()
        state.experiments[made.experiment_id] = made
        return made
    if path.startswith("/runs"):
        return _about_runs(state, method, path, body)
    if path.startswith("/pipelines"):
        return _about_pipelines(state, path, query, body, kind)
    return _about_recurring_runs(state, method, path, query, body)


def _about_pipelines(state: Kubeflow, path: str, query: dict[str, list[str]], body: bytes, kind: str) -> Any:
    if path == "/pipelines":
        name = _equals(query)
        return {
            "pipelines": [
                API.sanitize_for_serialization(each)
                for each in state.pipelines.values()
                if name in (None, each.display_name) and each.namespace == _namespace(query)
            ]
        }
    if path == "/pipelines/upload":
        state.require(_namespace(query))
        number, moment = state.moment()
        state.pipelines[number] = kfp_server_api.V2beta1Pipeline(
            pipeline_id=number, display_name=query["name"][0], namespace=_namespace(query), created_at=moment
        )
        return state.pipelines[number]
    if path == "/pipelines/upload_version":
        sent = BytesParser().parsebytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body)
        assert sent.is_multipart(), "the compiled pipeline comes as a form"
        state.require(state.pipelines[query["pipelineid"][0]].namespace)
        number, moment = state.moment()
        state.versions[number] = kfp_server_api.V2beta1PipelineVersion(
            pipeline_version_id=number,
            pipeline_id=query["pipelineid"][0],
            display_name=query["name"][0],
            created_at=moment,
        )
        return state.versions[number]
    if match := re.fullmatch(r"/pipelines/([\w-]+)/versions", path):
        name = _equals(query)
        return {
            "pipeline_versions": [
                API.sanitize_for_serialization(each)
                for each in state.versions.values()
                if each.pipeline_id == match[1] and name in (None, each.display_name)
            ]
        }
    return None


def _about_runs(state: Kubeflow, method: str, path: str, body: bytes) -> Any:
    if path == "/runs" and method == "POST":
        run = _read(body, "V2beta1Run")
        assert run.pipeline_version_reference.pipeline_version_id in state.versions
        run.run_id, run.created_at = state.moment()
        state.started.append(run)
        return run
    number = path.removeprefix("/runs/")
    if all(run.run_id != number for run in state.started):
        return None
    # What happens to a run is a list of looks, the last of which stays.
    look = state.looks.pop(0) if len(state.looks) > 1 else state.looks[0]
    return {"run_id": number, **look}


def _about_recurring_runs(state: Kubeflow, method: str, path: str, query: dict[str, list[str]], body: bytes) -> Any:
    if path == "/recurringruns" and method == "GET":
        state.require(_namespace(query))
        page = int(query.get("page_token", ["0"])[0] or 0)
        runs = list(state.runs.values())
        more = {"next_page_token": str(page + 1)} if page + 1 < len(runs) else {}
        return {"recurringRuns": [API.sanitize_for_serialization(run) for run in runs[page : page + 1]], **more}
    if path == "/recurringruns":
        run = _read(body, "V2beta1RecurringRun")
        reference = run.pipeline_version_reference
        assert reference.pipeline_version_id in state.versions, "a recurring run is pinned to a version that is there"
        assert run.experiment_id in state.experiments
        run.recurring_run_id, run.created_at = state.moment()
        state.runs[run.recurring_run_id] = run
        return run
    if match := re.fullmatch(r"/recurringruns/([\w-]+)(?::(enable|disable))?", path):
        if match[1] not in state.runs:
            return None
        if method == "DELETE":
            policy = query.get("propagation_policy", ["DELETE_PROPAGATION_POLICY_UNSPECIFIED"])[0]
            assert policy in kfp_server_api.V2beta1DeletePropagationPolicy.allowable_values
            del state.runs[match[1]]
            if policy != "ORPHAN":  # Kubernetes' garbage collection takes what a deleted object owns
                state.going_on = {run: owner for run, owner in state.going_on.items() if owner != match[1]}
        elif match[2]:
            state.runs[match[1]].mode = match[2].upper()
        return {}
    return None


@contextmanager
def silent_server() -> Iterator[str]:
    """A port that takes every connection and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:  # the kernel itself takes them
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@contextmanager
def kubeflow_server() -> Iterator[Kubeflow]:
    """Run the server on a free port."""
    state = Kubeflow()

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            address = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            call = f"{self.command} {address.path.removeprefix(PREFIX)}"
            if address.path == LOGIN:
                self._send_text(200, "text/html; charset=utf-8", b"<!doctype html><title>Log in</title>")
                return
            if state.login is not None and call.startswith(state.login):
                self.send_response(302)
                self.send_header("Location", LOGIN)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if state.token is not None and self.headers.get("authorization") != f"Bearer {state.token}":
                self._send(401, {"message": "no token"})
                return
            try:
                state.before(call)
                query = parse_qs(address.query)
                kind = self.headers.get("Content-Type", "")
                answer = _answer(state, self.command, address.path.removeprefix(PREFIX), query, body, kind)
                if self.command != "GET":
                    state.calls.append(call)
                state.watch()
                state.after(call)
            except AwayError:
                self.close_connection = True
                self.connection.close()
                return
            except ForbiddenError as error:
                self._send(403, {"message": str(error)})
                return
            except Exception as error:  # noqa: BLE001  what the real server answers 400 to
                self._send(400, {"message": str(error)})
                return
            self._send(404 if answer is None else 200, API.sanitize_for_serialization(answer) or {})

        def _send(self, status: int, content: Any) -> None:
            self._send_text(status, "application/json", json.dumps(content).encode())

        def _send_text(self, status: int, kind: str, data: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_DELETE = _serve  # noqa: N815  the names that http.server calls

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
