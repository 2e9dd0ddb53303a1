"""What people call a registered model is read as they mean it, or refused in one line."""

from __future__ import annotations

import pytest

from gateline.adapters.registry.reference import Reference, read_reference
from gateline.errors import RegistryError


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("rides", Reference("rides", None)),
        ("workloads/rides.yaml", Reference("rides", None)),
        ("models:/rides", Reference("rides", None)),
        ("models:/rides/12", Reference("rides", "12")),
        ("models:/rides@champion", Reference("rides", "champion")),
    ],
)
def test_a_reference_is_read(text: str, meant: Reference) -> None:
    assert read_reference(text) == meant


@pytest.mark.parametrize(
    "text",
    [
        "x'y",
        "Rides",
        "rides.ledger",
        "../../etc",
        "models:/rides/\u00b2",
        "models:/rides/99999999999999999999",
        "",
        "a b",
    ],
)
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(RegistryError, match="expected the name of a workload"):
        read_reference(text)
