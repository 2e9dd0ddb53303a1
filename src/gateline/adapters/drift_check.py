"""`gateline drift`: fetch what the champion was trained on, read what is new, compare, write report and metrics."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from gateline.adapters.mlflow_server import Connection, connected
from gateline.adapters.registry.model_files import model_files
from gateline.adapters.registry.run_files import fetch_of_run
from gateline.adapters.serving.service import champion_named, require_champion
from gateline.adapters.tracking import metric_key
from gateline.column_statistics import frequent_values, instant_text, shown, spelt
from gateline.drift import FEWEST, LIMITS, ORDER, SIGNIFICANCE, SIZE_IS, Finding, Verdict, compare, judged, worst
from gateline.errors import ArtifactError, DataError, RegistryError, examples
from gateline.manifest import dump_json, open_artifact
from gateline.model_folder import TRAINING_STATISTICS, read_model_json
from gateline.readout import read_out
from gateline.table import TABLE
from gateline.training_statistics import ANSWER_STATISTICS
from gateline.workload.schema import Schema

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

TEMPLATES = Path(__file__).with_name("templates")
YEAR = pd.Timedelta(days=300)
"""Training that covers this much has seen the seasons."""
DAYS = 7
"""Of a log, today among them."""
MOST_ROWS, MOST_BYTES = 1_000_000, 512 * 2**20
"""Of a log, the newest first; more are not read."""
ANSWERS = "answers: "
"""Before the name of a column of answers."""
JSON_NAME, PAGE_NAME = "drift.json", "drift.html"
NO_NUMBERS = ["", "NA", "N/A", "NaN", "nan", "null", "NULL"]
"""How a csv says that a number is missing."""


@dataclass(frozen=True)
class Drift:
    """What a check found.

    Args:
        name: of the registered model.
        version: that was champion.
        verdict: on the whole.
        findings: every comparison, the worst first.
        rows: new rows, and answers, that were compared.
        trained_on: first and last time stamp of the training part; None for a table without times.
        compared: the same of what is new.
        notes: what a reader must know.
        charts: shares by bin in training and now, of the columns with an alarm.
        page: the report.
        run_id: MLflow's run.
    """

    name: str
    version: int
    verdict: Verdict
    findings: tuple[Finding, ...]
    rows: Mapping[str, int]
    trained_on: tuple[str, str] | None
    compared: tuple[str, str] | None
    notes: tuple[str, ...]
    charts: Mapping[str, Any]
    page: Path
    run_id: str


def check_drift(
    model_name: str, data: Path | None, log: Path | None, folder: Path | None, since: date | None = None
) -> Drift:
    """Compare new rows, and logged answers, with what the champion was trained on.

        FOLDER/
        ├── drift.json      every comparison
        └── drift.html      the report

    Args:
        model_name: name of the registered model, the workload's file, or an address of MLflow's.
        data: csv or parquet with the columns of the workload's table, or a folder that ingest wrote.
        log: folder that `gateline serve --log` or `gateline predict --log` wrote.
        folder: where to write; None for artifacts/NAME/drift.
        since: first day of the log that is read; None for the last `DAYS`.

    Raises:
        RegistryError: there is no champion, or its files are not those that were registered.
        DataError: there is nothing to compare, or too little, or it has none of the columns.
        ArtifactError: the champion was registered without statistics.
        UnreachableError: MLflow does not answer.
    """
    if data is None and log is None:
        raise DataError("gateline drift", expected="--data or --predictions", found="neither", do="Name one")
    name = champion_named(model_name)
    version = require_champion(name)
    folder = folder or Path("artifacts") / name / "drift"
    since = since or first_day(DAYS)
    notes: list[str] = []
    with connected(name, create=False) as to:
        champion = to.client.get_model_version(name, str(version))
        with model_files(name, champion) as model:
            expected = _statistics_of(model.path)
            schema = Schema.model_validate(expected["schema"])
            new = _asked(log, name, version, schema, since, notes) if data is None else _read(data, schema)
            frame = _typed(new, schema, data or log)
            needed = _needed(name, version)
            unknown = _unknown_tokens(model.path, expected, frame, notes)
        findings = compare(expected, frame, unknown_tokens=unknown, needed=needed)
        if data is None:
            notes.append(
                "Compared are the rows that were asked; whether values are missing is not, since a request leaves empty what is not known yet."
            )
            findings = [each for each in findings if each.kind != "missing"]
        if not findings:
            raise DataError(
                data or log,
                expected=f"at least {FEWEST} rows with values that training had, too",
                found=f"{len(frame)} rows of {examples(list(frame))}",
                do="Nothing was compared; name more rows" + ("" if data else ", or an earlier day by --since"),
            )
        notes += _not_compared(expected, findings)
        rows = {"rows": len(frame)}
        if log is not None:
            answers, found = _answers(to, champion, log, since, notes, needed=data is None)
            rows["answers"] = len(answers)
            findings += found
            if not found:
                notes.append("No logged answer of this version could be compared.")
    with connected(name) as to:
        findings = sorted(judged(findings), key=lambda each: (-ORDER.index(each.verdict), each.adjusted_p, -each.size))
        trained_on = None if expected["first"] is None else (expected["first"], expected["last"])
        compared = _period(frame, schema)
        notes += _about_seasons(trained_on, compared)
        charts = {
            each.column: _chart(expected["columns"][each.column], frame[each.column])
            for each in findings
            if each.verdict != "none" and each.column in expected["columns"] and each.column in frame
        }
        folder.mkdir(parents=True, exist_ok=True)
        run_id = to.client.create_run(
            to.experiment_id, run_name="drift", tags={"gateline.drift_of": f"{name} version {version}"}
        ).info.run_id
        drift = Drift(
            *(name, version, worst(findings), tuple(findings), rows, trained_on, compared, tuple(notes)),
            {column: chart for column, chart in charts.items() if chart},
            folder / PAGE_NAME,
            run_id,
        )
        _write(drift, folder)
        _log(to, drift, folder)
    return drift


def _statistics_of(model: Path) -> dict[str, Any]:
    if not (model / TRAINING_STATISTICS).is_file():
        raise ArtifactError(
            model,
            expected=f"{TRAINING_STATISTICS}, which says what the champion was trained on",
            found="a model that was trained before Gateline wrote it",
            do="Train and register again",
        )
    statistics: dict[str, Any] = read_model_json(model, TRAINING_STATISTICS)
    return statistics


def _read(data: Path, schema: Schema) -> pd.DataFrame:
    """Read a table, from a file or from a folder that ingest wrote; texts of a csv as they stand there, `NA` and `001` too."""
    try:
        if data.is_dir():
            return pd.read_parquet(open_artifact(data, "raw").path / TABLE)
        if data.suffix.lower() == ".parquet":
            return pd.read_parquet(data)
        columns = pd.read_csv(data, nrows=0).columns
        texts = [name for name in columns if name in schema.columns and schema.columns[name].type in ("text", "time")]
        return pd.read_csv(
            data,
            low_memory=False,
            dtype=dict.fromkeys(texts, "str"),
            keep_default_na=False,
            na_values={name: [""] if name in texts else NO_NUMBERS for name in columns},
        )
    except (OSError, ValueError) as error:
        found = "no such file" if isinstance(error, FileNotFoundError) else " ".join(str(error).split())[:160]
        raise DataError(
            data, expected="a csv or parquet file, or a folder that ingest wrote", found=found, do="Correct the path"
        ) from error


def first_day(days: int) -> date:
    """Say with which day a log begins of which the last so many are read, today among them."""
    return datetime.now(UTC).date() - timedelta(days=days - 1)


def _asked(log: Path | None, name: str, version: int, schema: Schema, since: date, notes: list[str]) -> pd.DataFrame:
    """Read the rows that were asked, each once: windows overlap, and a later one knows more of the same moment."""
    asked = _logged(log, name, "inputs", version, since, notes)
    asked = asked[[column for column in asked if column in schema.columns or column == "gateline_time"]]
    place = [column for column in schema.place_columns if column in asked]
    if schema.time is None or not place:
        return asked
    return asked.sort_values("gateline_time").groupby(place, sort=False, as_index=False).last()


def _logged(log: Path | None, name: str, part: str, version: int, since: date, notes: list[str]) -> pd.DataFrame:
    """Read what a version was asked or has answered since a day, the newest first, as much as fits into memory.

    A column may be numbers in one file and texts in another: what does not fit the schema is missing once it is read out.

    Raises:
        DataError: there is nothing, or a file that is no part of a log.
    """
    folder = Path(str(log)) / name / part
    days = sorted(folder.glob("day=*"), reverse=True)
    kept = [day for day in days if day.name >= f"day={since.isoformat()}"]
    pieces: list[pd.DataFrame] = []
    rows = size = 0
    for file in (file for day in kept for file in sorted(day.glob("*.parquet"), reverse=True)):
        try:
            piece = pq.read_table(file, partitioning=None, filters=[("gateline_version", "==", version)])
        except (pa.ArrowException, OSError) as error:
            raise DataError(
                file,
                expected="a part of a log that `gateline serve --log` or `gateline predict --log` wrote",
                found=" ".join(str(error).split())[:160],
                do="Move it away; the other files can be compared without it",
            ) from error
        if not len(piece):
            continue
        if pieces and (rows + len(piece) > MOST_ROWS or size + piece.nbytes > MOST_BYTES):
            notes.append(f"Of the logged {part}, the newest {rows:,} rows are compared; more do not fit into memory.")
            break
        pieces.append(piece.to_pandas())
        rows, size = rows + len(piece), size + piece.nbytes
    if not pieces:
        raise DataError(
            folder,
            expected=f"a log of predictions of version {version} since {since}",
            found=f"none; it has {days[-1].name} to {days[0].name}" if days else "no log",
            do="Name an earlier day by --since" if days else f"Start `gateline serve {name} --log`",
        )
    return pd.concat(pieces, ignore_index=True)


def _typed(new: pd.DataFrame, schema: Schema, place: object) -> pd.DataFrame:
    """Read every column as the schema says; what cannot be read is missing."""
    typed = read_out(new, schema).typed
    if not len(typed.columns) or not len(typed):
        raise DataError(
            place,
            expected=f"rows with some of the columns {', '.join(schema.columns)}",
            found=f"{len(new)} rows with {', '.join(map(str, new.columns[:8])) or 'no column'}",
            do="Bring the data into the shape of the workload's table: its query, run over the new files",
        )
    return typed.reset_index(drop=True)


def _needed(name: str, version: int) -> list[str]:
    """Name the columns without which the champion cannot do, as it was registered: the library here may be another."""
    import mlflow

    signature = mlflow.models.get_model_info(f"models:/{name}/{version}").signature
    return [column.name for column in signature.inputs if column.required]


def _unknown_tokens(
    model: Path, expected: Mapping[str, Any], frame: pd.DataFrame, notes: list[str]
) -> dict[str, tuple[int, int]]:
    """Count unknown and all tokens of each column of texts that the champion cuts into tokens."""
    if not expected["unknown_tokens"]:
        return {}
    from gateline.data.tokenizers import UNKNOWN
    from gateline.tasks import task_named

    try:
        predictor = task_named(read_model_json(model, "config.json")["task"]).load_predictor(model)
    except ArtifactError as error:
        notes.append(
            f"Unknown tokens are not compared: this version of Gateline cannot load the champion ({error.found})."
        )
        return {}
    counts = {}
    for column, tokenizer in getattr(predictor, "tokenizers", {}).items():
        if column in frame:
            tokens = tokenizer.encode(frame[column].dropna().astype(str).tolist()).tokens
            counts[column] = (int((tokens == UNKNOWN).sum()), len(tokens))
    return counts


def _not_compared(expected: Mapping[str, Any], findings: Sequence[Finding]) -> list[str]:
    """Name the columns that training had and nothing was found about, since they are absent or too short."""
    about = {each.column.removesuffix(" (characters)") for each in findings}
    left = [
        name
        for name, seen in expected["columns"].items()
        if seen["type"] not in ("time", "bytes") and name not in (*about, *expected["schema"]["keys"])
    ]
    return [f"Not compared, since it is absent or has fewer than {FEWEST} values: {', '.join(left)}."] if left else []


def _answers(
    to: Connection, champion: ModelVersion, log: Path, since: date, notes: list[str], *, needed: bool
) -> tuple[pd.DataFrame, list[Finding]]:
    """Compare logged answers of the champion with those that it gave on its test part.

    Raises:
        DataError: there are none, and they are needed, since nothing else is compared; else that is a note, for a champion of today has
            answered nobody yet.
    """
    try:
        answers = _logged(log, champion.name, "answers", int(champion.version), since, notes)
    except DataError as error:
        if needed or not log.is_dir():
            raise
        notes.append(f"Of {error.where}, {error.expected} was to be compared; found {error.found}.")
        return pd.DataFrame(), []
    expected = _answer_statistics(to, str(champion.run_id))
    if expected is None:
        return answers, []
    schema = Schema.model_validate(expected["schema"])
    found = compare(expected, _typed(answers, schema, log), needed=())
    named = [Finding(**{**asdict(each), "column": ANSWERS + each.column}) for each in found if each.kind != "missing"]
    return answers, named


def _answer_statistics(to: Connection, run_id: str) -> dict[str, Any] | None:
    """Fetch what evaluate said of the answers; None where that run, or the file in it, is not there."""
    path = f"evaluation/{ANSWER_STATISTICS}"
    with tempfile.TemporaryDirectory() as scratch:
        file = fetch_of_run(to, run_id, path, Path(scratch))
        if file is None:
            return None
        try:
            statistics: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RegistryError(
                f"{path} of run {run_id}",
                expected="what the champion answered on its test part",
                found=" ".join(str(error).split())[:200],
                do="Restore it from a backup of MLflow's files",
            ) from error
    return statistics


def _period(frame: pd.DataFrame, schema: Schema) -> tuple[str, str] | None:
    if schema.time is None or schema.time.column not in frame or not frame[schema.time.column].notna().any():
        return None
    times = frame[schema.time.column]
    return instant_text(times.min()), instant_text(times.max())


def _about_seasons(trained_on: tuple[str, str] | None, compared: tuple[str, str] | None) -> list[str]:
    """Say where a season can look like drift."""
    if trained_on is None or compared is None:
        return []
    before, now = (pd.Timestamp(last) - pd.Timestamp(first) for first, last in (trained_on, compared))
    if now >= YEAR:
        return []
    if before >= YEAR:
        return [
            f"Training saw {before.days} days, and {now.days} are compared with all of them: a season alone can look like "
            "drift. Compare a whole year, or look at the same weeks of the year before."
        ]
    return [
        f"Training saw {before.days} days, less than a year: a season that it has not seen looks like drift, and is some."
    ]


def _chart(seen: Mapping[str, Any], values: pd.Series) -> list[dict[str, Any]] | None:
    """Lay shares in training and now side by side, by bin or by value."""
    values = values.dropna()
    if "histogram" in seen:
        edges, counts = np.array(seen["histogram"]["edges"]), np.array(seen["histogram"]["counts"])
        if len(edges) < 2 or not len(values):
            return None
        numbers = values.to_numpy(dtype=np.float64)
        inner, _ = np.histogram(numbers, edges)
        now = np.array([(numbers < edges[0]).sum(), *inner, (numbers > edges[-1]).sum()])
        labels = [f"below {edges[0]:.4g}", *(f"from {edge:.4g}" for edge in edges[:-1]), f"above {edges[-1]:.4g}"]
    elif "values" not in seen:  # of time stamps nothing but whether they are there
        return None
    else:
        known = dict(list(frequent_values(seen).items())[:20])
        counts = np.array([*known.values(), seen["count"] - sum(known.values())])
        found = spelt(values, seen["type"]).value_counts()
        now = np.array(
            [*(int(found.get(value, 0)) for value in known), int(found[~found.index.isin(list(known))].sum())]
        )
        labels = [*(shown(value, seen["type"]) for value in known), "any other"]
    before, after = counts / max(counts.sum(), 1), now / max(now.sum(), 1)
    return [
        {"label": label, "before": float(old), "now": float(new)}
        for label, old, new in zip(labels, before, after, strict=True)
    ]


def _write(drift: Drift, folder: Path) -> None:
    import jinja2

    content = {
        **{
            key: getattr(drift, key)
            for key in ("name", "version", "verdict", "rows", "trained_on", "compared", "notes")
        },
        "findings": [asdict(each) for each in drift.findings],
        "significance": SIGNIFICANCE,
        "limits": {kind: list(limits) for kind, limits in LIMITS.items()},
        "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "mlflow_run_id": drift.run_id,
    }
    (folder / JSON_NAME).write_text(dump_json(content), encoding="utf-8")
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True)
    page = environment.get_template("drift.html.jinja").render(**content, charts=drift.charts, size_is=SIZE_IS)
    drift.page.write_text(page, encoding="utf-8")


def _log(to: Connection, drift: Drift, folder: Path) -> None:
    """Log each size as a metric, and the two files."""
    to.client.set_tag(drift.run_id, "gateline.drift", drift.verdict)
    for each in drift.findings:
        column = each.column.replace(ANSWERS, "answers.").replace("/", "_")
        to.client.log_metric(drift.run_id, metric_key("drift", column, each.kind), each.size)
    for verdict in ("warn", "drift"):
        count = sum(each.verdict == verdict for each in drift.findings)
        to.client.log_metric(drift.run_id, f"drift/num_{verdict}", count)
    for file in (JSON_NAME, PAGE_NAME):
        to.client.log_artifact(drift.run_id, str(folder / file), "drift")
    to.client.set_terminated(drift.run_id)
