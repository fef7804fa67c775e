"""A hint for a name that was mistyped."""

import difflib
from collections.abc import Iterable


def suggest(name: str, known: Iterable[str]) -> str:
    """ " (did you mean 'unet'?)" for 'unett', or "" where no known name is like it."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
