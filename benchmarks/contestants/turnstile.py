"""Two ends of a pipe: `Turnstile` in a contestant, `Contestant` in the benchmark. Standard library only: both environments import it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any


class Turnstile:
    """Let a training loop through a given number of steps at a time, and say how long they took.

    Made first thing in a contestant: from then on what libraries print on stdout goes to stderr, and stdout is the pipe.
    """

    def __init__(self) -> None:
        self._answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        self._left = 0
        self._began = self._processor_began = 0.0
        self._asked = 0

    def wait(self) -> None:
        """Wait for the first request; call it just before the first step."""
        self._ask()

    def passed(self, steps: int = 1) -> None:
        """Count steps as done; at the last one that was asked for, answer and wait for the next request."""
        self._left -= steps
        if self._left <= 0:
            self.answer(
                {
                    "seconds": time.perf_counter() - self._began,
                    "processor_seconds": time.process_time() - self._processor_began,
                    "steps": self._asked - self._left,
                }
            )
            self._ask()

    def answer(self, what: Mapping[str, Any]) -> None:
        """Write one line of JSON to the benchmark."""
        print(json.dumps(what), file=self._answers, flush=True)

    def _ask(self) -> None:
        line = sys.stdin.readline()
        if not line:  # the benchmark has closed the pipe: no more steps, and nothing worth tidying up
            os._exit(0)
        self._asked = self._left = int(line)
        self._began, self._processor_began = time.perf_counter(), time.process_time()


class Contestant:
    """A contestant's process.

    Args:
        name: as it is shown.
        argv: the command.
        environment: its environment variables.
        log: where its stderr goes.
    """

    def __init__(self, name: str, argv: Sequence[str | Path], environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        with log.open("w") as file:
            self._process = subprocess.Popen(
                [str(word) for word in argv],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                env=dict(environment),
                text=True,
            )

    def run(self, steps: int) -> dict[str, Any]:
        """Let it take `steps` steps.

        Returns:
            Its answer: ``seconds``, ``processor_seconds`` (of that process alone) and ``steps`` (at least those asked for).
        """
        self.ask(steps)
        return self.hear()

    def ask(self, steps: int) -> None:
        """Let it start, without waiting for it."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended; `hear` says why
            self._process.stdin.write(f"{steps}\n")
            self._process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        """Wait for its next answer."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended; its last words:\n{self.log.read_text()[-2000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """Let it end; one that does not stand at its turnstile is told to."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        for end in (lambda: None, self._process.terminate, self._process.kill):
            end()
            try:
                self._process.wait(timeout=3)
            except subprocess.TimeoutExpired:
                continue
            return
