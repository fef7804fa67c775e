"""The loader: the same batches whatever the threads do, and nothing left behind."""

import threading

import numpy as np
import pytest

from minseg.data import Cached, Compose, DataLoader, Flip, RandomCrop, Sample, Shapes
from minseg.data.dataset import random_stream

SIZE = (16, 20)


def augment():
    return Compose([Flip(), RandomCrop((12, 12))])


def equal(a, b):
    same = a.names == b.names and np.array_equal(a.instances, b.instances)
    return same and np.array_equal(a.images, b.images) and np.array_equal(a.masks, b.masks)


def threads():
    return [t for t in threading.enumerate() if t.name.startswith("minseg-data")]


def test_a_batch_is_the_samples_stacked():
    data = Shapes(5, SIZE)
    batches = list(DataLoader(data, 2))
    assert [len(batch) for batch in batches] == [2, 2, 1]
    first = batches[0]
    assert (first.images.shape, first.images.dtype) == ((2, 3, 16, 20), np.float32)
    assert (first.masks.shape, first.masks.dtype) == ((2, 16, 20), np.int64)
    assert (first.instances.shape, first.instances.dtype) == ((2, 16, 20), np.int32)
    assert first.images.flags.c_contiguous
    sample = data[1]
    np.testing.assert_array_equal(first.images[1], np.moveaxis(sample.image, 2, 0))
    np.testing.assert_array_equal(first.masks[1], sample.mask)
    assert first.names == [data[0].name, data[1].name]


def test_workers_change_nothing():
    runs = [
        list(DataLoader(Shapes(23, SIZE), 4, True, 7, augment(), workers=workers).epoch(3))
        for workers in (0, 1, 2, 5)
    ]
    assert len(runs[0]) == 6
    for run in runs[1:]:
        assert all(equal(a, b) for a, b in zip(runs[0], run, strict=True))


def test_an_epoch_resumes_in_its_middle():
    loader = DataLoader(Shapes(23, SIZE), 4, True, 7, augment())
    whole, rest = list(loader.epoch(2)), list(loader.epoch(2, start=4))
    assert len(rest) == 2
    assert all(equal(a, b) for a, b in zip(whole[4:], rest, strict=True))
    assert list(loader.epoch(2, start=6)) == []


def test_epochs_and_seeds_differ_and_cover_everything():
    def order(seed, epoch):
        loader = DataLoader(Shapes(23, SIZE), 4, True, seed)
        return [name for batch in loader.epoch(epoch) for name in batch.names]

    orders = [order(0, 0), order(0, 1), order(1, 0)]
    assert len({tuple(names) for names in orders}) == 3
    assert all(sorted(names) == sorted(orders[0]) for names in orders)
    assert len(set(orders[0])) == 23


def test_augmentation_differs_between_epochs_and_samples():
    class Same(Shapes):
        def __getitem__(self, index):
            return super().__getitem__(0)

    loader = DataLoader(Same(6, SIZE), 6, False, 0, augment())
    images = [image.tobytes() for epoch in (0, 1) for image in next(loader.epoch(epoch)).images]
    assert len(set(images)) > 6  # 9 places, 2 sides: some of the 12 may agree, not half


def test_streams_of_keys_that_end_in_zero_are_apart():
    draws = {random_stream(*key).integers(2**62) for key in [(1,), (1, 0), (1, 0, 0), (0, 1)]}
    assert len(draws) == 4


def test_drop_last_and_length():
    for drop, lengths in ((False, [4, 4, 3]), (True, [4, 4])):
        loader = DataLoader(Shapes(11, SIZE), 4, drop_last=drop)
        assert [len(batch) for batch in loader] == lengths
        assert len(loader) == len(lengths)
    assert list(DataLoader(Shapes(0, SIZE), 4)) == []


def test_the_loader_itself_is_epoch_0_each_time():
    loader = DataLoader(Shapes(9, SIZE), 3, True)
    assert all(equal(a, b) for a, b in zip(loader, loader.epoch(0), strict=True))
    assert all(equal(a, b) for a, b in zip(loader, loader, strict=True))


@pytest.mark.parametrize("workers", [0, 3])
def test_errors_of_the_data_set_arrive_as_they_are(workers):
    class Broken(Shapes):
        def __getitem__(self, index):
            if index == 5:
                raise OSError("photo_5.png: broken")
            return super().__getitem__(index)

    batches = DataLoader(Broken(12, SIZE), 2, workers=workers).epoch(0)
    assert len(next(batches)) == len(next(batches)) == 2  # what comes before is still served
    with pytest.raises(OSError, match=r"photo_5\.png: broken"):
        next(batches)
    assert threads() == []


@pytest.mark.parametrize("workers", [0, 3])
def test_errors_of_a_transform_name_the_sample(workers):
    def transform(sample, generator):
        raise ValueError("cannot do it")

    with pytest.raises(ValueError, match=r"cannot do it \(in sample 'shapes-0-0'\)"):
        list(DataLoader(Shapes(4, SIZE), 2, transform=transform, workers=workers))


def test_leaving_early_leaves_no_thread():
    for _ in DataLoader(Shapes(40, SIZE), 2, workers=4):
        assert threads()
        break
    assert threads() == []
    unused = DataLoader(Shapes(40, SIZE), 2, workers=4).epoch(0)
    assert threads() == []  # nothing starts before the first batch is asked for
    unused.close()


def test_no_more_is_loaded_than_the_workers_need():
    loaded = []

    class Counting(Shapes):
        def __getitem__(self, index):
            loaded.append(index)
            return super().__getitem__(index)

    batches = DataLoader(Counting(100, SIZE), 1, workers=2).epoch(0)
    next(batches)
    batches.close()
    assert len(loaded) <= 4


def test_a_cache_changes_nothing_but_reads_once():
    read = []

    class Counting(Shapes):
        def __getitem__(self, index):
            read.append(index)
            return super().__getitem__(index)

    data = Cached(Counting(9, SIZE))
    assert (data.classes, data.things, len(data)) == (Shapes.classes, Shapes.things, 9)
    plain, cached = (DataLoader(d, 4, True, 3, augment()) for d in (Shapes(9, SIZE), data))
    for epoch in range(3):
        pairs = zip(plain.epoch(epoch), cached.epoch(epoch), strict=True)
        assert all(equal(a, b) for a, b in pairs)
    assert sorted(read) == list(range(9))
    with pytest.raises(IndexError):
        data[9]


def test_sizes_that_differ_are_named():
    class Uneven(Shapes):
        def __getitem__(self, index):
            size = (4 + index, 5)
            return Sample(np.zeros((*size, 3), np.float32), np.zeros(size, int), None, f"n{index}")

    with pytest.raises(ValueError, match=r"'n0' has image \(4, 5, 3\).*'n1' has image \(5, 5, 3\)"):
        list(DataLoader(Uneven(2), 2))
    assert [batch.images.shape for batch in DataLoader(Uneven(2), 1)] == [
        (1, 3, 4, 5),
        (1, 3, 5, 5),
    ]
    assert next(iter(DataLoader(Uneven(2), 1))).instances is None


def blank(**parts):
    whole = {"image": np.zeros((4, 5, 3), np.float32), "mask": np.zeros((4, 5), np.int64)}
    return Sample(**{**whole, "name": "odd", **parts})


@pytest.mark.parametrize(
    ("sample", "error", "words"),
    [
        (blank(image=np.zeros((4, 5, 3), np.uint8)), TypeError, "image of uint8"),
        (blank(mask=np.zeros((4, 5))), TypeError, "mask of float64"),
        (blank(image=np.zeros((4, 5), np.float32)), ValueError, r"image \(4, 5\)"),
        (blank(mask=np.zeros((4, 5, 1), int)), ValueError, r"mask \(4, 5, 1\)"),
        (blank(image=np.full((4, 5, 3), np.nan, np.float32)), ValueError, "NaN"),
        (blank(mask=np.full((4, 5), 4)), ValueError, "label 4"),
        (blank(mask=np.full((4, 5), -1)), ValueError, "label -1"),
        (blank(instances=np.ones((4, 6), int)), ValueError, r"\(4, 5\) and instances of \(4, 6\)"),
        (blank(instances=np.ones((4, 5))), TypeError, "instances of float64"),
    ],
)
def test_samples_that_are_wrong_are_named(sample, error, words):
    class Own(Shapes):
        def __getitem__(self, index):
            return sample

    with pytest.raises(error, match=f"sample 'odd'.*{words}"):
        list(DataLoader(Own(1), 1))


def test_void_and_small_integers_are_fine():
    class Own(Shapes):
        def __getitem__(self, index):
            return blank(mask=np.full((4, 5), 255, np.uint8))

    assert next(iter(DataLoader(Own(1), 1))).masks.dtype == np.int64


@pytest.mark.parametrize("start", [-1, 5])
def test_bad_start(start):
    with pytest.raises(ValueError, match=f"start: got {start}, an epoch has 4 batches"):
        DataLoader(Shapes(4, SIZE)).epoch(0, start)


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"batch_size": 2.0}, {"workers": -1}])
def test_bad_options(options):
    with pytest.raises(ValueError, match=f"DataLoader: {next(iter(options))}"):
        DataLoader(Shapes(4), **options)
