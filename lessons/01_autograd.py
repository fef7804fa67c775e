# %% [markdown]
# # 01 · An autograd engine in 60 lines
#
# Training measures the errors of a network by one number, the *loss*, and asks of every weight: if
# it grew a little, how would the loss change? One could try it out, weight by weight. **The
# question:** how do we get the slopes (the *gradient*) for millions of weights from a single run?

# %%
import timeit

import numpy as np

from minseg import Tensor, viz
from minseg.data import Street
from minseg.lesson import BLUE, ORANGE, start
from minseg.metrics import ConfusionMatrix

lesson = start()
rng = np.random.default_rng(lesson.seed)

# %% [markdown]
# ## Slopes, by hand
#
# Take L = s * s + a with s = a * b, at a = 2, b = 3. So s = 6, q = s * s = 36, L = q + a = 38.
# Begin at the end: the slope of L with respect to itself is 1. Each step back multiplies by that
# step's own slope (the *chain rule*), and where several paths lead back to a node, they add up:
#
#     dL/ds = 1 * 6 + 1 * 6 = 12     s is used twice: as left and as right factor of s * s
#     dL/da = 12 * 3 + 1    = 37     a is used twice: in s, and in the sum
#     dL/db = 12 * 2        = 24
#
# So a result must remember what it was made from, and how the slope g with respect to it becomes
# slopes with respect to its parents. That record is the *tape*.


# %%
class Number:
    def __init__(self, data, parents: tuple = (), back=lambda g: ()) -> None:
        self.data, self.parents, self.back, self.grad = data, parents, back, 0.0

    def __add__(self, other):
        return type(self)(self.data + other.data, (self, other), lambda g: (g, g))

    def __mul__(self, other):
        a, b = self.data, other.data
        return type(self)(a * b, (self, other), lambda g: (g * b, g * a))


def along_every_path(node: Number, g: float = 1.0) -> int:
    node.grad += g
    return 1 + sum(map(along_every_path, node.parents, node.back(g)))  # how many nodes it met


a, b = Number(2.0), Number(3.0)
s = a * b
along_every_path(s * s + a)
assert (a.grad, b.grad, s.grad) == (37, 24, 12)

# %% [markdown]
# ## Each node once
#
# Square a number 12 times, and 2 ** 12 paths lead back to it. But a node needs to pass on only the
# *sum* of what reaches it. So order the nodes such that each stands after all that it was made from
# (a *topological* order), and walk from the end: a node's users all come before it.


# %%
def in_order(root: Number) -> list[Number]:
    order, seen, stack = [], set(), [(root, False)]
    while stack:  # a list, not recursion: a tape may be longer than Python's recursion limit
        node, parents_stand = stack.pop()
        if parents_stand:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack += [(node, True), *((parent, False) for parent in node.parents)]
    return order


y = x = Number(1.0001)
for _ in range(12):
    y = y * y  # in the end x ** 4096
paths, nodes = along_every_path(y), len(in_order(y))
print(f"squared 12 times: {paths} nodes along all paths, {nodes} when each is met once")
assert (paths, nodes) == (2**13 - 1, 13)

# %% [markdown]
# ## Arrays
#
# With arrays, one node is a whole layer. + and * stay as they are, and g has the result's shape.
#
#     y = a @ b         a[i, k] enters y[i, j] with the factor b[k, j]: its slope is the sum over j
#                       of g[i, j] b[k, j], which is g @ b.T; likewise a.T @ g for b
#     y = sum of a      every element has slope 1: repeat g
#     y = a repeated    every copy counts: sum g. NumPy repeats unasked (*broadcasting*):
#     x (5, 3) @ w (3, 4) + bias (4,)  ->  y (5, 4)       dL/dw = x.T @ g           (3, 4)
#     all 5 rows use the same bias                        dL/dbias = g.sum(axis=0)  (4,)


# %%
class Value(Number):
    def __matmul__(self, other: "Value") -> "Value":
        a, b = self.data, other.data
        return Value(a @ b, (self, other), lambda g: (g @ b.T, a.T @ g))

    def exp(self) -> "Value":
        return Value(np.exp(self.data), (self,), lambda g: (g * np.exp(self.data),))

    def log(self) -> "Value":
        return Value(np.log(self.data), (self,), lambda g: (g / self.data,))

    def clamp(self, min: float) -> "Value":  # clamp(0) is ReLU
        return Value(self.data.clip(min), (self,), lambda g: (g * (self.data >= min),))

    def sum(self, dim: tuple[int, ...]) -> "Value":
        like = np.ones_like(self.data)
        return Value(self.data.sum(dim), (self,), lambda g: (np.expand_dims(g, dim) * like,))

    def backward(self) -> None:
        grads = {self: np.ones_like(self.data)}
        for node in reversed(in_order(self)):
            g = grads.pop(node)
            node.grad = node.grad + g
            for parent, part in zip(node.parents, node.back(g), strict=True):
                shape = np.shape(parent.data)  # undo broadcasting: new axes in front, sizes of 1
                part = part.sum(axis=tuple(range(part.ndim - len(shape))))
                part = part.sum(axis=tuple(np.flatnonzero(np.equal(shape, 1))), keepdims=True)
                grads[parent] = grads[parent] + part if parent in grads else part


# %% [markdown]
# ## The same slopes, three times
#
# One hidden layer; the loss is *cross-entropy*: log(sum of exp(scores)) - the true class's score.
# `kind` is our `Value`, or minseg's `Tensor`. The third way tries it out: two runs for each weight.


# %%
def loss_of(kind, weights: list, x: np.ndarray, one_hot: np.ndarray):
    w1, b1, w2, b2 = weights
    scores = (kind(x) @ w1 + b1).clamp(min=0) @ w2 + b2  # (n, D) -> (n, hidden) -> (n, K)
    logs, share = scores.exp().sum(dim=(1,)).log(), kind(np.array(1 / len(x)))  # (n,), ()
    return (logs.sum(dim=(0,)) + (scores * kind(-one_hot)).sum(dim=(0, 1))) * share


def slopes(kind, arrays: list[np.ndarray], *data: np.ndarray) -> list[np.ndarray]:
    weights = [Tensor(a, requires_grad=True) if kind is Tensor else kind(a) for a in arrays]
    loss_of(kind, weights, *data).backward()
    return [np.asarray(w.grad) for w in weights]


def tried_out(arrays: list[np.ndarray], *data: np.ndarray, eps: float = 1e-6) -> list[np.ndarray]:
    results = [np.empty_like(a) for a in arrays]
    for a, result in zip(arrays, results, strict=True):
        for i in np.ndindex(a.shape):
            kept, losses = a[i], []
            for a[i] in (kept + eps, kept - eps):
                losses.append(loss_of(Value, [Value(w) for w in arrays], *data).data)
            a[i], result[i] = kept, (losses[0] - losses[1]) / (2 * eps)
    return results


small = [rng.normal(0, 0.2, shape) for shape in ((3, 6), 6, (6, 4), 4)]
data = rng.standard_normal((5, 3)), np.eye(4)[[0, 3, 1, 2, 1]]
ours, minsegs = (slopes(kind, small, *data) for kind in (Value, Tensor))
for own, other, tried in zip(ours, minsegs, tried_out(small, *data), strict=True):
    assert np.allclose(own, other, rtol=0, atol=1e-14)  # sums of at most 6 products
    assert np.allclose(own, tried, rtol=0, atol=1e-8)  # 1e-16 / eps, and room

# %% [markdown]
# ## The experiment
#
# Going back, each matrix product takes two more. So the tape multiplies as much as *three* forward
# runs, however many weights there are; here 1999, of a segmenter that turns the colours of the 5x5
# pixels around each pixel into 24 hidden values, and these into the scores of 7 classes.

# %%
count, steps = (6, 40) if lesson.fast else (30, 1500)
scenes = list(Street(2 * count, (48, 64), seed=lesson.seed, light="day"))
images = np.stack([np.pad(s.image, ((2, 2), (2, 2), (0, 0)), "edge") for s in scenes])
windows = np.lib.stride_tricks.sliding_window_view(images, (5, 5), axis=(1, 2))
numbers = 2.0 * windows.reshape(2, -1, 75) - 1  # half of the scenes to learn from, half to test on
masks = np.stack([s.mask for s in scenes]).reshape(2, count, 48, 64)
x, one_hot = numbers[0], np.eye(7)[masks[0].reshape(-1)]
weights = [rng.normal(0, 0.2, shape) for shape in ((75, 24), 24, (24, 7), 7)]
job = weights, x[::997], one_hot[::997]
by_trying = timeit.timeit(lambda: tried_out(*job), number=1)
by_tape = min(timeit.repeat(lambda: slopes(Value, *job), number=1, repeat=9))
for step in range(steps):
    batch = rng.integers(len(x), size=512)
    down = slopes(Value, weights, x[batch], one_hot[batch])
    for weight, slope in zip(weights, down, strict=True):
        weight -= 0.3 * (1 - step / steps) * slope

w1, b1, w2, b2 = weights
predicted = ((numbers[1] @ w1 + b1).clip(0) @ w2 + b2).argmax(axis=1).reshape(count, 48, 64)
score = ConfusionMatrix(Street.classes)
score.update(predicted, masks[1])
iou, faster = score.mean_iou(), by_trying / by_tape
print(f"{sum(w.size for w in weights)} slopes: {faster:,.0f} times as fast by the tape")
print(f"the segmenter: mean IoU {iou:.3f}, {score.pixel_accuracy():.1%} of the pixels right")
assert faster > 50, faster
assert lesson.fast or iou > 0.5, iou

figure = lesson.figure(12, 3.2)
*axes, chart = figure.subplots(1, 4, width_ratios=[1, 1, 1, 1.2])
labels = [viz.colourise(m[0], viz.OKABE_ITO) for m in (masks[1], predicted)]
shown = [viz.rgb(scenes[count].image), *labels]
for axis, title, picture in zip(axes, ["image", "truth", "by our engine"], shown, strict=True):
    axis.imshow(picture)
    axis.set(title=title, xticks=[], yticks=[])
for name, colour in zip(Street.classes, viz.OKABE_ITO / 255, strict=False):
    axes[1].plot([], [], "s", color=colour, label=name)
figure.legend(loc="outside lower center", ncols=7)
bars = chart.barh(["the tape", "trying out"], [by_tape, by_trying], color=[BLUE, ORANGE])
chart.bar_label(bars, [f" {t:.2g} s" for t in (by_tape, by_trying)])
chart.set(xscale="log", xlim=(1e-5, 1e3), xlabel="seconds for all slopes")
lesson.save(figure, "01_autograd")

# %% [markdown]
# ## What goes wrong
#
# **Old slopes kept**: those of the weights add up over calls, so reset them before each step.
# **Broadcasting not undone**: a bias takes on the shape of the batch.

# %%
x = Value(np.array(3.0))
for _ in range(2):
    (x * x).backward()
print(f"kept: the slope of x * x at 3 is 6, but after two calls grad is {x.grad:g}")
assert x.grad == 12
print(f"not undone: after a step, a bias (4,) is {(np.zeros(4) - np.ones((5, 4))).shape}")

# %% [markdown]
# ## Now change this
#
# 1. Give `Value` a `requires_grad`, and skip slopes that nobody needs. What did x's slope cost?
# 2. Let the last line of `backward` forget what was there (`= part`): which assert above notices?
#
# **The exercise:** `minseg exercise check backward`, and the four before it: write this engine.
#
# ## Check yourself
#
# 1. y = x + x: what does `in_order` return, and what would `grads[parent] = part` give?
# 2. Why does `backward` need the results of the forward run, and what does that cost?
#
# ## Answers
#
# 1. [x, y]. y adds 1 to x's slope twice, which gives 2. Overwritten, it would be 1.
# 2. The slopes of a product are its factors: the results of all layers stay in memory until then.
