"""Section `resources`: what the pod of each step gets on a cluster. No step reads it, so it makes nothing run again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from string import ascii_letters
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from gateline.errors import WorkloadError, require_known
from gateline.workload import Workload
from gateline.workload.section import Section, read_section


def _as_text(value: Any) -> Any:
    """YAML reads ``cpu: 4`` as a number."""
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else value


def _quantity(pattern: str, like: str) -> AfterValidator:
    def check(value: str) -> str:
        if not re.fullmatch(pattern, value) or float(value.rstrip(ascii_letters)) == 0:
            raise ValueError(f"a quantity above 0 as Kubernetes writes it, e.g. {like}; got {value!r}")
        return value

    return AfterValidator(check)


Cpu = Annotated[str, BeforeValidator(_as_text), _quantity(r"\d+(\.\d+)?|\d+m", "2 or 500m")]
Memory = Annotated[str, _quantity(r"\d+(\.\d+)?([KMGTPE]i|[kMGTPE])", "8Gi")]


class Pod(Section):
    """Processors and memory of one step: what it is given, and its limit."""

    cpu: Cpu = "1"
    memory: Memory = "4Gi"


NAME_IN_KUBERNETES = r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-\w.]*[A-Za-z0-9])?"
"""Of a label or a taint: a domain may stand before it."""
Key = Annotated[str, Field(pattern=rf"^{NAME_IN_KUBERNETES}$", max_length=253)]
Value = Annotated[str, Field(pattern=r"^([A-Za-z0-9]([-\w.]*[A-Za-z0-9])?)?$", max_length=63)]
GPU = "nvidia.com/gpu"


class Toleration(Section):
    """A taint of nodes that does not keep a pod away, in the words of Kubernetes."""

    key: Key | None = None
    operator: Literal["Exists", "Equal"] | None = None
    value: Value | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    tolerationSeconds: int | None = None  # noqa: N815  as Kubernetes writes it

    @model_validator(mode="after")
    def _means_something(self) -> Toleration:
        if self.operator == "Exists" and self.value:
            raise ValueError("no `value` where `operator` is Exists")
        if self.operator != "Exists" and self.key is None:
            raise ValueError("a `key`, or `operator` Exists for every taint")
        return self


class TrainPod(Pod):
    """The pod of training, which alone may have GPUs."""

    cpu: Cpu = "2"
    memory: Memory = "8Gi"
    gpus: Annotated[int, Field(ge=0, le=16)] = 0
    gpu_type: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-\w.]*[A-Za-z0-9])?$")] = GPU
    """Name of the resource of Kubernetes."""
    node_selector: dict[Key, Value] = {}
    """Labels of the nodes on which it may run."""
    tolerations: list[Toleration] = []
    """Taints of nodes that do not keep it away, as Kubernetes writes them: key, operator, value, effect."""


DEFAULTS: Mapping[str, Pod] = {
    "ingest": Pod(),
    "validate": Pod(),
    "preprocess": Pod(cpu="2", memory="8Gi"),
    "train": TrainPod(),
    "evaluate": Pod(cpu="2", memory="8Gi"),
    "register": Pod(),
}
"""Of a workload without the section, or of a step that it does not name."""


def read_resources(workload: Workload) -> dict[str, Pod]:
    """Read what each step gets.

    Returns:
        By step; that of train is a `TrainPod`.

    Raises:
        WorkloadError: a step is unknown, a quantity is none, a pod that waits for nodes has GPUs, or nodes cannot have theirs.
    """
    place = f"{workload.place}: resources"
    section = workload.sections.get("resources") or {}
    if not isinstance(section, Mapping):
        raise WorkloadError(
            place, expected="steps and what they get", found=repr(section)[:80], do="Write e.g. train: {cpu: 4}"
        )
    for step in section:
        require_known(place, str(step), DEFAULTS)
    pods = {step: _pod(f"{place}.{step}", pod, section.get(step)) for step, pod in DEFAULTS.items()}
    training, train = workload.sections.get("training"), pods["train"]
    spread = isinstance(training, Mapping) and training.get("nodes", 1) != 1
    if spread and isinstance(train, TrainPod) and train.gpus:
        raise WorkloadError(
            f"{place}.train.gpus",
            expected="0 where training.nodes is above 1, since the pod of the step only waits for the nodes",
            found=str(train.gpus),
            do="Say it by training.gpus_per_node",
        )
    if spread and isinstance(train, TrainPod) and train.gpu_type != GPU:
        raise WorkloadError(
            f"{place}.train.gpu_type",
            expected=f"{GPU} where training.nodes is above 1, since the nodes ask for no other",
            found=train.gpu_type,
            do="Take it out, or train on one node",
        )
    return pods


def _pod(place: str, default: Pod, asked: object) -> Pod:
    if asked is None:
        return default
    return read_section(
        place, type(default), {**default.model_dump(), **asked} if isinstance(asked, Mapping) else asked
    )
