"""A Gateline project: the folder with `params.yaml` and `workloads/`, and what is found by name in it.

PROJECT/
├── params.yaml          workloads: [names], seed, device, precision, processes, checkpoints
├── workloads/NAME.yaml
├── dvc.yaml
└── artifacts/NAME/{raw,report,prepared,model,evaluation,release}
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from gateline.errors import ArtifactError, WorkloadError, did_you_mean
from gateline.manifest import open_artifact
from gateline.workload.address import without_users
from gateline.workload.run_wide import RUN_SETTINGS, what_it_may_be

if TYPE_CHECKING:
    from gateline.training import RunSettings

PARAMS, WORKLOADS, ARTIFACTS, DVC = "params.yaml", "workloads", "artifacts", "dvc.yaml"


@dataclass(frozen=True)
class Project:
    """A project's folder."""

    root: Path

    @classmethod
    def find(cls, start: Path) -> Project:
        """Find the project that a folder lies in.

        Raises:
            WorkloadError: neither the folder nor one above it is a project.
        """
        root = find_root(start)
        if root is not None:
            return cls(root)
        raise WorkloadError(
            start.resolve(),
            expected=f"a Gateline project ({PARAMS} and {WORKLOADS}/ here or in a folder above)",
            found="none",
            do="Change into your clone of Gateline and run the command there",
        )

    def workload_path(self, name: str) -> Path:
        """Say where the workload of a name stands, or would."""
        return self.root / WORKLOADS / f"{name}.yaml"

    def workload_names(self) -> list[str]:
        """List the workloads that there are files of."""
        return sorted(path.stem for path in (self.root / WORKLOADS).glob("*.yaml"))

    def artifacts(self, name: str) -> Path:
        """Say where a workload's artifacts stand."""
        return self.root / ARTIFACTS / name

    def released(self, name: str) -> str | None:
        """Say the digest of a workload's release; None where there is none."""
        try:
            return open_artifact(self.artifacts(name) / "release", "release").digest
        except ArtifactError:
            return None

    def budget_path(self, name: str) -> Path:
        """Say where the file of a workload stands that a budget makes of another one: beside its artifacts."""
        return self.artifacts(name) / f"{name}.yaml"

    def resolve(self, reference: str) -> Path:
        """Find a workload by its name or by the path of its file.

        Raises:
            WorkloadError: there is none.
        """
        by_name = self.workload_path(reference)
        if re.fullmatch(r"[A-Za-z0-9_]+", reference) and by_name.is_file():
            return by_name
        path = Path(reference)
        if path.is_file():
            return path.resolve()
        names = self.workload_names()
        do = did_you_mean(path.stem, names) if names else "Write one with `gateline new NAME --from data.csv`"
        raise WorkloadError(
            without_users(reference), expected=f"a name or a file in {WORKLOADS}/", found="no such workload", do=do
        )

    def resolve_registered(self, reference: str) -> Path:
        """Find the workload that a registered model was made with: as `resolve` does, or one that a budget made.

        Raises:
            WorkloadError: there is none.
        """
        by_budget = self.budget_path(reference)
        is_name = re.fullmatch(r"[A-Za-z0-9_]+", reference) is not None
        if is_name and by_budget.is_file() and not self.workload_path(reference).is_file():
            return by_budget
        return self.resolve(reference)

    def params(self) -> dict[str, Any]:
        """Read `params.yaml`.

        Raises:
            WorkloadError: it is no mapping with a list `workloads`.
        """
        path = self.root / PARAMS
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            found = " ".join(str(error).split())[:160]
            raise WorkloadError(path, expected="YAML", found=found, do="Correct the file at that line") from error
        names = content.get("workloads") if isinstance(content, dict) else None
        if not isinstance(names, list):
            raise WorkloadError(
                f"{path}: workloads", expected="a list of names", found=repr(names)[:80], do="Write one"
            )
        return dict(content)

    def run_wide(self, needed: Sequence[str] = ()) -> dict[str, Any]:
        """Read what `params.yaml` says for the whole run: those of `RUN_SETTINGS` that stand there.

        Args:
            needed: what must be among them.

        Raises:
            WorkloadError: a setting is missing or cannot be used.
        """
        params, path = self.params(), self.root / PARAMS
        missing = [name for name in needed if name not in params]
        if missing:
            raise WorkloadError(
                path, expected=f"the keys {', '.join(needed)}", found=f"no {', '.join(missing)}", do="Add it"
            )
        settings = {name: params[name] for name in RUN_SETTINGS if name in params}
        for name, value in settings.items():
            if (expected := what_it_may_be(name, value)) is not None:
                found = "none" if value is None else repr(without_users(value) if isinstance(value, str) else value)
                raise WorkloadError(f"{path}: {name}", expected=expected, found=found, do="Correct it")
        return settings

    def run_settings(self) -> RunSettings:
        """Read what `params.yaml` says for the whole run.

        Raises:
            WorkloadError: a setting is missing or cannot be used.
        """
        from gateline.training import RunSettings

        names = [field.name for field in fields(RunSettings)]
        settings = self.run_wide(names)
        return RunSettings(**{name: settings[name] for name in names})

    def add_workload(self, name: str, text: str) -> None:
        """Write a workload's file and enter its name into `params.yaml`, whose comments stay as they are.

        Raises:
            WorkloadError: `params.yaml` cannot be extended; nothing is written then.
        """
        params = self.params()
        new_params = None
        if name not in params["workloads"]:
            path = self.root / PARAMS
            new_params = _with_workload(path.read_text(encoding="utf-8"), name)
            expected = {**params, "workloads": [*params["workloads"], name]}
            if new_params is None or yaml.safe_load(new_params) != expected:
                raise WorkloadError(
                    f"{path}: workloads",
                    expected="a list written as `- name` lines or in brackets",
                    found="another way of writing",
                    do=f"Add {name} by hand and run again",
                )
        replace_text(self.workload_path(name), text)
        if new_params is not None:
            replace_text(self.root / PARAMS, new_params)


def find_root(start: Path) -> Path | None:
    """Find the project that a folder lies in; None where there is none."""
    here = start.resolve()
    return next(
        (each for each in (here, *here.parents) if (each / PARAMS).is_file() and (each / WORKLOADS).is_dir()), None
    )


def _with_workload(text: str, name: str) -> str | None:
    """Add a name to the list `workloads` of a YAML text, touching nothing else."""
    flow = re.search(r"^workloads:[ \t]*\[([^\]]*)\]", text, re.MULTILINE)
    if flow:
        names = flow[1].rstrip().rstrip(",")
        inside = f"{names}, {name}" if names.strip() else name
        return text[: flow.start(1)] + inside + text[flow.end(1) :]
    block = re.search(
        r"^workloads:[ \t]*(?:#[^\n]*)?\n((?:[ \t]*(?:#[^\n]*)?\n)*([ \t]*)- [^\n]*(?:\n\2- [^\n]*|\n[ \t]+#[^\n]*)*)",
        text,
        re.MULTILINE,
    )
    if block:
        return text[: block.end(1)] + f"\n{block[2]}- {name}" + text[block.end(1) :]
    return None


def replace_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    draft = path.with_name(path.name + ".tmp")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
