#!/usr/bin/env bash
# Install what `make test-containers` needs on Debian, as root: podman, dockerd, debootstrap and PostgreSQL. No service of theirs is used.
set -euo pipefail
[ "$(id -u)" = 0 ] || { echo "install_tools.sh: expected root; found user $(id -un). Run it with sudo." >&2; exit 2; }
missing=()
have() { command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ]; }
have podman || missing+=(podman buildah)
have runc || missing+=(runc)
have dockerd || missing+=(docker.io)
have debootstrap || missing+=(debootstrap)
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing+=(postgresql)
[ ${#missing[@]} = 0 ] && exit 0
echo "installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
