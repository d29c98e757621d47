"""Wildcard patterns for paths of files."""

from __future__ import annotations

import re

from skytext.addresses.address_parser import Location


def is_pattern(path: str) -> bool:
    """Return true if a path contains wildcards."""
    return "*" in path or "?" in path


def pattern_root(location: Location) -> Location:
    """Return the deepest folder before the first wildcard of a pattern."""
    fixed = re.split(r"[*?]", location.path)[0]
    return Location(location.scheme, location.bucket, fixed).parent


def pattern_regex(pattern: str) -> re.Pattern[str]:
    """Compile a pattern to a regular expression. Wildcards do not match a slash."""
    wild = {"*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(wild.get(char) or re.escape(char) for char in pattern), re.DOTALL)
