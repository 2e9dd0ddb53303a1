"""Serve whoever is champion: one socket, one set of processes per version, and no request lost when the champion changes.

The supervisor holds the listening socket and never answers itself. A new champion is loaded beside the old one; when it has
answered a request on itself, the old one stops accepting, and then the new one begins. Between the two, connections wait in
the kernel's queue, for milliseconds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from uuid import uuid4

from gateline.adapters.serving.checked_copy import CopyUnderway
from gateline.adapters.serving.version_process import Service, VersionProcess
from gateline.errors import RegistryError

Say = Callable[[str], None]

TICK_SECONDS = 0.02
LOAD_SECONDS = 300.0
"""How long a version may take to be fetched, and then to load."""
HANDOVER_SECONDS = 2.0
"""How long the old version may take to stop accepting; after that both do, and nothing is lost either."""
ENDING_SECONDS = 10.0
"""Beyond what a process may take to answer what is under way; then it is killed."""
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 2.0, 300.0
STEADY_SECONDS = 60.0
"""A process that lived this long is replaced at once when it dies."""


class Wait:
    """How long to wait before something is tried again: twice as long each time."""

    def __init__(self) -> None:
        self._seconds, self._until = 0.0, 0.0

    def longer(self) -> float:
        """Wait from now on; say how many seconds."""
        self._seconds = min(max(FIRST_WAIT_SECONDS, 2 * self._seconds), LONGEST_WAIT_SECONDS)
        self._until = time.monotonic() + self._seconds
        return self._seconds

    @property
    def over(self) -> bool:
        """Whether it may be tried."""
        return time.monotonic() >= self._until


class ChampionWatch:
    """Asks the registry, in a thread of its own, who is champion; what keeps it from saying is said once.

    Args:
        ask: gives the version of the champion, None if there is none; raises what the registry raises.
        seconds: between two questions.
        say: takes a line.
    """

    def __init__(self, ask: Callable[[], int | None], seconds: float, say: Say) -> None:
        self._ask, self._seconds, self._say = ask, seconds, say
        self._ended = threading.Event()
        self._trouble: str | None = None
        self.version: int | None = None

    def start(self, version: int) -> None:
        """Go on asking from a champion that is known."""
        self.version = version
        threading.Thread(target=self._watch, daemon=True).start()

    def end(self) -> None:
        """Ask no more."""
        self._ended.set()

    def _watch(self) -> None:
        while not self._ended.wait(self._seconds):
            try:
                found = self._ask()
            except Exception as error:  # noqa: BLE001  (serving goes on, whatever the registry does)
                kind = type(error).__name__
                self._say_once(
                    kind, f"The registry does not say who is champion, so version {self.version} goes on: {error}"
                )
                continue
            if found is None and self.version is not None:
                self._say_once("nobody", f"Nobody is champion now; version {self.version} goes on until somebody is.")
                continue
            if self._trouble is not None:
                self._say(f"The registry says again who is champion: version {found}.")
            self._trouble = None
            self.version = found

    def _say_once(self, trouble: str, line: str) -> None:
        if self._trouble != trouble:
            self._say(line)
        self._trouble = trouble


class Supervisor:
    """Keeps the champion's processes running.

    Args:
        service: name, socket and limits.
        watch: says who is champion.
        workers: processes of each version.
        say: takes a line about what changed.
    """

    def __init__(self, service: Service, watch: ChampionWatch, workers: int, say: Say) -> None:
        self._service, self._watch, self._count, self._say = service, watch, workers, say
        self._copies: dict[int, CopyUnderway] = {}
        self._copying: CopyUnderway | None = None
        self._began = 0.0
        self._serving: list[VersionProcess] = []
        self._coming: list[VersionProcess] = []
        self._leaving: dict[VersionProcess, float] = {}
        self.unanswered = 0
        """Processes that ended before all that they had accepted was answered, as far as is known."""
        self._waits: dict[int, Wait] = {}
        self.version: int | None = None
        """The version that answers."""

    def run(self, stop: Callable[[], bool]) -> None:
        """Serve until told to stop, then let every process finish.

        Raises:
            RegistryError: the first version does not load.
        """
        try:
            while not stop():
                self._step()
                time.sleep(TICK_SECONDS)
        finally:
            self._watch.end()
            self._end()

    def _step(self) -> None:
        self._reap()
        self._replace_the_dead()
        wanted = self._watch.version
        if self._coming:
            self._look_after_the_coming(wanted)
        elif self._copying is not None:
            self._look_after_the_copy(self._copying, wanted)
        elif wanted is not None and wanted != self.version and self._wait_for(wanted).over:
            if self.version is not None:
                self._say(f"Version {wanted} is champion; it is loaded while version {self.version} answers.")
            self._began = time.monotonic()
            self._copying = CopyUnderway(self._service.name, wanted, self._service.scratch / uuid4().hex)

    def _look_after_the_copy(self, copy: CopyUnderway, wanted: int | None) -> None:
        late = time.monotonic() - self._began > LOAD_SECONDS
        if not copy.ended and not late and wanted == copy.version:
            return
        self._copying = None
        if copy.path is not None and wanted == copy.version:
            self._copies[copy.version] = copy
            self._coming = [VersionProcess(self._service, copy.version, copy.path) for _ in range(self._count)]
            return
        copy.discard()
        if wanted == copy.version:
            if self.version is None and copy.error is not None:
                raise copy.error
            self._refuse(copy.version, str(copy.error or f"not fetched in {LOAD_SECONDS:g} s"))

    def _look_after_the_coming(self, wanted: int | None) -> None:
        version, states = self._coming[0].version, [process.look() for process in self._coming]
        late = time.monotonic() - self._coming[0].began > LOAD_SECONDS
        if wanted != version:
            self._give_up_the_coming()
        elif "ended" in states or late:
            reason = next((each.reason for each in self._coming if each.reason), f"not loaded in {LOAD_SECONDS:g} s")
            self._give_up_the_coming()
            self._refuse(version, reason)
        elif all(state == "ready" for state in states):
            self._hand_over()

    def _refuse(self, version: int, reason: str) -> None:
        """Say that a version does not load; raise if there is none that could go on."""
        if self.version is None:
            raise RegistryError(
                f"{self._service.name} version {version}",
                expected="a model that loads and answers its example",
                found=reason,
                do="Look at its files in MLflow, or make another version champion",
            )
        seconds = self._wait_for(version).longer()
        self._say(
            f"Version {version} does not load, so version {self.version} goes on; "
            f"the next try is in {seconds:g} s: {reason}"
        )

    def _hand_over(self) -> None:
        began, before = time.monotonic(), self._serving
        for process in before:
            self._retire(process)
        while time.monotonic() - began < HANDOVER_SECONDS and any(
            process.look() not in ("draining", "ended") for process in before
        ):
            time.sleep(0.001)
        for process in self._coming:
            process.go()
        self._serving, self._coming = self._coming, []
        changed, self.version = self.version is not None, self._serving[0].version
        if changed:
            self._say(f"Version {self.version} answers now.")

    def _replace_the_dead(self) -> None:
        """Start anew what died while it served, or hangs while it loads; connections wait until one is ready."""
        for place, process in enumerate(self._serving):
            state = process.look()
            if state == "ready":
                process.go()
            elif state == "loading" and time.monotonic() - process.began > LOAD_SECONDS:
                process.reason = f"not loaded in {LOAD_SECONDS:g} s"
                process.kill()
            elif state == "ended" and self._wait_for(process.version).over:
                if time.monotonic() - process.began < STEADY_SECONDS:
                    self._wait_for(process.version).longer()
                self._say(f"A process of version {process.version} is gone ({process.reason}); another one is started.")
                self._serving[place] = VersionProcess(self._service, process.version, process.model)

    def _wait_for(self, version: int) -> Wait:
        return self._waits.setdefault(version, Wait())

    def _give_up_the_coming(self) -> None:
        for process in self._coming:
            process.kill()
        self._coming = []
        self._discard_copies()

    def _discard_copies(self) -> None:
        """Take away the copies that no process uses: Python reads modules of a version as late as it needs them."""
        used = {process.version for process in (*self._serving, *self._coming, *self._leaving)}
        for version in set(self._copies) - used:
            self._copies.pop(version).discard()

    def _retire(self, process: VersionProcess) -> None:
        process.drain()
        self._leaving[process] = time.monotonic()

    def _reap(self) -> None:
        for process, since in list(self._leaving.items()):
            if process.look() != "ended":
                if time.monotonic() - since <= self._service.drain_seconds + ENDING_SECONDS:
                    continue
                process.kill()
            if not process.answered_all:
                self.unanswered += 1
                self._say(f"A process of version {process.version} ended before it had answered everything.")
            del self._leaving[process]
            self._discard_copies()

    def _end(self) -> None:
        self._give_up_the_coming()
        for process in self._serving:
            if process.look() != "ended":
                self._retire(process)
            elif process.served:
                self.unanswered += 1  # it died a moment ago, and nobody took its place
        self._serving = []
        while self._leaving:
            self._reap()
            time.sleep(TICK_SECONDS)
