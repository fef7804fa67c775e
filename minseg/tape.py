"""The tape: reverse-mode automatic differentiation, whole.

A Node is an array that remembers how it was made: its parents, and a function that turns the
gradient of the result into the gradients of the parents. `backward` walks this record from the end
to the start, each node once, after everything that uses it. That is the whole idea. The tape does
not know which operations there are: those stand in tensor.py and ops/.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeVar

from minseg.array import Array, array_module

# A backward function gets the gradient of a result and returns those of its parents, in their
# order, None for a parent without one. Each is a new array, or the one it got, or a view of that.
# In place of an array there may be a function that returns it, while another thread computes it
# (`Op.later`): a leaf's gradient is not needed before the end of the walk.
Gradient = Array | Callable[[], Array]
Backward = Callable[[Array], Sequence[Gradient | None]]

recording: ContextVar[bool] = ContextVar("recording", default=True)


class Node:
    """An array and the record of how it was made. A leaf, which no operation made, has no record.

    `requires_grad` says whether gradients flow to it and through it.
    """

    __slots__ = ("__weakref__", "_backward", "_op", "_parents", "data", "requires_grad")

    def __init__(self, data: Array) -> None:
        self.data = data
        self.requires_grad = False
        self._op = ""  # "" for a leaf
        self._parents: tuple[Any, ...] = ()  # nodes, or None for an input that is absent
        self._backward: Backward | None = None

    def _record(self, op: str, parents: Sequence[Any], backward: Backward) -> None:
        """Note what this array was made from, if any of that requires a gradient."""
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

    The record is released on the way, unless `retain_graph`. Raises RuntimeError where an earlier
    walk has released it.
    """
    gradients: dict[int, Gradient] = {id(root): gradient}  # of each node met so far, by its id
    late: list[tuple[N, Callable[[], Array]]] = []  # leaves whose gradients are being computed
    order = topological_order(root)
    while order:
        node = order.pop()  # popped, so that its array is released once it has been used
        grad = gradients.pop(id(node), None)
        if grad is None:
            continue  # every operation that uses it gave it no gradient
        if not node._op:
            if callable(grad):
                late.append((node, grad))
            else:
                yield node, grad
            continue
        if node._backward is None:
            raise RuntimeError(
                f"backward: the record of {node._op} was released by an earlier backward; "
                "pass retain_graph=True there to go through it twice"
            )
        _pass_on(node, grad, gradients)
        if not retain_graph:
            node._parents, node._backward = (), None
    while late:  # the last first: the other thread began with the first, so the two meet
        node, wait = late.pop()
        grad = wait()
        yield node, grad if grad.flags.c_contiguous else grad.copy()


def topological_order(root: N) -> list[N]:
    """`root` and every node that it was made from, parents before children.

    A loop with a stack: a graph of 10,000 operations is deeper than Python can recurse.
    """
    order: list[N] = []
    seen: set[int] = set()
    stack: list[tuple[N, bool]] = [(root, False)]
    while stack:
        node, parents_are_ordered = stack.pop()
        if parents_are_ordered:
            order.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack.extend((p, False) for p in node._parents if p is not None and p.requires_grad)
    return order


def _pass_on(node: Node, gradient: Array, gradients: dict[int, Gradient]) -> None:
    """Add to `gradients`, for each parent of `node`, its share of the gradient of `node`.

    A backward function may return the array it got, even for several parents (a sum does). That is
    safe on the way, since nobody writes to a gradient; but a leaf keeps its own, which is copied.
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
    """Whether `array` is a view (strided, or broadcast and so read-only) or overlaps another."""
    is_view = not array.flags.c_contiguous or not getattr(array.flags, "writeable", True)
    same_device = [other for other in others if type(other) is type(array)]
    overlap = array_module(array).may_share_memory
    return is_view or any(overlap(array, other) for other in same_device)


def _checked(gradient: Gradient, op: str, parent: Node) -> Array:
    """The gradient as an array. Raises ValueError unless it has its parent's shape and dtype."""
    grad, data = gradient() if callable(gradient) else gradient, parent.data
    if grad.shape != data.shape or grad.dtype != data.dtype:
        raise ValueError(
            f"{op}: its backward gave a gradient of shape {grad.shape}, {grad.dtype}, "
            f"for an input of shape {data.shape}, {data.dtype}"
        )
    return grad
