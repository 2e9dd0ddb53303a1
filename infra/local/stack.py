"""The three servers, in the order in which they need each other: PostgreSQL, the object store, MLflow.

.stack/
├── credentials.json     made at the first start, mode 0600
├── postgres/            the database's files
├── object-store/        files of the buckets, and the store's own environment of Python
└── servers/             logs, and the numbers of the processes
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gateline.errors import TryAgainError, WorkloadError
from infra.local.credentials import Credentials, credentials
from infra.local.processes import Server, answers, free_ports, require_free

STORE = Path("infra/kubernetes/images")
"""The object store and its packages: the same as on a cluster."""
BUCKETS = {"mlflow": "mlflow", "steps": "gateline"}
"""Bucket of each account: artifacts of MLflow; checkpoints and DVC's remote."""
REGION = "us-east-1"
PORTS = {"postgres": 5433, "object-store": 9000, "mlflow": 5000}
BACKENDS = ("object", "container", "account")
"""The object store's inner servers, which nobody else asks: they listen where there is room at each start."""
DATABASE = "mlflow"
POSTGRES = Path("/usr/lib/postgresql")
"""Where Debian has it, by version, when it is not on PATH."""


@dataclass(frozen=True)
class Stack:
    """The servers of a project on this machine.

    Args:
        root: of the project.
        folder: of the stack.
        ports: by server.
        say: takes one line of progress.
    """

    root: Path
    folder: Path
    ports: dict[str, int]
    say: Callable[[str], None]

    def up(self) -> None:
        """Start what does not run, and leave alone what does; nothing is started where a port of one is taken.

        Raises:
            WorkloadError: PostgreSQL is not installed, or a port is taken.
            TryAgainError: a server does not start.
        """
        (self.folder / "servers").mkdir(parents=True, exist_ok=True)
        secrets = credentials(self.folder)
        starts = {"postgres": self._postgres, "object-store": self._store, "mlflow": self._mlflow}
        absent = [name for name in starts if self._server(name).number() is None]
        for name in absent:
            require_free(self.ports[name], _variable(name), name)
        for name, start in starts.items():
            if name in absent:
                start(secrets)
            self.say(f"{name} listens on 127.0.0.1:{self.ports[name]}")

    def down(self, *, with_data: bool) -> None:
        """Stop them, the last first, and remove what they keep where that is asked for."""
        for name in reversed(PORTS):
            # For PostgreSQL, SIGTERM waits for its clients, and SIGINT sends them away.
            if self._server(name).stop(signal.SIGINT if name == "postgres" else signal.SIGTERM):
                self.say(f"{name} is stopped")
        if with_data:
            shutil.rmtree(self.folder, ignore_errors=True)

    def environment(self) -> dict[str, str]:
        """What a step needs to know.

        Raises:
            WorkloadError: the stack was never started.
        """
        if not (self.folder / "servers").is_dir():
            raise WorkloadError(self.folder, expected="a stack", found="none", do="Run `python -m infra.local up`")
        secrets = credentials(self.folder)
        return {
            "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{self.ports['mlflow']}",
            **self._store_access(secrets.steps_access_key, secrets.steps_secret_key),
        }

    def _server(self, name: str) -> Server:
        return Server(name, self.folder / "servers")

    def _store_access(self, key: str, secret: str) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.ports['object-store']}",
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_DEFAULT_REGION": REGION,
        }

    def _postgres(self, secrets: Credentials) -> None:
        folder, binaries = self.folder / "postgres", _postgres_binaries()
        user = _postgres_user()
        if not (folder / "PG_VERSION").is_file():
            self.say("making a database")
            self._make_database(folder, binaries, user, secrets.postgres_password)
        listen = [f"--port={self.ports['postgres']}", "--listen_addresses=127.0.0.1", "--unix_socket_directories="]
        self._server("postgres").start(
            [*_as(user), str(binaries / "postgres"), f"-D{folder}", *listen],
            _plain_environment(),
            lambda: self._database_answers(secrets),
        )

    def _make_database(self, folder: Path, binaries: Path, user: str | None, password: str) -> None:
        """Make it beside its place and move it there, so that a start that was killed is made again."""
        draft, secret = folder.with_name("postgres.new"), folder.with_name("postgres.password")
        for old in (folder, draft):
            shutil.rmtree(old, ignore_errors=True)
        secret.unlink(missing_ok=True)
        draft.mkdir(mode=0o700)
        secret.touch(mode=0o600)
        secret.write_text(password, encoding="utf-8")
        _give_to(user, draft, secret)
        try:
            _call(
                "postgres",
                [
                    *(*_as(user), str(binaries / "initdb"), f"--pgdata={draft}", f"--pwfile={secret}"),
                    *("--username=mlflow", "--encoding=UTF8", "--auth-local=reject", "--auth-host=scram-sha-256"),
                ],
            )
        finally:
            secret.unlink()
        draft.rename(folder)

    def _database_answers(self, secrets: Credentials) -> bool:
        import psycopg2
        from psycopg2 import errors

        try:
            connection = psycopg2.connect(**self._database(secrets), dbname="postgres")
        except psycopg2.OperationalError:
            return False
        connection.autocommit = True
        try:
            connection.cursor().execute(f"CREATE DATABASE {DATABASE}")
        except errors.DuplicateDatabase:
            pass
        finally:
            connection.close()
        return True

    def _database(self, secrets: Credentials) -> dict[str, str]:
        return {
            "host": "127.0.0.1",
            "port": str(self.ports["postgres"]),
            "user": "mlflow",
            "password": secrets.postgres_password,
        }

    def _store(self, secrets: Credentials) -> None:
        folder = self.folder / "object-store"
        python = self._store_python(folder)
        keys = {
            "STEPS_ACCESS_KEY_ID": secrets.steps_access_key,
            "STEPS_SECRET_ACCESS_KEY": secrets.steps_secret_key,
            "MLFLOW_ACCESS_KEY_ID": secrets.mlflow_access_key,
            "MLFLOW_SECRET_ACCESS_KEY": secrets.mlflow_secret_key,
        }
        places = {
            "CONFIG": str(folder / "config"),
            "DATA": str(folder / "data"),
            "PORT": str(self.ports["object-store"]),
        }
        inner = dict(zip(BACKENDS, free_ports(len(BACKENDS)), strict=True))
        places |= {f"{kind.upper()}_PORT": str(port) for kind, port in inner.items()}
        path = f"{python.parent}{os.pathsep}{os.environ.get('PATH', '')}"
        self._server("object-store").start(
            [str(python), str(self.root / STORE / "object_store.py")],
            _plain_environment() | keys | places | {"PATH": path},
            lambda: all(map(answers, (*inner.values(), self.ports["object-store"]))) and self._make_buckets(secrets),
        )

    def _store_python(self, folder: Path) -> Path:
        """Environment of the object store, whose packages are pinned beside its code; made when they change."""
        wanted, made = self.root / STORE / "object-store.txt", folder / "venv" / "requirements.txt"
        if not (made.is_file() and made.read_bytes() == wanted.read_bytes()):
            self.say("setting up the object store, once")
            shutil.rmtree(folder / "venv", ignore_errors=True)
            _call("object-store", [sys.executable, "-m", "venv", str(folder / "venv")])
            pip = [str(folder / "venv" / "bin" / "pip"), "install", "-qq", "--disable-pip-version-check", "--no-input"]
            _call("object-store", [*pip, "--no-deps", "-r", str(wanted)])
            shutil.copyfile(wanted, made)
        return folder / "venv" / "bin" / "python"

    def _make_buckets(self, secrets: Credentials) -> bool:
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError

        accounts = {
            "mlflow": (secrets.mlflow_access_key, secrets.mlflow_secret_key),
            "steps": (secrets.steps_access_key, secrets.steps_secret_key),
        }
        try:
            for account, (key, secret) in accounts.items():
                store = boto3.client(
                    "s3",
                    endpoint_url=f"http://127.0.0.1:{self.ports['object-store']}",
                    aws_access_key_id=key,
                    aws_secret_access_key=secret,
                    region_name=REGION,
                )
                if BUCKETS[account] not in [bucket["Name"] for bucket in store.list_buckets()["Buckets"]]:
                    store.create_bucket(Bucket=BUCKETS[account])
        except (BotoCoreError, ClientError):
            return False
        return True

    def _mlflow(self, secrets: Credentials) -> None:
        database = {f"PG{name.upper()}": value for name, value in self._database(secrets).items()}
        port = self.ports["mlflow"]
        self._server("mlflow").start(
            [
                *(
                    sys.executable,
                    "-m",
                    "mlflow",
                    "server",
                    "--host",
                    "127.0.0.1",
                    "--port",
                    str(port),
                    "--workers",
                    "2",
                ),
                # libpq reads the PG* variables itself, so no command line and no log has the password.
                *("--backend-store-uri", f"postgresql+psycopg2:///{DATABASE}"),
                *("--artifacts-destination", f"s3://{BUCKETS['mlflow']}/artifacts"),
            ],
            _plain_environment()
            | database
            | self._store_access(secrets.mlflow_access_key, secrets.mlflow_secret_key)
            | {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            lambda: _is_healthy(f"http://127.0.0.1:{port}/health"),
        )


def _variable(server: str) -> str:
    return f"GATELINE_{server.replace('-', '_').upper()}_PORT"


def ports() -> dict[str, int]:
    """Ports of the servers, each as its variable says or as it is.

    Raises:
        WorkloadError: a variable holds no port.
    """
    chosen = {}
    for server, usual in PORTS.items():
        given = os.environ.get(_variable(server), str(usual))
        if not (given.isdecimal() and 0 < int(given) < 65536):
            raise WorkloadError(_variable(server), expected="a port", found=repr(given), do="Correct or unset it")
        chosen[server] = int(given)
    return chosen


def _plain_environment() -> dict[str, str]:
    """The environment without what would tell MLflow, boto3 or libpq something else."""
    others = ("MLFLOW_", "AWS_", "PG", "GATELINE_")
    return {name: value for name, value in os.environ.items() if not name.startswith(others)}


def _postgres_binaries() -> Path:
    found = shutil.which("initdb")
    places = [Path(found).resolve().parent] if found else sorted(POSTGRES.glob("*/bin"))
    places = [place for place in places if (place / "initdb").is_file() and (place / "postgres").is_file()]
    if not places:
        raise WorkloadError(
            "postgres",
            expected=f"initdb and postgres on PATH or in {POSTGRES}/*/bin",
            found="neither",
            do="Install PostgreSQL, e.g. `apt-get install postgresql`",
        )
    return places[-1]


def _postgres_user() -> str | None:
    """PostgreSQL does not run as root, so there it runs as the user that its package made; None where we are not root."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError as error:
        raise WorkloadError(
            "postgres",
            expected="a user `postgres`, since PostgreSQL does not run as root",
            found="none",
            do="Run as another user, or install PostgreSQL's package, which makes it",
        ) from error


def _give_to(user: str | None, *paths: Path) -> None:
    if user is None:
        return
    for above in paths[0].parents:  # it must get there
        if above.stat().st_mode & 0o001 == 0:
            raise WorkloadError(
                paths[0],
                expected=f"folders that the user {user} may enter",
                found=f"{above} is closed",
                do=f"Run `chmod o+x {above}`, or move the project",
            )
    for path in paths:
        shutil.chown(path, user)


def _as(user: str | None) -> list[str]:
    # setpriv becomes the program, so that its number is the program's.
    return ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--"] if user else []


def _call(server: str, command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        said = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise TryAgainError(
            server,
            expected=f"{Path(command[0]).name} to set it up",
            found=f"exit code {done.returncode}: {' / '.join(said[-3:])[:400]}",
            do="Correct what it says and run again",
        )


def _is_healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310  (our own)
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False
