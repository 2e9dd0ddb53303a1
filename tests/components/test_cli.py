"""`gateline` as a user meets it: real commands in a real project folder, their output, exit codes and last lines."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from gateline.cli import app
from gateline.manifest import open_artifact, write_artifact
from gateline.workload import Workload
from tests.reviews import reviews
from tests.steps import run_until

ROOT = Path(__file__).resolve().parents[2]
PARAMS = (
    "# what runs\nworkloads:\n  - other\nseed: 7\ndevice: cpu\nprecision: float32\nprocesses: 1\ncheckpoints: beside\n"
)
OTHER = "name: other\ntask: forecasting\ndescription: Another.\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project without workloads to run, whose data are seven weeks of one hourly series."""
    folder = tmp_path / "project"
    (folder / "workloads").mkdir(parents=True)
    (folder / "workloads" / "other.yaml").write_text(OTHER)
    (folder / "params.yaml").write_text(PARAMS)
    hours = pd.date_range("2024-01-01", periods=1200, freq="h")
    load = 50 + 20 * np.sin(2 * np.pi * hours.hour / 24) + np.random.default_rng(0).normal(0, 2, len(hours))
    pd.DataFrame({"when": hours, "temperature": load / 5, "load": load.round(2)}).to_csv(
        folder / "load.csv", index=False
    )
    return folder


@pytest.fixture
def clone(project: Path) -> Path:
    """The project with the steps and DVC, as a clone has them (without git, which DVC is told)."""
    for name in ("components", "src"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("dvc.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, project / name)
    (project / ".dvc").mkdir()
    (project / ".dvc" / "config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    return project


class Answer(NamedTuple):
    """What a command said, with the names of `subprocess`."""

    returncode: int
    stdout: str
    stderr: str


def environment() -> dict[str, str]:
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    return {**os.environ, "PYTHONPATH": path, "NO_COLOR": "1"}


def command(*argv: str) -> list[str]:
    return [sys.executable, "-c", "from gateline.cli import app; app(prog_name='gateline')", *argv]


def gateline(folder: Path, *argv: str) -> Answer:
    """Run a command in this process: the imports of the first one serve all."""
    with contextlib.chdir(folder):
        result = CliRunner().invoke(app, list(argv), prog_name="gateline", env={"NO_COLOR": "1"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Answer(result.exit_code, result.stdout, result.stderr)


def gateline_process(folder: Path, *argv: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own, as a shell does."""
    return subprocess.run(
        command(*argv), cwd=folder, env=environment() | variables, capture_output=True, text=True, timeout=300
    )


def assert_refused(answer: Answer | subprocess.CompletedProcess[str], words: str, code: int = 2) -> None:
    """One line that helps, as the last thing on stderr; no traceback."""
    last = answer.stderr.strip().splitlines()[-1]
    assert answer.returncode == code, answer.stderr
    assert last.startswith("gateline: ")
    assert words in last
    assert "Traceback" not in answer.stderr
    assert "ERROR" not in answer.stderr


# ── Help ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_gateline_alone_shows_its_help(tmp_path: Path) -> None:
    answer = gateline_process(tmp_path)
    assert answer.returncode == 0
    assert answer.stdout == gateline_process(tmp_path, "--help").stdout
    assert "gateline new rides --from rides.csv" in answer.stdout


@pytest.mark.parametrize(
    "name",
    [
        "new",
        "check",
        "run",
        "show",
        "tune",
        "serve",
        "predict",
        "drift",
        "promote",
        "rollback",
        "history",
        "explain",
        "compare-models",
    ],
)
def test_every_command_has_a_help_with_an_example(tmp_path: Path, name: str) -> None:
    answer = gateline(tmp_path, name, "--help")
    assert answer.returncode == 0
    assert "Example" in answer.stdout
    assert f"gateline {name} " in answer.stdout.partition("Example")[2]


def test_an_address_with_a_version_is_offered_where_one_can_be_asked_for(tmp_path: Path) -> None:
    names = ("promote", "rollback", "history", "explain")
    offers = {name: "models:/NAME/VERSION" in gateline(tmp_path, name, "--help").stdout for name in names}
    takes = {name: "found its version 3" not in gateline(tmp_path, name, "models:/m/3").stderr for name in names}

    assert offers == takes == {"promote": True, "rollback": False, "history": False, "explain": True}


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    code = "import sys\nfrom gateline.cli import app\ntry:\n    app(['--help'])\nexcept SystemExit:\n    pass\n"
    heavy = (
        "print([m for m in ('torch', 'pandas', 'numpy', 'duckdb', 'mlflow', 'dvc', 'pydantic') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code + heavy], env=environment(), capture_output=True, text=True)
    assert answer.stdout.strip().splitlines()[-1] == "[]"


def test_version_is_the_package_s(tmp_path: Path) -> None:
    from gateline import __version__

    assert gateline(tmp_path, "--version").stdout == f"gateline {__version__}\n"


def test_a_mistyped_command_is_guessed(tmp_path: Path) -> None:
    answer = gateline(tmp_path, "chek")
    assert answer.returncode == 2
    assert "Did you mean 'check'?" in answer.stderr


# ── new and check ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_new_writes_a_workload_that_check_finds_ready(project: Path) -> None:
    written = gateline(project, "new", "load", "--from", "load.csv")
    assert written.returncode == 0, written.stderr
    assert "load: taken because it is the last column of numbers" in written.stdout
    assert yaml.safe_load((project / "params.yaml").read_text())["workloads"] == ["other", "load"]
    assert (project / "params.yaml").read_text().startswith("# what runs\n")
    for reference in ("load", "workloads/load.yaml"):
        checked = gateline(project, "check", reference)
        assert checked.returncode == 0, checked.stderr
        assert checked.stdout.splitlines()[-1] == "load: ready"
    assert "1,200 rows of 3 columns" in checked.stdout
    assert "weights" in checked.stdout
    assert not (project / "artifacts").exists()


def test_a_path_is_read_from_where_the_user_stands(project: Path) -> None:
    (project / "deep").mkdir()
    assert gateline(project / "deep", "new", "load", "--from", "../load.csv").returncode == 0
    assert yaml.safe_load((project / "workloads" / "load.yaml").read_text())["source"]["files"][0]["path"] == "load.csv"
    assert gateline(project / "deep", "check", "load").returncode == 0


def test_outside_a_project_it_says_where_to_go(tmp_path: Path) -> None:
    for argv in (
        ["new", "x", "--from", "x.csv"],
        ["check", "x"],
        ["run", "x"],
        ["show", "x"],
        ["tune", "x", "--trials", "1"],
    ):
        assert_refused(gateline(tmp_path, *argv), "Change into your clone")


BREAKS = {
    "an unknown key": (lambda text: text.replace("lookback: ", "lokback: "), "Did you mean 'lookback'?"),
    "a missing section": (lambda text: text.partition("# How the weights are found")[0], "no `training`"),
    "a column that is not there": (lambda text: text.replace("target: load", "target: laod"), "Did you mean 'load'?"),
    "a text target": (lambda text: text.replace("target: load", "target: when"), "preprocess.target"),
    "a gate on a baseline that is not computed": (
        lambda text: text.replace("baselines: [last_value, ", "baselines: ["),
        "gates.baselines",
    ),
    "an unknown metric": (lambda text: text.replace("metric: mae", "metric: maee"), "Did you mean 'mae'?"),
    "more test windows than there are": (
        lambda text: text.replace("min_examples: ", "min_examples: 1000"),
        "test windows that there are",
    ),
    "a horizon longer than the data": (
        lambda text: text.replace("horizon: 12", "horizon: 9000"),
        "at least one window",
    ),
    "another digest": (
        lambda text: re.sub("sha256: .{8}", "sha256: 00000000", text),
        "expected a file with sha256 00000000",
    ),
    "a time stamp without quotes": (
        lambda text: text.replace('test_from: "', "test_from: ").replace('Z"\n    # Left out', "Z\n    # Left out"),
        "Put it in quotes",
    ),
    "intervals that the validation part is too short for": (
        lambda text: text.replace("intervals: []", "intervals: [0.999]"),
        "at least 999 validation windows with a target",
    ),
    "something to monitor that is not computed": (
        lambda text: text.replace("  loss: absolute", "  loss: absolute\n  monitor: rmsee"),
        "training.monitor: expected something that the task computes; found 'rmsee'",
    ),
    "a choice that is no cell": (
        lambda text: text.replace("model.attention: {choices: [none, dot]}", "model.cell: {choices: [lstm, gruu]}"),
        "search.settings.model.cell: expected the name of a cell; found 'gruu'. Did you mean 'gru'?",
    ),
    "no YAML": (lambda text: text + "\n  - [", "expected YAML"),
}


@pytest.mark.parametrize("fault", BREAKS)
def test_check_refuses_a_broken_workload_in_one_line(project: Path, fault: str) -> None:
    change, words = BREAKS[fault]
    assert gateline(project, "new", "load", "--from", "load.csv").returncode == 0
    path = project / "workloads" / "load.yaml"
    text = path.read_text()
    path.write_text(change(text))
    assert path.read_text() != text
    assert_refused(gateline(project, "check", "load"), words)


def test_a_learning_rate_is_looked_for_after_preprocess(project: Path) -> None:
    assert gateline(project, "new", "load", "--from", "load.csv").returncode == 0
    assert_refused(gateline(project, "learning-rate", "load"), "Run `dvc repro preprocess@load`")

    path = project / "workloads" / "load.yaml"
    with write_artifact(project / "artifacts" / "load" / "prepared", "prepared") as draft:
        draft.facts["sections"] = Workload.read(path, "preprocess").recorded("preprocess")
    text = path.read_text()
    path.write_text(re.sub(r"lookback: \d+", "lookback: 12", text))
    assert path.read_text() != text
    assert_refused(gateline(project, "learning-rate", "load"), "found those of another section `preprocess`. Run `dvc")


def test_a_mistyped_workload_is_guessed(project: Path) -> None:
    for name in ("check", "run", "show"):
        assert_refused(gateline(project, name, "othr"), "Did you mean 'other'?")


# ── run ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_workload_that_params_do_not_list_runs_from_a_pipeline_of_its_own(clone: Path) -> None:
    """Here as far as to ingest, which refuses other bytes; the slow test below goes on."""
    assert gateline(clone, "new", "load", "--from", "load.csv").returncode == 0
    (clone / "params.yaml").write_text(PARAMS)
    assert "params.yaml" not in gateline(clone, "check", "load").stdout
    (clone / "load.csv").write_text("other,bytes\n1,2\n")
    answer = gateline_process(clone, "run", "load")
    assert_refused(answer, "expected a file with sha256")
    assert answer.stderr.splitlines()[0] == "ingest ..."
    assert (clone / "params.yaml").read_text() == PARAMS
    assert not (clone / "dvc.lock").exists()
    project, own = (yaml.safe_load((clone / path).read_text()) for path in ("dvc.yaml", "artifacts/load/dvc.yaml"))
    for step, stage in project["stages"].items():
        assert own["stages"][step]["cmd"] == stage["cmd"].replace("${item.workload}", "load")
        assert own["stages"][step]["deps"] == [dep.replace("${item.workload}", "load") for dep in stage["deps"]]


def test_run_with_a_budget_is_refused_before_anything_is_written(clone: Path) -> None:
    assert gateline(clone, "new", "load", "--from", "load.csv").returncode == 0
    assert_refused(gateline(clone, "run", "load", "--budget", "smokes"), "Did you mean 'smoke'?")
    path = clone / "workloads" / "load.yaml"
    written, _, _ = path.read_text().partition("budgets:")
    path.write_text(written)
    assert_refused(gateline(clone, "run", "load", "--budget", "tiny"), "Add e.g. `budgets: {tiny:")
    path.write_text(written + "budgets: {tiny: {training.epoch: 1}}\n")
    assert_refused(gateline(clone, "run", "load", "--budget", "tinny"), "Did you mean 'tiny'?")
    assert_refused(gateline(clone, "run", "load", "--budget", "tiny"), "Did you mean 'epochs'?")
    assert_refused(gateline(clone, "check", "load"), "Did you mean 'epochs'?")
    path.write_text(path.read_text().replace("training.epoch:", "training.epochs:"))
    (clone / "workloads" / "load_tiny.yaml").write_text(OTHER)
    assert_refused(gateline(clone, "run", "load", "--budget", "tiny"), "Rename the budget")
    assert not (clone / "artifacts").exists()
    checked = gateline(clone, "check", "load")
    assert "`gateline run load --budget tiny` runs it as load_tiny with training.epochs 1" in checked.stdout


@pytest.mark.slow  # trains
def test_a_budget_runs_beside_the_workload_and_an_unlisted_one_leaves_what_git_and_dvc_repro_see(clone: Path) -> None:
    def git(*argv: str) -> str:
        return subprocess.run(["git", *argv], cwd=clone, check=True, capture_output=True, text=True).stdout

    def steps(answer: subprocess.CompletedProcess[str], state: str) -> list[str]:
        return [line.split()[0].rstrip(":") for line in answer.stderr.splitlines() if line.endswith(state)]

    assert gateline(clone, "new", "load", "--from", "load.csv").returncode == 0
    listed = (clone / "params.yaml").read_text()
    (clone / "params.yaml").write_text(PARAMS)
    path = clone / "workloads" / "load.yaml"
    path.write_text(path.read_text() + "  tiny: {training.epochs: 1, training.warm_up: 0.0}\n")  # budgets stand last
    (clone / ".gitignore").write_text("/artifacts/\n__pycache__/\n/mlflow.db\n/mlruns/\n")
    (clone / ".dvc" / "config").write_text("[core]\n    analytics = false\n")
    (clone / ".dvc" / ".gitignore").write_text("/cache\n/tmp\n")
    git("init", "-q")
    git("add", "-A")
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a clone")

    every = ["ingest", "validate", "preprocess", "train", "evaluate", "register"]
    small = gateline_process(clone, "run", "load", "--budget", "tiny")
    assert small.returncode == 0, small.stderr
    assert steps(small, " ...") == every
    assert "load_tiny version 1, alias champion" in small.stdout
    assert small.stdout == gateline_process(clone, "show", "load", "--budget", "tiny").stdout
    model = open_artifact(clone / "artifacts" / "load_tiny" / "model", "model")
    assert len(model.read_json("history.json")) == 1
    again = gateline_process(clone, "run", "load", "--budget", "tiny")
    assert steps(again, ": up to date") == every
    passport = json.loads((clone / "artifacts" / "load_tiny" / "release" / "passport.json").read_text())
    assert set(passport["dvc_md5"]) == {"raw", "report", "prepared", "model", "evaluation"}
    assert git("status", "--porcelain") == ""
    assert not (clone / "artifacts" / "load").exists()

    # Listed now, it is the project's own pipeline that runs; of what ran before, nothing runs again.
    path.write_text(path.read_text().replace("epochs: 20", "epochs: 2"))
    first = gateline_process(clone, "run", "load")
    assert first.returncode == 0, first.stderr
    (clone / "params.yaml").write_text(listed.replace("  - other\n", ""))
    second = gateline_process(clone, "run", "load")
    assert second.returncode == 0, second.stderr
    assert steps(second, "(brought back from the cache)") == every[:-1]
    assert not (clone / "artifacts" / "load" / "dvc.yaml").exists()


def test_run_says_what_a_folder_lacks(project: Path) -> None:
    assert_refused(gateline(project, "run", "other"), "expected dvc.yaml")


def test_the_refusal_of_a_step_is_the_last_word(clone: Path) -> None:
    assert gateline(clone, "new", "load", "--from", "load.csv").returncode == 0
    with (clone / "load.csv").open("a") as file:
        file.write("2024-06-01 00:00:00,1,2\n")
    answer = gateline_process(clone, "run", "load")
    assert_refused(answer, "expected a file with sha256")
    assert answer.stderr.splitlines()[0] == "ingest ..."
    assert answer.stdout == ""


def test_without_git_it_says_how_to_go_on(clone: Path) -> None:
    assert gateline(clone, "new", "load", "--from", "load.csv").returncode == 0
    (clone / ".dvc" / "config").write_text("")
    assert_refused(gateline(clone, "run", "load"), "dvc config --local core.no_scm true")


@pytest.mark.slow  # trains
def test_own_data_go_through_all_steps_without_editing_and_a_second_run_does_nothing(clone: Path) -> None:
    assert gateline(clone, "new", "load", "--from", "load.csv").returncode == 0
    first = gateline_process(clone, "run", "load")
    assert first.returncode == 0, first.stderr
    assert [line.split()[0] for line in first.stderr.splitlines() if line.endswith(" ...")] == [
        *("ingest", "validate", "preprocess", "train", "evaluate", "register")
    ]
    second = gateline_process(clone, "run", "load")
    assert second.returncode == 0, second.stderr
    assert [line for line in second.stderr.splitlines() if line] == [
        f"{step}: up to date" for step in ("ingest", "validate", "preprocess", "train", "evaluate", "register")
    ]
    assert first.stdout == second.stdout == gateline_process(clone, "show", "load").stdout
    for words in (
        "model verdict  passed",
        "seasonal_naive",
        "load version 1, alias champion",
        "evaluation/report.html",
    ):
        assert words in first.stdout

    Path(os.environ["MLFLOW_TRACKING_URI"].removeprefix("sqlite:///")).unlink()
    third = gateline_process(clone, "run", "load")
    assert third.returncode == 0, third.stderr
    assert "the registry does not hold this release any more" in third.stderr
    assert "load version 1, alias champion" in third.stdout

    table = pd.read_csv(clone / "load.csv")
    table[table.select_dtypes("number").columns.tolist()] *= 3
    table.to_csv(clone / "tripled.csv", index=False)
    drifted = gateline_process(clone, "drift", "load", "--data", "tripled.csv", "--run-if-drift")
    assert drifted.returncode == 3, drifted.stderr
    assert "drift, load version 1" in drifted.stdout
    assert "register: up to date" in drifted.stderr
    assert "nothing was trained" in drifted.stderr


@pytest.mark.slow  # trains
def test_a_table_of_texts_and_labels_goes_through_all_steps_without_editing(clone: Path) -> None:
    frame = reviews(500).rename(columns={"verdict": "my label"})
    frame[["review", "my label"]].to_csv(clone / "reviews.csv", index=False)
    written = gateline(clone, "new", "praise", "--from", "reviews.csv")
    assert written.returncode == 0, written.stderr
    assert "my label: " in written.stdout
    checked = gateline(clone, "check", "praise")
    assert checked.returncode == 0, checked.stderr
    ran = gateline_process(clone, "run", "praise")
    assert ran.returncode == 0, ran.stderr
    assert "praise version 1, alias champion" in ran.stdout
    assert (clone / "artifacts" / "praise" / "evaluation" / "report.html").is_file()


@pytest.mark.slow  # trains until it is interrupted
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_so_and_goes_on_when_run_again(clone: Path, number: signal.Signals) -> None:
    assert gateline(clone, "new", "load", "--from", "load.csv").returncode == 0
    # A shell starts what it puts into the background with SIGINT ignored, and so would be whatever the tests start there.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command("run", "load"), cwd=clone, env=environment(), stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, before)
    assert process.stderr is not None
    heard = []
    for line in process.stderr:
        heard.append(line.rstrip())
        if line.startswith("preprocess") or "epoch 2/" in line:
            process.send_signal(number)
            break
    heard += [line.rstrip() for line in process.stderr]
    assert process.wait(timeout=60) == 75, heard
    assert heard[-1].startswith("gateline: ")
    assert "again" in heard[-1]


# ── tune ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

SPACE = """\
search:
  settings:
    training.learning_rate: {low: 0.0001, high: 0.03, log: true} # wide
"""


@pytest.fixture
def tunable(clone: Path) -> Path:
    """The clone with a workload whose learning rate is far too low."""
    assert gateline(clone, "new", "load", "--from", "load.csv").returncode == 0
    path = clone / "workloads" / "load.yaml"
    text = path.read_text().partition("# What `gateline tune`")[0]
    for old, new in (("learning_rate: 0.002", "learning_rate: 0.0001 # slow"), ("epochs: 20", "epochs: 2")):
        assert old in text
        text = text.replace(old, new)
    path.write_text(text + SPACE)
    return clone


def test_new_writes_a_search_that_check_explains(project: Path) -> None:
    assert gateline(project, "new", "load", "--from", "load.csv").returncode == 0
    checked = gateline(project, "check", "load")
    assert "tune        `gateline tune` looks for the lowest loss of the validation part" in checked.stdout
    assert "training.learning_rate 0.0003 to 0.02 by orders of magnitude (now 0.002)" in checked.stdout


def test_a_workload_without_a_search_is_ready_all_the_same(project: Path) -> None:
    assert gateline(project, "new", "load", "--from", "load.csv").returncode == 0
    path = project / "workloads" / "load.yaml"
    path.write_text(path.read_text().partition("# What `gateline tune`")[0])
    checked = gateline(project, "check", "load")
    assert checked.returncode == 0, checked.stderr
    assert "gateline tune" not in checked.stdout
    assert_refused(gateline(project, "tune", "load", "--trials", "3"), "docs/tune.md shows one")


def test_tune_refuses_before_anything_is_computed(tunable: Path) -> None:
    written = tunable / "workloads" / "load_tuned.yaml"
    written.write_text("by hand\n")
    assert_refused(gateline(tunable, "tune", "load", "--trials", "3"), "a file that was written or edited by somebody")
    assert written.read_text() == "by hand\n"
    assert_refused(gateline(tunable, "tune", "load", "--trials", "3", "--output", "a/b.yaml"), "a folder to write into")
    assert_refused(gateline(tunable, "tune", "load", "--trials", "3", "--output", "B C.yaml"), "lower-case letters")
    path = tunable / "workloads" / "load.yaml"
    path.write_text(path.read_text().replace("training.learning_rate:", "training.learnin_rate:"))
    assert_refused(gateline(tunable, "tune", "load", "--trials", "3"), "Did you mean 'learning_rate'?")
    assert not (tunable / "artifacts").exists()


@pytest.mark.slow  # trains
def test_tune_writes_back_a_workload_that_trains_to_the_value_of_its_trial(tunable: Path) -> None:
    answer = gateline_process(tunable, "tune", "load", "--trials", "3")
    assert answer.returncode == 0, answer.stderr
    assert "3 trials: 3 complete, 0 pruned, 0 failed" in answer.stdout
    assert "0  (present settings)" not in answer.stdout.splitlines()[3]
    found = re.search(r"Best: trial ([12]) \((-\d+\.\d)% against the present settings\)", answer.stdout)
    assert found, answer.stdout
    assert yaml.safe_load((tunable / "params.yaml").read_text())["workloads"] == ["other", "load", "load_tuned"]

    written = tunable / "workloads" / "load_tuned.yaml"
    before, after = ((tunable / "workloads" / name).read_text() for name in ("load.yaml", "load_tuned.yaml"))
    head, _, body = after.partition("\n\n")
    assert all(line.startswith("#") for line in head.splitlines())
    changed = [(old, new) for old, new in zip(before.splitlines(), body.splitlines(), strict=True) if old != new]
    assert [old.split(":")[0].strip() for old, _ in changed] == ["name", "learning_rate"]
    assert all(new.endswith("# slow") == old.endswith("# slow") for old, new in changed)

    checked = gateline(tunable, "check", "load_tuned")
    assert checked.returncode == 0, checked.stderr
    assert checked.stdout.splitlines()[-1] == "load_tuned: ready"
    with contextlib.chdir(tunable):
        assert run_until("train", written, tunable / "artifacts" / "load_tuned") == ("train", 0)
    model = open_artifact(tunable / "artifacts" / "load_tuned" / "model", "model")
    history = model.read_json("history.json")
    promised = re.search(r"loss (\d\.\d+) on the validation part", head)
    assert promised
    assert f"{min(record['validation_loss'] for record in history):.6g}" == promised[1]

    again = gateline(tunable, "tune", "load", "--trials", "3")
    assert again.returncode == 0, again.stderr
    assert written.read_text() == after
    assert "trial" not in again.stderr
    written.write_text(after.replace("# slow", "# quick"))
    assert_refused(gateline(tunable, "tune", "load", "--trials", "3"), "written or edited by somebody")


# ── show ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_show_says_that_there_is_nothing_yet(project: Path) -> None:
    assert_refused(gateline(project, "show", "other"), "Run `gateline run other` first")


def made(project: Path) -> Path:
    """Write the folders of a finished run of `other`, with metrics that a test can look for."""
    folder = project / "artifacts" / "other"
    with write_artifact(folder / "raw", "raw") as draft:
        draft.facts |= {"rows": 1234, "columns": ["t", "y"]}
    raw = open_artifact(folder / "raw", "raw")
    with write_artifact(folder / "report", "report", {"raw": raw}) as draft:
        draft.facts["verdict"] = {"passed": True, "reasons": []}
        (draft.path / "report.html").write_text("<html>")
    with write_artifact(folder / "prepared", "prepared", {"raw": raw}) as draft:
        draft.facts["examples"] = {"test": 3, "train": 11, "validation": 2}
    prepared = open_artifact(folder / "prepared", "prepared")
    with write_artifact(folder / "evaluation", "evaluation", {"prepared": prepared}) as draft:
        draft.facts["verdict"] = {"passed": False, "reasons": ["mae 8.5 against 8.0 of ridge"]}
        metrics = {
            "test": {"mae": 8.5, "rmse": 12.25},
            "baselines": {"ridge": {"mae": 8.0, "rmse": 12.0}},
            "slices": {},
        }
        draft.write_json("metrics.json", metrics)
        (draft.path / "report.html").write_text("<html>")
    return folder


def test_show_fits_on_a_screen_and_names_the_verdicts_the_metrics_and_the_reports(project: Path) -> None:
    made(project)
    answer = gateline(project, "show", "other")
    assert answer.returncode == 0, answer.stderr
    for words in (
        "1,234 rows",
        "refused: mae 8.5 against 8.0 of ridge",
        "12.25",
        "-5.9%",
        "train 11, validation 2, test 3",
    ):
        assert words in answer.stdout
    assert "artifacts/other/evaluation/report.html" in answer.stdout
    assert "stale" not in answer.stdout
    assert len(answer.stdout.splitlines()) <= 24
    assert "\x1b" not in answer.stdout


def test_show_says_what_is_stale(project: Path) -> None:
    folder = made(project)
    with write_artifact(folder / "raw", "raw") as draft:
        draft.facts |= {"rows": 1235, "columns": ["t", "y"]}
    assert "report, prepared, evaluation: made from other folders" in gateline(project, "show", "other").stdout


def test_show_refuses_a_manifest_that_is_none(project: Path) -> None:
    (made(project) / "evaluation" / "manifest.json").write_text(json.dumps([1]))
    assert_refused(gateline(project, "show", "other"), "Run evaluate again")


def test_show_reads_no_registry_and_is_quick(project: Path) -> None:
    made(project)
    gateline_process(project, "show", "other")
    start = time.perf_counter()
    gateline_process(project, "show", "other", MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert time.perf_counter() - start < 5  # half a second on an idle machine
