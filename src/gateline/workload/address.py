"""Addresses that a workload or a flag names."""

from __future__ import annotations

import re

USER_IN_ADDRESS = re.compile(r"\w://[^/\s?#]+@")
"""What stands before an @ in an address is a user, a password or a token alone: the pages of a run, artifacts and errors would show it."""
