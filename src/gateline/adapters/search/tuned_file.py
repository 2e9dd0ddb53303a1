"""Write the best settings back as a workload: the text of the file that was tuned, with other values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from gateline.adapters.project import WORKLOADS, Project
from gateline.adapters.search.study import Problem
from gateline.adapters.search.trial import Result
from gateline.adapters.yaml_text import with_values
from gateline.errors import WorkloadError
from gateline.manifest import digest_of

MARK = re.compile(r"# Written by `gateline tune`; sha256 of the lines below: ([0-9a-f]{64})\n")


def how_to_run(project: Project, path: Path) -> str:
    """Say what to do with a written workload: it runs where `gateline run` finds it, and only there."""
    if path == project.workload_path(path.stem):
        return f"`gateline run {path.stem}`"
    return f"then move it into {WORKLOADS}/, where `gateline run` finds it"


@dataclass(frozen=True)
class Destination:
    """Where the tuned workload goes.

    Args:
        path: of the file.
        force: whether it may replace a file that `gateline tune` did not write.
    """

    path: Path
    force: bool

    @property
    def name(self) -> str:
        """Of the workload, which the file is named after."""
        return self.path.stem

    def check(self) -> None:
        """Refuse a place where nothing may be written, before anything is computed.

        Raises:
            WorkloadError: the file is there and somebody wrote or edited it, or its name cannot be a workload's.
        """
        if self.path.suffix != ".yaml" or not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise WorkloadError(
                self.path,
                expected="a name of lower-case letters, digits and _, with the ending .yaml",
                found=repr(self.path.name),
                do="Give --output such a name",
            )
        if not self.path.parent.is_dir():
            raise WorkloadError(
                self.path.parent, expected="a folder to write into", found="none", do="Make it, or correct --output"
            )
        if self.path.exists() and not self.force and not _is_untouched(self.path.read_text(encoding="utf-8")):
            raise WorkloadError(
                self.path,
                expected="no such file, or one as `gateline tune` wrote it",
                found="a file that was written or edited by somebody",
                do="Move it away, name another one with --output, or replace it with --force",
            )


def write_tuned(
    project: Project, source: Path, to: Destination, problem: Problem, best: Result, present: Result
) -> None:
    """Write the workload whole or not at all, and enter it into `params.yaml` if it stands where `gateline run` looks.

    Args:
        project: where the workload stands.
        source: the file that was tuned.
        to: where to write.
        problem: what was searched.
        best: the trial whose settings are written.
        present: trial 0.

    Raises:
        WorkloadError: see `Destination.check`; or the file is written in a way that cannot be edited.
    """
    to.check()
    text = source.read_text(encoding="utf-8")
    changed = {key: value for key, value in best.settings.items() if present.settings[key] != value}
    body = with_values(text, {"name": to.name, **changed}, source)
    against = f", against {present.value:.6g} with the settings there" if present.value is not None else ""
    head = [
        f"{problem.workload.name}, with the settings of trial {best.number} of the study {problem.study_name}:",
        f"{problem.monitor} {best.value:.6g} on the validation part{against}. Changed:",
        *(f"    {key}: {value} (there: {present.settings[key]})" for key, value in changed.items()),
    ]
    body = "".join(f"# {line}\n" for line in head) + "\n" + body
    text = f"# Written by `gateline tune`; sha256 of the lines below: {digest_of(body)}\n{body}"
    if to.path.parent == project.root / WORKLOADS:
        project.add_workload(to.name, text)
    else:
        draft = to.path.with_name(to.path.name + ".tmp")
        draft.write_text(text, encoding="utf-8")
        draft.replace(to.path)


def _is_untouched(text: str) -> bool:
    mark = MARK.match(text)
    return mark is not None and digest_of(text[mark.end() :]) == mark[1]
