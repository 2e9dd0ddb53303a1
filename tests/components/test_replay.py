"""A registered model can be made again from its passport, to the byte; another seed shows; what is missing is said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateline.adapters.project import Project
from gateline.adapters.registry.replay import replay
from gateline.adapters.registry.replay_comparison import Row, verdict_on
from gateline.cli import app
from gateline.errors import RegistryError
from gateline.manifest import dump_json
from tests.components.chain import Chain, chain, git, registered_once

__all__ = ["chain", "registered_once"]  # fixtures


def in_a_project(chain: Chain) -> Project:
    return Project(chain.root)


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
    assert not verdict_on([weights], False, 0.0, 0.01)[1], "the same machine and libraries give the same bytes"
    assert verdict_on([library], True, 0.0, 0.01)[1]


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
    for link in ("code", "raw data", "report", "prepared data", "weights", "test/mae", "evaluation"):
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


def test_what_no_commit_holds_is_refused(chain: Chain) -> None:
    passport = chain.papers / "passport.json"
    content = json.loads(passport.read_text())
    for change, words in (({"dirty": "true"}, "--allow-dirty"), ({"commit": "0" * 40}, "found none")):
        passport.write_text(dump_json(content | {"code": content["code"] | change}))
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

    with pytest.raises(RegistryError, match=r"replay, ingest: .*gone\.csv"):
        replay("tiny", in_a_project(chain), print)
