"""Batches of samples, prepared ahead by threads, which have no influence on their contents.

Every random draw has its own generator, seeded by (seed, epoch, index of the sample). So neither
the number of workers, nor the order in which they finish, nor resuming in the middle of an epoch
changes anything.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from minseg.data.dataset import Dataset, Sample, check_sample, random_stream
from minseg.data.transforms import Transform


@dataclass
class Batch:
    """N samples of one size.

    images: (N, C, H, W) float32. masks: (N, H, W) int64, 255 = void.
    instances: (N, H, W) int32, or None unless every sample has them. names: N strings.
    """

    images: np.ndarray
    masks: np.ndarray
    instances: np.ndarray | None
    names: list[str]

    def __len__(self) -> int:
        return len(self.names)


def collate(samples: list[Sample]) -> Batch:
    """Stack samples into a batch. Raises ValueError, with names, if their sizes differ."""
    first = samples[0]
    for sample in samples:
        if (sample.image.shape, sample.mask.shape) != (first.image.shape, first.mask.shape):
            raise ValueError(
                f"DataLoader: one batch needs one size, but {first.name!r} has image "
                f"{first.image.shape}, mask {first.mask.shape} and {sample.name!r} has image "
                f"{sample.image.shape}, mask {sample.mask.shape}; crop, pad or resize them in "
                f"transform=, or use batch_size=1"
            )
    images = np.stack([sample.image for sample in samples])  # (N, H, W, C)
    instances = [sample.instances for sample in samples if sample.instances is not None]
    return Batch(
        np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32),
        np.stack([sample.mask for sample in samples]).astype(np.int64),
        np.stack(instances) if len(instances) == len(samples) else None,
        [sample.name for sample in samples],
    )


class DataLoader:
    """The batches of a data set, epoch by epoch.

    batch_size: samples in a batch; the last batch of an epoch may have fewer.
    drop_last: leave that last batch out.
    shuffle: another order in each epoch; else the data set's.
    transform: called as transform(sample, generator) on each sample.
    workers: threads that make batches ahead; 0 makes them when they are asked for.

    `loader.epoch(e)` yields the batches of epoch e, always the same ones. Iterating over the
    loader itself is epoch 0, each time. An error in a worker is raised where its batch would
    have been yielded.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int = 1,
        shuffle: bool = False,
        seed: int = 0,
        transform: Transform | None = None,
        workers: int = 2,
        drop_last: bool = False,
    ) -> None:
        for name, value, least in (("batch_size", batch_size, 1), ("workers", workers, 0)):
            if not isinstance(value, int) or value < least:
                raise ValueError(f"DataLoader: {name}: got {value!r}, needs an int >= {least}")
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.transform = transform
        self.workers = workers
        self.drop_last = drop_last

    def __len__(self) -> int:
        """Batches in an epoch."""
        if self.drop_last:
            return len(self.dataset) // self.batch_size
        return -(-len(self.dataset) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        return self.epoch(0)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, from batch number `start` on.

        Raises ValueError for a start outside 0..len(self).
        """
        if not 0 <= start <= len(self):
            raise ValueError(f"DataLoader: start: got {start}, an epoch has {len(self)} batches")
        order = np.arange(len(self.dataset))
        if self.shuffle:
            order = random_stream(self.seed, epoch).permutation(order)
        chunks = [
            order[i * self.batch_size : (i + 1) * self.batch_size].tolist()
            for i in range(start, len(self))
        ]
        if self.workers == 0:
            return (self._load(chunk, epoch) for chunk in chunks)
        return self._prefetch(chunks, epoch)

    def _prefetch(self, chunks: list[list[int]], epoch: int) -> Iterator[Batch]:
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="minseg-data")
        pending: deque[Future[Batch]] = deque()
        todo = iter(chunks)
        try:
            # One batch for each thread, and one ready: more would only fill memory.
            for _, chunk in zip(range(self.workers + 1), todo, strict=False):
                pending.append(pool.submit(self._load, chunk, epoch))
            while pending:
                batch = pending.popleft().result()
                if (following := next(todo, None)) is not None:
                    pending.append(pool.submit(self._load, following, epoch))
                yield batch
        finally:  # also runs when the consumer leaves its loop early
            pool.shutdown(wait=True, cancel_futures=True)

    def _load(self, indices: list[int], epoch: int) -> Batch:
        return collate([self._sample(index, epoch) for index in indices])

    def _sample(self, index: int, epoch: int) -> Sample:
        sample = self.dataset[index]
        if self.transform is not None:
            try:
                sample = self.transform(sample, random_stream(self.seed, epoch, index))
            except Exception as error:
                error.args = (f"{error} (in sample {sample.name!r})",)
                raise
        check_sample(sample, len(self.dataset.classes))
        return sample
