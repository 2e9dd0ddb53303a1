"""Who goes on with a trial, and how often its process was lost: killed without a word, before a new epoch."""

from __future__ import annotations

import contextlib
from pathlib import Path

import optuna
import pytest

from gateline.adapters.search.claims import Claim, Claims
from gateline.errors import Preempted


@pytest.fixture
def claims(tmp_path: Path) -> Claims:
    """Of one trial."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(storage=f"sqlite:///{tmp_path / 'studies.db'}", study_name="one")
    return Claims(study, tmp_path / "search", total=1)


def claim(claims: Claims) -> Claim:
    found = claims.next(lambda _: pytest.fail("nobody else works on it"))
    assert found is not None
    return found


def killed(claim: Claim) -> None:
    """The operating system takes back what a process held, and nothing else happens."""
    claim.lock.release()


def test_tries_that_are_killed_before_a_new_epoch_are_counted(claims: Claims) -> None:
    counted = []
    for _ in range(4):
        counted.append((taken := claim(claims)).lost)
        killed(taken)

    assert counted == [0, 1, 2, 3]


def test_a_new_epoch_begins_the_count_anew(claims: Claims) -> None:
    counted = []
    for epoch in (None, None, 1, None, 2, 3):
        counted.append((taken := claim(claims)).lost)
        if epoch is not None:
            taken.trial.report(1.0, epoch)
        killed(taken)

    assert counted == [0, 1, 2, 0, 1, 0]


def test_a_process_that_was_told_to_stop_is_not_lost(claims: Claims) -> None:
    counted = []
    for _ in range(5):
        counted.append((taken := claim(claims)).lost)
        with contextlib.suppress(Preempted), taken:
            raise Preempted("a request to stop")

    assert counted == [0] * 5
