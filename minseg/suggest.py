"""A hint for a name that was mistyped."""

from collections.abc import Iterable


def suggest(name: str, known: Iterable[str]) -> str:
    """ " (did you mean 'unet'?)" for 'unett', or "" where no known name is like it."""
    import difflib  # here, so that `import minseg` stays quick

    near = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
