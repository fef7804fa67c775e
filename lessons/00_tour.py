# %% [markdown]
# # 00 · A tour: three ways to read one street
#
# An image is a grid of numbers. A segmentation network gives every pixel a meaning, and there are
# three kinds of segmentation. *Semantic*: what is here? *Instance*: which object is it? *Panoptic*:
# both, for every pixel. **The question:** if a network answered the first of these without a single
# mistake, would it know how many cars there are?
#
# You need NumPy. Run it as `python lessons/00_tour.py`, or cell by cell; nothing is trained here.

# %%
import numpy as np
from matplotlib.patches import Patch

from minseg import Tensor, viz
from minseg.data import Street
from minseg.lesson import start
from minseg.metrics import ConfusionMatrix
from minseg.models import build

lesson = start()
count = 8 if lesson.fast else 30
data = Street(2 * count, (96, 128), seed=lesson.seed)
train, test = [data[i] for i in range(count)], [data[i] for i in range(count, 2 * count)]
CAR, PEDESTRIAN = (data.classes.index(name) for name in data.things)

# %% [markdown]
# ## Shapes, by hand
#
# A scene from our drawn street holds three arrays:
#
#     image      (H, W, 3)  numbers in 0..1: red, green, blue
#     mask       (H, W)     the class of each pixel: 0 sky, 1 building, ... 6 pedestrian
#     instances  (H, W)     the object of each pixel: 1, 2, 3, ...; 0 where nothing can be counted
#
# Cars and pedestrians can be counted: *things*. Sky and road cannot: *stuff*. A network does not
# name a class; it gives each of the K classes a score (a *logit*); the highest wins. For two
# pixels:
#
#     scores   sky   road   car        argmax over the classes
#     left     0.1    2.0   0.3        1, road
#     right   -1.0    0.5   0.9        2, car
#
#     images (N, 3, H, W)  ->  network  ->  scores (N, K, H, W)  ->  argmax  ->  labels (N, H, W)

# %%
scene = test[0]
batch = scene.image.transpose(2, 0, 1)[None]  # (1, 3, H, W)
network = build("unet", len(data.classes), width=4, depth=2).eval().to(lesson.device)
scores = network(Tensor(batch).to(lesson.device)).numpy()
print(f"image {batch.shape} -> scores {scores.shape} -> labels {scores.argmax(axis=1).shape}")
assert scores.shape == (1, len(data.classes), *scene.mask.shape)

# %% [markdown]
# ## Semantic: what is here?
#
# To judge a prediction against the true mask (the *ground truth*), count how often each true class
# was taken for each class. This is the *confusion matrix*: true classes down, predicted ones
# across, right pixels on its diagonal. It gives the *pixel accuracy*, the share of right pixels,
# and the *intersection over union* (IoU) of a class: its pixels in both masks, over those in at
# least one.
#
# First in loops; then in one step: write each pair (true, predicted) as the one number true * K +
# predicted, and let `bincount` count the numbers. minseg's metric must agree with both.


# %%
def confusion_loops(predicted: np.ndarray, true: np.ndarray, K: int) -> np.ndarray:
    table = np.zeros((K, K), int)
    for pixel in np.ndindex(true.shape):
        table[true[pixel], predicted[pixel]] += 1
    return table


def confusion(predicted: np.ndarray, true: np.ndarray, K: int) -> np.ndarray:
    return np.bincount((true * K + predicted).ravel(), minlength=K * K).reshape(K, K)


# A prediction that never looks at the image: at each place, the class most often seen there before.
K = len(data.classes)
seen = np.stack([[sample.mask == label for sample in train] for label in range(K)]).sum(axis=1)
blind = seen.argmax(axis=0)  # (K, H, W) -> (H, W)
library = ConfusionMatrix(data.classes)
library.update(blind, scene.mask)
assert (confusion_loops(blind, scene.mask, K) == confusion(blind, scene.mask, K)).all()
assert (confusion(blind, scene.mask, K) == library.matrix).all()

# %% [markdown]
# ## Instance: which object is it?
#
# The obvious way from classes to objects: pixels of a class that touch are one object. From each
# pixel that has no number yet, walk to all pixels of the class that can be reached.


# %%
def blobs(member: np.ndarray) -> np.ndarray:
    """Number the connected pieces of an (H, W) mask 1, 2, ...; 0 is outside."""
    number, pieces = np.zeros(member.shape, int), 0
    for first in zip(*np.nonzero(member), strict=True):
        pieces += number[first] == 0
        walk = [first] if number[first] == 0 else []
        while walk:
            r, c = walk.pop()
            inside = 0 <= r < member.shape[0] and 0 <= c < member.shape[1]
            if inside and member[r, c] and number[r, c] == 0:
                number[r, c] = pieces
                walk += [(r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)]
    return number


hand = np.array([[1, 1, 0, 0], [0, 0, 0, 1], [1, 0, 1, 1]])
assert (blobs(hand) == [[1, 1, 0, 0], [0, 0, 0, 2], [3, 0, 2, 2]]).all()  # corners do not touch

# %% [markdown]
# ## Panoptic: both, for every pixel
#
# One number holds both answers: class * 1000 + object (Cityscapes stores its things in this way).
#
# To judge objects, pair them: a predicted and a true one match if their IoU exceeds 1/2 (so each
# has at most one partner). *Panoptic quality* (PQ) adds up the IoU of the pairs and divides by the
# mean of the two numbers of objects, predicted and true:
#
#     PQ = sum of IoU over pairs / ((predicted + true) / 2)      Kirillov et al., CVPR 2019, eq. 1
#
# By hand: two equal cars that touch are one blob. Its IoU with each is 1/2: no match, and PQ is 0,
# though every pixel has the right class.

# %%
panoptic = scene.mask * 1000 + scene.instances
assert (panoptic // 1000 == scene.mask).all()
assert (panoptic % 1000 == scene.instances).all()


def objects(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """(sum of the IoU of matching objects, number of predicted, number of true ones)."""
    found = [np.unique(numbers[numbers > 0]) for numbers in (predicted, true)]
    pairs = [(predicted == p, true == t) for p in found[0] for t in found[1]]
    ious = np.array([(p & t).sum() / (p | t).sum() for p, t in pairs])
    return np.array([ious[ious > 0.5].sum(), len(found[0]), len(found[1])])


assert (objects(np.array([1, 1, 1, 1]), np.array([1, 1, 2, 2])) == [0, 1, 2]).all()

# %% [markdown]
# ## The experiment
#
# On scenes not used so far, judge the blind prediction, and the *perfect* semantic mask, with its
# blobs taken for objects: what a network that makes no mistake in any pixel would give.

# %%
blind_score, perfect_score = ConfusionMatrix(data.classes), ConfusionMatrix(data.classes)
totals = {CAR: np.zeros(3), PEDESTRIAN: np.zeros(3)}
for sample in test:
    blind_score.update(blind, sample.mask)
    perfect_score.update(sample.mask, sample.mask)
    for label in totals:
        member = sample.mask == label
        totals[label] += objects(blobs(member), np.where(member, sample.instances, 0))
pq = {label: 2 * iou / (predicted + true) for label, (iou, predicted, true) in totals.items()}
print(f"blind: {blind_score.pixel_accuracy():.1%} of the pixels right, {blind_score.iou()}")
print(f"       but IoU of pedestrians {blind_score.iou()['pedestrian']:.3f}")
print(f"perfect semantic map: {perfect_score.iou()}")
for label, (_, predicted, true) in totals.items():
    print(f"  {data.classes[label]}: {predicted:.0f} blobs, {true:.0f} true, PQ {pq[label]:.2f}")

# %%
# The scene where the blobs miss most, in colours that every reader can tell apart.
missed = [len(np.unique(s.instances[s.mask == CAR])) - blobs(s.mask == CAR).max() for s in test]
scene = test[int(np.argmax(missed))]
palette = np.array([[86, 180, 233], [190, 190, 190], [90, 90, 90], [240, 228, 66], [0, 158, 115],
                    [0, 114, 178], [213, 94, 0]], np.uint8)  # fmt: skip
several = viz.OKABE_ITO[[1, 5, 4, 7, 2, 6, 3]]


def draw_objects(numbers: np.ndarray) -> np.ndarray:
    picture = viz.overlay(scene.image, np.where(numbers > 0, numbers % 7, 255), several, 0.8)
    picture[viz.outlines(numbers)] = 255
    return picture


cars = scene.mask == CAR
meaning = viz.colourise(scene.mask, palette)
both = meaning.copy()
both[viz.outlines(scene.mask * 1000 + scene.instances)] = 255
true_cars = np.where(cars, scene.instances, 0)
figure = lesson.figure(12, 7.2)
axes = figure.subplots(2, 3)
for axis, (title, picture) in zip(axes.flat, {
    "the image": viz.rgb(scene.image),
    "semantic: what is here?": meaning,
    "instance: which object?": draw_objects(scene.instances),
    "panoptic: both, everywhere": both,
    f"the {len(np.unique(true_cars)) - 1} cars": draw_objects(true_cars),
    f"as {blobs(cars).max()} blobs of the semantic map": draw_objects(blobs(cars)),
}.items(), strict=True):  # fmt: skip
    axis.imshow(picture)
    axis.set_title(title)
    axis.set_axis_off()
swatches = [Patch(color=colour / 255) for colour in palette]
figure.legend(swatches, data.classes, loc="outside lower center", ncols=K, columnspacing=1.2)
lesson.save(figure, "00_tour")

# %% [markdown]
# ## What goes wrong
#
# **Trusting pixel accuracy**: the blind prediction gets most pixels right and finds no pedestrian.
# **Treating labels as numbers**: shrink a mask by averaging, as one does an image, and between sky
# (0) and road (2) a building (1) appears. To shrink a mask, pick pixels (*nearest neighbour*).

# %%
h, w = (n // 2 for n in scene.mask.shape)
quarters = scene.mask.reshape(h, 2, w, 2).swapaxes(1, 2).reshape(h, w, 4)  # 2x2 pixels each
averaged, picked = quarters.mean(axis=2).round().astype(int), quarters[:, :, 0]
for name, small in [("averaged", averaged), ("picked", picked)]:
    invented = (small[:, :, None] != quarters).all(axis=2).sum()
    print(f"{name:8}: {invented} of {small.size} pixels have a class that none of their four had")

# %% [markdown]
# ## The claim
#
# No: a perfect semantic map knows every pixel and still cannot count. Objects must be predicted.
# (Objects that are hidden but for a few pixels count as well. Without those under 20 pixels the PQ
# of cars rises from 0.48 to 0.66: better, and still far from 1.)

# %%
assert perfect_score.mean_iou() == 1
assert max(pq.values()) < 0.85, pq
assert totals[CAR][1] < 0.85 * totals[CAR][2], totals
assert blind_score.pixel_accuracy() > 0.6
assert blind_score.iou()["pedestrian"] < 0.05

# %% [markdown]
# ## Now change this
#
# 1. Let `blobs` walk across corners, too. Does PQ rise or fall? Look at which objects merge.
# 2. Drop blobs of fewer than 5 pixels. For which class does that help?
# 3. Make the images 48x64 (`Street(..., (48, 64))`): what happens to the pedestrians?
#
# **The exercise:** write `confusion` so that pixels with the true label 255 ("void": nobody knows
# their class) are not counted; then run `minseg exercise check iou`.
#
# ## Check yourself
#
# 1. A network for 21 classes gets 8 images of 240x320: what shape are its scores, and its labels?
# 2. Why does PQ have to pair objects at all? Would it not do to compare their numbers?
#
# ## Answers
#
# 1. (8, 21, 240, 320) and (8, 240, 320): the classes are the axis that argmax removes.
# 2. Two cars as one blob and one car torn in two: the number is right, the three objects are wrong.
