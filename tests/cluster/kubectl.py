"""A cluster as `kubectl` shows it, and one namespace of it."""

from __future__ import annotations

import json
import re
import subprocess
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from tests.conftest import ROOT

T = TypeVar("T")
Manifest = dict[str, Any]


class Cluster:
    """One namespace of the cluster that KUBECONFIG names."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace

    def run(self, *words: str, given: str | None = None, check: bool = True, seconds: float = 120) -> str:
        """Run kubectl; return what it printed."""
        done = subprocess.run(
            ["kubectl", "--namespace", self.namespace, *words],
            input=given,
            capture_output=True,
            text=True,
            timeout=seconds,
        )
        assert done.returncode == 0 or not check, f"kubectl {' '.join(words)}: {done.stderr}"
        return done.stdout if done.returncode == 0 else done.stdout + done.stderr

    def apply(self, *manifests: Manifest) -> None:
        """Make or change objects."""
        self.run("apply", "-f", "-", given=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)}))

    def get(self, kind: str, name: str) -> Manifest | None:
        """Read an object; None where there is none."""
        text = self.run("get", kind, name, "--ignore-not-found", "--output", "json")
        return json.loads(text) if text.strip() else None

    def kinds(self) -> set[tuple[str, str]]:
        """List what the cluster knows: version and kind."""
        lines = self.run("api-resources", "--no-headers").splitlines()
        return {(words[-3], words[-1]) for words in map(str.split, lines)}

    def until(self, ask: Callable[[], T | None], seconds: float, what: str) -> T:
        """Wait for an answer that is not None or False."""
        end = time.monotonic() + seconds
        while True:
            if answer := ask():
                return answer
            if time.monotonic() > end:
                state = self.run("get", "pods,events", "--sort-by=.metadata.creationTimestamp", check=False)
                raise AssertionError(f"{what}: not in {seconds:.0f} s\n{state[-3000:]}")
            time.sleep(0.5)

    def ended(self, pod: str, seconds: float = 600, container: str = "main") -> tuple[int, str]:
        """Wait for a container to end; return its exit code and what it said."""

        def terminated() -> Manifest | None:
            found = self.get("pod", pod) or {}
            for state in found.get("status", {}).get("containerStatuses", []):
                if state["name"] == container and "terminated" in state["state"]:
                    return dict(state["state"]["terminated"])
            return None

        state = self.until(terminated, seconds, f"the end of {container} in {pod}")
        return int(state["exitCode"]), self.logs(pod, container)

    def succeeded(self, pod: str, seconds: float = 600) -> str:
        """Wait for a pod whose every container ends with 0; return what its main one said."""
        code, said = self.ended(pod, seconds)
        assert code == 0, f"{pod} ended with {code}:\n{said[-3000:]}"
        self.until(
            lambda: (self.get("pod", pod) or {})["status"]["phase"] == "Succeeded",
            300,
            f"{pod}: the end of all containers",
        )
        return said

    def logs(self, pod: str, container: str = "main") -> str:
        """Read what a container said."""
        return self.run("logs", pod, "--container", container, check=False)

    def complete(self, job: str, seconds: float = 300) -> None:
        """Wait for a job."""

        def done() -> bool:
            status = (self.get("job", job) or {}).get("status", {})
            kinds = {each["type"] for each in status.get("conditions", []) if each["status"] == "True"}
            assert "Failed" not in kinds, self.run("logs", f"job/{job}", "--all-containers", check=False)
            return "Complete" in kinds

        self.until(done, seconds, f"the end of job {job}")

    @contextmanager
    def forwarded(self, target: str, port: int) -> Iterator[str]:
        """Reach a port of a service or pod from here; give its address."""
        process = subprocess.Popen(
            ["kubectl", "--namespace", self.namespace, "port-forward", target, f":{port}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            found = re.search(r"127\.0\.0\.1:(\d+)", line)
            assert found, line
            yield f"http://127.0.0.1:{found[1]}"
        finally:
            process.terminate()
            process.wait(timeout=10)


def documented(first: str, namespace: str) -> str:
    """Give the lines of docs/operations.md that begin so and stand together, for another namespace."""
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    blocks = re.findall(r"(?:^ {4,}\S.*\n)+", text, re.MULTILINE)
    [block] = [each for each in map(textwrap.dedent, blocks) if each.startswith(first)]
    return block.replace("-n gateline ", f"-n {namespace} ")


def of_kind(manifests: Sequence[Manifest], kind: str, name: str) -> Manifest:
    """Find a manifest."""
    return next(each for each in manifests if each["kind"] == kind and each["metadata"]["name"] == name)
