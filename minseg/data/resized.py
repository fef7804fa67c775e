"""Images in another size, and a data set whose images all have one size."""

import numpy as np
from PIL import Image

from minseg.data.dataset import Dataset, Sample

Size = tuple[int, int]  # (H, W)


def resize_image(image: np.ndarray, size: Size) -> np.ndarray:
    """The image (H, W, C) in another size; averaged where it shrinks, against aliasing."""
    if image.shape[:2] == tuple(size):
        return image
    channels = [
        Image.fromarray(np.ascontiguousarray(channel, np.float32))
        .resize((size[1], size[0]), Image.Resampling.BILINEAR)
        for channel in np.moveaxis(image, 2, 0)
    ]  # fmt: skip
    return np.stack([np.asarray(channel) for channel in channels], axis=2)


class Resized(Dataset):
    """A data set with its images scaled to one size; its labels too, or kept with `full_labels`."""

    def __init__(self, dataset: Dataset, size: Size, full_labels: bool = False) -> None:
        self.dataset = dataset
        self.size = size
        self.full_labels = full_labels
        self.classes, self.palette, self.things = dataset.classes, dataset.palette, dataset.things
        self.ignore_index, self.void_name = dataset.ignore_index, dataset.void_name

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        sample = self.dataset[index]
        mask, instances = sample.mask, sample.instances
        if not self.full_labels:
            rows, columns = (
                ((np.arange(new) + 0.5) * old / new).astype(int)
                for new, old in zip(self.size, mask.shape, strict=True)
            )
            mask = mask[rows[:, None], columns]
            instances = None if instances is None else instances[rows[:, None], columns]
        return Sample(resize_image(sample.image, self.size), mask, instances, sample.name)
