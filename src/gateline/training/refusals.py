"""A training that was refused is refused again before it begins: the same data, settings, code and torch lead to the same end.

    STORE/
    └── refused.json    what was said, where the checkpoints of this training lie

Whoever runs a step again whatever its exit code was, as Kubeflow does, so pays for one refusal and not for eleven.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from gateline.errors import TrainingError, UnreachableError
from gateline.manifest import dump_json
from gateline.training.checkpoints import CheckpointStore

REFUSED = "refused.json"
WORDS = ("where", "expected", "found", "do")

log = logging.getLogger("gateline.training")


def not_refused(store: CheckpointStore) -> CheckpointStore:
    """Hand back the store of a training that was not refused earlier.

    A damaged note is none. What another torch refused lies elsewhere, see `key_of`: it rounds differently.

    Raises:
        TrainingError: it was; says the same, and what to remove for another try.
        UnreachableError: the store did not answer.
    """
    content = store.read(REFUSED)
    if content is None:
        return store
    try:
        note = json.loads(content)
        where, expected, found, do = (str(note[word]) for word in WORDS)
    except (ValueError, KeyError, TypeError):
        log.warning("%s/%s is damaged; it is not heeded.", store.place, REFUSED)
        return store
    raise TrainingError(
        where,
        expected=expected,
        found=f"{found}, in an earlier run of this very training",
        do=f"{do}; to try it as it is once more, remove {store.place}/{REFUSED}",
    )


@contextmanager
def refused_once(store: CheckpointStore) -> Iterator[None]:
    """Note in the store why a training cannot go on."""
    try:
        yield
    except TrainingError as refusal:
        said = {word: getattr(refusal, word) for word in WORDS}
        try:
            store.write(REFUSED, dump_json(said).encode())
        except (UnreachableError, OSError) as error:
            log.warning("%s The refusal could not be noted; the next run trains until it is refused again.", error)
        raise
