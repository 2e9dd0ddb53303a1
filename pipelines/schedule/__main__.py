"""Plan, apply or destroy the recurring runs of `schedules.yaml`: `python -m pipelines.schedule plan --host URL --pipeline FILE`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gateline.adapters.door import run_step, tell
from gateline.adapters.project import Project
from gateline.errors import RegistryError
from pipelines.schedule.declared import Schedules, Wanted, read_schedules, wanted_runs
from pipelines.schedule.kubeflow import Kubeflow, version_name
from pipelines.schedule.plan import Call, calls_for, in_words

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
        _destroy(Kubeflow(args.host, args.namespace))
        return
    if args.pipeline is None:
        raise RegistryError("--pipeline", expected="a compiled pipeline", found="none", do="Name its file")
    schedules = read_schedules(args.file)
    wanted = wanted_runs(schedules, Project.find(Path.cwd()), version_name(args.pipeline))
    kubeflow = Kubeflow(args.host, args.namespace)
    if args.do == "plan":
        for line in in_words(wanted, kubeflow.recurring_runs()):
            tell(line)
        return
    _apply(kubeflow, schedules, wanted, args.pipeline)


def _apply(kubeflow: Kubeflow, schedules: Schedules, wanted: list[Wanted], pipeline: Path) -> None:
    """Call until nothing is left to do; a second call changes nothing and uploads nothing."""
    by_name = {each.name: each for each in wanted}
    version: tuple[str, str] | None = None
    for _ in range(MOST_ROUNDS):
        calls = calls_for(wanted, kubeflow.recurring_runs())
        if not calls:
            break
        for call in calls:
            if call.do == "create":
                version = version or kubeflow.upload(pipeline)
                kubeflow.create(by_name[call.name], schedules.experiment, version)
            elif call.id is not None:
                getattr(kubeflow, call.do)(call.id)
            else:
                continue  # what was made has an id only now: the next look enables it, or a twin of another apply
            tell(f"{call.name}: {_past(call)}")
    else:
        raise RegistryError(
            kubeflow.host,
            expected="recurring runs that stay as they were made",
            found="others after every look",
            do="See who else changes them, then run apply again",
        )
    for each in wanted:
        tell(f"{each.name}: as it should be, {'enabled' if each.schedule.enabled else 'disabled'}")


def _destroy(kubeflow: Kubeflow) -> None:
    found = kubeflow.recurring_runs()
    for run in found:
        kubeflow.delete(run.id)
        tell(f"{run.name}: deleted")
    if not found:
        tell("no recurring run of Gateline is there")


def _past(call: Call) -> str:
    return {"create": "created, disabled", "enable": "enabled", "disable": "disabled", "delete": "deleted an old one"}[
        call.do
    ]


if __name__ == "__main__":
    sys.exit(run_step(parser(), schedule))
