"""What a workload gives the training pipeline: one argument per parameter of `pipelines/training.py`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from gateline.adapters.kubeflow.dvc_objects import with_dvc_objects
from gateline.errors import WorkloadError, require_known
from gateline.manifest import digest_of
from gateline.passport import code_version
from gateline.workload import SECTIONS_OF_STEP, Workload
from gateline.workload.address import USER_IN_ADDRESS, without_users
from gateline.workload.resources import TrainPod, read_resources
from gateline.workload.run_wide import RUN_SETTINGS, what_it_may_be
from gateline.workload.source import File, Source
from gateline.workload.training import Training

LARGEST_SEED = (2**53, "2^53")  # Kubeflow keeps every number as a double, which beyond that would be another seed
OF_ONE_POD = {"", "file", "local", "memory"}
"""Kinds of addresses that no other pod reaches."""
ONLY_READ = {"http", "https", "data", "git", "github", "gist", "reference", "tar", "zip", "libarchive", "dvc", "wandb"}
"""Kinds of addresses from which fsspec only reads, or into which no folder can be written bit by bit."""


def run_settings(params: Mapping[str, Any], changes: Sequence[str] = ()) -> dict[str, Any]:
    """Take the run-wide settings of ``params.yaml``, some of them changed.

    Args:
        params: the file's content.
        changes: ``NAME=VALUE``, the value as YAML.

    Raises:
        WorkloadError: a setting is missing or cannot be used, or a change names none.
    """
    settings, places = dict(params), {name: f"params.yaml: {name}" for name in RUN_SETTINGS}
    for change in changes:
        name, equals, value = change.partition("=")
        place = places[name] = f"--set {without_users(name)}"
        require_known(place, without_users(name), RUN_SETTINGS)
        if not equals:
            raise WorkloadError(place, expected=f"{name}=VALUE, the value as YAML", found="no `=`", do="Add it")
        try:
            settings[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise WorkloadError(
                places[name], expected=f"{name}=VALUE, the value as YAML", found=without_users(value), do="Correct it"
            ) from error
    for name, place in places.items():
        if name not in settings:
            raise WorkloadError(place, expected="a value", found="none", do="Add it")
        if (expected := what_it_may_be(name, settings[name], LARGEST_SEED)) is not None:
            found = "none" if settings[name] is None else repr(without_users(settings[name]))
            raise WorkloadError(place, expected=expected, found=found, do="Correct it")
    if (settings["device"], settings["precision"]) == ("cpu", "float16"):
        raise WorkloadError(
            places["precision"], expected="float32 or bfloat16 on a CPU", found="float16", do="Use bfloat16"
        )
    return {name: settings[name] for name in RUN_SETTINGS}


def require_kept_checkpoints(settings: Mapping[str, Any], where: str, do: str) -> None:
    """Refuse to train on a cluster what would begin anew in every pod, whether it was preempted or refused.

    Args:
        settings: `RUN_SETTINGS` by name.
        where: what names `checkpoints`, for the error.
        do: how to name another place.

    Raises:
        WorkloadError: checkpoints would be gone with the pod, or their address shows a user or a password to whoever sees
            the run.
    """
    try:
        address = urlsplit(str(settings["checkpoints"]))
    except ValueError:  # brackets that do not close
        address = urlsplit("")
    if address.netloc and address.scheme not in _that_can_be_written():
        raise WorkloadError(
            where,
            expected="the address of a store that can be written, such as s3://BUCKET/checkpoints",
            found=repr(without_users(settings["checkpoints"])),
            do=do,
        )
    if address.scheme in OF_ONE_POD or not address.netloc:
        raise WorkloadError(
            where,
            expected="an address that the next pod of a training reaches too, such as s3://BUCKET/checkpoints",
            found=f"{without_users(settings['checkpoints'])!r}, which is gone with the pod",
            do=do,
        )
    if USER_IN_ADDRESS.search(str(settings["checkpoints"])):
        raise WorkloadError(
            where,
            expected="an address without a user or a password",
            found="one with it",
            do="Keep it in a Secret of the cluster: docs/schedules.md says which",
        )


def _that_can_be_written() -> set[str]:
    """Kinds of addresses that fsspec knows, less those that it only reads. Its packages may be missing here, and be there in the pods."""
    import fsspec

    return {*fsspec.available_protocols(), "abfss", *OF_ONE_POD} - ONLY_READ


def pipeline_arguments(
    workload: Path, settings: Mapping[str, Any], *, only_if_changed: bool = False, files_here: bool = False
) -> dict[str, Any]:
    """Take a workload apart into the arguments of the pipeline, unless a step would refuse it after all tries of the others.

    Each step gets the sections that it reads, as JSON text: a mapping would have its whole numbers turned into floats, and one
    text for all would train again when `gates` changes. The digests are there because Kubeflow's cache sees no content.

    Args:
        workload: its file.
        settings: `RUN_SETTINGS` by name.
        only_if_changed: let the run end early where nothing has changed since the last one that ended well.
        files_here: the steps run where the local files of the source lie.

    Returns:
        Arguments by name of the parameter; the same for the same workload and code.

    Raises:
        WorkloadError: the file is none, a section is missing or wrong or fits no other, a batch has fewer rows than there are
            processes, the pod of training has another number of GPUs, no pod could read a file of the source, or an address would
            show a user or a password to whoever sees the run.
    """
    whole = Workload.read(workload)
    _require_usable(whole, settings)
    whole = with_dvc_objects(whole, workload)
    files = whole.section("source", Source).files
    if not files_here:
        _require_within_reach(whole.place, files)
    pods, run = _of_the_pods(whole), {name: settings[name] for name in RUN_SETTINGS}
    if pods["train_gpus"] != "0" and not files_here:
        _require_use_of_gpus(whole.place, int(pods["train_gpus"]), run)
        # An image of train without CUDA refuses then, rather than hold a GPU and train beside it.
        run["device"] = "cuda"
    parts = {f"{step}_workload": _part(whole, step) for step in SECTIONS_OF_STEP}
    arguments = {
        **parts,
        **pods,
        **run,
        "data_digest": digest_of({file.name: file.sha256 for file in files}),
        "code_version": code_version(),
        "settings_digest": digest_of({"parts": parts, "settings": run}),
        "only_if_changed": only_if_changed,
    }
    require_no_user_shown(whole.place, arguments)
    return arguments


def _require_usable(workload: Workload, settings: Mapping[str, Any]) -> None:
    try:
        from gateline.adapters.explanation import check_sections  # imports torch

        check_sections(workload)
    except ModuleNotFoundError as error:
        raise WorkloadError(
            workload.place,
            expected="the packages of the steps here, since what a step would refuse is looked for before it is sent",
            found=f"no {error.name}",
            do="Install gateline with its extra `all`",
        ) from error
    training = workload.section("training", Training)
    each = training.gpus_per_node or settings["processes"]
    if training.nodes * each > training.batch_size:
        raise WorkloadError(
            f"{workload.place}: training.nodes" if training.nodes > 1 else "processes",
            expected=f"at most training.batch_size, {training.batch_size}, processes, so that each has rows of a batch",
            found=f"{training.nodes} nodes with {each} each" if training.nodes > 1 else str(each),
            do="Ask for fewer",
        )


def _require_use_of_gpus(place: str, gpus: int, settings: Mapping[str, Any]) -> None:
    """Refuse GPUs that no process of the pod would use, and processes without one."""
    if settings["device"] == "cpu":
        raise WorkloadError(
            f"{place}: resources.train.gpus",
            expected="0 where device is cpu, since nobody else would have the GPU meanwhile",
            found=str(gpus),
            do="Take it out, or set device to auto",
        )
    if settings["processes"] != gpus:
        raise WorkloadError(
            f"{place}: resources.train.gpus",
            expected=f"as many as there are processes, {settings['processes']}, since each takes a GPU of its own",
            found=str(gpus),
            do=f"Change it, or set processes to {gpus}",
        )


def _require_within_reach(place: str, files: Sequence[File]) -> None:
    for file in files:
        if file.url is None and file.package is None and file.dvc is None:
            raise WorkloadError(
                f"{place}: source.files.{file.name}",
                expected="a file that a pod can read: `url`, `package`, or a `path` that DVC keeps in a remote",
                found=f"{file.path} of this machine alone",
                do=f"`dvc add {file.path}` and `dvc push` it, or give its `url`",
            )


def require_no_user_shown(place: str, arguments: Mapping[str, Any]) -> None:
    """Look at every text, since a query may name an address as well as a file does; what is found is not repeated.

    Raises:
        WorkloadError: an address would show a user or a password to whoever sees the run.
    """
    if shows := [name for name, value in arguments.items() if USER_IN_ADDRESS.search(str(value))]:
        raise WorkloadError(
            place,
            expected="addresses without a user or a password, since whoever sees the run sees its arguments",
            found=f"one with it in {', '.join(shows)}",
            do="Take it out; docs/schedules.md says where the keys of a store stand",
        )


def _of_the_pods(workload: Workload) -> dict[str, Any]:
    pods = read_resources(workload)
    train = pods["train"]
    assert isinstance(train, TrainPod)  # noqa: S101  for mypy
    return {
        **{f"{step}_{name}": getattr(pod, name) for step, pod in pods.items() for name in ("cpu", "memory")},
        "train_gpus": str(train.gpus),
        "train_gpu_type": train.gpu_type,
        "train_node_selector": train.node_selector,
        "train_tolerations": [each.model_dump(exclude_none=True) for each in train.tolerations],
    }


def _part(workload: Workload, step: str) -> str:
    # The description stands in the report alone, so a better sentence trains nothing again.
    described = {"description": workload.description} if step == "evaluate" else {}
    sections = {name: workload.sections[name] for name in SECTIONS_OF_STEP[step] if name in workload.sections}
    # In the order of the file, as behind every other door: columns have an order, and the artifacts record it.
    return json.dumps({"name": workload.name, "task": workload.task, **described, **sections}, default=str)
