"""`gateline serve`: bind the address, find the champion, serve it until told to stop."""

from __future__ import annotations

import errno
import signal
import socket
import tempfile
from pathlib import Path
from types import FrameType

from gateline.adapters.mlflow_server import connected
from gateline.adapters.registry.ledger import CHAMPION, version_by_alias
from gateline.adapters.serving.supervisor import ChampionWatch, Say, Supervisor
from gateline.adapters.serving.version_process import Service
from gateline.errors import GatelineError, RegistryError

BACKLOG = 2048
MOST_BYTES = 64 * 2**20
"""Of a request, which is held in memory whole."""


def champion_version(name: str) -> int | None:
    """Say which version of a model is champion; None if none is."""
    with connected(name) as to:
        found = version_by_alias(to, name, CHAMPION)
    return None if found is None else int(found.version)


def require_champion(name: str) -> int:
    """Say which version of a model is champion.

    Raises:
        RegistryError: none is.
    """
    version = champion_version(name)
    if version is None:
        raise RegistryError(
            f"models:/{name}@{CHAMPION}",
            expected="a model that was promoted",
            found="none",
            do=f"Run `gateline run {name}`, and see with `gateline show {name}` what became of it",
        )
    return version


def bind(host: str, port: int) -> socket.socket:
    """Open the listening socket, which every process of the service shares.

    Raises:
        GatelineError: the address is taken, or none of this machine.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        raise GatelineError(
            f"{host}:{port}",
            expected="a free address of this machine",
            found="one that another process listens on" if taken else str(error),
            do="Name another --port, or end that process" if taken else "Correct --host or --port",
        ) from error
    listening.listen(BACKLOG)
    listening.setblocking(False)
    return listening


def serve(name: str, host: str, port: int, *, poll_seconds: float, workers: int, log: Path | None, say: Say) -> None:
    """Serve the champion of a model, whoever it is, until SIGTERM or SIGINT.

    Args:
        name: of the registered model.
        host: address to listen on.
        port: of it; 0 for a free one.
        poll_seconds: between two looks at who is champion.
        workers: processes that answer.
        log: folder for what is asked and answered; None for no log.
        say: takes a line about what changed.

    Raises:
        RegistryError: there is no champion, or it does not load.
        GatelineError: the address is taken, or the log cannot be written.
        UnreachableError: MLflow does not answer at the start; later, the version that serves goes on.
    """
    stopped: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        stopped.append(number)

    if log is not None:
        log.mkdir(parents=True, exist_ok=True)
    with bind(host, port) as listening, tempfile.TemporaryDirectory(prefix="gateline-serve-") as scratch:
        version = require_champion(name)
        watch = ChampionWatch(lambda: champion_version(name), poll_seconds, say)
        supervisor = Supervisor(Service(name, listening, MOST_BYTES, log, Path(scratch)), watch, workers, say)
        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            address = listening.getsockname()
            say(
                f"{name} version {version} at http://{address[0]}:{address[1]}/invocations; connections wait until it is loaded."
            )
            watch.start(version)
            supervisor.run(lambda: bool(stopped))
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    say("Every request was answered; ended.")
