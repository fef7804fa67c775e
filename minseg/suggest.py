"""A hint for a name that was mistyped."""

from collections.abc import Iterable

LIKE = 0.6  # of 1, for the same name


def suggest(name: str, known: Iterable[str]) -> str:
    """ " (did you mean 'unet'?)" for 'unett', or "" where no known name is like it."""
    from difflib import SequenceMatcher  # here, so that `import minseg` stays quick

    likeness = {other: SequenceMatcher(None, other, name).ratio() for other in known}
    nearest = max(likeness, key=likeness.__getitem__, default="")  # the first of several
    return f" (did you mean {nearest!r}?)" if likeness.get(nearest, 0) >= LIKE else ""
