"""What is written passes `gateline check`: a workload that does not is not written."""

from __future__ import annotations

import tempfile
from pathlib import Path

import yaml

from gateline.adapters.project import Project
from gateline.errors import DataError, GatelineError


def add_checked(project: Project, name: str, text: str, file: Path, *, with_data: bool = True) -> None:
    """Write ``workloads/NAME.yaml`` and add NAME to ``params.yaml``, if the text is a workload that can run.

    Args:
        project: where to write.
        name: of the workload.
        text: of its file.
        file: what it was made from, for the error.
        with_data: prepare the data, too, as `gateline check` does; recordings would take as long as a first run.

    Raises:
        DataError: it is none, and nothing was written.
    """
    from gateline.adapters.explanation import check_sections, explain
    from gateline.workload import Workload

    with tempfile.TemporaryDirectory() as scratch:
        draft = Path(scratch) / f"{name}.yaml"
        draft.write_text(text, encoding="utf-8")
        try:
            if yaml.safe_load(text)["name"] != name:
                raise RuntimeError(f"the file names another workload than {name!r}")
            if with_data:
                explain(project, str(draft))
            else:
                check_sections(Workload.read(draft))
        except yaml.YAMLError as error:
            raise DataError(
                file,
                expected="names of columns, and values, that fit on one line of a file",
                found="one with a line break or a control character",
                do="Rename it, and run again; nothing was written",
            ) from error
        except GatelineError as error:
            where = error.where.replace(f"{draft}: ", "").replace(str(draft), "the workload")
            raise DataError(
                file,
                expected=f"data of which a workload can be made: {where}: {error.expected}",
                found=error.found.replace(str(draft), "the workload"),
                do=f"{error.do.rstrip('.')}; nothing was written",
            ) from error
    project.add_workload(name, text)
