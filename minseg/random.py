"""One seed for everything random that is not given a generator of its own."""

import numpy as np

_default = np.random.default_rng()


def manual_seed(seed: int) -> np.random.Generator:
    """Make every later random op and initialiser repeat: same seed, same bits."""
    global _default
    _default = np.random.default_rng(seed)
    return _default


def default_generator(generator: np.random.Generator | None = None) -> np.random.Generator:
    """`generator`, or the one that `manual_seed` sets where it is None."""
    return _default if generator is None else generator


def get_rng_state() -> dict:
    """The default generator's state, as plain Python numbers: what a checkpoint keeps."""
    return dict(_default.bit_generator.state)


def set_rng_state(state: dict) -> None:
    """Put the default generator back to a state that `get_rng_state` gave."""
    _default.bit_generator.state = state
