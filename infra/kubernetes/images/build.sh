#!/usr/bin/env bash
# Build the images of the servers unless they are there, and print their names, one `SERVER IMAGE` a line:
#
#     infra/kubernetes/images/build.sh
#
# BASE_IMAGE names the image to start from; pip's settings and PIP_CERT are given to the build as secrets and do not stay.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
engine=${GATELINE_ENGINE:-$(command -v podman || command -v docker || true)}
[ -n "$engine" ] || { echo "build.sh: expected podman or docker; found neither. Install one." >&2; exit 2; }
base=${BASE_IMAGE:-localhost/python:3.11-slim-bookworm}
here=infra/kubernetes/images
declare -A parts=([mlflow]=requirements.lock [postgres]=$here/postgres.sh [object-store]="$here/object-store.txt $here/object_store.py")
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
cp requirements.lock "$here"/* "$context"
flags=(--network=host --build-arg "BASE_IMAGE=$base")
for settings in "${PIP_CONFIG_FILE:-}" "${XDG_CONFIG_HOME:-$HOME/.config}/pip/pip.conf" /etc/pip.conf; do
    if [ -s "$settings" ]; then flags+=(--secret "id=pipconf,src=$settings"); break; fi
done
if [ -s "${PIP_CERT:-}" ]; then flags+=(--secret "id=ca,src=$PIP_CERT"); fi
for server in mlflow postgres object-store; do
    # shellcheck disable=SC2086  # several files
    hash=$({ echo "$base"; cat "$here/Dockerfile" ${parts[$server]}; } | sha256sum | cut -c1-16)
    image=localhost/gateline-$server:$hash
    "$engine" image inspect "$image" >/dev/null 2>&1 \
        || "$engine" build --quiet --target "$server" "${flags[@]}" --tag "$image" "$context" >&2
    echo "$server $image"
done
