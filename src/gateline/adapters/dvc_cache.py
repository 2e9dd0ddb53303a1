"""Look into DVC's cache without DVC: is a folder that was kept there still the one that its manifest describes?"""

from __future__ import annotations

import configparser
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal


def look_into_cache(
    root: Path, md5: str, wanted: Mapping[str, str]
) -> tuple[Literal["holds", "broken", "unchecked"], str]:
    """Compare a kept folder file by file.

    Args:
        root: the project.
        md5: under which DVC keeps the folder, ending in ``.dir``.
        wanted: sha256 of each of its files, by name.

    Returns:
        How the comparison came out, and what was seen; unchecked where the cache does not hold all of it.
    """
    cache = _files(root)
    listing = cache / md5[:2] / md5[2:]
    if not listing.is_file():
        return "unchecked", f"DVC's cache does not hold {md5}"
    text = listing.read_bytes()
    if hashlib.md5(text, usedforsecurity=False).hexdigest() != md5.removesuffix(".dir"):
        return "broken", f"DVC's cache holds another listing under {md5}"
    kept = {entry["relpath"]: entry["md5"] for entry in json.loads(text)}
    for name, sha256 in wanted.items():
        if name not in kept:
            return "broken", f"DVC's listing {md5} has no {name}"
        path = cache / kept[name][:2] / kept[name][2:]
        if not path.is_file():
            return "unchecked", f"DVC's cache does not hold {name} of {md5}; `dvc pull` may fetch it"
        with path.open("rb") as content:
            if hashlib.file_digest(content, "sha256").hexdigest() != sha256:
                return "broken", f"DVC's cache holds other bytes of {name}"
    return "holds", f"DVC's cache: {md5}"


def _files(root: Path) -> Path:
    """Say where DVC keeps files, as its settings of the project say."""
    settings = configparser.ConfigParser()
    settings.read([root / ".dvc" / "config", root / ".dvc" / "config.local"])
    return root / ".dvc" / settings.get("cache", "dir", fallback="cache") / "files" / "md5"
