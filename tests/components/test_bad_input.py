"""Every kind of bad input gets one clear line and exit code 2 (75 for a server that is away), and leaves nothing half-written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.steps import KIND_OF, run_until
from tests.tiny import tiny_table, write_tiny

Make = Callable[[Path], Path]


def with_table(change: Callable[[pd.DataFrame], pd.DataFrame], **settings: Any) -> Make:
    """A workload whose table was spoilt."""
    return lambda folder: write_tiny(folder, change(tiny_table()), **settings)


def with_settings(**settings: Any) -> Make:
    """A workload whose file was spoilt."""
    return lambda folder: write_tiny(folder, **settings)


def without_file(folder: Path) -> Path:
    workload = write_tiny(folder)
    (folder / "sales.csv").unlink()
    return workload


def with_other_bytes(folder: Path) -> Path:
    workload = write_tiny(folder)
    with (folder / "sales.csv").open("a") as file:
        file.write("east,2024-03-11T00:00:00Z,1,1,1\n")
    return workload


def with_no_bytes(folder: Path) -> Path:
    workload = write_tiny(folder)
    data = folder / "sales.csv"
    data.write_bytes(b"")
    return rewrite(
        workload, "sha256: ", f"sha256: {'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'} #"
    )


def rewrite(workload: Path, old: str, new: str) -> Path:
    workload.write_text(workload.read_text().replace(old, new, 1))
    return workload


def set_cells(frame: pd.DataFrame, column: str, rows: slice, value: object) -> pd.DataFrame:
    changed = frame.astype({column: object})
    changed[column] = changed[column].where(~changed.index.isin(changed.loc[rows].index), value)
    return changed


REFUSED: dict[str, tuple[Make, str, list[str]]] = {
    # name: (how to spoil it, the step that refuses, words of the line)
    "file missing": (without_file, "ingest", ["source.files.sales", "sales.csv"]),
    "digest wrong": (with_other_bytes, "ingest", ["source.files.sales", "sha256"]),
    "empty file": (with_no_bytes, "ingest", ["source.files.sales"]),
    "query wrong": (with_settings(source__query="SELECT nothing FROM sales"), "ingest", ["source.query", "nothing"]),
    "query reads another file": (
        with_settings(source__query="SELECT * FROM read_csv('/etc/passwd')"),
        "ingest",
        ["source.query", "disabled"],
    ),
    "header but no rows": (with_table(lambda t: t.iloc[:0]), "preprocess", ["report", "rows"]),
    "one row": (with_table(lambda t: t.iloc[:1]), "preprocess", ["report", "rows"]),
    "column renamed": (with_table(lambda t: t.rename(columns={"sales": "sold"})), "preprocess", ["sales", "sold"]),
    "column added": (with_table(lambda t: t.assign(colour="red")), "preprocess", ["colour"]),
    "text in a number": (
        with_table(lambda t: set_cells(t, "price", slice(5, 7), "cheap")),
        "preprocess",
        ["price", "cheap"],
    ),
    "NaN in a column that allows none": (
        with_table(lambda t: set_cells(t, "price", slice(5, 5), np.nan)),
        "preprocess",
        ["price"],
    ),
    "NaN in most of the target": (
        with_table(lambda t: set_cells(t, "sales", slice(0, 2000), np.nan)),
        "preprocess",
        ["sales"],
    ),
    "out of range": (with_table(lambda t: set_cells(t, "price", slice(3, 3), -5)), "preprocess", ["price", "-5"]),
    "shuffled time": (with_table(lambda t: t.sample(frac=1, random_state=1)), "preprocess", ["time", "order"]),
    "duplicated rows": (with_table(lambda t: t.loc[np.sort(np.r_[t.index, 3, 4])]), "preprocess", ["2024-01-01"]),
    "gap in time": (with_table(lambda t: t.drop(index=[10, 11])), "preprocess", ["time"]),
    "stale data": (
        with_settings(schema__freshness__newest_at_least="2025-01-01T00:00:00Z"),
        "preprocess",
        ["2025-01-01"],
    ),
    "unknown shop": (with_table(lambda t: set_cells(t, "shop", slice(0, 0), "north")), "preprocess", ["shop", "north"]),
    "constant target": (
        with_table(lambda t: t.assign(sales=5.0)),
        "preprocess",
        ["column sales", "varies"],
    ),
    "unknown section": (with_settings(trainig={}), "ingest", ["trainig", "Did you mean 'training'?"]),
    "unknown key": (
        with_settings(preprocess__windows={"lokback": 24, "lookback": 24, "horizon": 6}),
        "preprocess",
        ["preprocess.windows.lokback", "Did you mean 'lookback'?"],
    ),
    "unknown key of training": (
        with_settings(training__epoch=3),
        "train",
        ["training.epoch", "Did you mean 'epochs'?"],
    ),
    "value of another type": (with_settings(training__epochs="many"), "train", ["training.epochs", "many"]),
    "unknown task": (with_settings(task="forcasting"), "preprocess", ["forcasting", "Did you mean 'forecasting'?"]),
    "unknown cell": (with_settings(model__cell="lsmt"), "train", ["model.cell", "Did you mean 'lstm'?"]),
    "unknown target": (with_settings(preprocess__target="sale"), "preprocess", ["sale", "Did you mean 'sales'?"]),
    "column with two roles": (with_settings(preprocess__past=["price"]), "preprocess", ["price", "one role"]),
    "horizon longer than the data": (
        with_settings(preprocess__windows={"lookback": 24, "horizon": 100_000}),
        "preprocess",
        ["preprocess.split: train", "100000"],
    ),
    "split outside the data": (
        with_settings(preprocess__split={"validate_from": "2030-01-01", "test_from": "2031-01-01"}),
        "preprocess",
        ["preprocess.split: validation"],
    ),
    "split in the wrong order": (
        with_settings(preprocess__split={"validate_from": "2024-02-28", "test_from": "2024-02-15"}),
        "preprocess",
        ["preprocess.split", "validate_from < test_from"],
    ),
    "unknown baseline in gates": (
        with_settings(gates__baselines={"last_vale": {}}),
        "evaluate",
        ["gates.baselines", "Did you mean 'last_value'?"],
    ),
    "a limit that bounds nothing": (with_settings(gates__limits={"mae": {}}), "evaluate", ["gates.limits.mae"]),
    "a model that is not good enough": (
        with_settings(gates__limits={"mae": {"max": 0.001}}),
        "register",
        ["mae", "0.001"],
    ),
}


@pytest.fixture
def artifacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mlflow_database: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{mlflow_database}")
    return tmp_path / "artifacts"


def check_refusal(said: str, words: list[str]) -> None:
    lines = [line for line in said.splitlines() if line.startswith("gateline: ") and "expected" in line]
    assert len(lines) == 1, said
    assert "Traceback" not in said
    for part in ("expected", "found"):
        assert part in lines[0]
    for word in words:
        assert word in lines[0], f"{word!r} is not in {lines[0]!r}"


def check_nothing_half_written(artifacts: Path, refused_by: str) -> None:
    left = [path.name for path in artifacts.glob("*")] if artifacts.exists() else []
    assert not [name for name in left if name.endswith((".tmp", ".old"))], left
    assert not (artifacts / KIND_OF[refused_by]).exists()


@pytest.mark.parametrize("name", REFUSED)
def test_is_refused_in_one_line(name: str, tmp_path: Path, artifacts: Path, capfd: pytest.CaptureFixture[str]) -> None:
    make, refused_by, words = REFUSED[name]

    step, code = run_until("register", make(tmp_path), artifacts)

    said = capfd.readouterr().err
    assert (step, code) == (refused_by, 2), said
    check_refusal(said, words)
    check_nothing_half_written(artifacts, refused_by)


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path) -> Path:
    """Artifacts of the tiny workload up to evaluation, with its file beside them."""
    folder = tmp_path_factory.mktemp("complete")
    shutil.copy(mlflow_template, folder / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        workload = write_tiny(folder)
        assert run_until("evaluate", workload, folder / "artifacts") == ("evaluate", 0)
    return folder


def edit_report(folder: Path) -> None:
    path = folder / "report" / "report.json"
    path.write_text(path.read_text().replace("true", "false", 1))


def edit_verdict(folder: Path) -> None:
    path = folder / "evaluation" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["facts"]["verdict"] = {"passed": True, "reasons": ["trust me"]}
    manifest["inputs"]["model"] = "0" * 64
    path.write_text(json.dumps(manifest))


def swap(folder: Path) -> None:
    (folder / "model").rename(folder / "other")
    (folder / "prepared").rename(folder / "model")
    (folder / "other").rename(folder / "prepared")


def truncate(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return change


CHANGED: dict[str, tuple[Callable[[Path], object], str, list[str]]] = {
    "report edited by hand": (edit_report, "preprocess", ["report.json", "changed"]),
    "report without a manifest": (lambda a: (a / "report" / "manifest.json").unlink(), "preprocess", ["manifest.json"]),
    "report gone": (lambda a: shutil.rmtree(a / "report"), "preprocess", ["no such folder"]),
    "raw table truncated": (truncate("raw/table.parquet"), "validate", ["table.parquet", "changed"]),
    "file slipped in": (lambda a: (a / "prepared" / "extra.npy").write_bytes(b"x"), "train", ["extra.npy"]),
    "array truncated": (truncate("prepared/arrays/values.npy"), "train", ["values.npy", "changed"]),
    "model file truncated": (truncate("model/weights.pt"), "evaluate", ["weights.pt", "changed"]),
    "manifest truncated": (truncate("model/manifest.json"), "evaluate", ["manifest.json"]),
    "verdict forged": (edit_verdict, "register", ["evaluation"]),
    "folders swapped": (swap, "train", ["prepared", "model"]),
}


@pytest.mark.parametrize("name", CHANGED)
def test_a_changed_folder_is_refused_by_its_reader(
    name: str, complete: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from tests.steps import run_here

    change, reader, words = CHANGED[name]
    shutil.copytree(complete, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'copy' / 'mlflow.db'}")
    artifacts = tmp_path / "copy" / "artifacts"
    before = (artifacts / KIND_OF[reader]).exists()
    change(artifacts)

    code = run_here(reader, tmp_path / "copy" / "tiny.yaml", artifacts)

    said = capfd.readouterr().err
    assert code == 2, said
    check_refusal(said, words)
    assert not list(artifacts.glob("*.tmp"))
    assert (artifacts / KIND_OF[reader]).exists() == before


def test_a_report_about_other_data_is_refused(
    complete: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from tests.steps import run_here

    artifacts = tmp_path / "artifacts"
    shutil.copytree(complete / "artifacts" / "report", artifacts / "report")
    workload = write_tiny(tmp_path, tiny_table(seed=1))
    assert run_here("ingest", workload, artifacts) == 0

    assert run_here("preprocess", workload, artifacts) == 2

    check_refusal(capfd.readouterr().err, ["another 'raw'"])


def test_an_unreachable_mlflow_asks_to_try_again_and_keeps_the_folder(
    complete: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from tests.steps import run_here

    shutil.copytree(complete, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # the discard port: nobody listens there
    artifacts = tmp_path / "copy" / "artifacts"

    code = run_here("evaluate", tmp_path / "copy" / "tiny.yaml", artifacts)

    said = capfd.readouterr().err
    assert code == 75, said
    check_refusal(said, ["127.0.0.1:9"])
    assert (artifacts / "evaluation" / "manifest.json").exists()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'copy' / 'mlflow.db'}")
    assert run_here("evaluate", tmp_path / "copy" / "tiny.yaml", artifacts) == 0
