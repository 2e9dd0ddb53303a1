#!/usr/bin/env bash
# `make test-cluster` on a Kubernetes of this machine's own, which is started for it and stopped again:
#
#     tests/cluster/on_this_machine.sh            as root; with KUBECONFIG, on the cluster that it names, which stays as it is
#     tests/cluster/on_this_machine.sh load IMAGE...    bring images that are not there yet from podman or docker to its node
#
# GATELINE_CLUSTER names the command that has `up`, `env` and `down`; its containerd listens beside its KUBECONFIG. Exit code 75: none
# could be started.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

if [ "${1:-}" = load ]; then
    shift
    there=$(ctr images ls --quiet)
    absent=()
    for image in "$@"; do grep --quiet --line-regexp --fixed-strings "$image" <<<"$there" || absent+=("$image"); done
    [ ${#absent[@]} = 0 ] && exit 0
    # All in one archive, in which a layer that several share is once; through a pipe, so that it takes no room.
    if command -v podman >/dev/null; then save=(podman save --quiet --multi-image-archive); else save=(docker save); fi
    "${save[@]}" "${absent[@]}" | ctr images import - >/dev/null
    exit
fi

if [ -z "${KUBECONFIG:-}" ]; then
    cluster=$(realpath --canonicalize-missing "${GATELINE_CLUSTER:-../shared/cluster/cluster}")
    if [ ! -x "$cluster" ] || [ "$(id -u)" != 0 ]; then
        echo "on_this_machine.sh: expected root and a command that starts a cluster in GATELINE_CLUSTER; found user $(id -un) and" \
            "$cluster. Name one, or a cluster that is there by KUBECONFIG." >&2
        exit 2
    fi
    make containers-tools || exit 75
    eval "$("$cluster" env)"
    if [ ! -e "$KUBECONFIG" ]; then # else it is up, and stays so
        trap '"$cluster" down || true' EXIT
        "$cluster" up || exit 75
    fi
    export CONTAINERD_ADDRESS=${KUBECONFIG%/*}/containerd.sock CONTAINERD_NAMESPACE=k8s.io
    export GATELINE_LOAD_IMAGES="tests/cluster/on_this_machine.sh load"
    base=localhost/python:3.11-slim-bookworm
    podman image exists "$base" || infra/images/debian_base.sh "$base"
fi
make test-cluster
