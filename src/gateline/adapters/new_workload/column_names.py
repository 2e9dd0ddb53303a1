"""Names of columns: another one than the file's where evaluation or answers have a column of that name."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from gateline.errors import is_taken
from gateline.workload.schema import RESERVED


def free_name(name: str, own: Iterable[str], there: Collection[str], role: str) -> str:
    """Name a column of the file in the table.

    Names are compared without regard to case, as DuckDB does.

    Args:
        name: in the file.
        own: what evaluation and answers call their own; ``*`` stands for any text.
        there: names that are in use.
        role: of the column, put before its name where that is taken.

    Example:
        >>> (
        ...     free_name("Flags", ["flags"], ["Flags", "target_flags"], "target"),
        ...     free_name("y", ["flags"], ["y"], "target"),
        ... )
        ('target_target_Flags', 'y')
    """
    taken = [*own, f"{RESERVED}*"]
    in_use = {each.casefold() for each in there}
    called = name
    while is_taken(called.casefold(), taken) or (called != name and called.casefold() in in_use):
        called = f"{role}_{called}"
    return called


def why_renamed(name: str) -> str:
    """Say why a column is called otherwise than in the file."""
    return f"`{name}` in the file, and renamed by the query, since predictions have a column `{name.casefold()}` of their own"


def in_both(name: str, called: str) -> str:
    """Name a column as the file does, and as the table does where that differs.

    Example:
        >>> in_both("origin", "series_origin"), in_both("shop", "shop")
        ('origin (called series_origin)', 'shop')
    """
    return name if name == called else f"{name} (called {called})"
