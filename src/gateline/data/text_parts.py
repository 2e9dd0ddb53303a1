"""Parts of one long text by place: all of it is read in its own order, so a part is a range of it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator

from gateline.data.splits import PARTS
from gateline.workload.section import Section

Place = Annotated[float, Field(ge=0, le=1)]
Range = tuple[Place, Place]


class PlaceSplit(Section):
    """Ranges of the text, as shares of its characters: `[0.1, 0.9]` is from a tenth of the way to nine tenths."""

    rule: Literal["place"] = "place"
    train: Range
    validation: Range
    test: Range

    @model_validator(mode="after")
    def _apart(self) -> PlaceSplit:
        ranges = sorted(getattr(self, part) for part in PARTS)
        for first, after in ranges:
            if first >= after:
                raise ValueError(f"ranges that end after they begin, got {[first, after]}")
        for one, other in pairwise(ranges):
            if one[1] > other[0]:
                raise ValueError(f"ranges that share nothing, got {list(one)} and {list(other)}")
        return self

    def pieces(self, texts: Sequence[str], part: str) -> list[tuple[str, bool]]:
        """Cut a part out of texts that stand one after the other.

        Args:
            texts: in their order.
            part: train, validation or test.

        Returns:
            What of each text is in the part, and whether it is there to the text's end.
        """
        total = sum(map(len, texts))
        first, after = (round(place * total) for place in getattr(self, part))
        found, begin = [], 0
        for text in texts:
            begins, ends = max(first - begin, 0), min(after - begin, len(text))
            if begins < ends:
                found.append((text[begins:ends], ends == len(text)))
            begin += len(text)
        return found
