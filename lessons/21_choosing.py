# %% [markdown]
# # 21 · Choosing: all networks on one real data set, accuracy against cost
#
# Nineteen networks, each with a reason to be the best. Now all of them learn the same streets,
# CamVid, for the same six minutes of CPU time. **The question:** which one would you take? What
# makes a network slow? And would the first still be first if all ran once more?

# %%
import time

import numpy as np

import minseg
from minseg import Tensor, gradcheck, nn, no_grad, recipe
from minseg.config import configure
from minseg.lesson import AMBER, BLUE, ORANGE, SKY, start
from minseg.studies import networks
from minseg.summary import summary
from minseg.tensor import record

lesson = start()
rng = np.random.default_rng(lesson.seed)

# %% [markdown]
# ## Costs, by hand
#
# A convolution from 64 channels to 64. A *multiply-add* is a product that is added to a sum:
#
#                                    weights             multiply-adds              numbers written
#     3x3 on 120x160                 9 * 64^2 = 36,864   36,864 * 19,200 = 708 M    64 * 19,200
#     3x3 at stride 16, on 8x10                          36,864 *     80 = 2.9 M    64 *     80
#     depthwise 3x3, 1x1 on 120x160  576 + 4,096         4,672 * 19,200 = 90 M      128 * 19,200
#
# The first two have the same weights, but 240 times the work: *parameters* take disk space, not
# time. The last needs an eighth of the products, writes twice as much, and takes two calls instead
# of one.

# %%
full = nn.Conv2d(64, 64, 3, padding=1, bias=False)
depthwise = nn.Conv2d(64, 64, 3, padding=1, groups=64, bias=False)
apart = nn.Sequential(depthwise, nn.Conv2d(64, 64, 1, bias=False))


def counts(model: nn.Module, size: tuple[int, ...]) -> tuple[int, int, int]:
    """Multiply-adds, numbers written, layers called, for an image (C, H, W)."""
    layers = summary(model, size).layers
    written = sum(int(np.prod(layer.output_shape)) for layer in layers)
    return sum(layer.multiply_adds for layer in layers), written, len(layers)


assert counts(full, (64, 120, 160)) == (36_864 * 19_200, 64 * 19_200, 1)
assert counts(full, (64, 8, 10)) == (36_864 * 80, 64 * 80, 1)
assert counts(apart, (64, 120, 160)) == (4_672 * 19_200, 128 * 19_200, 2)

# %% [markdown]
# ## Better in what? The front
#
# One network is faster, another more accurate: either may be the right choice. But a network that
# is slower *and* less accurate is out: another *dominates* it. What is left is the *Pareto front*.
# It takes n^2 comparisons; or sort by time, and keep those that beat all faster ones.


# %%
def front_loops(seconds: np.ndarray, score: np.ndarray) -> set[int]:
    n = range(len(seconds))
    return {i for i in n if not any(seconds[j] < seconds[i] and score[j] > score[i] for j in n)}


def front(seconds: np.ndarray, score: np.ndarray) -> np.ndarray:
    """The indices of the front, the quickest first. (No two times, no two scores are equal.)"""
    order = np.argsort(seconds)
    best_before = np.maximum.accumulate(np.r_[-np.inf, score[order]])[:-1]
    return order[score[order] > best_before]


for _ in range(20):
    some = rng.random((2, 30))
    assert set(front(*some)) == front_loops(*some)

# %% [markdown]
# ## What has been measured
#
# `minseg study networks --record` (over an hour) trained all at 160x120 with `minseg train`'s
# defaults: narrow networks, from scratch. Scores are on CamVid's validation images at 480x360; the
# last two columns are images per second, on the machine that trained.

# %%
rows = networks.recorded()["camvid"]
print(networks.markdown(rows))
ranked = sorted(rows, key=lambda row: -row.miou)
miou = np.array([row.miou for row in ranked])
seconds = np.array([1 / row.prediction_rate for row in ranked])
best = front(seconds, miou)
print("on the front, the fastest first:", *(ranked[i].network for i in best))

# %% [markdown]
# ## Where does the time go?
#
# Assume a cost per multiply-add, per number written and per layer: t = a M + b N + c L. With a row
# A_i = (M, N, L) for each network and w = (a, b, c), the squared relative error is
#
#     E(w) = sum_i (A_i . w / t_i - 1)^2       dE/dw = 2 sum_i (A_i . w / t_i - 1) A_i / t_i
#
# Where E is least, its gradient is 0: a linear system. Least squares needs no training.


# %%
def slope(w: np.ndarray, share: np.ndarray) -> np.ndarray:
    """dE/dw, for share = A / t, (n, 3)."""
    return 2 * share.T @ (share @ w - 1)


def error(w: Tensor, share: np.ndarray) -> Tensor:
    value = ((share @ w.data - 1) ** 2).sum()
    return record("error", value, (w,), lambda g: (g * slope(w.data, share),))


def fit(costs: np.ndarray, t: np.ndarray) -> np.ndarray:
    return np.linalg.lstsq(costs / t[:, None], np.ones(len(t)), rcond=None)[0]


share = rng.random((7, 3))
assert gradcheck(lambda w: error(w, share), (Tensor(rng.random(3), requires_grad=True),))
assert np.allclose(slope(fit(share, np.ones(7)), share), 0)

# %% [markdown]
# Now all networks, on one core of this machine, in CPU time, which does not count other programs.


# %%
def measured(name: str) -> tuple[float, ...]:
    """Its counts for an image of 160x120, and the seconds of a prediction."""
    model = recipe.build_model(configure(name, "camvid"), num_classes=11, channels=3).eval()
    image = Tensor(rng.standard_normal((1, 3, *networks.SIZE), dtype=np.float32))
    times = []
    with no_grad():
        for _ in range(2 if lesson.fast else 6):
            begun = time.process_time()
            model(image)
            times.append(time.process_time() - begun)
    return *counts(model, (3, *networks.SIZE)), min(times)


minseg.set_num_threads(1)
table = np.array([measured(name) for name in networks.NETWORKS[:: 3 if lesson.fast else 1]])
costs, t = table[:, :3], table[:, 3]


def predicted(terms: slice) -> np.ndarray:
    """Each network's time, from a fit to all *others*: data that were fitted are no test."""
    others = ~np.eye(len(t), dtype=bool)
    return np.array([costs[i, terms] @ fit(costs[o][:, terms], t[o]) for i, o in enumerate(others)])


def off(guess: np.ndarray) -> float:
    """The factor by which the worst guess is wrong."""
    return float(np.exp(abs(np.log(guess / t)).max()))


one, three = predicted(slice(1)), predicted(slice(3))
a, b, c = fit(costs, t)
print(f"a: {1e12 * a:.1f} ms per 10^9 multiply-adds, b: {1e9 * b:.2f} ms per million numbers, "
      f"c: {1e3 * c:.2f} ms per layer")  # fmt: skip
print(f"time by multiply-adds alone: off by {off(one):.1f} at worst; by all three {off(three):.2f}")

# %% [markdown]
# ## Would the first be first again?
#
# Each network ran once, with one seed. How much of its score is luck? The study of ASPP trained
# small networks on CamVid with five seeds each; their scores have a standard deviation s. The
# difference of two runs then has sqrt(2) s; less than twice that says little. Worse: suppose all
# nineteen were *equally* good. We would pick the luckiest, 1.8 s ahead of their mean: the *winner's
# curse*. This is why a network that was chosen on some images is scored on others.

# %%
study = lesson.study("aspp")
luck = float(np.sqrt(np.mean([study.spread(arm) ** 2 for arm in study.scores])))
visible = 2 * np.sqrt(2) * luck
pairs = abs(miou[:, None] - miou)[np.triu_indices(len(miou), 1)]
curse = rng.normal(0, luck, (10000, len(miou))).max(axis=1).mean()
level = [row for row in ranked if row.miou > miou[0] - visible]
choice = max(level, key=lambda row: row.prediction_rate)
print(f"luck: {luck:.3f}; of {len(pairs)} pairs, {np.mean(pairs > visible):.0%} are further apart "
      f"than {visible:.3f}; the luckiest of equals is {curse:.3f} ahead")  # fmt: skip
print("not distinguishable from the first:", *(row.network for row in level),
      "; the fastest of these:", choice.network)  # fmt: skip

# %%
figure = lesson.figure(15, 6.6)
ranking, cost, guess = figure.subplots(1, 3, width_ratios=[1, 1.1, 1])
colours = np.full(len(ranked), SKY)
colours[best] = BLUE
ranking.barh([row.network for row in ranked], miou, color=colours, xerr=luck, ecolor="0.4")
ranking.axvline(miou[0] - visible, color=ORANGE, linestyle="--", linewidth=1.5)
ranking.set(xlabel="mean IoU", ylim=(len(ranked) - 0.4, -0.6), title="one run; whiskers: luck")
ranking.tick_params(axis="y", labelsize=11)
cost.scatter(1e3 * seconds, miou, s=70, color=colours, zorder=2)
cost.step(1e3 * seconds[best], miou[best], where="post", color=BLUE, zorder=1)
cost.set(xlabel="ms per image, when recorded", ylabel="mean IoU", title="dark: the Pareto front")
guess.plot(1e3 * t, 1e3 * one, "o", color=AMBER, label="multiply-adds")
guess.plot(1e3 * t, 1e3 * three, "o", color=BLUE, label="multiply-adds, maps, layers")
guess.plot([0, 1e3 * t.max()], [0, 1e3 * t.max()], color="0.5", linewidth=1)
guess.set(xlabel="ms per image, measured here", ylabel="ms, predicted from the others by")
guess.legend(loc="upper left")
lesson.save(figure, "21_choosing")

# %% [markdown]
# ## What goes wrong
#
# **Parameters taken for cost**, because every table lists them. **Equal steps** instead of equal
# time: expensive steps then seem free. **A cost at another size**: three times the height and width
# are nine times the work for a convolution, but more for attention, which compares pairs of places.

# %%
for name in ("fcn8s", "segformer_b0"):
    model = recipe.build_model(configure(name, "camvid"), num_classes=11, channels=3)
    grows = counts(model, (3, 288, 384))[0] / counts(model, (3, 96, 128))[0]
    print(f"{name}: on 9 times the pixels, {grows:.1f} times the multiply-adds")
    assert (grows > 9.5) == (name == "segformer_b0")
fewest, most = (f(row.steps for row in rows) for f in (min, max))
print(f"steps within the same time: {fewest} to {most}")
assert most > 1.5 * fewest

# %%
print(f"the claim: {len(best)} of {len(rows)} are on the front; multiply-adds alone miss a time "
      f"by a factor of {off(one):.1f}, with maps and layers {off(three):.2f}")  # fmt: skip
assert len(best) < len(rows) / 2
assert 1.7 * luck < curse < 2 * luck
if not lesson.fast:  # five runs, quiet and busy: 4.7 to 5.8, and 1.36 to 1.61
    assert off(three) < 2 < off(one) / off(three), (off(three), off(one))

# %% [markdown]
# ## Now change this
#
# 1. The front of boundary IoU instead of mean IoU, or of training time instead of prediction time.
# 2. Measure on all cores, by the clock (perf_counter). Which of a, b, c shrinks most, which least?
# 3. `minseg train --model NAME --data camvid --seed 1 --minutes 6`, for the first two. Which leads?
#
# **The exercise:** `minseg exercise next`: one that is still open.
#
# ## Check yourself
#
# 1. A network is on the front of (time, mIoU). Can another have a better mIoU in less time?
# 2. c is the time of a layer that does nothing. How would a, b and c change on a GPU?
#
# ## Answers
#
# 1. No, by definition. But on the front of (memory, boundary IoU) there may be others.
# 2. a and b shrink a lot; a launch still takes microseconds, so many small layers cost most.
