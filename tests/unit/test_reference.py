"""What a command is told about a model is taken as said, or refused."""

from __future__ import annotations

from typing import Any, cast

import pytest

from gateline.adapters.registry.reference import name_alone, number_of, version_said
from gateline.errors import RegistryError

NOT_ASKED: Any = cast(Any, None)


def test_a_version_of_another_model_is_no_version_of_this_one() -> None:
    assert number_of(NOT_ASKED, "tiny", "models:/tiny/2") == 2
    with pytest.raises(RegistryError, match="expected a version of tiny.*found the model elsewhere"):
        number_of(NOT_ASKED, "tiny", "models:/elsewhere/2")
    with pytest.raises(RegistryError, match="no version"):
        number_of(NOT_ASKED, "tiny", "models:/tiny")


def test_two_versions_are_one_too_many() -> None:
    assert version_said("models:/tiny/2", None) == ("tiny", "2")
    assert version_said("tiny", "3") == ("tiny", "3")
    with pytest.raises(RegistryError, match="one version"):
        version_said("models:/tiny/2", "1")


def test_a_version_where_none_can_be_asked_for_is_refused() -> None:
    assert name_alone("models:/tiny") == "tiny"
    with pytest.raises(RegistryError, match="its version 2"):
        name_alone("models:/tiny/2")
