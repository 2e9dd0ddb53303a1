#!/usr/bin/env bash
# Make a base image from Debian's packages, where no registry with python:3.11-slim-bookworm can be reached:
#
#     infra/images/debian_base.sh [NAME]
#
# Needs root, debootstrap, and podman or docker. Prints the name; takes a minute or two.
set -euo pipefail
name=${1:-localhost/python:3.11-slim-bookworm}
engine=${GATELINE_ENGINE:-$(command -v podman || command -v docker || true)}
fail() { echo "debian_base.sh: $*" >&2; exit 2; }
[ "$(id -u)" = 0 ] || fail "expected root, since debootstrap makes device files; found user $(id -un). Run it with sudo."
command -v debootstrap >/dev/null || fail "expected debootstrap; found none. Run apt-get install debootstrap."
[ -n "$engine" ] || fail "expected podman or docker; found neither. Install one."

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
debootstrap --variant=minbase --include=python3,python3-pip,python3-venv,ca-certificates bookworm "$root" >"$root.log" 2>&1 \
    || fail "debootstrap failed: $(tail -1 "$root.log")"
rm -rf "$root.log" "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/* \
    "$root"/usr/share/{doc,info,locale,man} "$root"/usr/lib/python3.11/EXTERNALLY-MANAGED
ln -sf python3 "$root/usr/bin/python"
tar -C "$root" --numeric-owner -c . | "$engine" import --change 'ENV LANG=C.UTF-8' - "$name" >/dev/null
echo "$name"
