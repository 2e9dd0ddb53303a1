"""Tell others of a decision: a command, a webhook. Being told is no part of the decision, so nothing here fails it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from gateline.adapters.mlflow_server import Connection
from gateline.adapters.registry.ledger import SUFFIX
from gateline.ledger import Step, as_record
from gateline.workload.address import without_users
from gateline.workload.gates import Notify

NOTIFIED_TAG = "gateline.notified"
PENDING = "not yet"
"""At an entry of register until somebody was told, so that one that was stopped in between tells when it is run again."""
TRIES = 2
SECONDS = 10


def to_be_told(notify: Notify) -> dict[str, str]:
    """Give the tags of an entry of which somebody wants to know."""
    return {NOTIFIED_TAG: PENDING} if notify.command or notify.webhook_env else {}


def tell_pending(to: Connection, name: str, notify: Notify, step: Step | None) -> list[str]:
    """Do what `tell_all` does, of an entry of which nobody was told yet."""
    if step is None:
        return []
    tags = to.client.get_model_version(f"{name}{SUFFIX}", str(step.entry.number)).tags
    return tell_all(to, name, notify, step) if tags.get(NOTIFIED_TAG) == PENDING else []


def tell_all(to: Connection, name: str, notify: Notify, step: Step | None, *, folder: Path | None = None) -> list[str]:
    """Tell of a decision about a model, and write down at its entry who was told.

    Args:
        to: MLflow.
        name: of the registered model.
        notify: who wants to know.
        step: the entry of the decision; None where nothing was decided.
        folder: where a command runs; None: here.

    Returns:
        What to say: a line for each that could not be told.
    """
    if step is None:
        return []
    body = json.dumps({"model": name, "champion": step.after, **as_record(step)})
    ways = {"command": notify.command, "webhook": notify.webhook_env}
    problems = {way: _tell(way, who, body, folder) for way, who in ways.items() if who}
    if not problems:
        return []
    said = "; ".join(f"{way}: {problem or 'told'}" for way, problem in problems.items())
    lines = [f"not told ({way}): {problem}; the decision stands" for way, problem in problems.items() if problem]
    try:
        to.client.set_model_version_tag(f"{name}{SUFFIX}", str(step.entry.number), NOTIFIED_TAG, said[:1000])
    except Exception as error:  # noqa: BLE001  (whatever MLflow raises, the decision stands)
        found = " ".join(without_users(error).split())[:160]
        lines.append(f"who was told is not written at entry {step.entry.number} ({found}); the decision stands")
    return lines


def _tell(way: str, who: Any, body: str, folder: Path | None) -> str | None:
    """Try twice; return what went wrong, without the address."""
    problem: str | None = None
    for _ in range(TRIES):
        problem = _run(who, body, folder) if way == "command" else post(who, body)
        if problem is None:
            return None
    return problem


def _run(command: tuple[str, ...], body: str, folder: Path | None) -> str | None:
    try:
        ended = subprocess.run(  # noqa: S603  (the workload names it, and no shell reads it)
            list(command),
            input=body,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
            check=False,
            cwd=folder,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f"{command[0]}: {type(error).__name__}"
    last = (ended.stderr.strip().splitlines() or [""])[-1][:160]
    return (
        None if ended.returncode == 0 else f"{command[0]} ended with {ended.returncode} {without_users(last)}".rstrip()
    )


def post(variable: str, body: str) -> str | None:
    """Send JSON to the address in an environment variable; return what went wrong, without the address."""
    import requests

    address = os.environ.get(variable, "").strip()
    if not address:
        return f"the environment variable {variable} is not set"
    try:
        answer = requests.post(address, data=body, headers={"Content-Type": "application/json"}, timeout=SECONDS)
    except requests.RequestException as error:
        return f"the address in {variable}: {type(error).__name__}"
    return None if answer.ok else f"the address in {variable} answered {answer.status_code}"
