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

from gateline.adapters.mlflow_server import shown, tracking_uri

State = Literal["loading", "ready", "serving", "draining", "ended"]
WORKER = "worker.py"


@dataclass(frozen=True)
class Service:
    """What every process of a service has in common.

    Args:
        name: of the registered model.
        listening: the socket; bound, and open in this process for as long as the service lasts.
        most_bytes: of a request.
        log: folder for what is asked and answered; None for no log.
        scratch: folder for copies of the models.
    """

    name: str
    listening: socket.socket
    most_bytes: int
    log: Path | None
    scratch: Path


def clean_environment() -> dict[str, str]:
    """The environment without what would bring modules of this process into another; MLflow's address is said."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    quiet = {"MLFLOW_LOGGING_LEVEL": "WARNING", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
    return {**quiet, **environment, "MLFLOW_TRACKING_URI": tracking_uri(), "OMP_NUM_THREADS": "1"}


class VersionProcess:
    """Loads a version at once, and serves it when told to.

    Args:
        service: name, socket and limits.
        version: of the registered model.
    """

    def __init__(self, service: Service, version: int) -> None:
        self.version = version
        self.reason = ""
        """Why it ended, if it said so."""
        self.state: State = "loading"
        self.began = time.monotonic()
        self._unread = b""
        self._status, status = os.pipe()
        os.set_blocking(self._status, False)
        settings = {
            "uri": f"models:/{service.name}/{version}",
            "name": service.name,
            "version": version,
            "socket": service.listening.fileno(),
            "status": status,
            "scratch": str(service.scratch),
            "most_bytes": service.most_bytes,
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
                self.reason = shown(rest)
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
        self.state = "serving"

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
