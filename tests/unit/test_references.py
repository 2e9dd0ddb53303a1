"""What people call a registered model is read as they mean it, or refused in one line."""

from __future__ import annotations

from typing import Any, cast

import pytest

from gateline.adapters.registry.reference import Reference, name_alone, number_of, read_reference, version_said
from gateline.errors import RegistryError

NO_SERVER: Any = cast(Any, None)


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
        "o'x.yaml",
        "rides@champion.yaml",
    ],
)
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(RegistryError, match="expected the name of a workload"):
        read_reference(text)


def test_a_version_of_another_model_is_no_version_of_this_one() -> None:
    assert number_of(NO_SERVER, "tiny", "models:/tiny/2") == 2
    with pytest.raises(RegistryError, match=r"expected a version of tiny.*found the model elsewhere"):
        number_of(NO_SERVER, "tiny", "models:/elsewhere/2")
    with pytest.raises(RegistryError, match="no version"):
        number_of(NO_SERVER, "tiny", "models:/tiny")


def test_two_versions_are_one_too_many() -> None:
    assert version_said("models:/tiny/2", None) == ("tiny", "2")
    assert version_said("tiny", "3") == ("tiny", "3")
    with pytest.raises(RegistryError, match="one version"):
        version_said("models:/tiny/2", "1")


def test_a_version_where_none_can_be_asked_for_is_refused() -> None:
    assert name_alone("models:/tiny") == "tiny"
    with pytest.raises(RegistryError, match="its version 2"):
        name_alone("models:/tiny/2")
