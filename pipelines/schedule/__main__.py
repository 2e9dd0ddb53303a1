"""Plan, apply or destroy the recurring runs of `schedules.yaml`: `python -m pipelines.schedule plan --host URL --pipeline FILE`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gateline.adapters.door import run_step, tell
from gateline.adapters.kubeflow.compiled import require_usable
from gateline.adapters.kubeflow.server import KubeflowServer, required_pipeline, version_name
from gateline.adapters.project import Project
from gateline.errors import RegistryError
from pipelines.schedule.declared import Wanted, read_schedules, wanted_runs
from pipelines.schedule.plan import Call, calls_for, in_words
from pipelines.schedule.recurring import RecurringRuns

FILE = Path("pipelines/schedules.yaml")
MOST_ROUNDS = 5  # of looking again at what is there; one is enough unless somebody else applies at the same time


def parser() -> argparse.ArgumentParser:
    """Name the flags."""
    flags = argparse.ArgumentParser(prog="python -m pipelines.schedule", description=__doc__)
    flags.add_argument("do", choices=("plan", "apply", "destroy"))
    flags.add_argument(
        "--host", required=True, help="address of Kubeflow Pipelines; a token is taken from the environment"
    )
    flags.add_argument(
        "--pipeline", type=Path, metavar="FILE.yaml", help="what pipelines.compile wrote; not for destroy"
    )
    flags.add_argument("--file", type=Path, default=FILE, help=f"the schedules  [default: {FILE}]")
    flags.add_argument("--namespace", help="of the user, where a cluster has several")
    return flags


def schedule(args: argparse.Namespace) -> None:
    """Do what the first word says."""
    if args.do == "destroy":
        project = read_schedules(args.file).project
        _destroy(RecurringRuns(KubeflowServer(args.host, args.namespace), project))
        return
    pipeline = required_pipeline(args.pipeline)
    schedules = read_schedules(args.file)
    wanted = wanted_runs(schedules, Project.find(Path.cwd()), version_name(pipeline))
    if wanted:
        require_usable(pipeline, wanted[0].arguments)
    there = RecurringRuns(KubeflowServer(args.host, args.namespace), schedules.project)
    if args.do == "plan":
        for line in in_words(wanted, there.found()) or [
            f"no schedule in {args.file}, and none of {schedules.project} there"
        ]:
            tell(line)
        return
    _apply(there, wanted, pipeline)


def _apply(there: RecurringRuns, wanted: list[Wanted], pipeline: Path) -> None:
    """Call until nothing is left to do; a second call changes nothing and uploads nothing."""
    by_name = {each.name: each for each in wanted}
    version: tuple[str, str] | None = None
    made: set[str] = set()
    for _ in range(MOST_ROUNDS):
        calls = calls_for(wanted, there.found(), made)
        if not calls:
            break
        # All that is new first, and alone: only what Kubeflow has taken is a reason to turn off what runs. What was made has
        # an id only now, so the next look does the rest, or finds the twin of another apply.
        last = max((number for number, call in enumerate(calls, start=1) if call.do == "create"), default=len(calls))
        for call in calls[:last]:
            if call.do == "create":
                version = version or there.server.upload(pipeline)
                there.create(by_name[call.name], version)
                made.add(call.name)
            elif call.id is not None:
                getattr(there, call.do)(call.id)
            tell(f"{call.name}: {_past(call)}")
    else:
        raise RegistryError(
            there.server.host,
            expected="recurring runs that stay as they were made",
            found="others after every look",
            do="See who else changes them, then run apply again",
        )
    for each in wanted:
        tell(f"{each.name}: as it should be, {'enabled' if each.schedule.enabled else 'disabled'}")


def _destroy(there: RecurringRuns) -> None:
    found = there.found()
    for run in found:
        there.delete(run.id)
        tell(f"{run.name}: deleted; a run of it that goes on goes on")
    if not found:
        tell(f"no recurring run of {there.project} is there")


def _past(call: Call) -> str:
    return {"create": "created, disabled", "enable": "enabled", "disable": "disabled", "delete": "deleted an old one"}[
        call.do
    ]


if __name__ == "__main__":
    sys.exit(run_step(parser(), schedule))
