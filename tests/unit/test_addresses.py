"""An address with a user, a password or a token in it is refused before a store is asked, and not repeated."""

from __future__ import annotations

import pytest

from gateline.adapters.addresses import open_address
from gateline.errors import WorkloadError


@pytest.mark.parametrize(
    "address",
    [
        "s3://AKIAHIDDEN@bucket/folder",
        "s3://me:hidden@bucket/folder",
        "simplecache::https://hidden@store.example/folder",
    ],
)
def test_a_user_in_an_address_is_refused(address: str) -> None:
    with pytest.raises(
        WorkloadError, match="--checkpoints: expected an address without a user or a password"
    ) as refusal:
        open_address(address, "--checkpoints")
    assert "hidden" not in str(refusal.value).lower()


def test_an_at_sign_in_a_path_is_none() -> None:
    assert open_address("memory://bucket/you@example/folder", "--checkpoints")[1] == "/bucket/you@example/folder"
