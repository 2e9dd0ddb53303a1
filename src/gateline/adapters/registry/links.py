"""One link of the chain from data to a registered model, and what became of looking at it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

State = Literal["holds", "broken", "unchecked"]


@dataclass(frozen=True)
class Link:
    """What was found of one link.

    Args:
        name: of the link, e.g. ``raw data``.
        state: holds; broken; unchecked where this machine has nothing to check it by.
        words: what was seen, what is wrong, or why nobody can say.
    """

    name: str
    state: State
    words: str


@dataclass(frozen=True)
class Verification:
    """All links of one registered version, in the order of the data.

    Args:
        name: of the registered model.
        version: its number.
        links: the links.
    """

    name: str
    version: int
    links: Sequence[Link]

    def failed(self, *, strict: bool = False) -> list[Link]:
        """Links that do not hold; where it is strict, also those that nothing here can check."""
        return [link for link in self.links if link.state == "broken" or (strict and link.state == "unchecked")]

    @property
    def unchecked(self) -> list[Link]:
        """Links that nothing here can check."""
        return [link for link in self.links if link.state == "unchecked"]


def holds(name: str, words: str) -> Link:
    """Say that a link holds."""
    return Link(name, "holds", words)


def broken(name: str, words: str) -> Link:
    """Say that a link does not hold."""
    return Link(name, "broken", words)


def unchecked(name: str, words: str) -> Link:
    """Say that nothing here can check a link."""
    return Link(name, "unchecked", words)


def compared(name: str, place: str, found: object, said: object) -> Link:
    """Compare what stands somewhere with what the passport says."""
    if found == said:
        return holds(name, f"{place}: {short(said)}")
    return broken(name, f"{place} has {short(found)}, the passport says {short(said)}")


def short(value: object) -> str:
    """Cut a digest to what a person compares."""
    text = str(value)
    return text[:12] if len(text) in (40, 64) and all(letter in "0123456789abcdef" for letter in text) else text[:120]
