"""Ask a server at a steady rate over connections that are kept alive, and count what does not come back.

Nothing is ever asked twice: a connection that ends before its answer is a failure, as it is for any client that may not repeat
a request.
"""

from __future__ import annotations

import http.client
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

TIMEOUT_SECONDS = 30.0


@dataclass
class Answers:
    """What came back.

    Args:
        latencies: seconds from the moment a request was due, so that waiting behind another one counts.
        failures: what became of the others.
        versions: version and moment of each answer, by connection, in order.
        seconds: from the first request to the last answer.
    """

    latencies: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    versions: dict[int, list[tuple[float, int]]] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def seen(self) -> list[int]:
        """The versions that answered, in the order in which they first did."""
        moments = sorted(pair for answers in self.versions.values() for pair in answers)
        return list(dict.fromkeys(version for _, version in moments))

    @property
    def went_back(self) -> int:
        """How often a connection, or its successor in the same hands, got an answer of a version that it had left already."""
        count = 0
        for answers in self.versions.values():
            changes = [new for (_, old), (_, new) in pairwise(answers) if new != old]
            left = [version for _, version in answers[:1]]
            for version in changes:
                count += version in left
                left.append(version)
        return count

    def latency(self, share: float) -> float:
        """A quantile of the latencies, in seconds."""
        return statistics.quantiles(self.latencies, n=1000, method="inclusive")[round(share * 1000) - 1]


class Load:
    """Sends the same request again and again.

    Args:
        host: of the server.
        port: of the server.
        body: of the request, JSON.
        rate: requests per second, all connections together.
        connections: kept alive, each used by a thread of its own.
    """

    def __init__(self, host: str, port: int, body: bytes, rate: float, connections: int) -> None:
        self._address, self._body = (host, port), body
        self._rate, self._connections = rate, connections
        self._lock, self._sent = threading.Lock(), 0

    def run(self, seconds: float, meanwhile: Callable[[], Any] = lambda: None) -> Answers:
        """Ask for so many seconds, and do something else meanwhile."""
        answers, total = Answers(), round(seconds * self._rate)
        self._sent, began = 0, time.monotonic()
        threads = [
            threading.Thread(target=self._ask, args=(number, began, total, answers))
            for number in range(self._connections)
        ]
        for thread in threads:
            thread.start()
        meanwhile()
        for thread in threads:
            thread.join()
        answers.seconds = time.monotonic() - began
        return answers

    def _ask(self, number: int, began: float, total: int, answers: Answers) -> None:
        connection = http.client.HTTPConnection(*self._address, timeout=TIMEOUT_SECONDS)
        mine = answers.versions.setdefault(number, [])
        while True:
            with self._lock:
                place = self._sent
                self._sent += 1
            if place >= total:
                break
            due = began + place / self._rate
            time.sleep(max(0.0, due - time.monotonic()))
            try:
                connection.request("POST", "/invocations", self._body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                content = answer.read()
            except (OSError, http.client.HTTPException) as error:
                answers.failures.append(f"{type(error).__name__}: {error}")
                connection.close()
                continue
            now = time.monotonic()
            if answer.status != http.client.OK or not content.startswith(b'{"predictions"'):
                answers.failures.append(f"status {answer.status}: {content[:200].decode(errors='replace')}")
                continue
            answers.latencies.append(now - due)
            mine.append((now, int(answer.headers["gateline-version"])))
        connection.close()
