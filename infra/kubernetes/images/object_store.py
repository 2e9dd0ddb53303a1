"""Run OpenStack Swift on one disk as an S3 store: `object_store.py`.

Two variables per account: NAME_ACCESS_KEY_ID, which reads ACCOUNT:USER, and NAME_SECRET_ACCESS_KEY. An account sees its own buckets
only. DATA is the disk, PORT where S3 is spoken; the servers behind it listen on the pod's own loopback. Settings and rings
stand in CONFIG, which need not outlive the pod; no file's place on the disk depends on a port.
"""

from __future__ import annotations

import getpass
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from swift.common.ring import RingBuilder

BACKENDS = {"object": 6200, "container": 6201, "account": 6202}
"""Ports of the servers behind it, unless OBJECT_PORT, CONTAINER_PORT and ACCOUNT_PORT say others."""
DEVICE = "disk"
REGION = "us-east-1"
PROXY = """
[DEFAULT]
bind_ip = 0.0.0.0
bind_port = {port}
swift_dir = {config}
user = {user}
workers = {workers}
log_level = WARNING
[pipeline:main]
pipeline = catch_errors healthcheck cache s3api tempauth slo dlo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:healthcheck]
use = egg:swift#healthcheck
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:1
[filter:s3api]
use = egg:swift#s3api
location = {region}
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
[filter:tempauth]
use = egg:swift#tempauth
reseller_prefix = AUTH
{users}
"""
BACKEND = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
swift_dir = {config}
user = {user}
devices = {data}
mount_check = false
workers = {workers}
log_level = WARNING
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
"""


def users(environment: Mapping[str, str]) -> str:
    """Write the accounts that the variables name as the lines of Swift's settings."""
    suffix, lines = "_ACCESS_KEY_ID", []
    for name in sorted(environment):
        if name.endswith(suffix):
            account, _, user = environment[name].partition(":")
            key = environment[name.removesuffix(suffix) + "_SECRET_ACCESS_KEY"]
            if not (account.isalnum() and user.isalnum() and key and not any(sign.isspace() for sign in key)):
                sys.exit(f"{name}: expected ACCOUNT:USER of letters and digits and a key without spaces; found others.")
            lines.append(f"user_{account}_{user} = {key} .admin")
    if not lines:
        sys.exit("expected a variable NAME_ACCESS_KEY_ID; found none.")
    return "\n".join(lines)


def configure(config: Path, data: Path, port: int, workers: int) -> dict[str, Path]:
    """Write the settings of the four servers, and rings that know the one disk; say where the settings are."""
    (data / DEVICE).mkdir(parents=True, exist_ok=True)
    config.mkdir(parents=True, exist_ok=True)
    config.chmod(0o700)
    # Part of every file's place on the disk, so it stays as it is.
    (config / "swift.conf").write_text("[swift-hash]\nswift_hash_path_suffix = gateline\n", encoding="utf-8")
    files = {"proxy": config / "proxy.conf"}
    every = {"config": config, "data": data, "workers": workers, "user": getpass.getuser()}
    text = PROXY.format(port=port, region=REGION, users=users(os.environ), **every)
    files["proxy"].write_text(text, encoding="utf-8")
    for kind, usual_port in BACKENDS.items():
        backend_port = int(os.environ.get(f"{kind.upper()}_PORT", usual_port))
        files[kind] = config / f"{kind}.conf"
        files[kind].write_text(BACKEND.format(kind=kind, port=backend_port, **every), encoding="utf-8")
        ring = RingBuilder(part_power=4, replicas=1, min_part_hours=1)
        place = {"ip": "127.0.0.1", "port": backend_port, "device": DEVICE}
        ring.add_dev({"id": 0, "region": 1, "zone": 1, "weight": 1.0, **place})
        ring.rebalance(seed=1)
        ring.get_ring().save(str(config / f"{kind}.ring.gz"))
    return files


def main() -> int:
    """Start the servers and stay until one ends or SIGTERM comes; then end them all."""
    config, data = Path(os.environ.get("CONFIG", "/tmp/swift")), Path(os.environ.get("DATA", "/data"))
    files = configure(config, data, int(os.environ.get("PORT", "9000")), int(os.environ.get("WORKERS", "1")))
    started = [subprocess.Popen([f"swift-{kind}-server", str(file)]) for kind, file in files.items()]
    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: stop.append(number))
    while not stop and all(process.poll() is None for process in started):
        time.sleep(0.2)
    for process in started:
        process.terminate()
    for process in started:
        process.wait(timeout=20)
    return 0 if stop else 1


if __name__ == "__main__":
    sys.exit(main())
