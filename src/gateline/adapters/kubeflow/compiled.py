"""What a compiled pipeline must not lack or hold, and which parameters it has: looked at where one is written, and before it is sent."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from gateline.errors import WorkloadError, examples
from gateline.workload.address import USER_IN_ADDRESS

PINNED = re.compile(r"[^@\s=]+@sha256:[0-9a-f]{64}")
SECRETIVE = re.compile(
    r"""passw | passphrase | pwd | secret | token | credential | webhook | authori[sz]ation | connection_?string | key$
    | (private|access|api|account|signing|encryption|ssh)[_-]?key
    | (?<![a-z])(auth|pass|pat|sas)(?![a-z])""",
    re.IGNORECASE | re.VERBOSE,
)
"""Names of what should stand in a Secret: of parameters, variables, flags, keys of ConfigMaps, annotations and labels."""
ASSIGNED = re.compile(
    r"""(?P<name> [A-Za-z][\w.-]* ) (?: =(?=\S) | ["']\s*:\s*(?=["'][^"'] | [^\s"'{[]) )""", re.VERBOSE
)
"""A name and the beginning of its value, in a command, a query, a connection string or JSON: --password=x, ?token=x, AccountKey=x, "password": "x"."""
SIGNED = re.compile(r"[?&](x-amz-|x-goog-)?sig(nature)?=\S", re.IGNORECASE)
SECRETS = {
    "an address with a user or a password": USER_IN_ADDRESS,
    "an address that a signature lets in": SIGNED,
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY"),
    "a header that lets in": re.compile(
        r"authori[sz]ation[\"']?\s*[:=]\s*[\"']?\w | \b(bearer|basic)\s+[\w.~+/=-]{16,}", re.IGNORECASE | re.VERBOSE
    ),
}
"""What is looked for in every text of the file, whatever it is called."""
USER_FLAGS = ("-u", "--user", "--proxy-user")
USER = re.compile(r"[^:]+:(?!\d+$).+")
"""A user and a password behind such a flag of curl and its like; two numbers are a user and a group."""
QUANTITY = re.compile(r"(\d+(?:\.\d+)?)(m|[kMGTPE]|[KMGTPE]i)?")
OF_AN_INPUT = re.compile(r"\{\{\$\.inputs\.parameters\['[^']+'\]\}\}")
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
    executors = pipeline["deploymentSpec"]["executors"]
    tasks: list[tuple[str, str, Any]] = []
    for graph in (pipeline["root"], *pipeline["components"].values()):
        given = graph.get("inputDefinitions", {}).get("parameters", {})
        for name, task in graph.get("dag", {}).get("tasks", {}).items():
            found += _not_given(name, task, given)
            label = pipeline["components"].get(task["componentRef"]["name"], {}).get("executorLabel")
            if label is not None:
                tasks.append((name, label, task))
    # One executor may have several tasks, each with its own tries and cache, or none.
    without = set(executors) - {label for _, label, _ in tasks}
    for name, label, task in (*tasks, *((label.removeprefix("exec-"), label, {}) for label in sorted(without))):
        found += _of_step(name, _component(label), executors[label].get("container", {}), task, pods.get(label, {}))
    return found


def _component(label: str) -> str:
    """What an executor was made from: kfp numbers those after the first, and so the tasks."""
    return re.sub(r"-\d+$", "", label.removeprefix("exec-"))


def _of_step(
    step: str, component: str, container: Mapping[str, Any], task: Mapping[str, Any], pod: Mapping[str, Any]
) -> Iterator[str]:
    image = str(container.get("image"))
    if not PINNED.fullmatch(image):
        yield f"{step}: the image {image!r} has no digest"
    resources = container.get("resources", {})
    for limit in LIMITS:
        if not any(_above_zero(resources.get(key)) for key in (f"resource{limit}", limit[0].lower() + limit[1:])):
            yield f"{step}: no {limit}"
    if "accelerator" in resources and component not in GPU_STEPS:
        yield f"{step}: asks for a GPU"
    if component in NEVER_CACHED and task.get("cachingOptions", {}).get("enableCache"):
        yield f"{step}: is taken from a cache that knows nothing of MLflow"
    yield from _secrets_of_step(step, container, task, pod)
    yield from _tries(step, task.get("retryPolicy", {}), int(pod.get("activeDeadlineSeconds") or 0))
    if pod.get("podMetadata", {}).get("labels", {}).get(NO_SIDECAR) != "false":
        yield f"{step}: has no label {NO_SIDECAR} of false, and would be part of a mesh"
    yield from _root(step, pod.get("securityContext", {}))


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
    for kind in ("annotations", "labels"):
        for name in pod.get("podMetadata", {}).get(kind, {}):
            if SECRETIVE.search(name):
                yield f"{step}: {kind} have {name}, which whoever sees the pod sees; take it from a Secret"
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


def _root(step: str, context: Mapping[str, Any]) -> Iterator[str]:
    if context.get("runAsNonRoot") is not True:
        yield f"{step}: may run as root"
    for who in ("runAsUser", "runAsGroup"):
        if str(context.get(who, "")).strip() == "0":
            yield f"{step}: {who} is root's, 0"


def _above_zero(limit: object) -> bool:
    """Whether a limit is one: a quantity of Kubernetes, or a parameter, which is looked at where it is given."""
    text = str(limit or "")
    quantity = QUANTITY.fullmatch(text)
    return OF_AN_INPUT.fullmatch(text) is not None if quantity is None else float(quantity[1]) > 0


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
    for word, following in itertools.pairwise([*words, "--"]):
        if any(letter.isspace() for letter in word):  # a script, as behind `sh -c`
            yield from _secrets_in_words(_words_of(word), where)
        elif word.startswith("-") and "=" not in word and not following.startswith("--") and SECRETIVE.search(word):
            yield f"{where}: the command gives a value to {word}; take it from a Secret, by a variable"
        elif word in USER_FLAGS and USER.fullmatch(following):
            yield f"{where}: the command gives a user and a password to {word}; take them from a Secret, by a variable"


def _words_of(script: str) -> list[str]:
    try:
        words = shlex.split(script)
    except ValueError:  # quotes that do not close
        words = script.split()
    return words if words != [script] else script.split()  # a quoted text alone


def _texts(content: object, where: str) -> Iterator[tuple[str, str]]:
    """All texts and their places: constants, defaults, variables, words of commands."""
    pairs = content.items() if isinstance(content, Mapping) else enumerate(content) if isinstance(content, list) else ()
    for key, inner in pairs:
        yield from _texts(inner, f"{where}.{key}" if where else str(key))
    if isinstance(content, str):
        yield where, content


def _in_text(where: str, text: str) -> Iterator[str]:
    """Any text may hold a secret, which is not repeated here, or ask for what nobody fills in."""
    secrets = [what for what, pattern in SECRETS.items() if pattern.search(text)]
    given = dict.fromkeys(each["name"] for each in ASSIGNED.finditer(text) if SECRETIVE.search(each["name"]))
    secrets += [f"a value given to {name}" for name in given]
    for secret in secrets:
        yield f"{where}: {secret}; take it from a Secret"
    if not secrets and OF_THE_RUN in text and not (text in RESOLVED and where.endswith(CONSTANT_OF_A_TASK)):
        yield f"{where}: {text!r} is filled in by nobody; make it the whole of a task's input, and take that"


def require_faultless(text: str, where: object) -> None:
    """Refuse a compiled pipeline with faults.

    Raises:
        WorkloadError: says all of them.
    """
    if found := faults(text):
        raise WorkloadError(
            where,
            expected="images by digest, limits, tries, times, inputs that are given and placeholders that are filled in, no part in a mesh, no root, and no secret",
            found="; ".join(found),
            do="Correct pipelines/training.py, and compile it",
        )


def require_usable(pipeline: Path, sent: Collection[str] | None = None) -> None:
    """Refuse a file that is no compiled pipeline, has faults, or has other parameters than are sent to it.

    Args:
        pipeline: what `python -m pipelines.compile` wrote.
        sent: names of the arguments; None: none are known.

    Raises:
        WorkloadError: says all of them.
    """
    try:
        text = pipeline.read_text(encoding="utf-8")
        require_faultless(text, pipeline)
        parameters = next(yaml.safe_load_all(text))["root"].get("inputDefinitions", {}).get("parameters", {})
        needed = {
            name for name, each in parameters.items() if not each.get("isOptional") and "defaultValue" not in each
        }
    except WorkloadError:  # a ValueError, too
        raise
    except (OSError, UnicodeDecodeError, yaml.YAMLError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise WorkloadError(
            pipeline,
            expected="a compiled pipeline",
            found=" ".join(str(error).split())[:120],
            do="Write one with `python -m pipelines.compile`",
        ) from error
    if sent is None:
        return
    if other := sorted({*needed - set(sent), *set(sent) - set(parameters)}):
        raise WorkloadError(
            pipeline,
            expected="a pipeline with the parameters that this gateline sends",
            found=f"others: {examples(other)}",
            do="Compile it with this code",
        )
