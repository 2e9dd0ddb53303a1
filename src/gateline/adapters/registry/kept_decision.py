"""What is kept of a decision at its entry of the ledger and at the version: all of it, or where a file has all of it.

MLflow limits a tag, and every look at the ledger fetches those of all entries. So the decision about many slices is a file of the
model's run, and the tag says its digest.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateline.adapters.mlflow_server import Connection
from gateline.adapters.registry.run_files import fetch_of_run
from gateline.errors import RegistryError
from gateline.manifest import digest_of

MOST_CHARACTERS = 20_000
"""Of a decision that a tag holds, about 80 slices; MLflow takes 100,000."""
FOLDER = "decisions"
WHOLE = "whole"
LEFT_OUT = ("checks", "reasons")


def digest_of_decision(decided: Mapping[str, Any]) -> str:
    """Digest what was decided, whenever that was."""
    return digest_of({key: value for key, value in decided.items() if key != "decided_at"})


def keep(to: Connection, run_id: str, decided: Mapping[str, Any]) -> str:
    """Say what the tag of a decision holds; one that is long is written to the run first, and the tag says where."""
    text = json.dumps(decided)
    if len(text) <= MOST_CHARACTERS:
        return text
    digest = digest_of_decision(decided)
    to.client.log_dict(run_id, dict(decided), _file_of(digest))
    short = {key: value for key, value in decided.items() if key not in LEFT_OUT}
    failed = [check["name"] for check in decided["checks"] if not check["passed"]]
    return json.dumps(
        {
            **short,
            "num_checks": len(decided["checks"]),
            "num_failed": len(failed),
            "first_failed": failed[:5],
            WHOLE: {"run": run_id, "file": _file_of(digest), "digest": digest},
        }
    )


def digest_in(text: str) -> str | None:
    """Say the digest of the decision that a tag holds, or names; None if it is no such text."""
    try:
        content = json.loads(text)
        return str(content[WHOLE]["digest"]) if WHOLE in content else digest_of_decision(content)
    except (ValueError, AttributeError, TypeError, KeyError):
        return None


def read_kept(to: Connection, text: str, where: str, digest: str) -> dict[str, Any]:
    """Read the decision of a digest from a tag, or from the file that the tag names.

    Raises:
        RegistryError: it is not there, or another.
        TryAgainError: the store of the file did not give it this time.
    """
    found = "a text that is none"
    try:
        decided: dict[str, Any] = json.loads(text)
        if WHOLE in decided:
            found = "no file of it"
            with tempfile.TemporaryDirectory() as scratch:
                file = fetch_of_run(to, str(decided[WHOLE]["run"]), _file_of(digest), Path(scratch))
                decided = {} if file is None else json.loads(file.read_text(encoding="utf-8"))
        actual = digest_of_decision(decided)
        if actual == digest:
            return decided
        found = f"another of digest {actual[:12]}" if decided else found
    except (ValueError, AttributeError, TypeError, KeyError):
        pass
    raise RegistryError(
        where,
        expected=f"the decision of digest {digest[:12]}",
        found=found,
        do="Somebody changed it, and what was decided cannot be told; restore it from a backup of MLflow's database and files",
    )


def _file_of(digest: str) -> str:
    return f"{FOLDER}/{digest}.json"
