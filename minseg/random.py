"""One seed for everything random that is not given a generator of its own."""

from __future__ import annotations  # to name numpy.random would load it

import numpy as np

# Made when it is first wanted: NumPy loads numpy.random then, a third of `import minseg`.
_default: np.random.Generator | None = None


def manual_seed(seed: int) -> np.random.Generator:
    """Make every later random op and initialiser repeat: same seed, same bits."""
    global _default
    _default = np.random.default_rng(seed)
    return _default


def default_generator(generator: np.random.Generator | None = None) -> np.random.Generator:
    """`generator`, or the one that `manual_seed` sets where it is None."""
    global _default
    if generator is not None:
        return generator
    if _default is None:
        _default = np.random.default_rng()
    return _default


def get_rng_state() -> dict:
    """The default generator's state, as plain Python numbers: what a checkpoint keeps."""
    return dict(default_generator().bit_generator.state)


def set_rng_state(state: dict) -> None:
    """Put the default generator back to a state that `get_rng_state` gave."""
    default_generator().bit_generator.state = state
