"""The tape: reverse-mode automatic differentiation, whole.

A Node is an array that remembers how it was made: its parents, and a function that turns the
gradient of the result into the gradients of the parents. `backward` walks this record from the end
to the start, each node once, after everything that uses it. That is all of it; which operations
there are (tensor.py, ops/), the tape need not know.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeVar

from minseg.array import Array, array_module

# Given the gradient of a result: the gradients of its parents, in their order (None: has none).
# They are new arrays, or the given one, or views of it; nothing that is used elsewhere. One that is
# still being computed is a function that waits for it: a leaf's is wanted by nobody before the end.
Gradient = Array | Callable[[], Array]
Backward = Callable[[Array], Sequence[Gradient | None]]

recording: ContextVar[bool] = ContextVar("recording", default=True)


class Node:
    """An array and its record; a leaf, which no operation made, has none.

    Attributes: `requires_grad`, whether gradients go to it and through it.
    """

    __slots__ = ("__weakref__", "_backward", "_op", "_parents", "data", "requires_grad")

    def __init__(self, data: Array) -> None:
        self.data = data
        self.requires_grad = False
        self._op = ""  # "" for a leaf
        self._parents: tuple[Any, ...] = ()  # nodes, or None for an input that is absent
        self._backward: Backward | None = None

    def _record(self, op: str, parents: Sequence[Any], backward: Backward) -> None:
        """Note what this array was made from, if it is on the way to what requires a gradient."""
        if recording.get() and any(p is not None and p.requires_grad for p in parents):
            self.requires_grad, self._op = True, op
            self._parents, self._backward = tuple(parents), backward


N = TypeVar("N", bound=Node)


@contextmanager
def no_grad() -> Iterator[None]:
    """Inside, nothing is recorded: less memory where no gradient is wanted. Also a decorator."""
    token = recording.set(False)
    try:
        yield
    finally:
        recording.reset(token)


def is_grad_enabled() -> bool:
    """Whether operations are recorded: not inside `no_grad`."""
    return recording.get()


def backward(root: N, gradient: Array, retain_graph: bool = False) -> Iterator[tuple[N, Array]]:
    """Each leaf that `root` was made from, with the gradient of sum(root * gradient) to it.

    The record is released on the way, unless `retain_graph`. Raises RuntimeError where it has been.
    """
    gradients: dict[int, Gradient] = {id(root): gradient}
    late: list[tuple[N, Callable[[], Array]]] = []
    order = topological_order(root)
    while order:
        node = order.pop()  # popped, so that its array is released once it has been used
        found = gradients.pop(id(node), None)
        if found is None:
            continue  # every operation that uses it gave it no gradient
        if not node._op:
            if callable(found):
                late.append((node, found))
            else:
                yield node, found
            continue
        if node._backward is None:
            raise RuntimeError(
                f"backward: the record of {node._op} was released by an earlier backward; "
                "pass retain_graph=True there to go through it twice"
            )
        _pass_on(node, found, gradients)
        if not retain_graph:
            node._parents, node._backward = (), None
    while late:  # from the last: who computes them meanwhile goes the other way
        node, gradient_of = late.pop()
        found = gradient_of()
        yield node, found if found.flags.c_contiguous else found.copy()


def topological_order(root: N) -> list[N]:
    """Every node that `root` was made from, each after all that it was made from itself.

    With a stack of its own: a graph of 10,000 operations is deeper than Python may recurse.
    """
    order: list[N] = []
    seen: set[int] = set()
    stack: list[tuple[N, bool]] = [(root, False)]
    while stack:
        node, parents_are_done = stack.pop()
        if parents_are_done:
            order.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack.extend((p, False) for p in node._parents if p is not None and p.requires_grad)
    return order


def _pass_on(node: Node, gradient: Array, gradients: dict[int, Gradient]) -> None:
    """Add to `gradients`, for each parent of `node`, what it gets of the node's own.

    An operation may pass on the array that it got (a sum does), to several parents. Between
    operations nobody writes to it; but a leaf is to keep an array of its own.
    """
    assert node._backward is not None
    seen = [gradient]
    for parent, part in zip(node._parents, node._backward(gradient), strict=True):
        if parent is None or part is None or not parent.requires_grad:
            continue
        known = gradients.get(id(parent))
        if callable(part) and not parent._op and known is None:
            gradients[id(parent)] = partial(_checked, part, node._op, parent)
            continue
        part = _checked(part, node._op, parent)
        if known is not None:
            part = (known() if callable(known) else known) + part
        elif not parent._op and _is_shared(part, seen):
            part = part.copy()
        gradients[id(parent)] = part
        seen.append(part)


def _is_shared(array: Array, others: list[Array]) -> bool:
    shares = array_module(array).may_share_memory
    others = [other for other in others if type(other) is type(array)]  # on another device: no
    repeats = not array.flags.c_contiguous or not getattr(array.flags, "writeable", True)
    return repeats or any(shares(array, other) for other in others)


def _checked(gradient: Gradient, op: str, parent: Node) -> Array:
    """The gradient, which fits its parent."""
    grad, data = gradient() if callable(gradient) else gradient, parent.data
    if grad.shape != data.shape or grad.dtype != data.dtype:
        raise ValueError(
            f"{op}: its backward gave a gradient of shape {grad.shape}, {grad.dtype}, "
            f"for an input of shape {data.shape}, {data.dtype}"
        )
    return grad
