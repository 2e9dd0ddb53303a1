"""Keep dumps of the database in an object store: `dumps.py put`, `dumps.py get [NAME]`, `dumps.py list`.

BACKUP_BUCKET says where, NAMESPACE of which installation, since several may share the bucket; DUMP which file is put or written, JOB
what its name ends with, BACKUPS_KEPT how many dumps of this installation stay. Credentials and endpoint are those of boto3.
"""

from __future__ import annotations

import hashlib
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ENDING = ".dump"
PART_BYTES = 1 << 20
"""A dump may be larger than the memory of the pod, so it is never read whole."""


def put(store: Any, bucket: str, prefix: str, dump: Path, job: str, keep: int) -> str:
    """Put a dump, see that what the store holds are the same bytes, then remove what is more than `keep`; say its name."""
    with dump.open("rb") as file:
        if file.read(5) != b"PGDMP":
            sys.exit(f"{dump}: expected a dump in pg_dump's custom format; found something else. Nothing was stored.")
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").digest()
    name = f"{prefix}{datetime.now(UTC):%Y-%m-%dT%H%M%SZ}-{job}{ENDING}"
    store.upload_file(str(dump), bucket, name)
    stored = hashlib.sha256()
    for part in store.get_object(Bucket=bucket, Key=name)["Body"].iter_chunks(PART_BYTES):
        stored.update(part)
    if stored.digest() != digest:
        sys.exit(
            f"s3://{bucket}/{name}: expected the {dump.stat().st_size:,} bytes of the dump; found others. Look at the store."
        )
    for old in names(store, bucket, prefix)[:-keep]:
        store.delete_object(Bucket=bucket, Key=old)
    return name


def get(store: Any, bucket: str, dump: Path, name: str) -> str:
    """Write the dump of a name, or the newest where the name is that of a folder; say its name."""
    known = names(store, bucket, name)
    if not known or not (name.endswith("/") or name in known):
        found = ", ".join(names(store, bucket)) or "none"
        sys.exit(f"s3://{bucket}/{name}: expected a dump; found {found}. Name one of them.")
    store.download_file(bucket, known[-1], str(dump))
    return known[-1]


def names(store: Any, bucket: str, prefix: str = "") -> list[str]:
    """List the dumps whose names begin so, the oldest first in each folder."""
    pages = store.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    keys = (entry["Key"] for page in pages for entry in page.get("Contents", []))
    return sorted(key for key in keys if key.endswith(ENDING))


def main(action: str, name: str = "") -> None:
    """Do what the command line says."""
    import boto3

    store, bucket, dump = boto3.client("s3"), os.environ["BACKUP_BUCKET"], Path(os.environ.get("DUMP", ""))
    prefix = f"{os.environ['NAMESPACE']}/"
    if action == "list":
        print("\n".join(names(store, bucket)))
    elif action == "get":
        print(f"s3://{bucket}/{get(store, bucket, dump, name or prefix)} is in {dump}")
    else:
        stored = put(store, bucket, prefix, dump, os.environ["JOB"], int(os.environ["BACKUPS_KEPT"]))
        print(f"{dump} is in s3://{bucket}/{stored}")


if __name__ == "__main__":
    main(*sys.argv[1:])
