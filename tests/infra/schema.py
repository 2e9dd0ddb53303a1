"""What Kubernetes takes, by its schemas."""

from __future__ import annotations

from tests.infra.overlays import Manifests

VERSIONS = ("1.25", "1.34")
"""The oldest that the newest kinds need, and one of the newest."""
OF_OTHERS = ("trainer.kubeflow.org", "monitoring.coreos.com")


def refused(manifests: Manifests, version: str) -> list[str]:
    """List what Kubernetes would not take, by its schemas."""
    import kubernetes_validate

    found = []
    for manifest in manifests:
        if manifest["apiVersion"].split("/")[0] in OF_OTHERS:
            continue
        try:
            kubernetes_validate.validate(manifest, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            found.append(f"{manifest['kind']}/{manifest['metadata']['name']}: {error.message}")
    return found
