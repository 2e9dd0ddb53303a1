"""An address with a user, a password or a token in it is refused before a store is asked, and not repeated."""

from __future__ import annotations

import json
import socket

import pytest

from gateline.adapters.addresses import open_address
from gateline.errors import UnreachableError, WorkloadError
from gateline.workload.address import USER_IN_ADDRESS


@pytest.mark.parametrize(
    "address",
    [
        "s3://AKIAHIDDEN@bucket/folder",
        "s3://me:hidden@bucket/folder",
        "simplecache::https://hidden@store.example/folder",
        "abfs://me:hidden@account.dfs.core.windows.net/folder",
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


def test_a_file_system_that_connects_when_it_is_opened_and_gets_no_answer_can_be_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and listens to none: whoever connects is refused
        address = f"ftp://127.0.0.1:{nobody.getsockname()[1]}/folder"
        with pytest.raises(UnreachableError, match=f"--checkpoints {address}: expected an answer; found Connection"):
            open_address(address, "--checkpoints")


def test_what_asking_again_would_not_change_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("asked again"))
    for address in ("nosuch://place/folder", "zip://archive/folder"):
        with pytest.raises(WorkloadError, match="--checkpoints: expected an address that fsspec can open"):
            open_address(address, "--checkpoints")


@pytest.mark.parametrize(
    "text",
    [
        "abfs://container@account.dfs.core.windows.net/folder",
        "wasbs://container@account.blob.core.windows.net/folder",
        json.dumps({"description": "Data: https://data.example.org\nme@example.org keeps them"}),
        json.dumps({"url": "https://data.example.org", "contact": "me@example.org"}),
    ],
)
def test_a_container_of_azure_and_a_letter_elsewhere_are_no_user(text: str) -> None:
    assert not USER_IN_ADDRESS.search(text)
