"""The network policies let through what docs/operations.md says, and nothing else."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.infra.overlays import HOUSE, Manifests, edited, named, overlay, production, rendered, require_as_it_comes
from tests.infra.reach import OUTSIDE, Network, Pod, pods_by_name

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl on this machine to run kustomize")

ARGO = {"workflows.argoproj.io/workflow": "run"}
NAMESPACES = {"clients": {"gateline-clients": "true"}, "alerts": {"gateline-listens": "true"}, "elsewhere": {}}
STEPS, SERVERS_THAT_STORE = {"step", "telling step"}, {"mlflow", "backup", "training-node"}
ABROAD = {"stranger elsewhere", "client elsewhere", "step of kubeflow", "stranger of kubeflow", "node of kubeflow"}
"""Pods of other namespaces, where no policy of ours closes anything."""
HERE = {
    "mlflow",
    "mlflow-tables",
    "serving",
    "postgres",
    "object-store",
    "backup",
    "training-node",
    "stranger",
    "client",
    "artifacts",
    *STEPS,
}
PORTS = {"mlflow": 5000, "postgres": 5432, "object-store": 9000, "serving": 8080, "training-node": 29500, "step": 8080}
ELSEWHERE = {"names": 53, "kubeflow": 8888, "listener": 8080, "mesh": 15012}
WAYS_OUT = {"https": 443, "kubernetes": 6443, "database": 5432, "other": 9999}
Table = dict[str, set[str]]
REACH: Table = {
    "mlflow": {"serving", "training-node", *STEPS},
    "postgres": {"mlflow", "mlflow-tables", "backup"},
    "object-store": {*SERVERS_THAT_STORE, *STEPS},
    "serving": {"client", "client elsewhere"},
    "training-node": {"training-node"},
    "step": set(),
    "names": HERE | ABROAD,
    "kubeflow": STEPS | ABROAD,
    "listener": {"telling step"} | ABROAD,
    "mesh": ABROAD,
    "https": STEPS | ABROAD,
    "kubernetes": STEPS | ABROAD,
    "database": {"mlflow-tables", "backup"} | ABROAD,
    "other": ABROAD,
}
"""Who reaches what, with a database and an object store in the namespace."""
WITH_OUTSIDE: Table = REACH | {
    "https": REACH["https"] | SERVERS_THAT_STORE,
    "database": REACH["database"] | {"mlflow"},
    "object-store": set(),
}
"""The same where both may be outside."""


def table(manifests: Manifests) -> Table:
    """Ask for each pair of a source and a target."""
    home = named(manifests, "Deployment", "mlflow")["metadata"]["namespace"]
    made = pods_by_name(manifests)

    def pod(namespace: str, **labels: str) -> Pod:
        return Pod(namespace, labels, {})

    sources = {
        **made,
        "step": pod(home, **ARGO),
        "telling step": pod(home, **ARGO, **{"gateline-tells": "true"}),
        "stranger": pod(home, app="other"),
        "client": pod(home, **{"gateline-clients": "true"}),
        "artifacts": pod(home, app="ml-pipeline-ui-artifact"),
        "stranger elsewhere": pod("elsewhere", **{"app.kubernetes.io/name": "mlflow"}),
        "client elsewhere": pod("clients"),
        "step of kubeflow": pod("kubeflow", **ARGO),
        "stranger of kubeflow": pod("kubeflow"),
        "node of kubeflow": pod("kubeflow", **{"app.kubernetes.io/name": "training-node"}),
    }
    targets: dict[str, tuple[Pod | None, int]] = {
        **{name: (sources[name], port) for name, port in PORTS.items() if name in sources},
        **{name: (OUTSIDE, port) for name, port in WAYS_OUT.items()},
        "names": (pod("kube-system"), ELSEWHERE["names"]),
        "kubeflow": (pod("kubeflow"), ELSEWHERE["kubeflow"]),
        "listener": (pod("alerts"), ELSEWHERE["listener"]),
        "mesh": (pod("istio-system"), ELSEWHERE["mesh"]),
    }
    network = Network([each for each in manifests if each["kind"] == "NetworkPolicy"], NAMESPACES)
    return {
        name: {
            who
            for who, source in sources.items()
            if network.reaches(source, target, port, "UDP" if name == "names" else "TCP")
        }
        for name, (target, port) in targets.items()
    }


def expected(among: Manifests, reach: Mapping[str, set[str]]) -> Table:
    """Leave out of a table what the manifests do not have."""
    absent = {"object-store", "postgres", "training-node", "backup"} - pods_by_name(among).keys()
    return {name: sources - absent for name, sources in reach.items() if name not in absent}


def test_only_those_reach_each_other_who_must() -> None:
    manifests = rendered(HOUSE)
    assert set(pods_by_name(manifests)) <= HERE
    assert table(manifests) == REACH
    require_as_it_comes("dev")
    assert table(overlay("dev")) == REACH


def test_production_reaches_its_stores_outside() -> None:
    prod = production()
    assert table(prod) == expected(prod, WITH_OUTSIDE)


def test_kubeflow_alone_is_let_in_where_its_component_is(tmp_path: Path) -> None:
    prod = edited(tmp_path, lambda k: k["components"].append("../../components/kubeflow-alone"))
    let_in = {"step of kubeflow", "node of kubeflow"}
    assert table(prod) == expected(prod, WITH_OUTSIDE | {"mlflow": REACH["mlflow"] | let_in})
    dev = edited(tmp_path / "dev", lambda k: k["components"].append("../../components/kubeflow-alone"), "dev")
    also = {name: REACH[name] | let_in for name in ("mlflow", "object-store")}
    assert table(dev) == REACH | also


def test_kubeflow_shows_the_artifacts_of_a_profile(tmp_path: Path) -> None:
    prod = edited(tmp_path, lambda k: k["components"].append("../../components/kubeflow-profile"))
    also = {name: WITH_OUTSIDE[name] | {"artifacts"} for name in ("kubeflow", "mesh", "https")}
    assert table(prod) == expected(prod, WITH_OUTSIDE | also)
    network = Network([each for each in prod if each["kind"] == "NetworkPolicy"], NAMESPACES)
    server = Pod("gateline", {"app": "ml-pipeline-ui-artifact"})
    assert network.reaches(Pod("kubeflow", {}), server, 3000)
    assert not network.reaches(Pod("elsewhere", {}), server, 3000)


Change = Callable[[dict[str, Any]], object]


def spec(manifests: Manifests, name: str) -> dict[str, Any]:
    found: dict[str, Any] = named(manifests, "NetworkPolicy", name)["spec"]
    return found


MISTAKES: dict[str, tuple[str, Change]] = {
    "label misspelt": (
        "mlflow",
        lambda s: s["egress"][0]["to"][0]["podSelector"].update(matchLabels={"app.kubernetes.io/name": "postgress"}),
    ),
    "port misspelt": ("mlflow", lambda s: s["egress"][0].update(ports=[{"port": 5433}])),
    "name of a port misspelt": ("mlflow", lambda s: s["ingress"][0].update(ports=[{"port": "https"}])),
    "way to Kubernetes": ("steps", lambda s: s["egress"][3].update(ports=[{"port": 444}])),
    "one way alone": ("postgres", lambda s: s.update(policyTypes=["Egress"])),
    "too many": ("postgres", lambda s: s.update(ingress=[{}])),
    "of the neighbours": ("mlflow", lambda s: s["ingress"][0]["from"].append({"namespaceSelector": {}})),
    "names": ("names", lambda s: s["egress"][0].update(ports=[{"port": 53, "protocol": "TCP"}])),
    "another webhook": ("webhook", lambda s: s.update(podSelector={})),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_policy_shows(mistake: str) -> None:
    name, change = MISTAKES[mistake]
    manifests = rendered(HOUSE)
    before = copy.deepcopy(manifests)
    change(spec(manifests, name))
    assert manifests != before
    assert table(manifests) != REACH
