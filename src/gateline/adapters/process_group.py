"""Several processes on one model: join those that torchrun started, or start them."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from gateline.errors import EXIT_REFUSED, EXIT_TRY_AGAIN, TryAgainError, WorkloadError
from gateline.processes import Processes

TIMEOUT = timedelta(minutes=10)
"""How long a process waits for the others; gloo, on processors, notices at once one that ended."""
LAST_WORDS_SECONDS = 3.0
"""How long a process that lost another stays, so that whoever watches them sees the one that went first, and why."""
LOST = (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, -signal.SIGABRT, EXIT_TRY_AGAIN)
"""How a process ends that was taken away, or that stopped because another was.

SIGABRT: NCCL, on GPUs, sends messages while the process goes on; when another is gone, a thread of torch's that watches over them
aborts the process, and nothing is raised that could end it in order."""
TAKEN_BY_TORCH = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
"""Signals that torch's launcher listens to."""


def joined_processes(asked: int, device: str) -> int:
    """Say how many processes share the work: as many as torchrun started, else as many as asked for.

    Args:
        asked: by the flag.
        device: ``cpu``, ``cuda`` or ``auto``; on CUDA each process of a machine has a GPU of its own.

    Raises:
        WorkloadError: torchrun started another number than was asked for, or there are more on this machine than GPUs.
    """
    try:
        started = int(os.environ.get("WORLD_SIZE", "0"))
        if started > 1:
            int(os.environ["RANK"]), int(os.environ["LOCAL_RANK"])
        here = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if started else asked
    except (KeyError, ValueError) as error:
        raise WorkloadError(
            "WORLD_SIZE, RANK, LOCAL_RANK, LOCAL_WORLD_SIZE",
            expected="numbers, as torchrun sets them",
            found=f"{type(error).__name__}: {error}",
            do="Start with torchrun, or unset them",
        ) from error
    if started and asked not in (1, started):
        raise WorkloadError(
            "--processes",
            expected=f"{started}, as torchrun started",
            found=str(asked),
            do="Leave the flag out under torchrun",
        )
    if here > 1 and device != "cpu":
        _require_gpus(here)
    return started or asked


def _require_gpus(processes: int) -> None:
    import torch

    if torch.cuda.is_available() and processes > (gpus := torch.cuda.device_count()):
        raise WorkloadError(
            "processes",
            expected=f"at most {gpus} on this machine, since each takes a GPU of its own",
            found=str(processes),
            do="Ask for fewer, or set device to cpu",
        )


def must_start(asked: int) -> bool:
    """Tell whether this process has to start the others, because torchrun did not."""
    return asked > 1 and "WORLD_SIZE" not in os.environ


@contextmanager
def process_group(device: str) -> Iterator[Processes]:
    """Join the processes that torchrun started, for as long as the block lasts; alone without it.

    Args:
        device: ``cpu``, ``cuda`` or ``auto``; on CUDA each process takes the GPU of its own local rank.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Processes()
        return
    import torch
    from torch import distributed

    on_cuda = device != "cpu" and torch.cuda.is_available()
    if on_cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if on_cuda else "gloo", timeout=TIMEOUT)
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size())
    except TryAgainError:
        time.sleep(LAST_WORDS_SECONDS)
        raise
    finally:
        distributed.destroy_process_group()  # else the threads of the group end the interpreter with an abort


def words_of(flags: Mapping[str, object]) -> list[str]:
    """Write flags as the words of a command line.

    Example:
        >>> words_of({"seed": 7})
        ['--seed', '7']
    """
    return [word for flag, value in flags.items() for word in (f"--{flag}", str(value))]


def start_processes(module: str, argv: Sequence[str], count: int) -> int:
    """Run ``python -m MODULE ARGV`` in several processes on this machine, as torchrun does.

    Returns:
        The exit code of the whole: 0 if every process ended with it; 2 if one was refused; 75 if one was taken away, so
        that the same command goes on; else 1.
    """
    from torch.distributed.launcher.api import LaunchConfig

    settings = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        run_id="gateline",
        max_restarts=0,
        monitor_interval=0.1,
    )
    return _launch(settings, sys.executable, ["-m", module, *argv])


def join_nodes(module: str, argv: Sequence[str]) -> int:
    """Run ``python -m MODULE ARGV`` as torchrun does on one of several machines; the variables PET_* say which and how many.

    Returns:
        The exit code, as of `start_processes`.
    """
    from torch.distributed.run import config_from_args, parse_args

    settings, command, words = config_from_args(parse_args(["--module", module, *argv]))
    return _launch(settings, command, words)


@contextmanager
def _handlers_put_back() -> Iterator[None]:
    """Do with signals afterwards what was done before: torch leaves a handler of its own, which raises in whatever comes next."""
    before = {number: signal.getsignal(number) for number in TAKEN_BY_TORCH}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _launch(settings: Any, command: Any, words: Sequence[str]) -> int:
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import elastic_launch

    for name in logging.root.manager.loggerDict:
        if name.startswith("torch.distributed.elastic"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # each process says itself what is wrong
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        with _handlers_put_back():
            elastic_launch(settings, command)(*words)
    except SignalException:
        return EXIT_TRY_AGAIN
    except ChildFailedError as error:
        codes = {failure.exitcode for failure in error.failures.values()}
        if EXIT_REFUSED in codes:
            return EXIT_REFUSED
        return EXIT_TRY_AGAIN if codes <= set(LOST) else 1
    return 0
