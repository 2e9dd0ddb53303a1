"""Containers of the steps for Kubeflow's local runner: waited for to their end, and started again where they were killed.

kfp's own function lets the engine remove a container as soon as it ends, takes one that is gone for one that ended well
(kubeflow/pipelines#13332: exit code 3 was reported as success in more than half of the runs), and tries a refusal as often as a
preemption. `StepContainers` stands in its place (docs/decisions/0027-the-local-runner-waits-for-its-containers.md), and what a
step wrote is looked at all the same: exit code 0 without a complete folder is no success.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateline.adapters.kubeflow.task_outputs import OUTCOME
from gateline.adapters.provenance import KUBEFLOW_RUN
from gateline.errors import EXIT_BUG, EXIT_DONE, EXIT_REFUSED, EXIT_TRY_AGAIN, ArtifactError, WorkloadError
from gateline.manifest import open_artifact

LOG = "log.txt"
"""What a container said, beside its outputs."""
LAST_LINES = 12
KILLED = (EXIT_TRY_AGAIN, 128 + 9, 128 + 15)
"""Exit codes after which the same command goes on: preempted, SIGKILL, SIGTERM before Python could answer it."""
WAIT_SECONDS, MOST_SECONDS = 1.0, 30.0
STOP_SECONDS = 60
"""For a step that is told to stop: time to save."""
RUN_FLAG = "--run"
"""Of the tasks beside the steps: what kfp calls this run."""
KINDS = ("raw", "report", "prepared", "model", "evaluation", "release")
OF_THIS_MACHINE = "localhost/"
"""Before the name of an image that no registry has."""
SAYS = "gateline: "


@dataclass
class StepRun:
    """A step that ran, as often as it had to.

    Args:
        step: its name.
        folder: where its outputs, its log and the note of how it ended are.
        exit_code: 0 where the container ended well and left complete folders.
        why: one line; empty when done.
        last_lines: of its log.
        tries: how often it was started.
    """

    step: str
    folder: Path
    exit_code: int = EXIT_BUG
    why: str = ""
    last_lines: deque[str] = field(default_factory=lambda: deque(maxlen=LAST_LINES))
    tries: int = 0


class StepContainers:
    """Starts containers for kfp, and knows how each ended.

    Args:
        retries: how often each step is started again after it was killed.
        user: that the containers run as.
        say: told what goes on, line by line.
    """

    def __init__(self, retries: Mapping[str, int], user: int, say: Callable[[str], None]) -> None:
        self.runs: list[StepRun] = []
        self.folders: dict[str, Path] = {}
        """Every artifact that was seen, by kind; those that came from the cache, too."""
        self._retries, self._user, self._say = retries, user, say
        self._pipeline_run = ""

    @contextmanager
    def in_place_of_kfp(self) -> Iterator[None]:
        """Let kfp start its containers here."""
        from kfp.local import docker_task_handler

        theirs = docker_task_handler.run_docker_container
        docker_task_handler.run_docker_container = self.run
        try:
            yield
        finally:
            docker_task_handler.run_docker_container = theirs

    def run(self, client: Any, image: str, command: Sequence[str], volumes: Mapping[str, Any], **settings: Any) -> int:
        """Run a step to its end; the function that kfp calls.

        Args:
            client: of docker.
            image: its name.
            command: of the step, with its places filled in.
            volumes: what kfp mounts.
            **settings: of the runner.

        Returns:
            0 where it ended well and its folders are complete.

        Raises:
            WorkloadError: there is no such image, or the engine cannot start it.
        """
        import docker

        if RUN_FLAG in command:
            self._pipeline_run = command[command.index(RUN_FLAG) + 1]
        settings = {**settings, "environment": {**settings.get("environment", {}), KUBEFLOW_RUN: self._pipeline_run}}
        step, task = command[command.index("-m") + 1].rpartition(".")[2], _executor_input(command)
        run = StepRun(step, Path(task["outputs"]["outputFile"]).parent)
        self.runs.append(run)
        taken = _artifacts(task.get("inputs", {}))
        for kind in taken.keys() - self.folders.keys():
            self._say(f"{kind}: taken from an earlier run")
        self.folders |= taken
        made = _artifacts(task["outputs"])
        require_image(client, image)
        client.api.timeout = (
            None  # podman answers a request for the log with the first line, and a step may be silent for long
        )
        retries = self._retries.get(step, 0)
        for attempt in range(retries + 1):
            run.tries = attempt + 1
            (run.folder / OUTCOME).unlink(missing_ok=True)
            self._say(f"{step} ..." if attempt == 0 else f"{step} ... again, {attempt + 1} of {retries + 1}")
            try:
                code = self._once(run, client, image=image, command=command, volumes=volumes, **settings)
            except docker.errors.APIError as error:
                found = " ".join(str(error.explanation or error).split())[:200]
                raise WorkloadError(step, expected="a container that starts", found=found, do="Look at that") from error
            _conclude(run, code, made)
            if run.exit_code not in KILLED or attempt == retries:
                break
            self._say(f"  {run.why}")
            time.sleep(min(WAIT_SECONDS * 2**attempt, MOST_SECONDS))
        if run.exit_code == EXIT_DONE:
            self.folders |= made
        elif run.exit_code in KILLED:
            run.exit_code = EXIT_TRY_AGAIN
        elif run.exit_code != EXIT_REFUSED:
            run.exit_code = EXIT_BUG
        return run.exit_code

    def _once(self, run: StepRun, client: Any, **settings: Any) -> int:
        self._make(run.folder)
        run.last_lines.clear()
        container = client.containers.run(detach=True, **settings)
        try:
            with (run.folder / LOG).open("a", encoding="utf-8") as log:
                for line in _lines(container.logs(stream=True, follow=True)):
                    log.write(f"{line}\n")
                    run.last_lines.append(line)
                    self._say(f"  {line.removeprefix(SAYS)}")
            return int(container.wait()["StatusCode"])
        except KeyboardInterrupt:
            self._say(f"{run.step}: is told to stop")
            container.stop(timeout=STOP_SECONDS)
            raise
        finally:
            container.remove(force=True)

    def _make(self, folder: Path) -> None:
        """Make a folder, and those around it, that the container's user may write."""
        for each in reversed([path for path in (folder, *folder.parents) if not path.exists()]):
            each.mkdir()
            give_to(each, self._user)


def give_to(folder: Path, user: int) -> None:
    """Let the container's user own a folder; nothing to do where that is who runs this."""
    if os.getuid() == 0:
        os.chown(folder, user, user)


def require_image(client: Any, image: str) -> None:
    """Make sure that an image is there, from its registry if it has one.

    Raises:
        WorkloadError: it is not.
    """
    import docker

    try:
        client.images.get(image)
    except docker.errors.ImageNotFound as absent:
        problem = "none"
        if not image.startswith(OF_THIS_MACHINE):
            try:
                client.images.pull(image)
            except docker.errors.APIError as error:
                problem = " ".join(str(error.explanation or error).split())[:160]
            else:
                return
        raise WorkloadError(
            image, expected="an image on this machine", found=problem, do="Build the images with `make images`"
        ) from absent


def _lines(chunks: Iterator[bytes]) -> Iterator[str]:
    """Cut what a container says into lines; of one that overwrites itself, the last state."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from map(_line, whole)
    if rest:
        yield _line(rest)


def _line(line: bytes) -> str:
    return line.decode("utf-8", errors="replace").rstrip("\r").rpartition("\r")[2]


def _executor_input(command: Sequence[str]) -> Any:
    return json.loads(command[command.index("--executor-input") + 1])


def _artifacts(ports: Mapping[str, Any]) -> dict[str, Path]:
    """Folders among inputs or outputs, by kind."""
    named = ports.get("artifacts", {})
    return {kind: Path(named[kind]["artifacts"][0]["uri"]) for kind in KINDS if kind in named}


def _conclude(run: StepRun, code: int, made: Mapping[str, Path]) -> None:
    """Say how a step ended: by its own note, else by its exit code; and done only with complete folders."""
    note: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        note = json.loads((run.folder / OUTCOME).read_text(encoding="utf-8"))
    run.exit_code = code or int(note.get("exit_code", EXIT_DONE))
    run.why = ""
    if run.exit_code == EXIT_DONE:
        try:
            for kind, folder in made.items():
                open_artifact(folder, kind)
        except ArtifactError as error:
            run.exit_code, run.why = EXIT_BUG, f"its container ended with 0, but {error}"
        return
    last = next((line for line in reversed(run.last_lines) if line.strip()), "it said nothing")
    run.why = str(note.get("said") or f"its container ended with {code}: {last.removeprefix(SAYS)}")
