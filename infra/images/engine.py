"""podman or docker on this machine."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateline.errors import TryAgainError, WorkloadError

ENGINES = ("podman", "docker")
LAST_LINES = 12


@dataclass(frozen=True)
class Engine:
    """One of `ENGINES`, and its command."""

    name: str
    command: str

    @classmethod
    def find(cls, name: str | None = None) -> Engine:
        """Find the engine of a name, or the first that is installed and answers.

        Raises:
            WorkloadError: there is none, or it does not answer.
        """
        silent = []
        for candidate in (name,) if name else ENGINES:
            command = shutil.which(candidate)
            if command is None:
                continue
            asked = subprocess.run([command, "info"], capture_output=True, text=True, check=False)  # noqa: S603
            if asked.returncode == 0:
                return cls(candidate, command)
            silent.append(f"{candidate} says: {' '.join(asked.stderr.split())[-160:] or 'nothing'}")
        raise WorkloadError(
            name or "podman or docker",
            expected="an engine that builds and runs images",
            found="; ".join(silent) or "none on PATH",
            do="Install podman or docker, and start its service where it has one",
        )

    def inspect(self, image: str) -> dict[str, Any] | None:
        """What the engine says of an image; None where it has none of that name."""
        done = subprocess.run(  # noqa: S603
            [self.command, "image", "inspect", image], capture_output=True, text=True, check=False
        )
        return dict(json.loads(done.stdout)[0]) if done.returncode == 0 else None

    def pull(self, image: str) -> dict[str, Any]:
        """Fetch an image, and say what `inspect` says.

        Raises:
            TryAgainError: no registry gave it.
        """
        done = subprocess.run([self.command, "pull", image], capture_output=True, text=True, check=False)  # noqa: S603
        facts = self.inspect(image) if done.returncode == 0 else None
        if facts is None:
            raise TryAgainError(
                image,
                expected="an image that is here or that a registry gives",
                found=(done.stderr.strip().splitlines() or ["no answer"])[-1][:160],
                do="Name another with --base, or make one: `infra/images/debian_base.sh`",
            )
        return facts

    def push(self, image: str, target: str) -> str:
        """Send an image to a registry.

        Args:
            image: here.
            target: ``REPO:TAG`` there.

        Returns:
            Its digest there, which is another than here, since layers travel compressed.

        Raises:
            TryAgainError: the registry did not take it, or the engine does not say its digest.
        """
        with tempfile.TemporaryDirectory() as folder:
            told = Path(folder) / "digest"
            if self.name == "podman":
                commands = [["push", "--digestfile", str(told), image, f"docker://{target}"]]
            else:
                commands = [["tag", image, target], ["push", target]]
            for words in commands:
                done = subprocess.run([self.command, *words], capture_output=True, text=True, check=False)  # noqa: S603
                if done.returncode != 0:
                    raise TryAgainError(
                        target,
                        expected="a registry that takes the image",
                        found=(done.stderr.strip().splitlines() or ["no answer"])[-1][-240:],
                        do=f"See to its address and `{self.name} login`, and run again",
                    )
            if told.is_file():
                return told.read_text(encoding="utf-8").strip()
        known = [str(each).partition("@") for each in (self.inspect(target) or {}).get("RepoDigests") or ()]
        repository = _familiar(target.rpartition(":")[0])
        for name, _, digest in known:
            if _familiar(name) == repository:
                return digest
        raise TryAgainError(
            target,
            expected=f"the digest by which the registry knows what {self.name} has sent",
            found=", ".join(name for name, _, _ in known) or "none",
            do="Run again, or with --engine podman",
        )

    def run(self, image: str, command: Sequence[str]) -> str:
        """Run a command in an image, without network, and give what it prints."""
        words = [self.command, "run", "--rm", "--network", "none", "--read-only", image, *command]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout  # noqa: S603

    def build(
        self,
        name: str,
        *,
        file: Path,
        context: Path,
        target: str,
        arguments: Mapping[str, str],
        wheels: Path | None,
        secrets: Mapping[str, Path],
    ) -> None:
        """Build one target of a Dockerfile.

        Args:
            name: of the image.
            file: the Dockerfile.
            context: folder that it copies from.
            target: stage to build.
            arguments: build arguments.
            wheels: folder that pip installs from; with it, the build has no network.
            secrets: files for pip by their id, of which nothing stays.

        Raises:
            TryAgainError: the build failed; its last lines are told.
        """
        words = [self.command, "build"] if self.name == "podman" else [self.command, "buildx", "build", "--load"]
        words += ["--file", str(file), "--target", target, "--tag", name]
        for key, value in arguments.items():
            words += ["--build-arg", f"{key}={value}"]
        for key, path in secrets.items():
            words += ["--secret", f"id={key},src={path}"]
        words += ["--build-context", f"wheels={wheels}", "--network", "none"] if wheels else ["--network", "host"]
        done = subprocess.run(  # noqa: S603
            [*words, str(context)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        if done.returncode != 0:
            lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
            # pip says in one line what Python then says in twenty.
            last = [line for line in lines if line.startswith("ERROR")] or lines[-LAST_LINES:]
            raise TryAgainError(
                f"{file}, target {target}",
                expected="an image",
                found=f"exit code {done.returncode} of {self.name} build; last lines: " + " / ".join(last),
                do="Correct what they say and run again",
            )


def _familiar(repository: str) -> str:
    """Name a repository as docker does, to which its own registry goes without saying."""
    return repository.removeprefix("index.").removeprefix("docker.io/").removeprefix("library/")
