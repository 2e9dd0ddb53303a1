"""The pipeline of a workload that `params.yaml` does not list: the stages of `dvc.yaml` for this one alone.

`dvc repro` runs every stage of `dvc.yaml`, so only what shall run by default is listed there. For any other workload,
`gateline run` writes the same stages, with the same command lines, beside its artifacts, where DVC keeps their lock, too:

    artifacts/NAME/
    ├── dvc.yaml    the stages of the project's dvc.yaml, for NAME
    ├── dvc.lock    what ran; DVC's cache is the project's
    └── raw/, report/, ... release/
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from gateline.adapters.project import DVC, PARAMS, WORKLOADS, Project, replace_text
from gateline.errors import WorkloadError

LOCK = "dvc.lock"
ITEM = "${item.workload}"  # what stands for the name in dvc.yaml
HEAD = "# The stages of {dvc} for the workload {name}. Written by `gateline run`, which writes it again: edit {dvc} instead.\n"


@dataclass(frozen=True)
class Pipeline:
    """How DVC is asked for the steps of one workload.

    Args:
        name: of the workload.
        file: the pipeline's file if it is the workload's own; None for the project's.
    """

    name: str
    file: Path | None = None

    def target(self, step: str) -> str:
        """Name a step's stage."""
        return f"{step}@{self.name}" if self.file is None else f"{self.file.as_posix()}:{step}"


def write_pipeline(project: Project, name: str, workload: Path) -> Pipeline:
    """Write the pipeline of one workload, if it does not stand there already.

    Args:
        project: where the workload runs.
        name: of the workload.
        workload: its file, inside the project.

    Raises:
        WorkloadError: the project's pipeline cannot be read.
    """
    path = project.root / DVC
    try:
        stages = yaml.safe_load(path.read_text(encoding="utf-8"))["stages"]
        of_all = yaml.safe_dump(
            {step: {key: value for key, value in stage.items() if key != "matrix"} for step, stage in stages.items()},
            sort_keys=False,
            width=10**6,
        )
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise WorkloadError(
            path, expected="stages", found=" ".join(str(error).split())[:160], do="Take the file from git again"
        ) from error
    here = workload.relative_to(project.root).as_posix()
    own = yaml.safe_load(of_all.replace(f"{WORKLOADS}/{ITEM}.yaml", here).replace(ITEM, name))
    folder = project.artifacts(name)
    up = Path(*[".."] * len(folder.relative_to(project.root).parts)).as_posix()
    content = {
        "vars": [f"{up}/{PARAMS}"],
        "stages": {step: {"wdir": up, **stage} for step, stage in own.items()},
    }
    text = HEAD.format(name=name, dvc=DVC) + yaml.safe_dump(content, sort_keys=False, width=10**6)
    file = folder / DVC
    folder.mkdir(parents=True, exist_ok=True)
    if not file.is_file() or file.read_text(encoding="utf-8") != text:
        replace_text(file, text)
    return Pipeline(name, file.relative_to(project.root))


def remove_pipeline(project: Project, name: str) -> None:
    """Remove a workload's own pipeline: `dvc.yaml` has its stages now, and DVC lets an output have one stage only.

    Nothing runs again for that: DVC finds in its cache what these very commands made of these very inputs.
    """
    for file in (DVC, LOCK):
        (project.artifacts(name) / file).unlink(missing_ok=True)


@contextlib.contextmanager
def without_git(inherited: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Let DVC read a pipeline that git ignores, as all of `artifacts/` is, which it refuses where it looks at git.

    Args:
        inherited: the environment.

    Yields:
        The environment with a system-wide configuration of DVC's that says so, beside what the machine's own says; what
        the user's and the project's configurations say goes before it.
    """
    from configobj import ConfigObj
    from dvc.config import Config
    from dvc.dirs import system_config_dir

    present = Path(system_config_dir()) / Config.CONFIG
    with tempfile.TemporaryDirectory() as folder:
        config = ConfigObj(str(present) if present.is_file() else None)
        config.setdefault("core", {})["no_scm"] = "true"
        config.filename = str(Path(folder) / Config.CONFIG)
        config.write()
        yield {**inherited, "DVC_SYSTEM_CONFIG_DIR": folder}
