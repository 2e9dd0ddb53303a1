"""What infra/kubernetes does with the database, by its own commands, on a real PostgreSQL and a real object store."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import yaml

from tests.containers.conftest import KEPT, ROOT

BACKUP = ROOT / "infra" / "kubernetes" / "components" / "backup"
LAST = "runs"
"""A table of MLflow's, which a dump brings back."""

pytestmark = [pytest.mark.containers, pytest.mark.slow]


def command_of(file: str, container: str) -> list[str]:
    """The command line of a container of a CronJob."""
    [job] = [each for each in yaml.safe_load_all((BACKUP / file).read_text()) if each["kind"] == "CronJob"]
    pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return next(each["command"] for each in (*pod["initContainers"], *pod["containers"]) if each["name"] == container)


@dataclass(frozen=True)
class Database:
    """A database of a test's own beside MLflow's, and a folder for its dump.

    Args:
        address: what libpq reads.
        dumps: folder that the pods have at ``/dumps``.
    """

    address: Mapping[str, str]
    dumps: Path

    def run(self, command: list[str], **address: str) -> subprocess.CompletedProcess[str]:
        """Run a container's command here."""
        tools = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), Path("/usr/bin"))
        path = f"{tools}{os.pathsep}{os.environ['PATH']}"
        words = [word.replace("/dumps", str(self.dumps)) for word in command]
        environment = {**os.environ, **self.address, **address, "PATH": path}
        return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)

    def ask(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run SQL; give what the last statement answers."""
        keys = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD", "dbname": "PGDATABASE"}
        connection = psycopg2.connect(**{key: self.address[name] for key, name in keys.items()})
        try:
            with connection, connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def tables(self) -> set[str]:
        return {name for (name,) in self.ask("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}


@pytest.fixture
def database(stack: Mapping[str, str], tmp_path: Path) -> Iterator[Database]:
    """A copy of MLflow's database as a dump of the CronJob brings it, in one that a plain account owns."""
    said = json.loads((KEPT / "stack" / "credentials.json").read_text())
    port = (KEPT / "stack" / "postgres" / "postmaster.pid").read_text().split()[3]
    address = {"PGHOST": "127.0.0.1", "PGPORT": port, "PGUSER": "mlflow", "PGPASSWORD": said["postgres_password"]}
    server = Database({**address, "PGDATABASE": "mlflow"}, tmp_path)
    owned = {**address, "PGDATABASE": "copy", "PGUSER": "plain", "PGPASSWORD": "plain"}
    for statement in ("CREATE ROLE plain LOGIN PASSWORD 'plain'", "CREATE DATABASE copy OWNER plain"):
        assert server.run(["psql", "--quiet", "--command", statement]).returncode == 0
    try:
        dumped = server.run(command_of("backup.yaml", "dump"))
        assert dumped.returncode == 0, dumped.stderr
        yield Database(owned, tmp_path)
    finally:
        for statement in ("DROP DATABASE copy WITH (FORCE)", "DROP ROLE plain"):
            server.run(["psql", "--quiet", "--command", statement])


def test_a_restore_brings_back_the_tables_of_before_an_upgrade_and_no_other(database: Database) -> None:
    restore = command_of("restore.yaml", "restore")
    first = database.run(restore)
    assert first.returncode == 0, first.stderr
    before = database.tables()
    assert LAST in before
    # What a newer MLflow brings: a table that refers to one of before, and one that refers to nothing.
    database.ask(
        f"CREATE TABLE newer (run_uuid VARCHAR(32) REFERENCES {LAST} (run_uuid))",
        "CREATE TABLE alone (number INT)",
        f"ALTER TABLE {LAST} ADD COLUMN newer INT",
    )

    again = database.run(restore)

    assert again.returncode == 0, again.stderr
    assert database.tables() == before
    columns = database.ask(f"SELECT column_name FROM information_schema.columns WHERE table_name = '{LAST}'")
    assert ("newer",) not in columns
    # And so a dump of what was restored is one like any other.
    assert database.run(command_of("backup.yaml", "dump")).returncode == 0
    assert database.run(restore).returncode == 0
    assert database.tables() == before


def test_a_dump_that_cannot_be_read_changes_nothing(database: Database) -> None:
    restore = command_of("restore.yaml", "restore")
    assert database.run(restore).returncode == 0
    before = database.tables()
    database.ask("CREATE TABLE kept (number INT)")
    dump = database.dumps / "mlflow.dump"
    content = dump.read_bytes()
    for half in (content[: len(content) // 2], content[:5], b""):
        dump.write_bytes(half)
        assert database.run(restore).returncode != 0
        assert database.tables() == before | {"kept"}
    # Nor does one that PostgreSQL refuses half-way: here a table that an earlier statement of its own made.
    dump.write_bytes(content)
    twice = [*restore[:2], f"{restore[2]} --command 'CREATE TABLE {LAST} (number INT)'"]
    assert database.run(twice).returncode != 0
    assert database.tables() == before | {"kept"}


MEASURED = (
    "import resource, sys; sys.argv = sys.argv[1:]; import runpy; runpy.run_path(sys.argv[0], run_name='__main__'); \
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
)


def test_a_dump_that_is_larger_than_the_memory_of_a_pod_is_put_and_fetched(
    stack: Mapping[str, str], tmp_path: Path
) -> None:
    import boto3

    store = boto3.client(
        "s3",
        endpoint_url=stack["AWS_ENDPOINT_URL"],
        aws_access_key_id=stack["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=stack["AWS_SECRET_ACCESS_KEY"],
        region_name=stack["AWS_DEFAULT_REGION"],
    )
    store.create_bucket(Bucket="dumps")
    dump, fetched = tmp_path / "mlflow.dump", tmp_path / "fetched"
    large, little = 192 << 20, 64 << 20
    with dump.open("wb") as file:
        file.write(b"PGDMP" + os.urandom(1 << 20))
        file.truncate(large)

    def dumps(action: str, at: Path) -> tuple[str, int]:
        environment = {**os.environ, **stack, "BACKUP_BUCKET": "dumps", "BACKUPS_KEPT": "2", "DUMP": str(at)}
        words = [sys.executable, "-c", MEASURED, str(BACKUP / "dumps.py"), action]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        said, _, kilobytes = done.stdout.rstrip().rpartition("\n")
        return said, int(kilobytes) << 10

    try:
        _, base = dumps("list", dump)
        _, put = dumps("put", dump)
        _, got = dumps("get", fetched)
        assert max(put, got) < base + little * 2, (base, put, got)
        assert fetched.stat().st_size == large
        assert subprocess.run(["cmp", dump, fetched]).returncode == 0
        name, _ = dumps("list", dump)
        assert name.startswith("mlflow/")
        dump.write_bytes(b"no dump")
        with pytest.raises(AssertionError, match="expected a dump in pg_dump's custom format"):
            dumps("put", dump)
        assert dumps("list", dump)[0] == name
    finally:
        for entry in store.list_objects_v2(Bucket="dumps").get("Contents", []):
            store.delete_object(Bucket="dumps", Key=entry["Key"])
        store.delete_bucket(Bucket="dumps")
        shutil.rmtree(tmp_path, ignore_errors=True)
