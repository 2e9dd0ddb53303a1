"""Who reaches whom, as a network plug-in that enforces NetworkPolicy would let them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.infra.policy import labels, pods_of

Manifest = Mapping[str, Any]
NAME = "kubernetes.io/metadata.name"


@dataclass(frozen=True)
class Pod:
    """A pod as policies see it.

    Args:
        namespace: of it.
        labels: of it.
        ports: number by name.
    """

    namespace: str
    labels: Mapping[str, str]
    ports: Mapping[str, int] = field(default_factory=dict)


OUTSIDE = None
"""Not a pod: what lies outside the cluster, or is not one of its pods, as its API."""


def pods_by_name(manifests: Sequence[Manifest]) -> dict[str, Pod]:
    """Give the pods that manifests make, by the value of the label that each has of its own."""
    found = {}
    for manifest in manifests:
        for template in pods_of(manifest):
            own = labels(template)
            ports = {
                port["name"]: port["containerPort"]
                for container in template["spec"]["containers"]
                for port in container.get("ports", [])
            }
            pod = Pod(manifest["metadata"]["namespace"], own, ports)
            found[own["app.kubernetes.io/name"]] = pod
    return found


@dataclass(frozen=True)
class Network:
    """The policies of a cluster.

    Args:
        policies: all of them.
        namespaces: labels of each namespace beside its name.
    """

    policies: Sequence[Manifest]
    namespaces: Mapping[str, Mapping[str, str]]

    def reaches(self, source: Pod, target: Pod | None, port: int, protocol: str = "TCP") -> bool:
        """Say whether a pod reaches a port of another, or of `OUTSIDE`."""
        at = (port, protocol)
        leaves = self._lets("Egress", source, target, target, at)
        return leaves and (target is None or self._lets("Ingress", target, source, target, at))

    def _lets(self, way: str, of: Pod, other: Pod | None, target: Pod | None, at: tuple[int, str]) -> bool:
        """Ask the policies of one end about the other."""
        ours = [each for each in self.policies if way in each["spec"]["policyTypes"] and self._is_about(each, of)]
        if not ours:
            return True
        return any(
            self._is_peer(each, rule, way, other) and _is_port(rule, target, at)
            for each in ours
            for rule in each["spec"].get(way.lower(), [])
        )

    @staticmethod
    def _is_about(policy: Manifest, pod: Pod) -> bool:
        here = policy["metadata"]["namespace"] == pod.namespace
        return here and matches(policy["spec"]["podSelector"], pod.labels)

    def _is_peer(self, policy: Manifest, rule: Manifest, way: str, other: Pod | None) -> bool:
        peers = rule.get("to" if way == "Egress" else "from")
        if peers is None:
            return True
        return other is not None and any(self._is(policy, peer, other) for peer in peers)

    def _is(self, policy: Manifest, peer: Manifest, pod: Pod) -> bool:
        assert peer.keys() <= {"podSelector", "namespaceSelector"}, f"nobody here knows {peer}"
        if "namespaceSelector" in peer:
            of_namespace = {NAME: pod.namespace, **self.namespaces.get(pod.namespace, {})}
            here = matches(peer["namespaceSelector"], of_namespace)
        else:
            here = policy["metadata"]["namespace"] == pod.namespace
        return here and matches(peer.get("podSelector", {}), pod.labels)


def _is_port(rule: Manifest, target: Pod | None, at: tuple[int, str]) -> bool:
    if "ports" not in rule:
        return True
    for each in rule["ports"]:
        assert each.keys() <= {"port", "protocol"}, f"nobody here knows {each}"
        port = each["port"]
        if isinstance(port, str):
            port = target.ports.get(port) if target else None
        if (port, each.get("protocol", "TCP")) == at:
            return True
    return False


def matches(selector: Manifest, of: Mapping[str, str]) -> bool:
    """Say whether a selector takes something with these labels."""
    assert selector.keys() <= {"matchLabels", "matchExpressions"}, f"nobody here knows {selector}"
    return selector.get("matchLabels", {}).items() <= of.items() and all(_expressions(selector, of))


def _expressions(selector: Manifest, of: Mapping[str, str]) -> Iterator[bool]:
    for each in selector.get("matchExpressions", []):
        match each["operator"]:
            case "Exists":
                yield each["key"] in of
            case "In":
                yield of.get(each["key"]) in each["values"]
            case other:
                raise AssertionError(f"nobody here knows {other}")
