"""Schedules against an HTTP server that speaks Kubeflow's interface: twice is once, and a kill at any call does no harm."""

from __future__ import annotations

import itertools
import re
import shutil
import textwrap
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from gateline.adapters.door import run_step
from gateline.adapters.kubeflow import server as servers
from gateline.adapters.kubeflow.arguments import pipeline_arguments
from gateline.adapters.project import Project
from gateline.errors import WorkloadError
from gateline.workload.section import read_section
from pipelines.compile import compile_pipeline
from pipelines.compile import parser as compile_parser
from pipelines.schedule import recurring
from pipelines.schedule.__main__ import parser, schedule
from pipelines.schedule.cron import check_cron
from pipelines.schedule.declared import Schedule, as_rfc3339, read_schedules, wanted_runs
from tests.kubeflow_server import AwayError, Kubeflow, kubeflow_server, silent_server

IMAGE = "registry.example/gateline@sha256:" + "0" * 64
OTHER_IMAGE = "registry.example/gateline@sha256:" + "1" * 64
NIGHTLY = {"workload": "flight_delays", "cron": "0 0 3 * * *"}

Run = Callable[..., int]


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("compiled")
    for name, image in (("first", IMAGE), ("second", OTHER_IMAGE)):
        compile_pipeline(compile_parser().parse_args(["--image", image, "--output", str(folder / f"{name}.yaml")]))
    return {name: folder / f"{name}.yaml" for name in ("first", "second")}


@pytest.fixture
def project(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "workloads").mkdir()
    for name in ("flight_delays", "weather"):
        shutil.copy(root / "workloads" / f"{name}.yaml", tmp_path / "workloads")
    params = (root / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(params.replace("checkpoints: beside", "checkpoints: s3://bucket/checkpoints"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def server() -> Iterator[Kubeflow]:
    with kubeflow_server() as state:
        yield state


@pytest.fixture
def run(server: Kubeflow, project: Path, compiled: dict[str, Path]) -> Run:
    def run(
        do: str,
        schedules: dict[str, Any] | None = None,
        pipeline: str = "first",
        namespace: str | None = None,
        **more: str,
    ) -> int:
        file = project / "schedules.yaml"
        named = {"nightly": NIGHTLY} if schedules is None else schedules
        file.write_text(yaml.safe_dump({"project": "rides", **more, "schedules": named}))
        argv = [do, "--host", server.url, "--pipeline", str(compiled.get(pipeline, pipeline)), "--file", str(file)]
        return run_step(parser(), schedule, [*argv, *(() if namespace is None else ("--namespace", namespace))])

    return run


def test_apply_makes_what_the_file_says_pinned_to_a_version(server: Kubeflow, run: Run, project: Path) -> None:
    assert run("apply") == 0

    (made,) = server.runs.values()
    (version,) = server.versions.values()
    assert made.mode == "ENABLE"
    assert made.trigger.cron_schedule.cron == "0 0 3 * * *"
    assert made.no_catchup is True
    assert int(made.max_concurrency) == 1  # int64 is text in JSON
    assert made.pipeline_spec is None, "a compiled copy inside would not follow the version"
    assert made.pipeline_version_reference.pipeline_version_id == version.pipeline_version_id
    workload, settings = project / "workloads" / "flight_delays.yaml", Project(project).params()
    assert made.runtime_config.parameters == pipeline_arguments(workload, settings, only_if_changed=True)


def test_the_arguments_are_the_parameters_of_the_pipeline(project: Path, compiled: dict[str, Path]) -> None:
    arguments = pipeline_arguments(project / "workloads" / "flight_delays.yaml", Project(project).params())
    spec = next(iter(yaml.safe_load_all(compiled["first"].read_text())))
    assert set(arguments) == set(spec["root"]["inputDefinitions"]["parameters"])


def test_twice_is_once(server: Kubeflow, run: Run) -> None:
    assert run("apply") == 0
    server.calls.clear()

    assert run("apply") == 0
    assert server.calls == []


@pytest.mark.parametrize(
    ("schedules", "pipeline"),
    [
        ({"nightly": NIGHTLY | {"cron": "0 0 4 * * *"}}, "first"),
        ({"nightly": {"workload": "flight_delays", "every": "6h"}}, "first"),
        ({"nightly": NIGHTLY | {"workload": "weather"}}, "first"),
        ({"nightly": NIGHTLY | {"settings": {"device": "cuda"}}}, "first"),
        ({"nightly": NIGHTLY | {"catch_up": True}}, "first"),
        ({"nightly": NIGHTLY | {"only_if_changed": False}}, "first"),
        ({"nightly": NIGHTLY | {"max_concurrency": 2}}, "first"),
        ({"nightly": NIGHTLY | {"starts": "2027-01-01T00:00:00Z"}}, "first"),
        ({"nightly": NIGHTLY | {"ends": "2027-01-01T00:00:00Z"}}, "first"),
        ({"nightly": NIGHTLY | {"pipeline_root": "s3://bucket/kubeflow"}}, "first"),
        ({"nightly": NIGHTLY | {"service_account": "trainer"}}, "first"),
        ({"nightly": NIGHTLY}, "second"),
    ],
)
def test_a_change_replaces_and_two_are_never_enabled(
    schedules: dict[str, Any], pipeline: str, server: Kubeflow, run: Run
) -> None:
    assert run("apply") == 0
    before = set(server.runs)

    assert run("apply", schedules, pipeline) == 0

    (after,) = server.runs.values()
    assert after.recurring_run_id not in before
    assert after.mode == "ENABLE"
    assert server.enabled_at_once == 1


def test_a_changed_gate_in_the_workload_replaces(server: Kubeflow, run: Run, project: Path) -> None:
    assert run("apply") == 0
    before = set(server.runs)
    file = project / "workloads" / "flight_delays.yaml"
    content = yaml.safe_load(file.read_text())
    content["gates"]["min_examples"] = 7
    file.write_text(yaml.safe_dump(content, sort_keys=False))

    assert run("apply") == 0
    assert set(server.runs).isdisjoint(before)


def test_disabling_enabling_and_leaving_out(server: Kubeflow, run: Run) -> None:
    assert run("apply", {"nightly": NIGHTLY, "hourly": {"workload": "weather", "every": "1h"}}) == 0
    assert len(server.runs) == 2
    first = dict(server.runs)

    assert run("apply", {"nightly": NIGHTLY | {"enabled": False}}) == 0
    (left,) = server.runs.values()
    assert left.recurring_run_id in first, "a pause is no other recurring run"
    assert left.mode == "DISABLE"

    assert run("apply") == 0
    (left,) = server.runs.values()
    assert (left.recurring_run_id in first, left.mode) == (True, "ENABLE")


def test_another_experiment_replaces(server: Kubeflow, run: Run) -> None:
    assert run("apply") == 0
    before = set(server.runs)

    assert run("apply", experiment="night-shift") == 0

    (after,) = server.runs.values()
    assert after.recurring_run_id not in before
    assert server.experiments[after.experiment_id].display_name == "night-shift"
    server.calls.clear()
    assert run("apply", experiment="night-shift") == 0
    assert server.calls == []


def test_a_run_that_goes_on_survives_a_change_and_destroy(server: Kubeflow, run: Run) -> None:
    """By default Kubeflow ends what a recurring run started when it is deleted (kubeflow/pipelines#7421)."""
    assert run("apply") == 0
    server.going_on = {"training": next(iter(server.runs))}
    assert run("apply", {"nightly": NIGHTLY | {"cron": "0 0 4 * * *"}}) == 0
    assert len(server.runs) == 1
    server.going_on["of the new one"] = next(iter(server.runs))
    assert run("destroy") == 0
    assert server.runs == {}
    assert set(server.going_on) == {"training", "of the new one"}


def test_projects_that_share_a_kubeflow_leave_each_other_alone(
    server: Kubeflow, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("apply") == 0
    (ours,) = server.runs
    assert run("apply", {"hourly": NIGHTLY}, project="rides-2") == 0
    assert run("apply", {"nightly": NIGHTLY | {"cron": "0 0 4 * * *"}}, project="rides-2") == 0
    assert len(server.runs) == 2
    assert ours in server.runs
    capsys.readouterr()
    assert run("plan") == 0
    assert capsys.readouterr().out == "gateline: nightly: = as it should be\n"

    assert run("destroy", project="rides-2") == 0
    assert list(server.runs) == [ours]
    assert run("destroy", project="nobody") == 0
    assert list(server.runs) == [ours]


def test_with_profiles_all_that_is_made_is_in_the_namespace(server: Kubeflow, run: Run) -> None:
    server.profile = "team"
    assert run("apply") == 2
    assert run("apply", namespace="team") == 0
    assert [each.namespace for each in server.pipelines.values()] == ["team"]
    assert len(server.runs) == 1
    assert run("destroy", namespace="team") == 0
    assert server.runs == {}


def test_what_others_made_is_left_alone(server: Kubeflow, run: Run) -> None:
    assert run("apply") == 0
    (ours,) = server.runs.values()
    server.runs["foreign"] = type(ours)(recurring_run_id="foreign", display_name="nightly by hand", mode="ENABLE")

    assert run("apply", {"nightly": NIGHTLY | {"cron": "0 0 5 * * *"}}) == 0
    assert run("destroy") == 0

    assert list(server.runs) == ["foreign"]


@pytest.mark.parametrize("answered", [False, True], ids=["before it is done", "after it is done"])
def test_killed_at_any_call_the_next_apply_goes_on(answered: bool, server: Kubeflow, run: Run) -> None:
    """The connection breaks at the first, second, ... call of a replacement; what was done before stays done."""
    for number in itertools.count():
        server.before = server.after = lambda _: None
        server.runs.clear()
        assert run("apply") == 0
        left = number

        def breaks(call: str) -> None:
            nonlocal left
            if call.startswith("GET"):
                return
            left -= 1
            if left < 0:
                raise AwayError

        setattr(server, "after" if answered else "before", breaks)
        changed = {"nightly": NIGHTLY | {"cron": f"0 {number} 4 * * *"}}
        code = run("apply", changed)
        server.before = server.after = lambda _: None
        if code == 0:
            break
        assert code == 75
        assert run("apply", changed) == 0
        (made,) = server.runs.values()
        assert made.mode == "ENABLE"
        assert made.trigger.cron_schedule.cron == f"0 {number} 4 * * *"
    assert number >= 4, "a replacement disables, creates, deletes and enables"
    assert server.enabled_at_once == 1


@pytest.mark.parametrize(
    ("refused", "after"),
    [
        ("POST /recurringruns", 0),
        ("POST /recurringruns", 1),
        ("POST /pipelines/upload_version", 0),
        ("POST /experiments", 0),
    ],
)
def test_what_kubeflow_refuses_turns_nothing_off(
    refused: str, after: int, server: Kubeflow, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """400 to the new one, or to what it needs, with two schedules to change: both old ones run on, and the next apply goes on."""
    before = {"nightly": NIGHTLY, "hourly": {"workload": "weather", "every": "1h"}}
    assert run("apply", before) == 0
    old = set(server.runs)
    left = after

    def refuses(call: str) -> None:
        nonlocal left
        if call == refused:
            left -= 1
            if left < 0:
                raise ValueError("no right to do so")

    server.before = refuses
    changed = {name: {**each, "max_concurrency": 2} for name, each in before.items()}
    assert run("apply", changed, "second", experiment="another") == 2
    assert "no right to do so" in capsys.readouterr().err
    assert {number: server.runs[number].mode for number in old} == dict.fromkeys(old, "ENABLE")
    assert server.enabled_at_once == 1

    server.before = lambda _: None
    assert run("apply", changed, "second", experiment="another") == 0
    assert [made.mode for made in server.runs.values()] == ["ENABLE", "ENABLE"]
    assert old.isdisjoint(server.runs)


def test_two_at_once_leave_one(server: Kubeflow, run: Run) -> None:
    """Another apply makes the same recurring run between our look and our call; the newer of the two stays."""
    twin: list[str] = []

    def meanwhile(call: str) -> None:
        if call == "POST /recurringruns" and not twin:
            number, moment = server.moment()
            made = next(iter(server.runs.values()))
            twin.append(number)
            server.runs[number] = type(made)(**{**made.to_dict(), "recurring_run_id": number, "created_at": moment})

    server.after = meanwhile
    assert run("apply") == 0

    (left,) = server.runs.values()
    assert [left.recurring_run_id] == twin
    assert left.mode == "ENABLE"
    assert server.enabled_at_once == 1


def test_what_another_apply_deletes_while_we_work_is_made_again(server: Kubeflow, run: Run) -> None:
    deleted: list[str] = []

    def meanwhile(call: str) -> None:
        if call.endswith((":enable", ":disable")) and not deleted:
            deleted.append(call)
            server.runs.clear()

    assert run("apply") == 0
    server.before = meanwhile
    assert run("apply", {"nightly": NIGHTLY | {"cron": "0 0 4 * * *"}}) == 0
    (left,) = server.runs.values()
    assert (left.mode, left.trigger.cron_schedule.cron) == ("ENABLE", "0 0 4 * * *")
    assert deleted


THREE = [datetime(2026, 1, day, 3, tzinfo=UTC) for day in range(1, 20)]
"""03:00 of each day; the server's clock begins on the first at 10:00."""


@pytest.mark.parametrize("catch_up", [False, True])
def test_no_time_is_run_twice_by_what_an_earlier_apply_left(catch_up: bool, server: Kubeflow, run: Run) -> None:
    """The new one of the first schedule was made, that of the second refused; the old ones run on for days, and again."""
    before: dict[str, Any] = {
        "nightly": NIGHTLY | {"catch_up": catch_up},
        "weather": {"workload": "weather", "every": "6h"},
    }
    assert run("apply", before) == 0
    server.wait(days=2)
    changed = {name: {**each, "max_concurrency": 2} for name, each in before.items()}
    for _ in range(2):
        made = 0

        def refuses(call: str) -> None:
            nonlocal made
            made += call == "POST /recurringruns"
            if made > 1:
                raise ValueError("no more quota")

        server.before = refuses
        assert run("apply", changed) == 2
        server.wait(days=2)
        assert len(server.runs) == 3, "what is made anew does not pile up"
    server.before = lambda _: None

    assert run("apply", changed) == 0
    server.wait()
    assert [time for name, time in server.times if name == "nightly"] == THREE[1:7]
    server.wait(days=2)
    assert [time for name, time in server.times if name == "nightly"] == THREE[1:9]


@pytest.mark.parametrize("catch_up", [False, True])
def test_what_nobody_ran_since_a_kill_is_made_up_for(catch_up: bool, server: Kubeflow, run: Run) -> None:
    assert run("apply") == 0
    server.wait(days=1)
    changed = {"nightly": NIGHTLY | {"catch_up": catch_up, "max_concurrency": 2}}

    def away(call: str) -> None:
        if call.startswith("DELETE"):
            raise AwayError

    server.before = away
    assert run("apply", changed) == 75
    server.wait(days=3)
    server.before = lambda _: None
    assert run("apply", changed) == 0
    server.wait()
    assert [time for _, time in server.times] == [THREE[1], *(THREE[2:5] if catch_up else THREE[4:5])]


@pytest.mark.parametrize("catch_up", [False, True])
def test_after_a_pause_the_latest_missed_time_is_run_or_every_one(catch_up: bool, server: Kubeflow, run: Run) -> None:
    nightly = NIGHTLY | {"catch_up": catch_up}
    assert run("apply", {"nightly": nightly}) == 0
    server.wait(days=2)
    assert run("apply", {"nightly": nightly | {"enabled": False}}) == 0
    server.wait(days=3)
    assert run("apply", {"nightly": nightly}) == 0
    server.wait()
    assert [time for _, time in server.times] == [*THREE[1:3], *(THREE[3:6] if catch_up else THREE[5:6])]


@pytest.mark.parametrize("catch_up", [False, True])
@pytest.mark.parametrize("clock", [{"cron": "0 0 3 * * *"}, {"cron": None, "every": "6h"}], ids=["cron", "every"])
def test_a_start_in_the_past_runs_nothing_at_once(
    clock: dict[str, Any], catch_up: bool, server: Kubeflow, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recurring, "datetime", SimpleNamespace(now=lambda _: server.now))
    nightly = NIGHTLY | clock | {"starts": "2025-01-01T00:00:00Z", "catch_up": catch_up}
    for most in (1, 2):
        assert run("apply", {"nightly": nightly | {"max_concurrency": most}}) == 0
        server.wait()
        assert server.times == []
    server.wait(days=1)
    hours = [3] if "every" not in clock else [12, 18, 0, 6]
    assert [time.hour for _, time in server.times] == hours
    assert all(time.minute == 0 for _, time in server.times), "`every` keeps its beat"


@pytest.mark.parametrize(
    ("clock", "counts_from"),
    [
        ({"cron": "0 0 3 * * *"}, None),
        ({"cron": "0 0 3 * * *", "starts": "2026-03-05T00:00:00Z"}, None),
        ({"cron": "0 0 3 * * *", "starts": "2026-03-07T00:00:00Z"}, "2026-03-07T00:00:00+00:00"),
        ({"every": "6h"}, None),
        ({"every": "6h", "starts": "2026-03-07T00:00:00Z"}, "2026-03-07T00:00:00+00:00"),
        ({"every": "6h", "starts": "2026-03-05T01:00:00+01:00"}, "2026-03-06T06:00:00+00:00"),
        ({"every": "6h", "starts": "2026-03-06T10:30:00Z"}, "2026-03-06T10:30:00+00:00"),
    ],
)
def test_from_when_a_recurring_run_counts(clock: dict[str, Any], counts_from: str | None) -> None:
    declared = read_section("nightly", Schedule, {"workload": "rides", **clock})
    assert as_rfc3339(declared.counts_from(datetime(2026, 3, 6, 10, 30, tzinfo=UTC))) == counts_from


def test_plan_says_what_apply_would_do_and_does_nothing(
    server: Kubeflow, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("plan") == 0
    assert "nightly: + create" in capsys.readouterr().out
    assert run("apply") == 0
    server.calls.clear()
    capsys.readouterr()

    assert run("plan") == 0
    assert "nightly: = as it should be" in capsys.readouterr().out
    assert run("plan", {"nightly": NIGHTLY | {"cron": "0 0 4 * * *"}}) == 0
    assert "nightly: ~ replace" in capsys.readouterr().out
    assert run("plan", {}) == 0
    assert "nightly: - delete" in capsys.readouterr().out
    assert server.calls == []


def test_a_pipeline_that_the_lint_objects_to_is_not_uploaded(
    server: Kubeflow, run: Run, compiled: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tagged.yaml"
    file.write_text(compiled["first"].read_text(encoding="utf-8").replace(IMAGE, "gateline:latest"), encoding="utf-8")
    for do in ("plan", "apply"):
        assert run(do, pipeline=str(file)) == 2
        assert "the image 'gateline:latest' has no digest" in capsys.readouterr().err
    assert server.calls == []


def test_plan_without_a_schedule_says_so(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("plan", {}) == 0
    assert "no schedule in" in capsys.readouterr().out


def test_destroy_removes_all_of_ours(server: Kubeflow, run: Run) -> None:
    assert run("apply", {"nightly": NIGHTLY, "hourly": {"workload": "weather", "every": "1h"}}) == 0

    assert run("destroy") == 0

    assert server.runs == {}
    assert run("destroy") == 0


@pytest.mark.parametrize(
    ("schedules", "says"),
    [
        ({"nightly": {"workload": "flight_delays"}}, "either `cron` or `every`"),
        ({"nightly": NIGHTLY | {"cron": "0 3 * * *"}}, "6 fields"),
        ({"nightly": NIGHTLY | {"cron": "99 99 99 x * *"}}, "`cron` with a second: 0 to 59; found '99' in"),
        ({"nightly": NIGHTLY | {"workload": "flight_delay"}}, "Did you mean 'flight_delays'?"),
        ({"nightly": {"workload": "flight_delays", "every": "99999999999999w"}}, "less than 2.7 million years"),
        ({"nightly": NIGHTLY | {"crom": "0 0 3 * * *"}}, "Did you mean 'cron'?"),
        ({"nightly": NIGHTLY | {"settings": {"sed": 1}}}, "Did you mean 'seed'?"),
        ({"nightly": NIGHTLY | {"settings": {"device": "tpu"}}}, "`settings.device`: auto, cpu, cuda; found 'tpu'"),
        ({"nightly": NIGHTLY | {"settings": {"seed": None}}}, "`settings.seed`: a whole number"),
        ({"nightly": NIGHTLY | {"settings": {"seed": 2**53 + 1}}}, "`settings.seed`: a whole number from 0 to 2^53"),
        ({"nightly": NIGHTLY | {"settings": {"precision": "float16"}}}, "float32 or bfloat16 on a CPU"),
        (
            {"nightly": NIGHTLY | {"settings": {"checkpoints": "beside"}}},
            "schedules.nightly.settings.checkpoints: expected an address that the next pod of a training reaches too",
        ),
        ({"nightly": NIGHTLY | {"starts": "2027-01-02T00:00:00Z", "ends": "2027-01-01T00:00:00Z"}}, "`ends` after"),
        ({"Nightly run": NIGHTLY}, "lower-case"),
    ],
)
def test_a_wrong_file_is_refused_before_any_call(
    schedules: dict[str, Any], says: str, server: Kubeflow, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("apply", schedules) == 2
    assert says in capsys.readouterr().err
    assert server.calls == []


HIDDEN = "s3://AKIA:hidden@bucket/kubeflow"


@pytest.mark.parametrize(
    "change",
    [
        {"pipeline_root": HIDDEN},
        {"pipeline_root": [HIDDEN]},
        {"pipeline_rot": HIDDEN},
        {"settings": {"device": HIDDEN}},
        {"settings": HIDDEN},
        {"cron": HIDDEN},
        {"every": HIDDEN},
        {"workload": HIDDEN},
    ],
)
def test_no_refusal_of_a_schedule_shows_a_password(
    change: dict[str, Any], run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("apply", {"nightly": NIGHTLY | change}) == 2
    said = capsys.readouterr()
    assert "hidden" not in said.out + said.err


@pytest.mark.parametrize(
    "cron",
    ["0 0 3 * * *", "*/10 * * * * ?", "0 0,30 8-18/2 ? jan-MAR mon", "0 0 0 29 2 *", "0 5/15 * 1 * *", "0 0 0 31 2 5"],
)
def test_a_cron_that_kubeflow_takes(cron: str) -> None:
    check_cron(cron)


@pytest.mark.parametrize(
    ("cron", "says"),
    [
        ("", "6 fields"),
        ("60 0 3 * * *", "second: 0 to 59, got '60'"),
        ("0 60 3 * * *", "minute: 0 to 59"),
        ("0 0 24 * * *", "hour: 0 to 23"),
        ("0 0 3 0 * *", "day: 1 to 31"),
        ("0 0 3 * 13 *", "month: 1 to 12 or jan to dec"),
        ("0 0 3 * mon *", "month: 1 to 12 or jan to dec"),
        ("0 0 3 * * 7", "weekday: 0 to 6 or sun to sat"),
        ("0 0 8-3 * * *", "a range that goes up, got '8-3'"),
        ("0 */0 3 * * *", "a step of at least 1"),
        ("0 1//2 3 * * *", "minute: e.g. 3"),
        ("0 1, 3 * * *", "minute: e.g. 3"),
        ("0 -1 3 * * *", "minute: e.g. 3"),
        ("0 0 3 L * *", "day: 1 to 31"),
        ("0 ² 3 * * *", "minute: 0 to 59"),
        ("0 0 0 31 feb,apr *", "a day that one of its months has"),
    ],
)
def test_a_cron_that_kubeflow_refuses_or_that_never_comes(cron: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        check_cron(cron)


def test_a_workload_that_a_step_would_refuse_is_not_scheduled(
    server: Kubeflow, run: Run, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = project / "workloads" / "flight_delays.yaml"
    file.write_text(file.read_text().replace("\ngates:\n", "\ngates:\n  nonsense: 3\n"))
    assert run("plan") == 2
    assert "gates.nonsense: expected a key that is known here" in capsys.readouterr().err
    assert server.calls == []


def test_a_key_twice_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "schedules.yaml"
    entry = yaml.safe_dump({"nightly": NIGHTLY})
    file.write_text(f"project: rides\nschedules:\n{textwrap.indent(entry * 2, '  ')}")
    with pytest.raises(WorkloadError, match="the key 'nightly' stands twice"):
        read_schedules(file)


def test_a_server_that_is_away_and_one_that_wants_a_token(
    server: Kubeflow, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server.token = "a-secret"
    assert run("apply") == 2
    said = capsys.readouterr()
    assert "GATELINE_KUBEFLOW_TOKEN" in said.err
    monkeypatch.setenv("GATELINE_KUBEFLOW_TOKEN", "a-secret")
    assert run("apply") == 0
    said = capsys.readouterr()
    assert "a-secret" not in said.out + said.err

    monkeypatch.setenv("GATELINE_KUBEFLOW_TOKEN", " a-secret\n")
    assert run("apply") == 0
    for spoilt in ("a-secret\nmore", "Bearer a-secret", "a-secret\u2026"):
        monkeypatch.setenv("GATELINE_KUBEFLOW_TOKEN", spoilt)
        assert run("apply") == 2
        said = capsys.readouterr()
        assert "GATELINE_KUBEFLOW_TOKEN: expected a token" in said.err
        assert "a-secret" not in said.out + said.err
    server.token = None
    monkeypatch.setenv("GATELINE_KUBEFLOW_TOKEN", "")
    assert run("apply") == 0

    server.url = "http://127.0.0.1:9"
    assert run("apply") == 75
    assert "http://127.0.0.1:9" in capsys.readouterr().err


@pytest.mark.parametrize("do", ["plan", "apply", "destroy"])
def test_a_server_that_never_answers_is_not_waited_for_for_ever(
    do: str, server: Kubeflow, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(servers, "SECONDS", (0.2, 0.2))
    with silent_server() as server.url:
        assert run(do) == 75
    assert "timed out" in capsys.readouterr().err


@pytest.mark.parametrize("do", ["plan", "apply", "destroy"])
@pytest.mark.parametrize("login", ["", "GET /recurringruns"], ids=["at once", "for the runs alone"])
def test_a_page_to_log_in_is_no_answer(
    login: str, do: str, server: Kubeflow, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """200 and HTML after a redirect: a client that takes it for an empty list would say that nothing is there."""
    assert run("apply") == 0
    server.calls.clear()
    capsys.readouterr()
    server.login = login
    assert run(do, {"nightly": NIGHTLY | {"cron": "0 0 4 * * *"}}) == 2
    said = capsys.readouterr()
    assert "found a page, such as one to log in. Put a valid token into GATELINE_KUBEFLOW_TOKEN" in said.err
    assert len(said.err.splitlines()) == 1
    assert said.out == ""
    assert server.calls == []


@pytest.mark.parametrize("login", ["POST /pipelines/upload_version", "POST /recurringruns"])
def test_a_session_that_ends_in_between_turns_nothing_off(
    login: str, server: Kubeflow, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("apply") == 0
    (old,) = server.runs
    server.login = login
    assert run("apply", {"nightly": NIGHTLY}, "second") == 2
    assert "a page, such as one to log in" in capsys.readouterr().err
    assert server.runs[old].mode == "ENABLE"


def test_the_schedules_of_the_project_can_be_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    schedules = read_schedules(root / "pipelines" / "schedules.yaml")
    assert [each.name for each in wanted_runs(schedules, Project(root), "sha256-0")] == ["flight_delays_nightly"]
