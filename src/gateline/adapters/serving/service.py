"""`gateline serve`: bind the address, find the champion, serve it until told to stop."""

from __future__ import annotations

import errno
import signal
import socket
import tempfile
from pathlib import Path
from types import FrameType

from gateline.adapters.mlflow_server import connected
from gateline.adapters.registry.ledger import CHAMPION, champion_of
from gateline.adapters.registry.reference import number_of, read_reference
from gateline.adapters.serving.supervisor import ChampionWatch, Say, Supervisor
from gateline.adapters.serving.version_process import Service
from gateline.errors import GatelineError, RegistryError

BACKLOG = 2048
MOST_BYTES = 64 * 2**20
"""Of a request, which is held in memory whole."""
MOST_WAITING = 200
"""Requests that a process has under way or waiting."""


def champion_version(name: str) -> int | None:
    """Say which version of a model is champion; None if none is.

    Raises:
        RegistryError: ledger and alias disagree, and no command of Gateline explains it.
    """
    with connected(name, create=False) as to:
        return champion_of(to, name)


def require_champion(name: str) -> int:
    """Say which version of a model is champion.

    Raises:
        RegistryError: none is, or ledger and alias disagree.
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


def champion_named(text: str) -> str:
    """Read the name of a model whose champion is meant: a name, a workload's file, or an address of MLflow's.

    Raises:
        RegistryError: it names a version, or nothing.
    """
    reference = read_reference(text)
    if reference.version not in (None, CHAMPION):
        raise RegistryError(
            text,
            expected="a model, whose champion is meant",
            found=f"its version {reference.version}",
            do=f"Name {reference.name}, and make that version champion if it shall be",
        )
    return reference.name


def version_named(text: str, version: int | None) -> tuple[str, int | None]:
    """Read a model and its version, which stands in the address or in an option; None for whoever is champion.

    Raises:
        RegistryError: they name two versions, or an alias that none has.
    """
    reference = read_reference(text)
    if reference.version in (None, CHAMPION):
        return reference.name, version
    with connected(reference.name, create=False) as to:
        number = number_of(to, reference.name, str(reference.version))
    if version not in (None, number):
        raise RegistryError(
            text, expected=f"version {version}, as --version says", found=f"version {number}", do="Name one of them"
        )
    return reference.name, number


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


def serve(model: str, host: str, port: int, *, poll_seconds: float, workers: int, log: Path | None, say: Say) -> None:
    """Serve the champion of a model, whoever it is, until SIGTERM or SIGINT.

    Args:
        model: name of the registered model, the workload's file, or an address of MLflow's.
        host: address to listen on.
        port: of it; 0 for a free one.
        poll_seconds: between two looks at who is champion.
        workers: processes that answer.
        log: folder for what is asked and answered; None for no log.
        say: takes a line about what changed.

    Raises:
        RegistryError: there is no champion, its files are not those that were registered, or it does not load.
        GatelineError: the address is taken, or the log cannot be written.
        UnreachableError: MLflow does not answer at the start; later, the version that serves goes on.
    """
    name = champion_named(model)
    stopped: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        stopped.append(number)

    if log is not None:
        log.mkdir(parents=True, exist_ok=True)
    with bind(host, port) as listening, tempfile.TemporaryDirectory(prefix="gateline-serve-") as scratch:
        version = require_champion(name)
        watch = ChampionWatch(lambda: champion_version(name), poll_seconds, say)
        supervisor = Supervisor(
            Service(name, listening, MOST_BYTES, MOST_WAITING, log, Path(scratch)), watch, workers, say
        )
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
    if supervisor.unanswered:
        say(f"Ended; {supervisor.unanswered} processes ended before they had answered everything.")
    else:
        say("Every request that was accepted was answered; ended.")
