"""Passwords and keys of the stack: made at the first start, readable by their owner alone, in no command line and no log."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

FILE = "credentials.json"


@dataclass(frozen=True)
class Credentials:
    """Of PostgreSQL, of the tracking server's account at the object store, and of the steps' one."""

    postgres_password: str
    mlflow_secret_key: str
    steps_secret_key: str
    mlflow_access_key: str = "mlflow:server"
    steps_access_key: str = "gateline:steps"


def credentials(folder: Path) -> Credentials:
    """Read them, or make them."""
    path = folder / FILE
    if not path.is_file():
        made = Credentials(*(secrets.token_hex(24) for _ in range(3)))
        draft = path.with_name(f"{FILE}.tmp{os.getpid()}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            json.dump(asdict(made), file)
        draft.rename(path)
    return Credentials(**json.loads(path.read_text(encoding="utf-8")))
