"""Addresses that a workload or a flag names."""

from __future__ import annotations

import re

USER_IN_ADDRESS = re.compile(
    r"""\w://(?: (?<!abfs://)(?<!abfss://)(?<!wasb://)(?<!wasbs://) [^/\s?\#"\\]+ | [^/\s?\#"\\@]* : [^/\s?\#"\\]* )@""",
    re.VERBOSE,
)
"""What stands before an @ in an address is a user, a password or a token alone: the pages of a run, artifacts and errors would show it.
Before that of Azure (``abfs://CONTAINER@ACCOUNT.dfs.core.windows.net/``) stands a container. Quotes and backslashes end an address, so
that JSON text can be searched."""


def without_users(text: object) -> str:
    """Take user names and passwords out of the addresses in a text."""
    return re.sub(r"(\w://)[^/\s]*@", r"\1", str(text))
