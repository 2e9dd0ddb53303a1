"""The API of Kubernetes, as far as the train step needs it: its own pod, and the life of one TrainJob."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gateline.adapters.provenance import IMAGE, PIPELINE_DIGEST
from gateline.adapters.several_nodes.train_job import API_GROUP, API_VERSION, LONGEST_SECONDS, PLURAL, RUNTIME, Pod
from gateline.errors import GatelineError, TrainingError, TryAgainError, UnreachableError

NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
POLL_SECONDS = 5.0
MOST_SILENCES = 60
"""Polls without an answer after which following ends; the job itself goes on."""
GONE_SECONDS = 180.0
"""How long a job that was removed may take to be gone, its pods too."""
REFUSED = "FailJobSetFailurePolicyAction"
"""Reason of a job that failed since a node was refused (exit code 2): JobSet's for the runtime's one rule FailJobSet, which the
TrainJob takes over."""
TOO_LONG = "DeadlineExceeded"
"""Reason of a job that was stopped at the end of its time."""
TIMEOUT = (5, 30)
"""Seconds to reach the API, and to wait for its answer."""

Say = Callable[[str], None]


class Trainer:
    """Speaks to the API of Kubernetes as the service account of this pod, or as `KUBECONFIG` says.

    Raises:
        GatelineError: this is no pod, and there is no KUBECONFIG.
    """

    def __init__(self) -> None:
        from kubernetes import client, config

        try:
            config.load_config()
        except config.ConfigException as error:
            raise GatelineError(
                "training.nodes",
                expected="a pod of a cluster with Kubeflow Trainer, whose API starts the nodes",
                found="none around this process",
                do="Run it by `gateline submit`, start torchrun on each machine yourself, or set training.nodes to 1",
            ) from error
        self._core, self._objects = client.CoreV1Api(), client.CustomObjectsApi()
        self._namespace = os.environ.get("POD_NAMESPACE") or (
            NAMESPACE.read_text(encoding="utf-8").strip() if NAMESPACE.is_file() else "default"
        )

    def own_pod(self) -> Pod:
        """Read what this pod is like.

        Raises:
            GatelineError: it may not be read, or no container of it says its image.
        """
        name = os.environ.get("KFP_POD_NAME") or os.environ.get("HOSTNAME", "")  # a host's name is cut at 63 characters
        with _answered("its own pod", "get", "pods"):
            pod = self._core.read_namespaced_pod(name, self._namespace, _request_timeout=TIMEOUT)
        image = os.environ.get(IMAGE, "")
        ours = [each for each in pod.spec.containers if any(variable.name == IMAGE for variable in each.env or ())]
        if not image or len(ours) != 1:
            raise GatelineError(
                IMAGE,
                expected="the name of the image, which the nodes run too, in one container of this pod",
                found=repr(image) if len(ours) == 1 else f"{len(ours)} containers with it",
                do="Compile the pipeline with `python -m pipelines.compile`, which sets it",
            )
        kept = {key: os.environ[key] for key in (IMAGE, PIPELINE_DIGEST) if os.environ.get(key)}
        plain = self._core.api_client.sanitize_for_serialization(
            {
                "resources": ours[0].resources,
                "node_selector": pod.spec.node_selector,
                "tolerations": pod.spec.tolerations,
            }
        )
        return Pod(
            namespace=self._namespace,
            image=ours[0].image,
            resources=plain["resources"] or {},
            node_selector=plain["node_selector"] or {},
            tolerations=plain["tolerations"] or (),
            environment=kept,
            seconds=pod.spec.active_deadline_seconds or LONGEST_SECONDS,
        )

    def require(self, name: str) -> None:
        """See that jobs can be looked at, before anything is sent anywhere.

        Raises:
            GatelineError: this account may not, or Trainer is not installed.
            UnreachableError: the API does not answer.
        """
        self._get(name)

    def start(self, manifest: dict[str, Any], say: Say, made: Callable[[], bool]) -> None:
        """See to it that the job runs: go on with the one that is there, or make it; one that failed is made again.

        One that is complete is made again, too, where its model was removed since, and one that is being removed, unless its model
        is there: then another step has it, and tidies up. One whose nodes were refused stays as it is: they would be refused again,
        each with its GPUs.

        Args:
            manifest: of the job.
            say: takes a line about what is done.
            made: tells whether the model is there.

        Raises:
            TrainingError: its nodes were refused in an earlier run.
            GatelineError: this account may not, or Trainer is not installed.
            UnreachableError: the API does not answer, or the old job does not go.
        """
        name = manifest["metadata"]["name"]
        job = self._get(name)
        if job is not None:
            if (why := self._why_again(name, job, made)) is None:
                say(f"TrainJob {name} is there already; it is followed.")
                return
            say(f"TrainJob {name} {why}.")
            self.remove(name)
        with _answered(f"TrainJob {name}", "create", PLURAL):
            self._objects.create_namespaced_custom_object(
                API_GROUP, API_VERSION, self._namespace, PLURAL, manifest, _request_timeout=TIMEOUT
            )
        say(f"TrainJob {name}: {manifest['spec']['trainer']['numNodes']} nodes are asked for.")

    def _why_again(self, name: str, job: dict[str, Any], made: Callable[[], bool]) -> str | None:
        """Say why a job that is there is made again; None where it is followed.

        Raises:
            TrainingError: its nodes were refused in an earlier run.
        """
        if "deletionTimestamp" in job["metadata"]:
            return None if made() else "is being removed; it is made again and goes on from its checkpoints"
        if (failed := _condition(job, "Failed")) is not None:
            if failed.get("reason") == REFUSED:
                raise self._failure(name, failed, ", in an earlier run of this very training")
            return "failed earlier; it is made again and goes on from its checkpoints"
        if _condition(job, "Complete") is not None and not made():
            return "is complete, but its model is gone; it is made again"
        return None

    def follow(self, name: str, say: Say, stop: Callable[[], bool], made: Callable[[], bool]) -> None:
        """Wait until the job is complete, or somebody says stop; what changes is said.

        Two steps may follow one job: the first that has its model removes it, and the other finds the model there all the same.

        Args:
            name: of the job.
            say: takes a line about what changes.
            stop: tells whether to wait no longer.
            made: tells whether the model is there.

        Raises:
            TrainingError: it failed, or somebody removed it before its model was there.
            TryAgainError: its time was over.
            UnreachableError: the API is silent for long; the job goes on.
        """
        silences, said = 0, ""
        while not stop():
            try:
                job = self._get(name)
                silences = 0
            except UnreachableError:
                silences += 1
                if silences >= MOST_SILENCES:
                    raise
                time.sleep(POLL_SECONDS)
                continue
            if job is None:
                if made():
                    return
                raise TrainingError(
                    f"TrainJob {name}",
                    expected="a job that ends",
                    found="none: somebody removed it",
                    do="Run the same command again; it is made again and goes on from its checkpoints",
                )
            if _condition(job, "Complete") is not None:
                return
            if (failed := _condition(job, "Failed")) is not None:
                raise self._failure(name, failed)
            if (state := _state(job)) != said:
                say(f"TrainJob {name}: {state}")
                said = state
            time.sleep(POLL_SECONDS)

    def remove(self, name: str) -> None:
        """Remove the job and wait until it is gone; its checkpoints stay.

        Raises:
            UnreachableError: it does not go.
        """
        from kubernetes.client.rest import ApiException

        with _answered(f"TrainJob {name}", "delete", PLURAL):
            try:
                self._objects.delete_namespaced_custom_object(
                    *(API_GROUP, API_VERSION, self._namespace, PLURAL, name),
                    propagation_policy="Foreground",
                    _request_timeout=TIMEOUT,
                )
            except ApiException as error:
                if error.status != 404:
                    raise
        until = time.monotonic() + GONE_SECONDS
        while self._get(name) is not None:
            if time.monotonic() > until:
                raise UnreachableError(
                    f"TrainJob {name}",
                    expected=f"it to be gone after {GONE_SECONDS:.0f} s",
                    found="it is still there",
                    do="Run again when it is gone; `kubectl describe` says what holds it",
                )
            time.sleep(1)

    def _failure(self, name: str, condition: dict[str, Any], when: str = "") -> GatelineError:
        reason = condition.get("reason", "no reason")
        found = f"{reason}: {condition.get('message', '')}"[:200] + when
        if reason == TOO_LONG:
            return TryAgainError(
                f"TrainJob {name}",
                expected="nodes that are done before their time is over",
                found=found,
                do="Run the same command again; it is made again and goes on from its checkpoints",
            )
        do = f"Read why: kubectl -n {self._namespace} logs -l jobset.sigs.k8s.io/jobset-name={name} --prefix"
        if reason == REFUSED:
            do += f"; it is made again only after kubectl -n {self._namespace} delete trainjob {name}"
        return TrainingError(f"TrainJob {name}", expected="nodes that train", found=found, do=do)

    def _get(self, name: str) -> dict[str, Any] | None:
        from kubernetes.client.rest import ApiException

        with _answered(f"TrainJob {name}", "get", PLURAL):
            try:
                job: dict[str, Any] = self._objects.get_namespaced_custom_object(
                    API_GROUP, API_VERSION, self._namespace, PLURAL, name, _request_timeout=TIMEOUT
                )
            except ApiException as error:
                # Kubernetes says 404 both of a job that is not there and of a kind that it does not know.
                if error.status == 404 and "trainjobs" in str(error.body):
                    return None
                raise
        return job


@contextmanager
def _answered(what: str, verb: str, resource: str) -> Iterator[None]:
    """Turn what the client raises into refusals."""
    import urllib3.exceptions
    from kubernetes.client.rest import ApiException

    try:
        yield
    except ApiException as error:
        if error.status in (401, 403):
            raise GatelineError(
                what,
                expected=f"a service account that may {verb} {resource}",
                found=f"status {error.status}, {error.reason}",
                do="Bind the Role several-nodes to it (infra/kubernetes/components/several-nodes/access.yaml)",
            ) from error
        if error.status == 404:
            raise GatelineError(
                what,
                expected=f"a cluster with Kubeflow Trainer ({API_GROUP}/{API_VERSION}) and the runtime {RUNTIME}",
                found="status 404",
                do="Install it (docs/operations.md), or set training.nodes to 1",
            ) from error
        if error.status in (400, 422):
            raise GatelineError(
                what,
                expected="a job that Kubeflow Trainer takes",
                found=f"status {error.status}: {' '.join(str(error.body).split())[:200]}",
                do="Correct the sections training and resources of the workload",
            ) from error
        raise _silent(what, f"status {error.status}") from error
    except urllib3.exceptions.HTTPError as error:
        raise _silent(what, type(error).__name__) from error


def _silent(what: str, found: str) -> UnreachableError:
    return UnreachableError(
        what,
        expected="an answer of the API of Kubernetes",
        found=found,
        do="Run the same command again: the job goes on, and is found by its name",
    )


def _condition(job: dict[str, Any], kind: str) -> dict[str, Any] | None:
    conditions = job.get("status", {}).get("conditions", [])
    return next((each for each in conditions if each["type"] == kind and each["status"] == "True"), None)


def _state(job: dict[str, Any]) -> str:
    if _condition(job, "Suspended") is not None:
        return "waits, since it is suspended"
    jobs = job.get("status", {}).get("jobsStatus", [])
    ready = sum(each.get("ready", 0) for each in jobs)
    return "its nodes train" if ready else "waits for its nodes"
