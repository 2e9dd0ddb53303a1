"""What infra/kubernetes does with the database, by its own commands, on a real PostgreSQL and a real object store."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import yaml
from mlflow import MlflowClient

from tests.containers.conftest import KEPT, ROOT

BACKUP = ROOT / "infra" / "kubernetes" / "components" / "backup"
LAST = "runs"
"""A table of MLflow's, which a dump brings back."""

pytestmark = [pytest.mark.containers, pytest.mark.slow]


def command_of(file: str, container: str) -> list[str]:
    """The command line of a container of a CronJob."""
    jobs = [each for each in yaml.safe_load_all((BACKUP / file).read_text()) if each["kind"] == "CronJob"]
    pods = [job["spec"]["jobTemplate"]["spec"]["template"]["spec"] for job in jobs]
    made = [each for pod in pods for each in (*pod.get("initContainers", []), *pod["containers"])]
    return next(each["command"] for each in made if each["name"] == container)


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
    """A dump of MLflow's database as the CronJob makes it, and beside it an empty one that a plain account owns."""
    MlflowClient(stack["MLFLOW_TRACKING_URI"]).create_run("0")
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
    # What the drill asks is asked of these tables.
    [asked] = re.findall(r"'(SELECT .*)'$", (ROOT / "docs" / "operations.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert database.ask(asked) == []
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


def test_a_database_in_which_nothing_was_done_is_not_dumped(database: Database) -> None:
    dump, restore = command_of("backup.yaml", "dump"), command_of("restore.yaml", "restore")
    without_tables = database.run(dump)
    assert without_tables.returncode != 0
    assert 'relation "runs" does not exist' in without_tables.stderr
    assert database.run(restore).returncode == 0
    database.ask("TRUNCATE runs, registered_models CASCADE")
    (database.dumps / "mlflow.dump").unlink()

    refused = database.run(dump)

    assert refused.returncode == 2
    assert refused.stderr == (
        "database copy at 127.0.0.1: expected a run or a registered model of MLflow; found none. Nothing was dumped.\n"
    )
    assert not (database.dumps / "mlflow.dump").exists()
    database.ask("INSERT INTO registered_models (name, workspace) VALUES ('one', 'default')")
    assert database.run(dump).returncode == 0
    assert (database.dumps / "mlflow.dump").stat().st_size > 0


@pytest.fixture
def bucket(stack: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
    """What dumps.py is told of a bucket that is removed afterwards."""
    import boto3

    store = boto3.client(
        "s3",
        endpoint_url=stack["AWS_ENDPOINT_URL"],
        aws_access_key_id=stack["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=stack["AWS_SECRET_ACCESS_KEY"],
        region_name=stack["AWS_DEFAULT_REGION"],
    )
    store.create_bucket(Bucket="dumps")
    try:
        yield {**stack, "BACKUP_BUCKET": "dumps", "BACKUPS_KEPT": "2", "NAMESPACE": "gateline", "JOB": "by-hand"}
    finally:
        for entry in store.list_objects_v2(Bucket="dumps").get("Contents", []):
            store.delete_object(Bucket="dumps", Key=entry["Key"])
        store.delete_bucket(Bucket="dumps")


def test_installations_that_share_a_bucket_leave_each_others_dumps_alone(
    bucket: Mapping[str, str], tmp_path: Path
) -> None:
    dump = tmp_path / "mlflow.dump"

    def dumps(namespace: str, *words: str, job: str = "none", code: int = 0) -> str:
        environment = {**os.environ, **bucket, "NAMESPACE": namespace, "JOB": job, "DUMP": str(dump)}
        words = (sys.executable, str(BACKUP / "dumps.py"), *words)
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    def put(namespace: str, job: str) -> None:
        dump.write_bytes(f"PGDMP of {namespace} by {job}".encode())
        dumps(namespace, "put", job=job)

    for namespace, job in [("gateline", "b-1"), *(("gateline-drill", f"d-{number}") for number in range(4))]:
        put(namespace, job)
    put("gateline", "before-upgrade-1")

    # Two of each are kept, and a name says whose it is and which job made it.
    listed = dumps("gateline-drill", "list").split()
    assert [re.sub(r"\d{4}-\d\d-\d\dT\d{6}Z", "TIME", name) for name in listed] == [
        "gateline-drill/TIME-d-2.dump",
        "gateline-drill/TIME-d-3.dump",
        "gateline/TIME-b-1.dump",
        "gateline/TIME-before-upgrade-1.dump",
    ]
    for namespace, name, content in [
        ("gateline", "", "PGDMP of gateline by before-upgrade-1"),
        ("gateline-drill", "", "PGDMP of gateline-drill by d-3"),
        ("gateline-drill", "gateline/", "PGDMP of gateline by before-upgrade-1"),
        ("gateline-drill", listed[2], "PGDMP of gateline by b-1"),
    ]:
        said = dumps(namespace, "get", *([name] if name else []))
        assert dump.read_text() == content
        assert f"s3://dumps/{name}" in said
    for wrong in ("other/", "gateline", listed[2][:-1]):
        assert f"s3://dumps/{wrong}: expected a dump; found {', '.join(listed)}." in dumps("o", "get", wrong, code=1)


MEASURED = "import sys; sys.argv = sys.argv[1:]; import runpy; runpy.run_path(sys.argv[0], run_name='__main__'); \
from gateline.peak_memory import peak_memory; print(peak_memory())"


def test_a_dump_that_is_larger_than_the_memory_of_a_pod_is_put_and_fetched(
    bucket: Mapping[str, str], tmp_path: Path
) -> None:
    dump, fetched = tmp_path / "mlflow.dump", tmp_path / "fetched"
    large, little = 192 << 20, 64 << 20
    with dump.open("wb") as file:
        file.write(b"PGDMP" + os.urandom(1 << 20))
        file.truncate(large)

    def dumps(action: str, at: Path) -> tuple[str, int]:
        environment = {**os.environ, **bucket, "DUMP": str(at)}
        words = [sys.executable, "-c", MEASURED, str(BACKUP / "dumps.py"), action]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        said, _, peak = done.stdout.rstrip().rpartition("\n")
        return said, int(peak)

    _, base = dumps("list", dump)
    _, put = dumps("put", dump)
    _, got = dumps("get", fetched)
    assert max(put, got) < base + little * 2, (base, put, got)
    assert fetched.stat().st_size == large
    assert subprocess.run(["cmp", dump, fetched]).returncode == 0
    fetched.unlink()
    name, _ = dumps("list", dump)
    assert name.startswith("gateline/")
    dump.write_bytes(b"no dump")
    with pytest.raises(AssertionError, match="expected a dump in pg_dump's custom format"):
        dumps("put", dump)
    assert dumps("list", dump)[0] == name
