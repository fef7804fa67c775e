"""The registry of ops: which function computes a part of an op, decided when it is called.

An op has parts ("forward", "grad_input", ...), each a function on arrays, and each part has up to
two implementations: NumPy, and CUDA kernels. `op.forward(x, ...)` picks one, in this order:

1. what `override` put in its place (a learner's function);
2. the CUDA kernels, for a CuPy array, or inside `use_kernels("emulator")` for any array;
3. the NumPy one.

An op that is plain elementwise arithmetic or a plain reduction needs no kernel: its NumPy functions
are written with `array_module(x)` and run on CuPy arrays as they are.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np

from minseg.parallel import WORTH_A_THREAD, later
from minseg.suggest import suggest

LITTLE_WORK = 2**28  # multiplications: a part with more keeps all threads busy by itself

_registry: dict[str, "Op"] = {}
_kernels_in_emulator: ContextVar[bool] = ContextVar("_kernels_in_emulator", default=False)
# op -> part -> the function in its place. A ContextVar, as of no_grad: each thread has its own.
_overrides: ContextVar[Mapping[str, Mapping[str, Callable[..., Any]]]] = ContextVar(
    "_overrides", default=MappingProxyType({})
)


class Op:
    """One op: its name, its definition in loops, and its parts on arrays.

    Args:
        name: the public function's, "conv2d"; or of what several share, "overlap".
        definition: the forward in plain loops, the specification the parts are tested against.
        numpy: part name -> function on arrays.
        cuda: part name -> function on arrays that launches kernels; empty where the NumPy
            functions work on CuPy arrays too.
    """

    def __init__(
        self,
        name: str,
        *,
        definition: Callable[..., Any] | None = None,
        numpy: Mapping[str, Callable[..., Any]],
        cuda: Mapping[str, Callable[..., Any]] | None = None,
    ) -> None:
        self.name = name
        self.definition = definition
        self.numpy = dict(numpy)
        self.cuda = dict(cuda or {})
        vars(self).update({part: partial(self.run, part) for part in numpy})
        _registry[name] = self

    def __getattr__(self, part: str) -> Callable[..., Any]:
        raise AttributeError(f"op {self.name} has no part {part!r}; it has {sorted(self.numpy)}")

    @property
    def overrides(self) -> Mapping[str, Callable[..., Any]]:
        """part -> what `override` put in its place."""
        return _overrides.get().get(self.name, {})

    def run(self, part: str, array: Any, *arguments: Any) -> Any:
        """Compute `part` with the implementation that `array` and the context ask for."""
        if part in (overrides := self.overrides):
            return overrides[part](array, *arguments)
        return self.built_in(part, array, *arguments)

    def later(self, part: str, work: int, array: Any, *arguments: Any) -> Any:
        """Start `part`, whose result is not needed soon, such as a weight's gradient.

        Returns the array; or a function that returns it, while another thread computes it. That is
        done for NumPy functions of medium size, of about `work` multiplications. Cut into blocks
        for all threads, as larger ones are, they would spend their time on handing the
        interpreter's lock to and fro; so each thread gets a whole function to compute.
        """
        if WORTH_A_THREAD <= work <= LITTLE_WORK and self.is_numpy(array):
            return later(lambda: self.run(part, array, *arguments))
        return self.run(part, array, *arguments)

    def is_numpy(self, array: Any) -> bool:
        """Whether all parts would be the NumPy ones: only these may be fused or run in threads."""
        return not (self.overrides or _kernels_in_emulator.get()) and isinstance(array, np.ndarray)

    def built_in(self, part: str, array: Any, *arguments: Any) -> Any:
        """Compute `part` with the library's own, whatever `override` put in its place."""
        on_gpu = not isinstance(array, np.ndarray)
        if part in self.cuda and (on_gpu or _kernels_in_emulator.get()):
            return self.cuda[part](array, *arguments)
        return self.numpy[part](array, *arguments)


def get_op(name: str) -> Op:
    """The op of this name. Raises ValueError, with the known names, for another."""
    if name not in _registry:
        hint = suggest(name, _registry)
        raise ValueError(f"no op {name!r}{hint}; the ops are: {', '.join(list_ops())}")
    return _registry[name]


def list_ops() -> list[str]:
    """The names of all ops, sorted."""
    return sorted(_registry)


def launch(kernel: str, *arguments: Any) -> None:
    """`minseg.kernels.launch`, imported when first wanted, so that `import minseg` stays quick."""
    from minseg import kernels

    kernels.launch(kernel, *arguments)


@contextmanager
def override(op: str, **parts: Callable[..., Any]) -> Iterator[None]:
    """Put functions **on arrays** in the place of an op's parts, inside of models, too.

    with minseg.override("conv2d", forward=my_conv2d):
        model(x)

    It holds for what this thread computes inside, and its helpers for it; as with `no_grad`, other
    threads notice nothing. A gradient is computed by `backward()`, which has to be inside as well.

    Each function takes the arguments of the part it replaces (`get_op(op).numpy[part]` shows them).
    A gradient that is not given stays the library's, and a warning says so. Raises ValueError for
    an op or a part that does not exist.
    """
    target = get_op(op)
    unknown = sorted(set(parts) - set(target.numpy))
    if unknown:
        raise ValueError(f"override {op}: no part {unknown[0]!r}; it has {sorted(target.numpy)}")
    kept = sorted(set(target.numpy) - set(parts))
    if kept:
        warnings.warn(f"override {op}: minseg's own stays for {', '.join(kept)}", stacklevel=3)
    token = _overrides.set({**_overrides.get(), op: {**target.overrides, **parts}})
    try:
        yield
    finally:
        _overrides.reset(token)


@contextmanager
def use_kernels(where: str) -> Iterator[None]:
    """Send NumPy tensors through the CUDA kernels, which `where="emulator"` runs on the CPU.

    Raises ValueError for another place.
    """
    if where != "emulator":
        raise ValueError(
            f'use_kernels: got {where!r}; the only place for NumPy arrays is "emulator"'
        )
    token = _kernels_in_emulator.set(True)
    try:
        yield
    finally:
        _kernels_in_emulator.reset(token)
