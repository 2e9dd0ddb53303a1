"""What a compiled pipeline must not lack or hold; `python -m pipelines.lint FILE.yaml` looks at one, and compile writes no other."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from gateline.adapters.door import run_step, tell
from gateline.errors import WorkloadError
from gateline.workload.address import USER_IN_ADDRESS

PINNED = re.compile(r"[^@\s=]+@sha256:[0-9a-f]{64}")
SECRETIVE = re.compile(
    r"passw|passphrase|pwd|secret|token|credential|webhook|authori[sz]ation|(^|[_-])auth([_-]|$)|key$", re.IGNORECASE
)
ASSIGNED = re.compile(r"([A-Za-z][\w-]*)=(?=\S)")
"""A value behind a flag or a variable in a word of a command: --password=x, PGPASSWORD=x."""
LIMITS = ("CpuLimit", "MemoryLimit")
OF_THE_RUN = "{{$.pipeline_"
"""How kfp's placeholders for facts of the run begin."""
RESOLVED = {
    f"{OF_THE_RUN}{fact}}}}}" for fact in ("job_name", "job_resource_name", "job_uuid", "task_name", "task_uuid")
}
"""Those that Kubeflow knows, and only as the whole of a task's input: anywhere else the text itself would arrive, unlike in kfp's local
runner. Source: `resolveInputParameter` and `compileCmdAndArgs` of kubeflow/pipelines."""
CONSTANT_OF_A_TASK = ".runtimeValue.constant"
GPU_STEPS = {"train"}
NEVER_CACHED = {"ask", "register", "conclude"}
"""Their answer depends on what the registry says now."""
NO_SIDECAR = "sidecar.istio.io/inject"
"""Label of every pod: where Kubeflow's namespace has a mesh, a step is no part of it."""


def faults(text: str) -> list[str]:
    """List what is wrong with a compiled pipeline.

    Args:
        text: the YAML that kfp wrote: the pipeline, and what Kubernetes is told beside it.

    Returns:
        One sentence per fault; none where all is well.
    """
    documents = list(yaml.safe_load_all(text))
    pipeline, platform = documents[0], documents[1] if len(documents) > 1 else {}
    pods = platform.get("platforms", {}).get("kubernetes", {}).get("deploymentSpec", {}).get("executors", {})
    found = list(_secrets(pipeline.get("root", {}).get("inputDefinitions", {}).get("parameters", {}), "the pipeline"))
    for document in documents:
        for where, content in _texts(document, ""):
            found += _in_text(where, content)
    tasks: dict[str, Any] = {}
    for graph in (pipeline["root"], *pipeline["components"].values()):
        given = graph.get("inputDefinitions", {}).get("parameters", {})
        for name, task in graph.get("dag", {}).get("tasks", {}).items():
            tasks[name] = task
            found += _not_given(name, task, given)
    for label, executor in pipeline["deploymentSpec"]["executors"].items():
        step = label.removeprefix("exec-")
        found += _of_step(step, executor.get("container", {}), tasks.get(step, {}), pods.get(label, {}))
    return found


def _of_step(step: str, container: Mapping[str, Any], task: Mapping[str, Any], pod: Mapping[str, Any]) -> Iterator[str]:
    image = str(container.get("image"))
    if not PINNED.fullmatch(image):
        yield f"{step}: the image {image!r} has no digest"
    resources = container.get("resources", {})
    for limit in LIMITS:
        if not any(_above_zero(resources.get(key)) for key in (f"resource{limit}", limit[0].lower() + limit[1:])):
            yield f"{step}: no {limit}"
    if "accelerator" in resources and step not in GPU_STEPS:
        yield f"{step}: asks for a GPU"
    if step in NEVER_CACHED and task.get("cachingOptions", {}).get("enableCache"):
        yield f"{step}: is taken from a cache that knows nothing of MLflow"
    yield from _secrets_of_step(step, container, task, pod)
    yield from _tries(step, task.get("retryPolicy", {}), int(pod.get("activeDeadlineSeconds") or 0))
    if pod.get("podMetadata", {}).get("labels", {}).get(NO_SIDECAR) != "false":
        yield f"{step}: has no label {NO_SIDECAR} of false, and would be part of a mesh"
    if not pod.get("securityContext", {}).get("runAsNonRoot"):
        yield f"{step}: may run as root"


def _secrets_of_step(
    step: str, container: Mapping[str, Any], task: Mapping[str, Any], pod: Mapping[str, Any]
) -> Iterator[str]:
    for variable in container.get("env", []):
        if SECRETIVE.search(variable["name"]):
            yield f"{step}: the variable {variable['name']} holds a value; take it from a Secret"
    for given in pod.get("configMapAsEnv", []):
        for each in given.get("keyToEnv", []):
            if SECRETIVE.search(each["envVar"]) or SECRETIVE.search(each["configMapKey"]):
                yield f"{step}: the variable {each['envVar']} comes from a ConfigMap; take it from a Secret"
    yield from _secrets_in_words([*container.get("command", []), *container.get("args", [])], step)
    yield from _secrets(task.get("inputs", {}).get("parameters", {}), step)


def _tries(step: str, policy: Mapping[str, Any], seconds: int) -> Iterator[str]:
    """Argo counts `backoffMaxDuration` from the beginning of the first try; no other one begins after it, and none outlives it."""
    tries = int(policy.get("maxRetryCount") or 0) + 1
    if tries == 1:
        yield f"{step}: is not tried again"
    if not seconds:
        yield f"{step}: may run for ever"
    if (longest := int(str(policy.get("backoffMaxDuration", "0s")).removesuffix("s"))) < tries * seconds:
        yield f"{step}: has {longest} seconds for {tries} tries, each of which may take {seconds}"


def _above_zero(limit: object) -> bool:
    """Whether a limit is one: of a number with its unit, or of a parameter, which is looked at where it is given."""
    text = str(limit or "")
    number = re.match(r"[0-9.]+", text)
    return text.startswith("{{") if number is None else float(number[0]) > 0


def _not_given(name: str, task: Mapping[str, Any], given: Mapping[str, Any]) -> Iterator[str]:
    """What only limits a task's use of the machine kfp does not pass into a condition's branch: the run would fail at that task."""
    for source in task.get("inputs", {}).get("parameters", {}).values():
        asked = source.get("componentInputParameter")
        if asked is not None and asked not in given:
            yield f"{name}: asks for {asked}, which nobody gives to the graph around it"


def _secrets(parameters: Mapping[str, Any], where: str) -> Iterator[str]:
    """Parameters are shown on the page of a run, so none may be for a secret."""
    for name in parameters:
        if SECRETIVE.search(name):
            yield f"{where}: the parameter {name} would show a secret; take it from a Secret of Kubernetes"


def _secrets_in_words(words: Sequence[str], where: str) -> Iterator[str]:
    """A command line is shown, too, and stands in the list of processes."""
    for word, following in zip(words, [*words[1:], "--"], strict=True):
        names = ASSIGNED.findall(word)
        if word.startswith("-") and "=" not in word and not following.startswith("-"):
            names.append(word)
        for name in names:
            if SECRETIVE.search(name):
                yield f"{where}: the command gives a value to {name}; take it from a Secret, by a variable"


def _texts(content: object, where: str) -> Iterator[tuple[str, str]]:
    """All texts and their places: constants, defaults, variables, words of commands."""
    pairs = content.items() if isinstance(content, Mapping) else enumerate(content) if isinstance(content, list) else ()
    for key, inner in pairs:
        yield from _texts(inner, f"{where}.{key}" if where else str(key))
    if isinstance(content, str):
        yield where, content


def _in_text(where: str, text: str) -> Iterator[str]:
    """Any text may be an address with a password, which is not repeated here, or ask for what nobody fills in."""
    if USER_IN_ADDRESS.search(text):
        yield f"{where}: an address with a user or a password; take them from a Secret"
    if OF_THE_RUN in text and not (text in RESOLVED and where.endswith(CONSTANT_OF_A_TASK)):
        yield f"{where}: {text!r} is filled in by nobody; make it the whole of a task's input, and take that"


def require_faultless(text: str, where: object) -> None:
    """Refuse a compiled pipeline with faults.

    Raises:
        WorkloadError: says all of them.
    """
    if found := faults(text):
        raise WorkloadError(
            where,
            expected="images by digest, limits, tries, times, inputs that are given and placeholders that are filled in, no part in a mesh, and no root and no secret anywhere",
            found="; ".join(found),
            do="Correct pipelines/training.py",
        )


def parser() -> argparse.ArgumentParser:
    """Name the flags."""
    flags = argparse.ArgumentParser(prog="python -m pipelines.lint", description=__doc__)
    flags.add_argument("pipeline", type=Path, metavar="FILE.yaml")
    return flags


def lint(args: argparse.Namespace) -> None:
    """Look at one file."""
    try:
        text = args.pipeline.read_text(encoding="utf-8")
        require_faultless(text, args.pipeline)
    except WorkloadError:  # a ValueError, too
        raise
    except (OSError, UnicodeDecodeError, yaml.YAMLError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise WorkloadError(
            args.pipeline,
            expected="a compiled pipeline",
            found=" ".join(str(error).split())[:120],
            do="Write one with `python -m pipelines.compile`",
        ) from error
    tell(f"{args.pipeline}: nothing to object to")


if __name__ == "__main__":
    sys.exit(run_step(parser(), lint))
