"""Servers that go on when the command that started them has ended, found again by their number and the time they started at.

FOLDER/
├── NAME.pid      number and start time: a number alone may be another program's by now
└── NAME.log      what it says
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateline.errors import TryAgainError, WorkloadError

START_SECONDS, STOP_SECONDS = 90.0, 30.0
PAUSE_SECONDS = 0.1
LAST_LINES = 3


@dataclass(frozen=True)
class Server:
    """One server.

    Args:
        name: of its files.
        folder: of its files.
    """

    name: str
    folder: Path

    @property
    def log(self) -> Path:
        """What it says."""
        return self.folder / f"{self.name}.log"

    def number(self) -> int | None:
        """Number of its process; None if it does not run."""
        try:
            number, started = (self.folder / f"{self.name}.pid").read_text(encoding="utf-8").split()
        except (OSError, ValueError):
            return None
        return int(number) if _start_time(int(number)) == started else None

    def start(self, command: Sequence[str], environment: Mapping[str, str], is_ready: Callable[[], bool]) -> None:
        """Start it and wait until it answers.

        Raises:
            TryAgainError: it ended, or did not answer; says its last lines.
        """
        with self.log.open("ab") as log:
            process = subprocess.Popen(  # noqa: S603
                command,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        (self.folder / f"{self.name}.pid").write_text(f"{process.pid} {_start_time(process.pid)}", encoding="utf-8")
        end = time.monotonic() + START_SECONDS
        while not is_ready():
            if (code := process.poll()) is not None or time.monotonic() > end:
                self.stop()
                raise TryAgainError(
                    self.name,
                    expected="a server that answers",
                    found=f"exit code {code}" if code is not None else f"no answer in {START_SECONDS:.0f} s",
                    do=f"Last lines of {self.log}: {' / '.join(self.last_lines())}",
                )
            time.sleep(PAUSE_SECONDS)

    def stop(self, signal_number: int = signal.SIGTERM) -> bool:
        """Stop it and what it started: with time to finish, then without.

        Returns:
            Whether it ran.
        """
        number = self.number()
        if number is not None:
            os.kill(number, signal_number)
            end = time.monotonic() + STOP_SECONDS
            while _start_time(number) is not None and time.monotonic() < end:
                with contextlib.suppress(ChildProcessError):  # ours, if this command started it
                    os.waitpid(number, os.WNOHANG)
                time.sleep(PAUSE_SECONDS)
            with contextlib.suppress(ProcessLookupError):  # it led a group of its own
                os.killpg(number, signal.SIGKILL)
        (self.folder / f"{self.name}.pid").unlink(missing_ok=True)
        return number is not None

    def last_lines(self) -> list[str]:
        """What it said last."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines() if self.log.is_file() else []
        return [line.strip()[:200] for line in lines if line.strip()][-LAST_LINES:]


def _start_time(number: int) -> str | None:
    """When a process started, in ticks since the machine did; None if there is none, or if it has ended."""
    try:
        state = Path(f"/proc/{number}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    return None if state[0] in "ZX" else state[19]


def require_free(port: int, variable: str, server: str) -> None:
    """Refuse a port that another program has.

    Raises:
        WorkloadError: says how to choose another.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise WorkloadError(
                f"{server}: port {port}",
                expected="a port that is free",
                found=str(error.strerror).lower(),
                do=f"Stop what listens there, or choose another with {variable}=PORT",
            ) from error


def free_ports(count: int) -> list[int]:
    """Find ports that nobody has."""
    with contextlib.ExitStack() as held:
        return [held.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1] for _ in range(count)]


def answers(port: int) -> bool:
    """Say whether somebody listens."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
