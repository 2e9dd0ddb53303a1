"""Keep dumps of the database in an object store: `dumps.py put`, `dumps.py get [NAME]`, `dumps.py list`.

BACKUP_BUCKET says where, DUMP which file is put or written, BACKUPS_KEPT how many dumps stay. Credentials and endpoint are those of boto3.
"""

from __future__ import annotations

import hashlib
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PREFIX = "mlflow/"
PART_BYTES = 1 << 20
"""A dump may be larger than the memory of the pod, so it is never read whole."""


def put(store: Any, bucket: str, dump: Path, keep: int) -> str:
    """Put a dump, see that what the store holds are the same bytes, then remove what is more than `keep`; say its name."""
    with dump.open("rb") as file:
        if file.read(5) != b"PGDMP":
            sys.exit(f"{dump}: expected a dump in pg_dump's custom format; found something else. Nothing was stored.")
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").digest()
    name = f"{PREFIX}{datetime.now(UTC):%Y-%m-%dT%H%M%SZ}.dump"
    store.upload_file(str(dump), bucket, name)
    stored = hashlib.sha256()
    for part in store.get_object(Bucket=bucket, Key=name)["Body"].iter_chunks(PART_BYTES):
        stored.update(part)
    if stored.digest() != digest:
        sys.exit(
            f"s3://{bucket}/{name}: expected the {dump.stat().st_size:,} bytes of the dump; found others. Look at the store."
        )
    for old in names(store, bucket)[:-keep]:
        store.delete_object(Bucket=bucket, Key=old)
    return name


def get(store: Any, bucket: str, dump: Path, name: str) -> str:
    """Write a dump, the newest unless it is named; say its name."""
    known = names(store, bucket)
    if not known or (name and name not in known):
        sys.exit(f"s3://{bucket}/{name or PREFIX}: expected a dump; found {', '.join(known) or 'none'}.")
    name = name or known[-1]
    store.download_file(bucket, name, str(dump))
    return name


def names(store: Any, bucket: str) -> list[str]:
    """List the dumps, the oldest first."""
    pages = store.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=PREFIX)
    return sorted(entry["Key"] for page in pages for entry in page.get("Contents", []))


def main(action: str, name: str = "") -> None:
    """Do what the command line says."""
    import boto3

    store, bucket, dump = boto3.client("s3"), os.environ["BACKUP_BUCKET"], Path(os.environ.get("DUMP", ""))
    if action == "list":
        print("\n".join(names(store, bucket)))
    elif action == "get":
        print(f"s3://{bucket}/{get(store, bucket, dump, name)} is in {dump}")
    else:
        print(f"{dump} is in s3://{bucket}/{put(store, bucket, dump, int(os.environ['BACKUPS_KEPT']))}")


if __name__ == "__main__":
    main(*sys.argv[1:])
