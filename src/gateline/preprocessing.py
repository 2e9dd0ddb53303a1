"""From validated raw data to what training reads: refuse bad verdicts, then let the task write the folder."""

from __future__ import annotations

from pathlib import Path

from gateline.errors import ArtifactError
from gateline.manifest import Artifact, check_made_from, open_artifact, write_artifact
from gateline.table import TABLE, read_table
from gateline.tasks import task_named
from gateline.training_statistics import TRAINING_STATISTICS, training_statistics
from gateline.workload import Workload
from gateline.workload.schema import Schema


def preprocess(workload: Workload, raw: Artifact, report: Artifact, folder: Path) -> Artifact:
    """Write the artifact `prepared`; what is in it, the task says, and `training_statistics.json` describes its training part.

    Args:
        workload: its sections `schema` and `preprocess`.
        raw: the table.
        report: what validate found in this very table.
        folder: where to write.

    Raises:
        ArtifactError: the report is about other data, or its verdict is no.
        DataError: the data cannot be split or encoded as the workload says.
    """
    check_made_from(report, raw)
    verdict = report.facts["verdict"]
    if not verdict["passed"]:
        raise ArtifactError(
            report.path,
            expected="data that validate accepted",
            found="the verdict no: " + "; ".join(verdict["reasons"]),
            do=f"Read {report.path / 'report.html'}, and correct the data or the schema",
        )
    task = task_named(workload.task)
    schema = workload.section("schema", Schema)
    settings = workload.section("preprocess", task.Preprocess)
    task.check(schema, settings, None, None)
    with write_artifact(folder, "prepared", {"raw": raw, "report": report}) as draft:
        rows = task.prepare(read_table(raw.path / TABLE), schema, settings, draft)
        described = training_statistics(rows, schema, draft.facts.get("vocabulary"))
        draft.write_json(TRAINING_STATISTICS, described)
        draft.facts["sections"] = workload.recorded("preprocess")
    return open_artifact(folder, "prepared")
