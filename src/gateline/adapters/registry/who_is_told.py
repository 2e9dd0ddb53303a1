"""Who wants to know of a decision that a person makes, in a project or outside one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gateline.adapters.mlflow_server import Connection
from gateline.adapters.project import Project, find_root
from gateline.adapters.registry.ledger import require_version
from gateline.adapters.registry.notification import tell_all
from gateline.adapters.registry.registered import registered
from gateline.errors import GatelineError, WorkloadError
from gateline.ledger import Step
from gateline.workload import Workload
from gateline.workload.address import without_users
from gateline.workload.gates import Gates, Notify

WEBHOOK = "GATELINE_WEBHOOK"


def tell_who_wants_to_know(to: Connection, name: str, step: Step | None, say: Callable[[str], None]) -> None:
    """Tell of a decision that a person made, and say who was not told; nothing that goes wrong here is raised.

    The decision was made. A command that ended as one to be run again would, as `rollback`, do it a second time.
    """
    try:
        for line in tell_all(to, name, who_is_told(to, name, step, say), step, folder=find_root(Path.cwd())):
            say(line)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001
        found = " ".join(f"{type(error).__name__} {without_users(error)}".split())[:160]
        say(f"it is not sure who was told ({found}); the decision stands")


def who_is_told(to: Connection, name: str, step: Step | None, say: Callable[[str], None]) -> Notify:
    """Read who wants to know of a decision: from the workload's file in this project, else from the workload inside the version.

    Outside a project no command is run, and no variable but WEBHOOK is read: what stands in a registry is neither to run on the
    machine of whoever promotes, nor to choose among its variables.

    Args:
        to: MLflow.
        name: of the registered model.
        step: the entry of the decision; None where nothing was decided.
        say: takes what could not be read, or is not done.
    """
    version = None if step is None else step.before if step.after is None else step.after
    if version is None:
        return Notify()
    try:
        try:
            path = Project.find(Path.cwd()).resolve(name)
        except WorkloadError:
            with registered(require_version(to, name, version)) as found:
                gates = Workload(name, "", "", "workload.json", found.workload()).section("gates", Gates)
        else:
            return Workload.read(path, step="register").section("gates", Gates).notify
    except (GatelineError, OSError, ValueError) as error:
        say(
            f"nobody is told: who wants to know cannot be read ({' '.join(str(error).split())[:200]}); the decision stands"
        )
        return Notify()
    if gates.notify.command:
        say("not told (command): it runs where the project is, and there is none here; the decision stands")
    variable = gates.notify.webhook_env
    if variable not in (None, WEBHOOK):
        say(
            f"not told (webhook): outside a project its variable must be {WEBHOOK}, not {variable}; the decision stands"
        )
        variable = None
    return gates.notify.model_copy(update={"command": (), "webhook_env": variable})
