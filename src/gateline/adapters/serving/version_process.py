"""A process that serves one registered version, as whoever started it sees it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gateline.adapters.mlflow_server import tracking_uri
from gateline.workload.address import without_users

State = Literal["loading", "ready", "serving", "draining", "ended"]
WORKER = "worker.py"
IDLE_SECONDS = 20
"""How long a connection may be silent before it is closed, also while draining: so draining adds no way to lose a request."""
MARGIN_SECONDS = 10.0
"""For the way of a request and its answer."""


@dataclass(frozen=True)
class Service:
    """What every process of a service has in common.

    Args:
        name: of the registered model.
        listening: the socket; bound, and open in this process for as long as the service lasts.
        most_bytes: of a request.
        most_waiting: requests that one process has under way or waiting; more are refused with status 503.
        log: folder for what is asked and answered; None for no log.
        scratch: folder for copies of the models.
    """

    name: str
    listening: socket.socket
    most_bytes: int
    most_waiting: int
    log: Path | None
    scratch: Path

    @property
    def drain_seconds(self) -> float:
        """How long a process may take to answer what is under way when it is told to end.

        A connection may be silent for `IDLE_SECONDS`, and a request on it take as long as MLflow lets one take.
        """
        return IDLE_SECONDS + request_seconds() + MARGIN_SECONDS


def request_seconds() -> float:
    """How long a request may take: MLflow's setting."""
    from mlflow.environment_variables import MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT

    return float(MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT.get())


def clean_environment() -> dict[str, str]:
    """The environment without what would bring modules of this process into another; MLflow's address is said."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    quiet = {"MLFLOW_LOGGING_LEVEL": "WARNING", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
    fixed = {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "OMP_NUM_THREADS": "1"}  # nothing registered is a pickle
    return {**quiet, **environment, "MLFLOW_TRACKING_URI": tracking_uri(), **fixed}


class VersionProcess:
    """Loads a version at once, and serves it when told to.

    Args:
        service: name, socket and limits.
        version: of the registered model.
        model: checked copy of it.
    """

    def __init__(self, service: Service, version: int, model: Path) -> None:
        self.version, self.model = version, model
        self.served = False
        """Whether it ever accepted connections."""
        self.reason = ""
        """Why it ended, if it said so."""
        self.state: State = "loading"
        self.began = time.monotonic()
        self._unread = b""
        self._status, status = os.pipe()
        os.set_blocking(self._status, False)
        settings = {
            "model": str(model),
            "name": service.name,
            "version": version,
            "socket": service.listening.fileno(),
            "status": status,
            "most_bytes": service.most_bytes,
            "most_waiting": service.most_waiting,
            "idle_seconds": IDLE_SECONDS,
            "drain_seconds": service.drain_seconds,
            "log": None if service.log is None else str(service.log.absolute()),
        }
        self._process = subprocess.Popen(  # noqa: S603  (this very Python)
            [sys.executable, "-I", str(Path(__file__).with_name(WORKER))],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=(service.listening.fileno(), status),
            env=clean_environment(),
            start_new_session=True,  # Ctrl-C reaches the supervisor alone, which lets every process finish
        )
        os.close(status)
        self._write(json.dumps(settings))

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    @property
    def answered_all(self) -> bool:
        """Whether it has ended, and answered what it had accepted."""
        return not self.served or self._process.returncode == 0

    def look(self) -> State:
        """Read what the process has said meanwhile, and say where it is."""
        if self.state == "ended":
            return self.state
        try:
            while part := os.read(self._status, 4096):
                self._unread += part
        except BlockingIOError:
            pass
        *lines, self._unread = self._unread.split(b"\n")
        for line in lines:
            word, _, rest = line.decode(errors="replace").partition(" ")
            if word == "failed":
                self.reason = without_users(rest)
            elif word == "ready":
                self.state = "ready"
            elif word == "draining":
                self.state = "draining"
        if self._process.poll() is not None:
            self.state = "ended"
            self.reason = self.reason or f"it ended with exit code {self._process.returncode}"
            os.close(self._status)
            if self._process.stdin is not None:
                self._process.stdin.close()
        return self.state

    def go(self) -> None:
        """Let it accept connections."""
        self._write("go")
        self.state, self.served = "serving", True

    def drain(self) -> None:
        """Let it answer what is under way, and end; one that serves nothing yet ends at once."""
        self._process.terminate()

    def kill(self) -> None:
        """End it now."""
        self._process.kill()
        self._process.wait()
        self.look()

    def _write(self, line: str) -> None:
        if self._process.stdin is not None:
            try:
                self._process.stdin.write(line.encode() + b"\n")
                self._process.stdin.flush()
            except BrokenPipeError:
                pass  # it ended; `look` says so
