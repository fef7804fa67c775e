"""What the studies share: how their networks are trained and scored, and their real images."""

from collections.abc import Callable, Iterator
from functools import cache
from itertools import count
from typing import Any

import minseg.functional as F
from minseg import nn, optim, recipe
from minseg.data import (
    IGNORE_INDEX,
    Batch,
    Cached,
    Compose,
    DataLoader,
    Dataset,
    Flip,
    Normalize,
    Sample,
    open_dataset,
)
from minseg.data.transforms import Transform, crop
from minseg.evaluate import Evaluation, evaluate
from minseg.tensor import Tensor

Loss = Callable[[Any, Tensor], Tensor]  # of what the network returns, and the masks (N, H, W)

COLOURS = Normalize()
GREYS = Normalize((0.5,), (0.25,))
MIRRORED = Compose([COLOURS, Flip()])


def cross_entropy(logits: Tensor, masks: Tensor) -> Tensor:
    return F.cross_entropy(logits, masks, ignore_index=IGNORE_INDEX)


def fit(
    model: nn.Module,
    dataset: Dataset,
    seed: int,
    steps: int,
    transform: Transform = MIRRORED,
    batch_size: int = 8,
    lr: float = 5e-3,
    loss: Loss = cross_entropy,
) -> None:
    """Train for `steps` batches: AdamW, a one-cycle schedule. The batches depend on the seed."""
    loader = DataLoader(
        dataset, batch_size, shuffle=True, seed=seed, transform=transform, workers=0,
        drop_last=True,
    )  # fmt: skip
    optimizer = optim.AdamW(model.train().parameters(), lr=lr)
    for step, batch in zip(range(steps), _endless(loader), strict=False):
        for group in optimizer.param_groups:
            group["lr"] = lr * recipe.schedule("onecycle", step / steps)
        value = loss(model(Tensor(batch.images)), Tensor(batch.masks))
        optimizer.zero_grad()
        value.backward()
        optim.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()


def _endless(loader: DataLoader) -> Iterator[Batch]:
    for epoch in count():
        yield from loader.epoch(epoch)


def score(
    model: nn.Module, dataset: Dataset, normalise: Transform = COLOURS, boundaries: bool = False
) -> Evaluation:
    return evaluate(model, dataset, normalise, boundaries=boundaries)


def boundary_iou(model: nn.Module, dataset: Dataset) -> float:
    """The mean over the classes, within 2 % of the diagonal of an outline."""
    found = score(model, dataset, boundaries=True).boundary_iou
    assert found is not None
    return found.mean


@cache
def camvid(split: str) -> Dataset:
    """CamVid at 120x160, images and labels. Raises FileNotFoundError that says where to get it."""
    return Cached(open_dataset("camvid", split, size=(120, 160)))


def street(split: str, seed: int, images: int, size: tuple[int, int]) -> Dataset:
    """Drawn street scenes, others for every seed; a quarter as many to validate on."""
    number = images if split == "train" else max(images // 4, 1)
    return Cached(open_dataset("street", split, n=number, size=size, seed=seed))


class Held(Dataset):
    """Samples in memory, of the classes of another data set."""

    def __init__(self, samples: list[Sample], like: Dataset) -> None:
        self.samples = samples
        self.classes, self.palette = like.classes, like.palette

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]


def centres(dataset: Dataset, side: int, most: int | None = None) -> Held:
    """The middle side x side pixels of the first `most` samples; smaller ones are padded."""
    samples = []
    for index in range(min(most or len(dataset), len(dataset))):
        sample = dataset[index]
        top, left = ((length - side) // 2 for length in sample.mask.shape)
        samples.append(crop(sample, top, left, (side, side)))
    return Held(samples, dataset)
