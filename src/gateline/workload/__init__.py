"""A workload: one problem to solve, in one file; read into frozen models before the first byte of data is.

Sections that mean the same for every task (`source`, `schema`, `training`, `gates`) have their models here. `preprocess`,
`model` and `evaluation` mean something else for each task, so the task has their models.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from gateline.errors import WorkloadError, did_you_mean
from gateline.workload.section import Section, read_section

HEADER = ("name", "task", "description")
SECTIONS = (
    "source",
    "schema",
    "preprocess",
    "model",
    "training",
    "evaluation",
    "gates",
    "resources",
    "search",
    "budgets",
    "variants",
)
OPTIONAL = ("resources", "search", "budgets", "variants")
"""Sections that no step reads and that a workload may do without."""

SECTIONS_OF_STEP: Mapping[str, tuple[str, ...]] = {
    "ingest": ("source",),
    "validate": ("schema",),
    "preprocess": ("schema", "preprocess"),
    "train": ("model", "training"),
    "evaluate": ("evaluation", "gates"),
    "register": ("gates",),
}
"""What a step may read, and so what may make it run again; `dvc.yaml` and the Kubeflow components say the same."""

S = TypeVar("S", bound=Section)


@dataclass(frozen=True)
class Workload:
    """One workload, or the part of it that one step sees.

    Args:
        name: names artifacts, the MLflow experiment and the registered model.
        task: the kind of problem, a file in `gateline.tasks`.
        description: one paragraph for people.
        place: where it was read, for errors.
        sections: the sections as they stand in the file, not yet checked.
    """

    name: str
    task: str
    description: str
    place: str
    sections: Mapping[str, Any]

    @classmethod
    def read(cls, reference: str | Path, step: str | None = None) -> Workload:
        """Read a workload from a YAML file, or from JSON text (as a pipeline passes it).

        Args:
            reference: path of a file, or text that starts with ``{``.
            step: keep only the sections that this step uses; None keeps all.

        Raises:
            WorkloadError: no such file, no YAML, a key twice, an unknown section or no name.
        """
        text, place = _text_of(str(reference))
        try:
            content = json.loads(text) if text.lstrip().startswith("{") else yaml.load(text, Loader=UniqueKeyLoader)  # noqa: S506  (a SafeLoader)
        except (yaml.YAMLError, ValueError) as error:
            first_line = " ".join(str(error).split())[:200]
            raise WorkloadError(place, expected="YAML", found=first_line, do="Correct the file at that line") from error
        if not isinstance(content, dict):
            raise WorkloadError(
                place,
                expected=f"the keys {', '.join(HEADER + SECTIONS)}",
                found=type(content).__name__,
                do="Write them",
            )
        for key in content:
            if key not in HEADER + SECTIONS:
                raise WorkloadError(
                    f"{place}: {key}",
                    expected="a section of a workload",
                    found=f"the unknown key {key!r}",
                    do=did_you_mean(str(key), HEADER + SECTIONS),
                )
        name, task = content.get("name"), content.get("task")
        if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise WorkloadError(
                f"{place}: name",
                expected="lower-case letters, digits and _",
                found=repr(name),
                do="Give it such a name",
            )
        if not isinstance(task, str):
            raise WorkloadError(
                f"{place}: task", expected="the name of a task", found=repr(task), do="Add e.g. `task: forecasting`"
            )
        description = content.get("description")
        if step in (None, "evaluate") and not (isinstance(description, str) and description.strip()):
            raise WorkloadError(
                f"{place}: description",
                expected="a sentence that says what is solved, for the report and the model card",
                found=repr(description),
                do="Add it",
            )
        wanted = SECTIONS if step is None else SECTIONS_OF_STEP[step]
        sections = {key: content[key] for key in SECTIONS if key in content and key in wanted}
        return cls(name, task, str(description or "").strip(), place, sections)

    def recorded(self, *names: str) -> dict[str, str]:
        """Give sections as JSON text, so that a folder says what it was made by, and in which order; a date becomes text."""
        return {name: json.dumps(self.sections[name], default=str, ensure_ascii=False) for name in names}

    def section(self, name: str, kind: type[S]) -> S:
        """Check one section and return it.

        Raises:
            WorkloadError: it is not in the file, or something in it cannot be used.
        """
        if name not in self.sections:
            raise WorkloadError(f"{self.place}: {name}", expected=f"a section `{name}`", found="none", do="Add it")
        return read_section(f"{self.place}: {name}", kind, self.sections[name])


class UniqueKeyLoader(yaml.SafeLoader):
    """YAML's own rule, which PyYAML does not keep: a key stands once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Read a mapping whose keys are texts or numbers, each once."""
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float | bool | None):
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is no text", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def _text_of(reference: str) -> tuple[str, str]:
    if reference.lstrip().startswith("{"):
        return reference, "workload"
    path = Path(reference)
    if not path.is_file():
        siblings = [file.stem for file in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
        do = did_you_mean(path.stem, siblings) if siblings else "Give the path of a workload file"
        raise WorkloadError(path, expected="a workload file", found="no such file", do=do)
    try:
        return path.read_text(encoding="utf-8"), str(path)
    except UnicodeDecodeError as error:
        raise WorkloadError(path, expected="UTF-8 text", found=str(error), do="Save the file as UTF-8") from error
