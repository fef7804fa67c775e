"""The tape, backwards: an autograd engine on a list of edges

A forward pass leaves a graph: number `users[e]` was computed from number `inputs[e]`, and slopes[e]
is how fast the first changes with the second. From the loss (whose own gradient is 1) go back along
all edges:

    grad[a] = sum over all edges e with inputs[e] = a of  slopes[e] * grad[users[e]]

Two things make this more than a loop. A number that is used twice gets *both* shares. And a number
may pass on its own gradient only when that is complete: when all of its users, direct and indirect,
have passed on theirs.

    y = x^2, z = x y:     edges y-x (slope 2 x), z-x (slope y), z-y (slope x)
    at x = 2, so y = 4:   grad[z] = 1,   grad[y] = 2 * 1,   grad[x] = 4 * 1 + 4 * 2 = 12 = 3 x^2

The numbers and the edges come in any order, with no loops among them. What the loss does not
depend on has the gradient 0; it may still use numbers that the loss does depend on.
"""

import numpy as np

from minseg import Tensor
from minseg.exercises.task import Case, Mutant, Slip, Task


def backward(
    loss: int, count: int, users: np.ndarray, inputs: np.ndarray, slopes: np.ndarray
) -> np.ndarray:
    """The gradient of number `loss` with respect to every number.

    count: how many numbers there are, 0 .. count - 1; users, inputs (E,) of ints, slopes (E,), one
    entry per edge -> grad (count,), of the slopes' dtype
    """
    edges_of = [np.flatnonzero(users == node) for node in range(count)]

    waiting_for = np.zeros(count, int)  # users on a path to the loss that have not passed on theirs
    seen, to_visit = {loss}, [loss]
    while to_visit:
        for a in inputs[edges_of[to_visit.pop()]]:
            waiting_for[a] += 1
            if a not in seen:
                seen.add(a)
                to_visit.append(a)

    grad = np.zeros(count, slopes.dtype)
    grad[loss] = 1
    ready = [loss]
    while ready:
        node = ready.pop()
        for e in edges_of[node]:
            a = inputs[e]
            grad[a] += slopes[e] * grad[node]
            waiting_for[a] -= 1
            if waiting_for[a] == 0:
                ready.append(a)
    return grad


def right(loss, count, users, inputs, slopes):
    """minseg's own tape: number n is the sum of its inputs, times the slopes."""
    tensors = {}

    def made(node):
        if node not in tensors:
            total = Tensor(np.zeros(()), requires_grad=True)
            leaf = total
            for e in np.flatnonzero(users == node):
                total = total + made(int(inputs[e])) * float(slopes[e])
            tensors[node] = total * 1.0
            leaves[node] = leaf
        return tensors[node]

    leaves = {}
    made(loss).backward()
    return np.array([leaves[n].grad.item() if n in leaves else 0.0 for n in range(count)])


def spread(order, add=True, edges=None):
    """A backward pass over the edges in some order, ready or not."""

    def answer(loss, count, users, inputs, slopes):
        grad = np.zeros(count)
        grad[loss] = 1
        for e in order(loss, users, inputs):
            share = slopes[e] * grad[users[e]]
            grad[inputs[e]] = grad[inputs[e]] + share if add else share
        return grad

    return answer


def as_listed(loss, users, inputs):
    return range(len(users))


def breadth_first(loss, users, inputs):
    """Each number hands on as soon as it is met."""
    seen, queue = {loss}, [loss]
    for node in queue:
        for e in np.flatnonzero(users == node):
            yield e
            if inputs[e] not in seen:
                seen.add(inputs[e])
                queue.append(inputs[e])


def in_order(loss, users, inputs):
    """The edges, every number after all of its users."""
    done, left = set(), list(range(len(users)))
    while left:
        ready = [e for e in left if not any(inputs[o] == users[e] for o in left)]
        yield from ready
        done.update(ready)
        left = [e for e in left if e not in done]


def dead_end_blocks(loss, count, users, inputs, slopes):
    """Waits for users that the loss does not depend on, and never hears from them."""
    waiting = np.bincount(inputs, minlength=count)
    grad, ready = np.zeros(count), [loss]
    grad[loss] = 1
    while ready:
        node = ready.pop()
        for e in np.flatnonzero(users == node):
            grad[inputs[e]] += slopes[e] * grad[node]
            waiting[inputs[e]] -= 1
            if not waiting[inputs[e]]:
                ready.append(inputs[e])
    return grad


def case(name, loss, count, edges):
    users, inputs, slopes = zip(*edges, strict=True) if edges else ((), (), ())
    return Case(
        name,
        {
            "loss": loss,
            "count": count,
            "users": np.array(users, int),
            "inputs": np.array(inputs, int),
            "slopes": np.array(slopes, float),
        },
    )


def shuffled(edges, count, seed):
    """The same graph with its numbers renamed and its edges in another order."""
    rng = np.random.default_rng(seed)
    names = rng.permutation(count)
    edges = [(names[user], names[used], slope) for user, used, slope in edges]
    return names, [edges[i] for i in rng.permutation(len(edges))]


def large(name, edges, count, seed):
    names, edges = shuffled(edges, count, seed)
    return case(name, int(names[0]), count, edges)


diamonds = [(n, n + step, 1.0) for n in range(0, 120, 3) for step in (1, 2)] + [
    (n + step, n + 3, 0.5) for n in range(0, 120, 3) for step in (1, 2)
]
TASK = Task(
    outputs=("grad",),
    reference=right,
    terms=100,
    cases=(
        case("a chain of three", 2, 3, [(2, 1, 3.0), (1, 0, 4.0)]),
        case("z = x y, y = x^2, at 3", 2, 3, [(1, 0, 6.0), (2, 0, 9.0), (2, 1, 3.0)]),
        case("a square: x times itself", 1, 2, [(1, 0, 5.0), (1, 0, 5.0)]),
        case("a long way and a short one", 0, 5,
             [(0, 4, 2.0), (0, 1, 3.0), (1, 2, 5.0), (2, 4, 7.0), (4, 3, 11.0)]),
        case("numbers in any order", 1, 5,
             [(4, 3, 2.0), (0, 3, 3.0), (1, 0, 5.0), (3, 2, 7.0), (0, 4, -1.0)]),
        case("number 3 uses 2, but the loss does not use 3", 1, 5,
             [(1, 0, 2.0), (0, 2, 5.0), (2, 4, 3.0), (3, 2, 7.0)]),
    ),
    edge_cases=(
        case("the loss alone", 0, 1, []),
        case("the loss is used further on", 1, 3, [(2, 1, 4.0), (1, 0, 3.0)]),
        large("40 diamonds in a row, a million million paths", diamonds, 121, 1),
        large("a chain of 101", [(n, n + 1, 1.0) for n in range(100)], 101, 2),
    ),
    hints=(
        "Count first, for every number, how many users it has among those that the loss depends "
        "on. Whenever one of them passes on its share, count down; at 0 the number is ready.",
        "Begin with the loss, ready, grad 1. Take a ready number u; for each edge e with users[e] "
        "= u: grad[inputs[e]] += slopes[e] * grad[u], and inputs[e] waits for one user fewer.",
        "Two loops over a list: `to_visit = [loss]` finds what the loss depends on and counts, "
        "waiting_for[a] += 1 for each edge; `ready = [loss]` passes gradients on, counts "
        "waiting_for[a] -= 1, and appends a when that is 0.",
    ),
    slips=(
        Slip("the last user wins", "A number that is used twice gets the share of one user alone: "
             "`=` where `+=` is needed?", spread(in_order, add=False)),
        Slip("handed on too early", "A number passes on its gradient before all of its users have "
             "given their shares: wait until the last one has.", spread(breadth_first)),
        Slip("edges as they come", "The answer is as if the edges were taken in the order of the "
             "list. That is right only if every number's users come before it.", spread(as_listed)),
        Slip("edges as they come", "The answer is as if the edges were taken from the last to the "
             "first. That is right only if every number's users happen to come before it.",
             spread(lambda loss, users, inputs: range(len(users) - 1, -1, -1))),
        Slip("waits in vain", "A number waits for a user that the loss does not depend on, and "
             "that never passes anything on. Count only users on a path to the loss.",
             dead_end_blocks),
        Slip("the loss has no gradient", "Everything is 0: the loss itself begins with the "
             "gradient 1.",
             lambda loss, count, users, inputs, slopes: np.zeros(count)),
        Slip("forgot the loss's own", "The gradient of the loss with respect to itself is 1.",
             lambda **given: right(**given) * (np.arange(given["count"]) != given["loss"])),
    ),
    mutants=(
        Mutant("the last user wins", "grad[a] += slopes[e]", "grad[a] = slopes[e]"),
        Mutant("handed on too early", "    ready = [loss]\n    while ready:\n"
               "        node = ready.pop()\n", "    ready, met = [loss], {loss}\n"
               "    for node in ready:\n"
               "        ready += [a for a in dict.fromkeys(inputs[edges_of[node]]) if a not in met]"
               "\n        met.update(ready)\n        waiting_for[:] = -1\n"),
        Mutant("edges as they come", "    ready = [loss]\n", "    for e in range(len(users)):\n"
               "        grad[inputs[e]] += slopes[e] * grad[users[e]]\n    return grad\n"
               "    ready = [loss]\n"),
        Mutant("waits in vain", "    seen, to_visit = {loss}, [loss]\n",
               "    waiting_for = np.bincount(inputs, minlength=count)\n"
               "    seen, to_visit = {loss}, []\n"),
        Mutant("the loss has no gradient", "    grad[loss] = 1\n", ""),
        Mutant("forgot the loss's own", "    return grad", "    grad[loss] = 0\n    return grad"),
        Mutant("dtype", "np.zeros(count, slopes.dtype)", "np.zeros(count)"),
    ),
)  # fmt: skip
