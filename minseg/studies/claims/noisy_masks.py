"""Masks of the wrong image, against fewer masks that are all right."""

from functools import partial

from minseg.data import Dataset, Sample, Street
from minseg.data.dataset import random_stream
from minseg.models import UNet
from minseg.studies.study import Study
from minseg.studies.training import Held, fit, score

IMAGES, SIZE = 64, (48, 64)


def corrupted(dataset: Dataset, share: float, seed: int) -> Held:
    """A share of the samples, drawn by the seed, hand their masks round in a circle."""
    samples = [dataset[index] for index in range(len(dataset))]
    chosen = random_stream(seed).permutation(len(samples))[: round(share * len(samples))]
    for index, other in zip(chosen, [*chosen[1:], *chosen[:1]], strict=True):
        samples[index] = Sample(samples[index].image, dataset[int(other)].mask)
    return Held(samples, dataset)


def train(images: int, share: float, seed: int, steps: int) -> float:
    model = UNet(7, width=8, depth=3, norm="batch", dropout=0.0)
    data = corrupted(Street(images, SIZE, seed=2 * seed), share, seed)
    fit(model, data, seed, steps)
    return score(model, Street(60, SIZE, seed=2 * seed + 1)).confusion.mean_iou()


STUDY = Study(
    name="noisy-masks",
    claim="Many masks of which some are wrong teach more than half as many that are right",
    source="Rolnick, Veit, Belongie, Shavit 2017, arXiv:1705.10694, section 3 (of classifiers)",
    setting=f"drawn streets, 48x64, {IMAGES} images; a wrong mask is another image's; U-Net of "
    "width 8, 3 poolings",
    measure="mean IoU",
    trainings={
        "all clean": partial(train, IMAGES, 0.0),
        "10 % wrong": partial(train, IMAGES, 0.1),
        "30 % wrong": partial(train, IMAGES, 0.3),
        "half, clean": partial(train, IMAGES // 2, 0.0),
    },
    expect=(("10 % wrong", "half, clean"), ("30 % wrong", "half, clean")),
    steps=200,
)
