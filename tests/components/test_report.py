"""The evaluation report in a real browser: on a phone, on a screen and on paper."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gateline.evaluation import Figure, Scores
from gateline.evaluation_report import Page, write_report
from gateline.judgement import judge
from gateline.manifest import open_artifact
from gateline.workload import Workload
from gateline.workload.gates import Gates
from tests.browser import PHONE, SCREEN, assert_reads_well, browse, in_a_browser, seen


def picture(path: Path) -> None:
    """A small picture, as wide as a plot."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(8, 3))
    axis.plot(np.arange(10))
    figure.savefig(path)
    plt.close(figure)


def page_of_anything(made: Path, folder: Path, rows: Sequence[Sequence[Any]]) -> Path:
    """A report of made-up scores with everything that a task may give: many metrics, long texts, markup, no number."""
    names = ["error_rate", *(f"a_metric_with_a_long_name_{number}" for number in range(9))]
    metrics = {name: 0.123456789 * (place + 1) for place, name in enumerate(names)}
    scores = Scores(
        metrics=metrics,
        baselines={f"baseline_{number}": {**metrics, "error_rate": 0.2 + number} for number in range(6)}
        | {"no_number": {"error_rate": 0.9}, "baseline_ahead": {"error_rate": 0.05}},
        slices={f"speaker={name}": metrics for name in ("ann", "bob", "a_very_long_name_without_any_blank_" * 3)},
        details={},
        num_examples=12_345,
        predictions=pd.DataFrame(),
        units={"error_rate": "wrong words per word"},
        intervals={"error_rate": (0.1, 0.2)},
        worst=pd.DataFrame(rows, columns=["text", "meant", "surprise"]),
    )
    gates = Gates.model_validate({"metric": "error_rate", "baselines": {"baseline_0": {}}, "min_examples": 1})
    verdict = judge(scores.metrics, {"baseline_0": metrics | {"error_rate": 0.2}}, 12_345, gates)
    workload = Workload("anything", "classification", "A description. " * 20, "test", {})
    (folder / "plots").mkdir(parents=True)
    picture(folder / "plots" / "plot.png")
    prepared, model = (open_artifact(made / "strong" / kind, kind) for kind in ("prepared", "model"))
    figures = [Figure("plot", "A plot", "What it shows.")]
    intervals = scores.all_intervals()
    differences = {
        "baseline_0": {"error_rate": {"difference": -0.0765, "interval": (-0.0912, 0.0041)}},
        "no_number": {},
    }
    write_report(
        Page(workload, scores, intervals, differences, gates, verdict, "sentences", prepared, model, figures), folder
    )
    return folder


ROWS = [
    ("words and words " * 40, "<script>document.title = 'broken'</script>", 12.5),
    ("onewordthatneverends" * 20, None, float("nan")),
]


@pytest.fixture(scope="session")
def anything(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return page_of_anything(made, tmp_path_factory.mktemp("report") / "anything", ROWS)


@pytest.fixture(scope="session")
def real(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "real"
    folder.mkdir()
    shutil.copy(made / "strong" / "evaluation" / "report.html", folder / "report.html")
    return folder


@in_a_browser
@pytest.mark.parametrize("width", [PHONE, SCREEN])
@pytest.mark.parametrize("which", ["real", "anything"])
def test_a_report_fits_the_width_and_shows_every_picture(
    which: str, width: int, request: pytest.FixtureRequest
) -> None:
    assert_reads_well(request.getfixturevalue(which), width)


@in_a_browser
@pytest.mark.parametrize("which", ["real", "anything"])
def test_a_report_prints(which: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(which)

    done = browse(
        folder, "--no-pdf-header-footer", f"--print-to-pdf={folder / 'report.pdf'}", f"file://{folder}/report.html"
    )

    assert (folder / "report.pdf").is_file(), done.stderr[-2000:]
    paper = (folder / "report.pdf").read_bytes()
    assert paper.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type\s*/Page\b", paper)) >= 2


@in_a_browser
def test_the_look_can_fail(anything: Path, tmp_path: Path) -> None:
    """The control: a page that is too wide, with a picture that is not there, is seen."""
    page = (anything / "report.html").read_text(encoding="utf-8")
    broken = page.replace("</main>", '<div style="width:2000px">wide</div><img alt="gone" src="gone.png"></main>')
    (tmp_path / "report.html").write_text(broken, encoding="utf-8")

    found = seen(tmp_path, PHONE)

    assert found["scrolls"] > PHONE
    assert ["gone", 0] in found["images"]


def test_what_a_task_says_is_text_and_no_markup(anything: Path) -> None:
    page = (anything / "report.html").read_text(encoding="utf-8")

    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert not re.search(r">\s*(nan|None|inf)\s*<", page), "what is no number is a dash"


def test_a_baseline_that_is_better_is_named_at_the_top(anything: Path, real: Path) -> None:
    """The scores that are made up have one baseline, of no gate, below the model's .123."""
    top = {
        folder: (folder / "report.html").read_text(encoding="utf-8").split("How well")[0] for folder in (anything, real)
    }

    assert "baseline ahead (error_rate 0.05 against 0.1235)" in top[anything]
    told = top[real].partition("Better on the same test windows: ")[2].partition(". The gates")[0]
    ahead = re.findall(r"(\w+) \(mae ([\d.]+) against ([\d.]+)\)", told)
    assert [name for name, _, _ in ahead] == ["ridge"], "tiny is nearly linear, and no other method comes near"
    assert all(float(theirs) < float(mine) for _, theirs, mine in ahead)


def test_a_report_says_what_how_well_against_what_and_where_it_fails(real: Path) -> None:
    page = (real / "report.html").read_text(encoding="utf-8")
    for words in (
        "Sales of two shops, 6 hours ahead.",
        "How well",
        "pieces",
        "95 % interval",
        "Against what, on the same test windows",
        "seasonal naive",
        "Where it fails",
        "mae by shop",
        "The worst errors",
        "Where it comes from",
    ):
        assert words in page, words
