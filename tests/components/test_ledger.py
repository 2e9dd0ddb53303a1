"""One line of champions, whoever promotes at once, and whatever a killed process leaves behind."""

from __future__ import annotations

import json
import os
import socketserver
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, cast

import mlflow
import pytest
from typer.testing import CliRunner

from benchmarks import promotion_race
from gateline.adapters.mlflow_server import Connection, connected
from gateline.adapters.registry import ledger as ledger_module
from gateline.adapters.registry.changes import promote, roll_back
from gateline.adapters.registry.decision import enter
from gateline.adapters.registry.history import explain, read_history
from gateline.adapters.registry.ledger import append, champion_of, new_entry, open_ledger, project, read_ledger
from gateline.adapters.registry.notification import NOTIFIED_TAG, tell_all
from gateline.adapters.registry.versions import PASSPORT_TAG
from gateline.cli import app
from gateline.errors import RegistryError, TryAgainError
from gateline.ledger import ACCEPTED, AWAITING, NOT_PROMOTED, PROMOTED, ROLLED_BACK, Entry, Ledger
from gateline.workload.gates import Notify

NAME = "tiny"


@pytest.fixture
def to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mlflow_database: Path) -> Iterator[Connection]:
    """A registry with four versions that were tried, all of the same files."""
    monkeypatch.chdir(tmp_path)
    files = tmp_path / "files"
    files.mkdir()
    tags = promotion_race.write_tried(files)
    with connected(NAME, create=False) as connection:
        connection.client.create_registered_model(NAME)
        for _ in range(4):
            connection.client.create_model_version(NAME, str(files), tags=tags)
        yield connection


def put(to: Connection, kind: str, version: int | None, expected: int | None, reason: str = "a test") -> Ledger:
    """Write an entry and move the alias, as commands do."""
    entry = new_entry(kind, version, expected, reason, seen=read_ledger(to, NAME))
    return project(to, NAME, append(to, NAME, entry), entry)


def aliases(to: Connection) -> dict[str, int]:
    return {alias: int(version) for alias, version in to.client.get_registered_model(NAME).aliases.items()}


def said(do: Callable[[Callable[[str], None]], Any]) -> list[str]:
    lines: list[str] = []
    do(lines.append)
    return lines


def test_of_two_entries_that_expect_one_champion_the_first_takes_effect(to: Connection) -> None:
    put(to, PROMOTED, 1, None)
    first, second = [new_entry(PROMOTED, version, 1, "a race", seen=read_ledger(to, NAME)) for version in (2, 3)]
    append(to, NAME, first)
    ledger = append(to, NAME, second)
    assert [(step.effective, step.conflict, step.after) for step in ledger.steps] == [
        (True, False, 1),
        (True, False, 2),
        (False, True, 2),
    ]
    assert [entry.number for entry in ledger.entries] == [1, 2, 3]


def test_an_entry_that_is_sent_twice_counts_once(to: Connection) -> None:
    entry = new_entry(PROMOTED, 1, None, "a network that lost the answer", seen=read_ledger(to, NAME))
    append(to, NAME, entry)
    ledger = append(to, NAME, entry)
    assert [(step.effective, step.conflict) for step in ledger.steps] == [(True, False), (False, False)]


@pytest.mark.parametrize("alias", [None, 1, 2])
def test_what_a_killed_promotion_leaves_is_repaired(to: Connection, alias: int | None) -> None:
    """Killed behind its entry the alias is where it was; a slow one that was killed may have moved it back even."""
    put(to, PROMOTED, 1, None)
    ledger = append(to, NAME, new_entry(PROMOTED, 2, 1, "killed behind this", seen=read_ledger(to, NAME)))
    if alias == 2:
        project(to, NAME, ledger, None)
        append(to, NAME, new_entry(PROMOTED, 3, 2, "and this one, too", seen=read_ledger(to, NAME)))
    elif alias is None:
        to.client.delete_registered_model_alias(NAME, "champion")
        assert not ledger.explains(None)
        to.client.set_registered_model_alias(NAME, "champion", "1")
    assert aliases(to)["champion"] != read_ledger(to, NAME).champion
    lines = said(lambda say: open_ledger(to, NAME, say))
    assert len(lines) == 1
    assert lines[0].startswith("repaired: ")
    assert aliases(to)["champion"] == read_ledger(to, NAME).champion
    assert said(lambda say: open_ledger(to, NAME, say)) == []


class Meanwhile:
    """A client of which something else happens just before one of its requests, once."""

    def __init__(self, client: Any, request: str, do: Callable[[], Any]) -> None:
        self.client, self.request = client, request
        self.do: Callable[[], Any] | None = do

    def __getattr__(self, name: str) -> Any:
        if name == self.request and self.do is not None:
            do, self.do = self.do, None
            do()
        return getattr(self.client, name)


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("read", ["open", "promote", "history", "champion"])
def test_a_promotion_between_the_reads_of_ledger_and_alias_is_no_alias_moved_by_hand(
    to: Connection, read: str, begun: bool
) -> None:
    if begun:
        put(to, PROMOTED, 1, None)
    before = 1 if begun else None
    other = Meanwhile(to.client, "get_model_version_by_alias", lambda: put(to, PROMOTED, 2, before))
    meanwhile = to._replace(client=cast(mlflow.MlflowClient, other))
    lines: list[str] = []
    if read == "open":
        assert open_ledger(meanwhile, NAME, lines.append).champion == 2
    elif read == "promote":
        promote(meanwhile, NAME, 3, lines.append, expect=2, why="a test")
    elif read == "history":
        assert read_history(meanwhile, NAME).remarks() == []
    else:
        assert champion_of(meanwhile, NAME) == 2
    assert lines == []
    assert other.do is None
    assert [entry.kind for entry in read_ledger(to, NAME).entries] == [PROMOTED] * (1 + begun + (read == "promote"))


def test_whoever_uses_the_champion_asks_the_ledger(to: Connection) -> None:
    assert champion_of(to, NAME) is None
    to.client.set_registered_model_alias(NAME, "champion", "4")
    assert champion_of(to, NAME) == 4, "from before there was a ledger"
    to.client.delete_registered_model_alias(NAME, "champion")
    put(to, PROMOTED, 1, None)
    append(to, NAME, new_entry(PROMOTED, 2, 1, "killed behind this", seen=read_ledger(to, NAME)))
    assert champion_of(to, NAME) == 2
    assert aliases(to) == {"champion": 1}, "it repairs nothing"
    to.client.set_registered_model_alias(NAME, "champion", "4")
    with pytest.raises(RegistryError, match="found version 4, set by other means"):
        champion_of(to, NAME)
    to.client.delete_model_version(f"{NAME}.ledger", "1")
    with pytest.raises(RegistryError, match="no entry 1"):
        champion_of(to, NAME)


def test_a_ledger_of_several_pages_is_read_whole(to: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in (1, 2, 3):
        put(to, NOT_PROMOTED, version, None)
    monkeypatch.setattr(ledger_module, "PAGE", 2)
    assert [entry.version for entry in read_ledger(to, NAME).entries] == [1, 2, 3]


def test_a_champion_from_before_the_ledger_is_its_first_entry(to: Connection) -> None:
    to.client.set_registered_model_alias(NAME, "champion", "3")
    lines = said(lambda say: open_ledger(to, NAME, say))
    assert "its ledger begins with that" in lines[0]
    assert read_ledger(to, NAME).champion == 3


@pytest.mark.parametrize(
    ("entries", "version", "options", "words"),
    [
        ([(AWAITING, 2, 1)], None, {}, None),
        ([(AWAITING, 2, 1)], 2, {"expect": 1}, None),
        ([(AWAITING, 2, 1)], 2, {"expect": 3}, "expected version 3 to be champion"),
        ([(AWAITING, 2, 1), (PROMOTED, 3, 1)], 2, {}, "Run register again"),
        ([(AWAITING, 2, 1), (PROMOTED, 3, 1)], 2, {"why": "it is needed"}, None),
        ([(NOT_PROMOTED, 2, 1)], 2, {}, "a no: a test"),
        ([(NOT_PROMOTED, 2, 1)], 2, {"why": "the test part is too old"}, None),
        ([], 2, {}, "never compared"),
        ([(PROMOTED, 2, 1), (PROMOTED, 3, 2)], 1, {}, "rollback tiny --to 1"),
        ([], None, {}, "a challenger that waits"),
        ([], 9, {}, "a registered version"),
    ],
)
def test_only_what_a_decision_or_a_person_speaks_for_is_promoted(
    to: Connection,
    entries: list[tuple[str, int, int]],
    version: int | None,
    options: dict[str, Any],
    words: str | None,
) -> None:
    put(to, PROMOTED, 1, None)
    for entry in entries:
        put(to, *entry)
    before = aliases(to)
    if words is not None:
        with pytest.raises(RegistryError) as refusal:
            promote(to, NAME, version, print, **options)
        assert words in str(refusal.value)
        assert aliases(to) == before
        return
    step = promote(to, NAME, version, print, **options)
    assert step is not None
    assert aliases(to) == {"champion": 2}
    assert step.entry.forced is ("why" in options)
    assert options.get("why", "approved: a test") == step.entry.reason


def test_a_version_that_failed_its_serving_check_is_never_promoted(to: Connection) -> None:
    to.client.set_model_version_tag(NAME, "2", "gateline.serving_check", "failed: another sales")
    with pytest.raises(RegistryError, match="another sales"):
        promote(to, NAME, 2, print, why="I want it")


@pytest.mark.parametrize("how", ["forced", "approved", "rolled back"])
@pytest.mark.parametrize("lacks", ["check", "files"])
def test_only_what_was_tried_and_has_its_files_becomes_champion(
    to: Connection, tmp_path: Path, how: str, lacks: str
) -> None:
    put(to, PROMOTED, 2, None)
    put(to, PROMOTED, 1, 2)
    if how == "approved":
        put(to, AWAITING, 2, 1)
    if lacks == "check":
        to.client.delete_model_version_tag(NAME, "2", "gateline.serving_check")
    else:
        (tmp_path / "files" / "model" / "weights.pt").write_bytes(b"others")
    said = "one that was never tried" if lacks == "check" else "weights.pt"
    why = "I want it" if how == "forced" else None
    command = roll_back if how == "rolled back" else promote
    with pytest.raises(RegistryError, match=f"tiny version 2: .*{said}"):
        command(to, NAME, 2, print, why=why)
    assert aliases(to) == {"champion": 1}


def test_a_decision_that_lost_a_race_is_not_said_of_the_version(to: Connection) -> None:
    put(to, PROMOTED, 1, None)
    before, two = open_ledger(to, NAME, print), to.client.get_model_version(NAME, "2")
    put(to, PROMOTED, 3, 1)
    decided = {"promoted": True, "awaiting_approval": False, "checks": [], "champion_before": 1}
    with pytest.raises(TryAgainError, match="version 3, set meanwhile"):
        enter(to, NAME, two, to.client.get_model_version(NAME, "1"), decided, before)
    assert "gateline.decision" not in to.client.get_model_version(NAME, "2").tags


def test_a_decision_by_a_ledger_that_moved_on_to_the_same_champion_takes_no_effect(to: Connection) -> None:
    """The champion is the one that was expected; a person rolled back to it since, and register had not seen why."""
    put(to, PROMOTED, 1, None)
    before, one, four = read_ledger(to, NAME), *(to.client.get_model_version(NAME, each) for each in ("1", "4"))
    put(to, PROMOTED, 2, 1)
    roll_back(to, NAME, None, print, why="forecasts below zero")
    decided = {"promoted": True, "awaiting_approval": False, "checks": [], "champion_before": 1}
    with pytest.raises(TryAgainError, match=r"expected version 1.*decisions made meanwhile, behind entry 1"):
        enter(to, NAME, four, one, decided, before)
    assert aliases(to) == {"champion": 1}
    assert enter(to, NAME, four, one, decided, read_ledger(to, NAME)) is not None, "run again, it has seen them"
    assert aliases(to) == {"champion": 4}


def test_a_rollback_between_the_look_of_promote_and_its_entry_is_noticed(to: Connection) -> None:
    put(to, PROMOTED, 1, None)

    def there_and_back() -> None:
        put(to, PROMOTED, 2, 1)
        roll_back(to, NAME, 1, print)

    other = Meanwhile(to.client, "create_model_version", there_and_back)
    with pytest.raises(RegistryError, match="Nothing was changed"):
        promote(to._replace(client=cast(mlflow.MlflowClient, other)), NAME, 3, print, why="a test")
    assert aliases(to) == {"champion": 1}


@pytest.mark.parametrize("kind", ["promoted", "awaiting_approval"])
def test_two_registers_at_once_on_the_same_rows_are_not_counted_alike(to: Connection, kind: str) -> None:
    put(to, PROMOTED, 1, None)
    before, (one, two, three) = (
        read_ledger(to, NAME),
        [to.client.get_model_version(NAME, each) for each in ("1", "2", "3")],
    )
    lost = {"promoted": False, "awaiting_approval": False, "checks": [], "rows": "the same", "champion_before": 1}
    won = {**lost, kind: True}
    enter(to, NAME, two, one, lost, before)
    with pytest.raises(TryAgainError, match="Run register again"):
        enter(to, NAME, three, one, won, before)
    if kind == "awaiting_approval":
        with pytest.raises(RegistryError, match="never compared"):
            promote(to, NAME, 3, print)
    ledger = read_ledger(to, NAME)
    assert ledger.attempts([3], 1, "the same") == 2
    step = enter(to, NAME, three, one, won, ledger)
    assert step is not None
    assert not step.conflict


def test_a_decision_about_many_slices_is_kept_whole_in_a_file(to: Connection) -> None:
    put(to, PROMOTED, 1, None)
    run = to.client.create_run(to.client.create_experiment("models"))
    source = str(to.client.get_model_version(NAME, "2").source)
    five = to.client.create_model_version(NAME, source, run.info.run_id)
    checks = [
        {"name": f"slice shop={n}", "passed": n % 2 == 0, "reason": "too small to tell " * 20} for n in range(400)
    ]
    decided = {"promoted": False, "awaiting_approval": False, "checks": checks, "reasons": [], "champion_before": 1}
    enter(to, NAME, five, to.client.get_model_version(NAME, "1"), decided, open_ledger(to, NAME, print))
    short = json.loads(to.client.get_model_version(NAME, "5").tags["gateline.decision"])
    assert (short["num_checks"], short["num_failed"], short["first_failed"][0]) == (400, 200, "slice shop=1")
    assert explain(to, NAME, 5).decided == decided
    assert read_history(to, NAME).remarks() == []
    (kept,) = Path(run.info.artifact_uri.removeprefix("file://")).rglob("decisions/*.json")
    kept.write_text(kept.read_text().replace("too small", "too large"))
    assert "another of digest" in explain(to, NAME, 5).remarks[0]
    kept.unlink()
    assert "no file of it" in explain(to, NAME, 5).remarks[0]
    to.client.set_model_version_tag(f"{NAME}.ledger", "2", "gateline.decision", json.dumps(short | {"whole": {}}))
    assert "entries 2 was changed" in read_history(to, NAME).remarks()[0]


def ledger_of(*rows: tuple[str, int | None, int | None]) -> Ledger:
    return Ledger(
        tuple(
            Entry(str(number), kind, version, expected, "me", "2026-01-01T00:00:00+00:00", "", number=number)
            for number, (kind, version, expected) in enumerate(rows, 1)
        )
    )


def test_going_back_twice_goes_back_two_champions() -> None:
    ledger = ledger_of((PROMOTED, 1, None), (PROMOTED, 2, 1), (PROMOTED, 3, 2), (ROLLED_BACK, 2, 3))
    assert ledger.line == (1, 2)
    assert ledger.undone_by_a_person(3) is not None
    assert ledger.undone_by_a_person(2) is None
    again = ledger_of((PROMOTED, 1, None), (PROMOTED, 2, 1), (ROLLED_BACK, 1, 2), (PROMOTED, 2, 1))
    assert again.undone_by_a_person(2) is None
    assert ledger_of((PROMOTED, 1, None), (ROLLED_BACK, None, 1)).champion is None


def test_what_a_person_undid_by_hand_or_by_force_stays_undone() -> None:
    accepted = ledger_of((PROMOTED, 1, None), (PROMOTED, 2, 1), (ACCEPTED, 1, 2))
    assert accepted.champion == 1
    assert accepted.undone_by_a_person(2) is not None
    won = ledger_of((PROMOTED, 1, None), (PROMOTED, 2, 1))
    assert won.undone_by_a_person(1) is None, "who lost to a better one may come again"
    forced = Ledger((*won.entries, replace(won.entries[1], id="3", version=1, expected=2, forced=True, number=3)))
    assert forced.champion == 1
    assert forced.undone_by_a_person(2) is not None


def test_a_rollback_needs_a_champion_before_and_its_files(to: Connection, tmp_path: Path) -> None:
    put(to, PROMOTED, 1, None)
    with pytest.raises(RegistryError, match="expected a champion before it; found none"):
        roll_back(to, NAME, None, print)
    put(to, PROMOTED, 2, 1)
    with pytest.raises(RegistryError, match="which never was"):
        roll_back(to, NAME, 4, print)
    (tmp_path / "files" / "MLmodel").unlink()
    with pytest.raises(RegistryError, match="tiny version 1: expected the files of this version"):
        roll_back(to, NAME, None, print)
    assert aliases(to) == {"champion": 2}
    roll_back(to, NAME, None, print, nobody=True)
    assert aliases(to) == {}
    for name in (NAME, "nosuch"):
        before = len(read_ledger(to, name).entries)
        with pytest.raises(RegistryError, match=f"{name}: expected a champion to go back from; found none"):
            roll_back(to, name, None, print, nobody=True)
        assert len(read_ledger(to, name).entries) == before
    assert not to.client.search_registered_models("name LIKE 'nosuch%'")


def test_who_wants_to_know_is_told_and_cannot_stop_a_decision(
    to: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies: list[bytes] = []

    class Listener(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200 if len(bodies) > 1 else 503)  # the first try fails
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    step = put(to, PROMOTED, 1, None).steps[-1]
    with socketserver.TCPServer(("127.0.0.1", 0), Listener) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("TEAM_HOOK", f"http://user:secret@127.0.0.1:{server.server_address[1]}/hook")
        told = Notify(
            command=(
                sys.executable,
                "-c",
                f"import sys; open({str(tmp_path / 'told')!r}, 'w').write(sys.stdin.read())",
            ),
            webhook_env="TEAM_HOOK",
        )
        assert tell_all(to, NAME, told, step) == []
        server.shutdown()
    for body in (bodies[1].decode(), (tmp_path / "told").read_text()):
        record = json.loads(body)
        assert (record["model"], record["champion"], record["kind"], record["effect"]) == (
            NAME,
            1,
            PROMOTED,
            "champion",
        )
    monkeypatch.delenv("TEAM_HOOK")
    lines = tell_all(to, NAME, Notify(command=("/no/such/program",), webhook_env="TEAM_HOOK"), step)
    assert len(lines) == 2
    assert all("the decision stands" in line for line in lines)
    tag = to.client.get_model_version(f"{NAME}.ledger", "1").tags[NOTIFIED_TAG]
    assert "TEAM_HOOK is not set" in tag
    assert "secret" not in tag


def test_outside_a_project_those_are_told_that_the_workload_inside_the_model_names(
    to: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A webhook is; a command that a registry names is not run there, and that is said."""
    notify = {"command": [str(tmp_path / "tell")], "webhook_env": "TEAM_HOOK"}
    papers = tmp_path / "files" / "papers"
    papers.mkdir()
    (papers / "passport.json").write_text("{}")
    (papers / "workload.json").write_text(
        json.dumps({"gates": {"baselines": {"last_value": {"rule": "superior"}}, "notify": notify}})
    )
    tell = tmp_path / "tell"
    tell.write_text(f"#!/bin/sh\ncat > {tmp_path}/told\n")
    tell.chmod(0o755)
    mlmodel = tmp_path / "files" / "MLmodel"
    flavors = json.loads(mlmodel.read_text())
    flavors["flavors"]["python_function"]["artifacts"]["papers"] = {"path": "papers"}
    mlmodel.write_text(json.dumps(flavors))
    put(to, PROMOTED, 1, None)
    run = CliRunner()
    outside = run.invoke(app, ["promote", NAME, "2", "--force-reason", "a test"])
    assert outside.exit_code == 0, outside.output
    assert "not told (command): it runs where the project is" in outside.output
    assert "outside a project its variable must be GATELINE_WEBHOOK, not TEAM_HOOK" in " ".join(outside.output.split())
    assert not (tmp_path / "told").exists()

    (tmp_path / "workloads").mkdir()
    (tmp_path / "params.yaml").write_text("workloads: []\n")
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    file = tmp_path / "workloads" / f"{NAME}.yaml"
    file.write_text(
        f"name: {NAME}\ntask: forecasting\ndescription: a test\n"
        "gates:\n  baselines: {last_value: {}}\n  notify: {command: [./tell]}\n"
    )
    inside = run.invoke(app, ["rollback", NAME])
    assert inside.exit_code == 0, inside.output
    assert json.loads((tmp_path / "told").read_text())["champion"] == 1
    assert "not told" not in inside.output

    file.write_text("name: [")
    broken = run.invoke(app, ["rollback", NAME, "--to", "2"])
    assert broken.exit_code == 0, "the decision stands"
    assert "nobody is told" in broken.output
    assert aliases(to) == {"champion": 2}


def test_history_and_explain_say_what_the_ledger_says(to: Connection) -> None:
    put(to, PROMOTED, 1, None, "it passes the gates")
    put(to, NOT_PROMOTED, 2, 1, "[/a] [b-1]")  # what rich would take for markup
    append(to, NAME, new_entry(PROMOTED, 3, 2, "too late", seen=read_ledger(to, NAME)))
    run = CliRunner()
    text = run.invoke(app, ["history", NAME])
    assert text.exit_code == 0, text.output
    assert "champion is 1" in text.output
    assert "conflict" in text.output
    assert "[/a] [b-1]" in text.output
    record = json.loads(run.invoke(app, ["history", f"models:/{NAME}", "--json"]).output)
    assert [(each["kind"], each["effect"]) for each in record["entries"]] == [
        (PROMOTED, "champion"),
        (NOT_PROMOTED, "none"),
        (PROMOTED, "conflict"),
    ]
    assert record["champion"] == 1
    why = run.invoke(app, ["explain", NAME, "2"])
    assert why.exit_code == 0, why.output
    assert "has no passport" in why.output
    for words in (
        ["history", "nobody"],
        ["explain", NAME, "9"],
        ["promote", NAME, "challenger"],
        ["history", f"{NAME}@champion"],
    ):
        assert run.invoke(app, words).exit_code == 2, words
    assert mlflow.MlflowClient(os.environ["MLFLOW_TRACKING_URI"]).get_experiment_by_name("nobody") is None


def down(address: str, **named: Any) -> str:
    """A store of files that has too much to do just now."""
    raise ConnectionError("503 Slow Down")


def test_a_store_of_files_that_does_not_answer_is_another_thing_than_files_that_are_gone(
    to: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is told to restore a backup must have lost something."""
    put(to, PROMOTED, 1, None)
    put(to, PROMOTED, 2, 1)
    to.client.set_model_version_tag(NAME, "2", PASSPORT_TAG, "0" * 64)
    asked = tmp_path / "in.csv"
    asked.write_text("time,sales\n")
    predict = ["predict", NAME, "--input", str(asked), "--output", str(tmp_path / "out.csv")]
    commands = [["verify", NAME], ["explain", NAME, "2"], ["rollback", NAME], predict]
    run = CliRunner()
    with monkeypatch.context() as patch:
        patch.setattr("mlflow.artifacts.download_artifacts", down)
        for words in commands:
            said = run.invoke(app, words)
            assert said.exit_code == 75, (words, said.output)
            assert "Slow Down" in said.output
            assert "backup" not in said.output
            assert "Put the" not in said.output
    assert len(read_ledger(to, NAME).entries) == 2

    (tmp_path / "files" / "MLmodel").unlink()
    for words in commands:
        said = run.invoke(app, words)
        assert said.exit_code == (0 if words[0] == "explain" else 2), (words, said.output)
    why = " ".join(run.invoke(app, ["explain", NAME, "2"]).output.split())
    assert "the passport of version 2 cannot be read" in why, "it was traced, as its tag says"
    assert "version 1 has no passport" in why


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_many_promote_at_once_and_are_killed_through_a_real_server(database: str, seed: int) -> None:
    if database == "postgresql":
        pytest.importorskip("psycopg2", reason="MLflow speaks to PostgreSQL by it")
        if not promotion_race.POSTGRESQL:
            pytest.skip("PostgreSQL is not installed")
    found = promotion_race.measure(database, processes=8, rounds=3, kills=2, seed=seed)
    race, killed = found["race"], found["killed"]
    assert race["rounds_with_one_winner"] == race["rounds"], found
    assert race["conflicts"] == 7 * race["rounds"], found
    assert race["linear"], found
    assert race["agree"], found
    assert killed["agree_after_the_next_command"] == killed["linear_after_each_turn"] == killed["turns"], found
    assert killed["refused"] == killed["refused_falsely"] == 0, found
    assert killed["entries"] > race["entries"], "nobody promoted before being killed"
