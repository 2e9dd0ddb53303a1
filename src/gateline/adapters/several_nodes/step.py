"""What the train step does where a workload asks for several nodes: start them, follow them, fetch the model."""

from __future__ import annotations

import json
import os
from argparse import Namespace
from contextlib import suppress
from dataclasses import dataclass

from gateline.adapters.door import stop_between_steps, tell
from gateline.adapters.mlflow_server import tracking_uri
from gateline.adapters.several_nodes.shipment import Shipment
from gateline.adapters.several_nodes.train_job import Nodes, job_name, train_job
from gateline.adapters.several_nodes.trainer import Say, Trainer
from gateline.adapters.tracking import log_training
from gateline.errors import ArtifactError, GatelineError
from gateline.manifest import Artifact, digest_of
from gateline.passport import code_version
from gateline.training import RunSettings, read_settings
from gateline.training.run import check_share
from gateline.workload import Workload
from gateline.workload.training import Training


def nodes_of(workload: Workload, processes: int) -> Nodes:
    """Say what a training is spread over.

    Args:
        workload: its section `training`.
        processes: of a node without GPUs; one with them has a process for each.
    """
    training = workload.section("training", Training)
    return Nodes(training.nodes, training.gpus_per_node, training.gpus_per_node or processes)


def trained_on_nodes(workload: Workload, prepared: Artifact, args: Namespace) -> bool:
    """Train on several nodes where the workload asks for them; tell whether it does.

    On one of those nodes it does not: there torchrun has said who this process is.
    """
    if workload.section("training", Training).nodes == 1 or "WORLD_SIZE" in os.environ:
        return False
    log_training(workload.name, prepared, train_on_nodes(workload, prepared, args, tell))
    return True


@dataclass(frozen=True)
class Plan:
    """A training on several nodes.

    Args:
        name: of its job: the same for the same training.
        nodes: what it is spread over.
        data: address of the data.
        model: address of what comes of it.
        command: what each node runs.
    """

    name: str
    nodes: Nodes
    data: str
    model: str
    command: list[str]


def plan(workload: Workload, prepared: Artifact, args: Namespace) -> Plan:
    """Say what a training on several nodes is.

    Raises:
        WorkloadError: the sections cannot be used, or there are more processes than a batch has rows.
    """
    nodes = nodes_of(workload, args.processes)
    model_settings, training = read_settings(workload)
    run = RunSettings(args.seed, nodes.device, args.precision, nodes.count * nodes.processes)
    check_share(run, training)
    digest = digest_of(
        {
            "prepared": prepared.digest,
            "code": code_version(),
            "task": workload.task,
            "model": model_settings.model_dump(mode="json"),
            "training": training.model_dump(mode="json"),
            "run": vars(run),
        }
    )
    name, around = job_name(workload.name, digest), args.checkpoints.rstrip("/")
    data, model = f"{around}/prepared-{prepared.digest[:16]}", f"{around}/{name}/model"
    command = [
        *("python", "-m", "gateline.adapters.several_nodes.node", "--workload", _as_text(workload)),
        *("--prepared", data, "--model", model, "--seed", str(args.seed), "--device", nodes.device),
        *("--precision", args.precision, "--checkpoints", around),
    ]
    return Plan(name, nodes, data, model, command)


def train_on_nodes(workload: Workload, prepared: Artifact, args: Namespace, say: Say) -> Artifact:
    """Train on several nodes, and write the folder `model` that they made.

    The same training has the same name. So a step that is run again, because its pod was taken away, goes on with the job
    that is there; and one whose model lies in the object store already fetches it.

    Args:
        workload: its sections `model` and `training`.
        prepared: the data, which are put where the nodes find them.
        args: flags of the step.
        say: takes a line about what goes on.

    Raises:
        Preempted: told to stop; the job goes on.
        GatelineError: the cluster does not let us, or has no Trainer.
        TrainingError: the job failed.
        UnreachableError: API or store did not answer; the same command goes on.
    """
    tracking_uri()  # without one a pod refuses, and so would its nodes
    planned = plan(workload, prepared, args)
    made = Shipment(planned.model)
    if made.complete:
        say(f"The model of {planned.name} is in the object store already; it is fetched.")
        try:
            model = made.fetch(args.model, "model")
        except ArtifactError as error:
            say(f"{error} It is trained again.")
            made.withdraw()
        else:
            # A step that was lost may have left its job; no cluster is needed to have the model.
            with suppress(GatelineError):
                Trainer().remove(planned.name)
            return model
    trainer = Trainer()
    pod = trainer.own_pod()
    job = train_job(planned.name, pod, planned.nodes, planned.command)
    trainer.require(planned.name)
    data = Shipment(planned.data)
    if not data.complete:
        data.send(prepared)
    with stop_between_steps() as stop:
        trainer.start(job, say, lambda: made.complete)
        trainer.follow(planned.name, say, stop, lambda: made.complete)
    model = made.fetch(args.model, "model")
    trainer.remove(planned.name)
    return model


def _as_text(workload: Workload) -> str:
    """Write the part of a workload that training reads as one argument."""
    return json.dumps({"name": workload.name, "task": workload.task, **workload.sections}, sort_keys=True, default=str)
