"""What a workload gives the training pipeline: one argument per parameter of `pipelines/training.py`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from gateline.adapters.kubeflow.dvc_objects import with_dvc_objects
from gateline.adapters.mlflow_server import shown
from gateline.errors import WorkloadError, require_known
from gateline.manifest import digest_of
from gateline.passport import code_version
from gateline.workload import SECTIONS_OF_STEP, Workload
from gateline.workload.resources import TrainPod, read_resources
from gateline.workload.source import Source

RUN_SETTINGS = ("seed", "device", "precision", "processes", "checkpoints")
"""Run-wide settings, the keys of `params.yaml` that are parameters of the pipeline."""
OF_ONE_POD = {"", "file", "local", "memory"}
"""Kinds of addresses that no other pod reaches."""


def run_settings(params: Mapping[str, Any], changes: Sequence[str] = ()) -> dict[str, Any]:
    """Take the run-wide settings of ``params.yaml``, some of them changed.

    Args:
        params: the file's content.
        changes: ``NAME=VALUE``, the value as YAML.

    Raises:
        WorkloadError: a setting is missing, or a change names none.
    """
    settings = dict(params)
    for change in changes:
        name, equals, value = change.partition("=")
        require_known(f"--set {change}", name if equals else change, RUN_SETTINGS)
        settings[name] = yaml.safe_load(value)
    for name in RUN_SETTINGS:
        if name not in settings:
            raise WorkloadError(f"params.yaml: {name}", expected="a value", found="none", do="Add it")
    return {name: settings[name] for name in RUN_SETTINGS}


def require_kept_checkpoints(settings: Mapping[str, Any], where: str, do: str) -> None:
    """Refuse to train on a cluster what would begin anew in every pod, whether it was preempted or refused.

    Args:
        settings: `RUN_SETTINGS` by name.
        where: what names `checkpoints`, for the error.
        do: how to name another place.

    Raises:
        WorkloadError: checkpoints would be gone with the pod, or their address shows a password to whoever sees the run.
    """
    try:
        address = urlsplit(str(settings["checkpoints"]))
    except ValueError:  # brackets that do not close
        address = urlsplit("")
    if address.scheme in OF_ONE_POD or not address.netloc:
        raise WorkloadError(
            where,
            expected="an address that the next pod of a training reaches too, such as s3://BUCKET/checkpoints",
            found=f"{shown(settings['checkpoints'])!r}, which is gone with the pod",
            do=do,
        )
    if address.password:
        raise WorkloadError(
            where,
            expected="an address without a password",
            found="one with it",
            do="Keep it in a Secret of the cluster: docs/schedules.md says which",
        )


def pipeline_arguments(workload: Path, settings: Mapping[str, Any], *, only_if_changed: bool = False) -> dict[str, Any]:
    """Take a workload apart into the arguments of the pipeline.

    Each step gets the sections that it reads, as JSON text: a mapping would have its whole numbers turned into floats, and one
    text for all would train again when `gates` changes. The digests are there because Kubeflow's cache sees no content.

    Args:
        workload: its file.
        settings: `RUN_SETTINGS` by name.
        only_if_changed: let the run end early where nothing has changed since the last one that ended well.

    Returns:
        Arguments by name of the parameter; the same for the same workload and code.

    Raises:
        WorkloadError: the file is none, or lacks a section.
    """
    whole = with_dvc_objects(Workload.read(workload), workload)
    files = whole.section("source", Source).files
    run = {name: settings[name] for name in RUN_SETTINGS}
    parts = {f"{step}_workload": _part(whole, step) for step in SECTIONS_OF_STEP}
    return {
        **parts,
        **_of_the_pods(whole),
        **run,
        "data_digest": digest_of({file.name: file.sha256 for file in files}),
        "code_version": code_version(),
        "settings_digest": digest_of({"parts": parts, "settings": run}),
        "only_if_changed": only_if_changed,
    }


def _of_the_pods(workload: Workload) -> dict[str, Any]:
    pods = read_resources(workload)
    train = pods["train"]
    assert isinstance(train, TrainPod)  # noqa: S101  for mypy
    return {
        **{f"{step}_{name}": getattr(pod, name) for step, pod in pods.items() for name in ("cpu", "memory")},
        "train_gpus": str(train.gpus),
        "train_gpu_type": train.gpu_type,
        "train_node_selector": train.node_selector,
        "train_tolerations": train.tolerations,
    }


def _part(workload: Workload, step: str) -> str:
    # The description stands in the report alone, so a better sentence trains nothing again.
    described = {"description": workload.description} if step == "evaluate" else {}
    sections = {name: workload.sections[name] for name in SECTIONS_OF_STEP[step] if name in workload.sections}
    # In the order of the file, as behind every other door: columns have an order, and the artifacts record it.
    return json.dumps({"name": workload.name, "task": workload.task, **described, **sections}, default=str)
