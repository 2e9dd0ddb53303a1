"""The workloads of the S&P 500 and of M4 make their tables as they say, and a price that wanders at random is refused."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from gateline.adapters.ingestion import make_table
from gateline.evaluation import summary
from gateline.manifest import open_artifact
from gateline.table import read_table
from gateline.workload import Workload
from gateline.workload.budgets import with_budget
from gateline.workload.source import Source
from tests.steps import run_here, run_until

LAMBDA = 0.94


def walk(seed: int, sessions: int, begin: str = "2000-01-03") -> pd.DataFrame:
    """Prices that wander at random, in the format of the S&P 500's file; the odd session is missing, as on holidays."""
    random = np.random.default_rng(seed)
    days = pd.bdate_range(begin, periods=sessions + sessions // 30)
    days = days[np.sort(random.permutation(len(days))[:sessions])]
    close = 1400 * np.exp(np.cumsum(random.normal(0, 0.01, sessions)))
    opened = close * np.exp(random.normal(0, 0.004, sessions))
    reach = np.abs(random.normal(0, 0.003, (2, sessions)))
    return pd.DataFrame(
        {
            "date": days.strftime("%Y-%m-%d"),
            "open": opened,
            "high": np.maximum(opened, close) * np.exp(reach[0]),
            "low": np.minimum(opened, close) * np.exp(-reach[1]),
            "close": close,
            "adjclose": close,
            "volume": random.integers(10**8, 10**9, sessions),
        }
    )


def table_of(root: Path, name: str, folder: Path, files: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Run a workload's own query over other files."""
    source = Workload.read(root / "workloads" / f"{name}.yaml").section("source", Source)
    paths = {}
    for file, frame in files.items():
        paths[file] = folder / f"{file}.csv"
        frame.to_csv(paths[file], index=False)
    make_table(source, paths, folder / "table.parquet")
    return read_table(folder / "table.parquet")


def test_the_table_of_volatility_holds_what_its_columns_say(root: Path, tmp_path: Path, seed: int) -> None:
    prices = walk(seed, 120)
    table = table_of(root, "stocks", tmp_path, {"prices": prices})
    date = pd.to_datetime(prices["date"])
    log = prices[["open", "high", "low", "close"]].apply(np.log)
    gain = log["close"].diff()
    night = log["open"] - log["close"].shift()
    ranged = 0.5 * (log["high"] - log["low"]) ** 2 - (2 * np.log(2) - 1) * (log["close"] - log["open"]) ** 2 + night**2
    per_year = 100 * 252**0.5

    assert set(table["weekday"]) == {"Mon", "Tue", "Wed", "Thu", "Fri"}
    for row in table.sample(40, random_state=seed % 1000).itertuples():
        day = pd.Timestamp(str(row.day))
        assert day.day_name()[:3] == row.weekday
        week = (date > day - pd.Timedelta(days=7)) & (date <= day) & gain.notna()
        newest = int(np.flatnonzero(week)[-1])
        assert row.volatility == pytest.approx(per_year * np.mean(gain[week] ** 2) ** 0.5)
        assert row.week_return == pytest.approx(100 * gain[week].sum())
        assert row.range_volatility == pytest.approx(per_year * np.mean(ranged[week]) ** 0.5)
        losses = gain[week][gain[week] < 0]
        assert row.downside_share == pytest.approx((losses**2).sum() / (gain[week] ** 2).sum())
        assert row.day_volatility == pytest.approx(per_year * abs(gain[newest]))
        month = gain[max(1, newest - 21) : newest + 1]
        assert row.month_volatility == pytest.approx(per_year * np.mean(month**2) ** 0.5)
        weight = total = 0.0
        for session in range(1, newest + 1):  # the recursion, begun with nothing
            weight, total = LAMBDA * weight + 1, LAMBDA * total + gain[session] ** 2
        assert row.ewma_volatility == pytest.approx(per_year * (total / weight) ** 0.5)


def test_no_row_of_the_table_knows_a_later_session(root: Path, tmp_path: Path, seed: int) -> None:
    prices = walk(seed, 90)
    cut = pd.Timestamp(prices["date"].iloc[70])
    later = prices.copy()
    later.loc[71:, ["open", "high", "low", "close"]] *= 1.5
    tables = []
    for number, frame in enumerate((prices, later)):
        folder = tmp_path / str(number)
        folder.mkdir()
        table = table_of(root, "stocks", folder, {"prices": frame})
        tables.append(table[pd.to_datetime(table["day"]) <= cut].reset_index(drop=True))

    assert len(tables[0]) > 40
    pd.testing.assert_frame_equal(tables[0], tables[1])


def test_all_series_of_m4_end_at_one_moment_and_the_official_test_begins_at_another(root: Path, tmp_path: Path) -> None:
    lengths, random = {"H1": 5, "H2": 9}, np.random.default_rng(0)
    values = {name: random.uniform(10, 99, length + 3).round(1) for name, length in lengths.items()}

    def wide(cut: dict[str, np.ndarray]) -> pd.DataFrame:
        longest = max(len(one) for one in cut.values())
        rows = [[name, *one, *[None] * (longest - len(one))] for name, one in cut.items()]
        return pd.DataFrame(rows, columns=[f"V{place + 1}" for place in range(longest + 1)])

    files = {
        "training": wide({name: one[:-3] for name, one in values.items()}),
        "official_test": wide({name: one[-3:] for name, one in values.items()}),
    }
    table = table_of(root, "m4_hourly", tmp_path, files)

    for name, one in values.items():
        rows = table[table["series"] == name]
        hours = (pd.to_datetime(rows["hour"]) - pd.Timestamp("2000-01-01")) / pd.Timedelta(hours=1)
        assert rows["value"].tolist() == one.tolist()
        assert hours.tolist() == list(range(-lengths[name], 3))


def test_a_price_that_wanders_at_random_is_refused_however_well_its_curve_is_followed(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mlflow_database: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The very workload, on other prices; the last close is what it must beat, and nobody can."""
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "prices.csv"
    walk(11, 5105).to_csv(data, index=False)
    whole = with_budget(Workload.read(root / "workloads" / "stocks_price.yaml"), "smoke")
    sections = {name: section for name, section in whole.sections.items() if name != "budgets"}
    file = {"name": "prices", "path": str(data), "sha256": hashlib.sha256(data.read_bytes()).hexdigest()}
    sections["source"] = {**sections["source"], "files": [file]}
    sections["schema"] = {**sections["schema"], "freshness": {"newest_at_least": "2019-01-01T00:00:00Z"}}
    content = {"name": whole.name, "task": whole.task, "description": whole.description, **sections}
    path = tmp_path / "stocks_price.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")

    assert run_until("evaluate", path, tmp_path / "artifacts") == ("evaluate", 0)
    evaluation = open_artifact(tmp_path / "artifacts" / "evaluation", "evaluation")
    metrics = evaluation.read_json("metrics.json")
    assert metrics["test"]["wape"] < 0.015, "on a plot it looks perfect"
    assert metrics["test"]["mae"] == pytest.approx(metrics["baselines"]["last_value"]["mae"], rel=0.1)
    assert "of last_value" in summary(evaluation)
    assert not evaluation.facts["verdict"]["passed"]

    capsys.readouterr()
    assert run_here("register", path, tmp_path / "artifacts") == 2
    assert "last_value" in capsys.readouterr().err
    assert not (tmp_path / "artifacts" / "release").exists()
