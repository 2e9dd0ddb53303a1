"""`gateline run`: let DVC run the steps of one workload, and say what became of it in our own words.

DVC hides the exit code of a step behind its own 255, but names it ("exited with 75"); so it is read from there.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Final

import yaml

from gateline.adapters.own_pipeline import Pipeline, remove_pipeline, without_git, write_pipeline
from gateline.adapters.project import DVC, Project, replace_text
from gateline.adapters.registry.register import is_registered
from gateline.errors import (
    EXIT_BUG,
    EXIT_DONE,
    EXIT_REFUSED,
    EXIT_TRY_AGAIN,
    GatelineError,
    UnreachableError,
    WorkloadError,
)
from gateline.manifest import open_artifact
from gateline.workload import Workload
from gateline.workload.budgets import budget_name, with_budget

STEPS = ("ingest", "validate", "preprocess", "train", "evaluate", "register")
LAST_STEP = "register"
PREPARING_STEP = "preprocess"
INDENT = "  "  # of what a step says, under the name of the step
SAYS = "gateline: "  # what begins the one line of a refusal
SAY_AGAIN_SECONDS: Final = 15.0  # enough for a step to finish what it does and to save
STAGE = r"(?:[^']*:)?(\w+)(?:@[^']*)?'"  # e.g. 'train@rides' or 'artifacts/rides/dvc.yaml:train'
NOISE = re.compile(
    r"^(> |Updating lock file|Generating lock file|Use `dvc|To track the changes|To enable auto staging|\s*git add |\s*dvc |$)"
)


def run_workload(
    project: Project, reference: str, say: Callable[[str], None], budget: str | None = None
) -> tuple[int, str]:
    """Run the steps of one workload that are out of date.

    Args:
        project: where it stands.
        reference: name or path of the workload.
        say: takes one line of progress.
        budget: run it with the settings of this budget, as a workload of its own.

    Returns:
        Exit code (0 done, 2 refused, 75 run again, 1 a bug) and the line that says why; empty when done.

    Raises:
        WorkloadError: it stands in another place, has no such budget, or this project cannot run any: not with these run-wide settings.
    """
    pipeline = _pipeline(project, reference, budget)
    code, why = _repro(project.root, pipeline, say)
    release = project.artifacts(pipeline.name) / "release"
    if code == EXIT_DONE and not is_registered(pipeline.name, open_artifact(release, "release")):
        # DVC cannot see the registry: what it skips as up to date may be gone there.
        say(f"{LAST_STEP}: the registry does not hold this release any more; once again")
        return _repro(project.root, pipeline, say, "--force", steps=(LAST_STEP,), alone=True)
    return code, why


def prepare_workload(
    project: Project, reference: str, say: Callable[[str], None], budget: str | None = None
) -> tuple[int, str]:
    """Run the steps of one workload up to preprocess that are out of date; arguments and answer as `run_workload`."""
    steps = STEPS[: STEPS.index(PREPARING_STEP) + 1]
    return _repro(project.root, _pipeline(project, reference, budget), say, steps=steps)


def _pipeline(project: Project, reference: str, budget: str | None) -> Pipeline:
    """Find or write the pipeline that runs a workload."""
    path = project.resolve(reference)
    workload = Workload.read(path)
    name = workload.name
    if path != project.workload_path(name):
        raise WorkloadError(
            path,
            expected=f"the workload {name!r} at {project.workload_path(name)}",
            found="a file in another place or of another name",
            do="Move it there, so that DVC finds it",
        )
    for needed, do in (
        (DVC, "Change into your clone of Gateline"),
        (".dvc", "Run `dvc init` (without git: `dvc init --no-scm`)"),
    ):
        if not (project.root / needed).exists():
            raise WorkloadError(project.root, expected=f"{needed} in it", found="none", do=do)
    project.run_wide()  # DVC would write any value of params.yaml into the command line, as its word
    if budget is not None:
        return write_pipeline(project, budget_name(name, budget), write_budget(project, workload, budget))
    if name in map(str, project.params()["workloads"]):
        remove_pipeline(project, name)
        return Pipeline(name)
    return write_pipeline(project, name, path)


def write_budget(project: Project, workload: Workload, budget: str) -> Path:
    """Write the workload that a budget makes of another beside the artifacts that it will have.

    Args:
        project: where it runs.
        workload: all of it.
        budget: name of the budget.

    Returns:
        The file, ``artifacts/NAME_BUDGET/NAME_BUDGET.yaml``.

    Raises:
        WorkloadError: there is no such budget, its settings cannot be used, or another workload has that name.
    """
    from gateline.adapters.explanation import check_sections

    smaller = with_budget(workload, budget)
    if project.workload_path(smaller.name).exists():
        raise WorkloadError(
            f"{workload.place}: budgets.{budget}",
            expected=f"a name that no other workload has, since it runs as {smaller.name}",
            found=f"{project.workload_path(smaller.name)}",
            do="Rename the budget",
        )
    check_sections(smaller)
    head = f"# Written by `gateline run {workload.name} --budget {budget}`, which writes it again: edit that workload instead.\n"
    content = {"name": smaller.name, "task": smaller.task, "description": smaller.description, **smaller.sections}
    text = head + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
    path = project.budget_path(smaller.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        replace_text(path, text)
    return path


def _repro(
    root: Path,
    pipeline: Pipeline,
    say: Callable[[str], None],
    *flags: str,
    steps: Sequence[str] = STEPS,
    alone: bool = False,
) -> tuple[int, str]:
    """Let DVC run the last of `steps` and what it needs; `alone` only that one."""
    # In a pipeline of its own, each step is asked for by name, in order: DVC then need not look for pipelines anywhere else.
    flags += ("--single-item",) if pipeline.file or alone else ()
    targets = [pipeline.target(step) for step in (steps if pipeline.file else steps[-1:])]
    with without_git(os.environ) if pipeline.file else contextlib.nullcontext(os.environ) as environment:
        return _run(root, [sys.executable, "-m", "dvc", "repro", *flags, *targets], environment, say)


def _run(
    root: Path, command: Sequence[str], environment: Mapping[str, str], say: Callable[[str], None]
) -> tuple[int, str]:
    process = subprocess.Popen(  # noqa: S603  (this interpreter, and a name that was checked)
        command,
        cwd=root,
        env=_environment(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        process_group=0,  # so that a signal reaches the step too, wherever it comes from
        preexec_fn=_listen_to_interrupts,  # noqa: PLW1509  no thread runs yet
    )
    progress, problems = _Progress(say), _Problems(say)
    readers = [
        threading.Thread(target=_read_lines, args=(process.stdout, progress.take), daemon=True),
        threading.Thread(target=_read_lines, args=(process.stderr, problems.take), daemon=True),
    ]
    for reader in readers:
        reader.start()
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    code: int | None
    try:
        code = process.wait()
    except KeyboardInterrupt:
        # DVC leaves this signal to the step, which says its line and leaves nothing half-written. One that comes between two
        # steps is heard by nobody, so it is said again.
        code = None
        while code is None:
            os.killpg(process.pid, signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(timeout=SAY_AGAIN_SECONDS)
        problems.exit_code = EXIT_TRY_AGAIN
    finally:
        signal.signal(signal.SIGTERM, before)
    for reader in readers:
        reader.join()
    return (EXIT_DONE, "") if code == EXIT_DONE else problems.conclude()


def _listen_to_interrupts() -> None:
    """Undo what a shell does to a command in the background: it starts it deaf to SIGINT, and so would be the steps."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """`python` in DVC's commands is this interpreter; what the steps print comes line by line, as wide as there is room."""
    columns = shutil.get_terminal_size((120, 0)).columns - len(INDENT)
    path = os.pathsep.join([str(Path(sys.executable).parent), inherited.get("PATH", os.defpath)])
    return {**inherited, "PATH": path, "DVC_NO_ANALYTICS": "1", "PYTHONUNBUFFERED": "1", "COLUMNS": str(columns)}


def _read_lines(stream: IO[bytes] | None, take: Callable[[str], None]) -> None:
    assert stream is not None  # noqa: S101  (opened as a pipe)
    for line in iter(stream.readline, b""):
        take(line.decode("utf-8", errors="replace").rstrip("\r\n").rpartition("\r")[2])


class _Progress:
    """DVC's messages, and what the steps print."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say

    def take(self, line: str) -> None:
        running = re.match(rf"Running stage '{STAGE}", line)
        skipped = re.match(rf"Stage '{STAGE} (didn't change|is cached)", line)
        if running:
            self._say(f"{running[1]} ...")
        elif skipped:
            restored = " (brought back from the cache)" if skipped[2] == "is cached" else ""
            self._say(f"{skipped[1]}: up to date{restored}")
        elif not NOISE.match(line) and not line.startswith("Data and pipelines are up to date"):
            self._say(INDENT + line.removeprefix(SAYS))


class _Problems:
    """What comes on stderr: progress of the steps, the line of a refusal, and DVC's account of it."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self.refusal = ""
        self.exit_code: int | None = None
        self._dvc = ""
        self._failed = ""

    def take(self, line: str) -> None:
        if line.startswith(SAYS):
            self.refusal = line.removeprefix(SAYS)
        elif line.startswith("ERROR: "):
            self._dvc = self._dvc or line.removeprefix("ERROR: ")
            exited = re.search(rf"failed to reproduce '{STAGE}.*exited with (-?\d+)", line)
            if exited:
                self._failed, self.exit_code = exited[1], self.exit_code or int(exited[2])
        elif not NOISE.match(line):
            self._say(INDENT + line)

    def conclude(self) -> tuple[int, str]:
        """Exit code, and the one line that says why."""
        if self.exit_code in (EXIT_REFUSED, EXIT_TRY_AGAIN):
            silent = "interrupted" if self.exit_code == EXIT_TRY_AGAIN else f"{self._failed} refused, as it said above"
            return self.exit_code, self.refusal or f"{silent}. Run the same command again."
        if self.exit_code is not None and self.exit_code < 0:
            return (
                EXIT_TRY_AGAIN,
                f"{self._failed} was killed by signal {-self.exit_code}. Run the same command again; it goes on.",
            )
        if self.exit_code is not None:
            return (
                EXIT_BUG,
                f"{self._failed} failed with exit code {self.exit_code}; what it said stands above. Please report it.",
            )
        error: GatelineError
        if "not a git repository" in self._dvc:
            error = WorkloadError(
                "DVC",
                expected="a git clone",
                found="a folder without git",
                do="Run `git init`, or tell DVC to do without: `dvc config --local core.no_scm true`",
            )
        elif "not JSON serializable" in self._dvc:
            error = WorkloadError(
                "DVC",
                expected="values that it can keep in dvc.lock",
                found="a date or time stamp without quotes in the workload",
                do="Run `gateline check`, which names it, and put it in quotes",
            )
        elif "acquire lock" in self._dvc or "is busy" in self._dvc:
            error = UnreachableError(
                "DVC", expected="its lock to be free", found=self._dvc[:160], do="Wait for the other run, and run again"
            )
        else:
            error = WorkloadError(
                "DVC", expected="a pipeline that it can run", found=self._dvc[:300], do="Correct that, and run again"
            )
        return error.exit_code, str(error)
