"""A registered model can be made again from its passport, to the byte; another seed shows; what is missing is said."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateline.adapters.project import Project
from gateline.adapters.registry.package import PACKAGE_TAG, package_digest
from gateline.adapters.registry.replay import _command, replay
from gateline.adapters.registry.replay_comparison import Row, apart_by, verdict_on
from gateline.adapters.registry.versions import PASSPORT_TAG
from gateline.cli import app
from gateline.errors import RegistryError
from gateline.manifest import digest_of, dump_json
from gateline.table import TABLE, write_table
from tests.components.chain import Chain, chain, git, registered_once
from tests.tiny import TINY, tiny_table, tiny_workload

__all__ = ["chain", "registered_once"]  # fixtures


def in_a_project(chain: Chain) -> Project:
    return Project(chain.root)


@pytest.mark.parametrize(("freshness", "moment"), [({"max_age": "1d"}, "2024-03-10T23:00:00+00:00"), ({}, None)])
def test_data_that_must_be_fresh_are_judged_as_of_their_newest_row(
    freshness: dict[str, str], moment: str | None, tmp_path: Path
) -> None:
    """A year later they would be refused for their age."""
    schema = {**TINY["schema"], "freshness": freshness}
    (tmp_path / "workload.yaml").write_text(json.dumps(tiny_workload() | {"schema": schema}, default=str))
    (tmp_path / "raw").mkdir()
    write_table(tiny_table(), tmp_path / "raw" / TABLE)

    command = _command("validate", ("raw", "report"), tmp_path, {})

    assert command[-2:] == (["--report", str(tmp_path / "report")] if moment is None else ["--as-of", moment])


def test_other_weights_pass_only_where_the_machine_or_a_library_is_another_and_metrics_agree() -> None:
    weights = Row("weights", "a", "b", "differs")
    library = Row("library torch", "2.13", "2.14", "differs")
    machine = Row("machine: cpu", "Xeon", "EPYC", "differs")
    seed = Row("settings.seed", "7", "8", "differs")

    for elsewhere in (library, machine):
        words, same = verdict_on([elsewhere, weights], False, 0.005, 0.01)
        assert same
        assert elsewhere.link in words
        assert not verdict_on([elsewhere, weights], False, 0.02, 0.01)[1], "too far apart"
        words, same = verdict_on([seed, elsewhere, weights], False, 0.005, 0.01)
        assert not same, "a cause of our own is no matter of the machine"
        assert words.startswith("settings.seed: passport 7, replay 8;")
    files, prepared = Row("raw files", "a", "b", "differs"), Row("prepared data", "a", "b", "differs")
    for same_weights in (False, True):
        words, same = verdict_on([files, library, weights], same_weights, 0.0, 0.01)
        assert not same, "other data are no matter of a library"
        assert words.startswith("raw files: other data")
    pandas, duckdb = (Row(f"library {name}", "1", "2", "differs") for name in ("pandas", "duckdb"))
    assert not verdict_on([duckdb, weights], False, 0.0, 0.01)[1], "it computes nothing of a training"
    assert not verdict_on([pandas, weights], False, 0.0, 0.01)[1], "the data were the same"
    assert verdict_on([pandas, prepared, weights], False, 0.0, 0.01)[1]
    assert not verdict_on([duckdb, prepared, weights], False, 0.0, 0.01)[1]
    gpu, cpu = (Row("settings.device", name, name, "equal") for name in ("cuda", "cpu"))
    assert verdict_on([gpu, weights], False, 0.005, 0.01) == (
        "the weights differ (a GPU does not add in the same order every time), metrics by at most 0.005, within 0.01",
        True,
    )
    assert not verdict_on([gpu, weights], False, 0.02, 0.01)[1], "too far apart"
    assert not verdict_on([gpu, seed, weights], False, 0.005, 0.01)[1]
    assert not verdict_on([cpu, weights], False, 0.0, 0.01)[1]
    assert not verdict_on([weights], False, 0.0, 0.01)[1], "the same machine and libraries give the same bytes"
    assert verdict_on([library], True, 0.0, 0.01)[1]


def test_a_metric_near_zero_is_compared_by_its_size_beside_others() -> None:
    mae = 8.0
    assert apart_by(0.001, -0.001, mae) == pytest.approx(0.00025), "a bias, beside errors of 8"
    assert apart_by(8.0, 8.4, mae) == pytest.approx(0.05)
    assert apart_by(1e-9, 2e-9, 0.0) < 1e-5
    assert apart_by(0.5, 0.5, mae) == 0
    assert apart_by(0.5, None, mae) == math.inf
    assert not verdict_on([], True, math.nan, 0.01)[1], "no number is no agreement"


@pytest.mark.slow
def test_the_weights_come_out_again_to_the_byte(chain: Chain) -> None:
    """In a clone of the commit, whatever stands in the project now; the source is gone, and the raw files are found by digest."""
    path = chain.root / "workloads" / "tiny.yaml"
    path.write_text(path.read_text().replace("hidden_size: 12", "hidden_size: 13"))
    (chain.root / "src" / "gateline" / "training" / "loop.py").write_text("raise SystemExit('not this one')\n")
    said: list[str] = []

    found = replay("tiny", in_a_project(chain), said.append)

    assert found.same, found
    by_link = {row.link: row for row in found.rows}
    for link in ("code", "raw files", "raw data", "report", "prepared data", "weights", "test/mae", "evaluation"):
        assert by_link[link].state == "equal", by_link[link]
    assert [line.partition(":")[0] for line in said if line[0] != " "][1:] == [
        "ingest",
        "validate",
        "preprocess",
        "train",
        "evaluate",
    ]
    git(chain.root, "checkout", "-q", "--", ".")


@pytest.mark.slow
def test_another_seed_makes_another_model_and_is_named(chain: Chain) -> None:
    refused = CliRunner().invoke(app, ["replay", "models:/tiny@champion", "--seed", "8"])

    assert refused.exit_code == 2, refused.output
    (line,) = [line for line in refused.stderr.splitlines() if line.startswith("gateline: ")]
    assert "settings.seed: passport 7, replay 8; weights differ" in line
    assert "equal" in refused.stdout, "raw and prepared data are the same"


def seal(chain: Chain) -> None:
    """Make the version say that its papers are as they stand now."""
    digest = digest_of(json.loads((chain.papers / "passport.json").read_text()))
    for tag, value in ((PASSPORT_TAG, digest), (PACKAGE_TAG, package_digest(chain.top))):
        chain.client.set_model_version_tag("tiny", "1", tag, value)


@pytest.mark.parametrize(
    ("file", "tag"), [("passport.json", PASSPORT_TAG), ("workload.json", PACKAGE_TAG), ("metrics.json", PACKAGE_TAG)]
)
def test_papers_that_somebody_changed_are_not_followed(file: str, tag: str, chain: Chain) -> None:
    paper = chain.papers / file
    paper.write_text(dump_json(json.loads(paper.read_text()) | {"seed": 9}))
    with pytest.raises(RegistryError, match=f"others in their place .*{tag}"):
        replay("tiny", in_a_project(chain), print)


def test_what_no_commit_holds_is_refused(chain: Chain) -> None:
    passport = chain.papers / "passport.json"
    content = json.loads(passport.read_text())
    for change, words in (({"dirty": "true"}, "--allow-dirty"), ({"commit": "0" * 40}, "found none")):
        passport.write_text(dump_json(content | {"code": content["code"] | change}))
        seal(chain)
        with pytest.raises(RegistryError) as refusal:
            replay("tiny", in_a_project(chain), print)
        assert words in str(refusal.value), change


def test_a_step_that_refuses_is_quoted(chain: Chain) -> None:
    """The raw file is neither in the artifacts nor where the workload takes it from: ingest says so, and replay says ingest."""
    shutil.rmtree(chain.artifacts / "raw")
    workload = chain.papers / "workload.json"
    content = json.loads(workload.read_text())
    source = Path(content["source"]["files"][0]["path"])
    content["source"]["files"][0]["path"] = str(source.with_name("gone.csv"))
    workload.write_text(json.dumps(content))
    seal(chain)

    with pytest.raises(RegistryError, match=r"replay, ingest: .*gone\.csv"):
        replay("tiny", in_a_project(chain), print)
