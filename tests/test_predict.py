import tracemalloc

import numpy as np
import pytest
from PIL import Image

from minseg import Tensor, checkpoint, inference, nn, predict, recipe
from minseg import evaluate as evaluation
from minseg.config import Config, configure
from minseg.data import Sample
from minseg.data.resized import resize_image
from minseg.evaluate import evaluate, predict_labels
from minseg.inference import forward, in_windows
from minseg.metrics import BoundaryF, BoundaryIoU
from minseg.models import UNet
from minseg.network import Network, load_network
from minseg.predict import feature_maps, segment, working_size, write_prediction
from minseg.train import Trainer

PALETTE = np.array([[0, 0, 0], [230, 159, 0], [86, 180, 233]], np.uint8)


class PerPixel(nn.Module):
    """Logits that depend on a pixel's own colour alone, so that windows must not matter."""

    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.head(x)


class BrightLeft(nn.Module):
    """Class 1 where the image is bright; class 2 in the left half, wherever that is looked at."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(np.ones(1, np.float32))

    def forward(self, x):
        logits = np.zeros((len(x.data), 3, *x.shape[2:]), np.float32)
        logits[:, 1] = 4 * x.data.mean(1)
        logits[:, 2, :, : x.shape[3] // 2] = 1
        return Tensor(logits)


class Vague(nn.Module):
    """Class 1 on the right, from 46 % of the width on, not too sure of it."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(np.ones(1, np.float32))

    def forward(self, x):
        logits = np.zeros((len(x.data), 3, *x.shape[2:]), np.float32)
        width = x.shape[3]
        logits[:, 1] = 20 * ((np.arange(width) + 0.5) / width - 0.46)
        logits[:, 2] = -9
        return Tensor(logits)


def network(model, size=None):
    config = Config(epochs=1, size=size)
    return Network(model, config, ("a", "b", "c"), PALETTE, 3)


def picture(height, width, seed=0):
    return np.random.default_rng(seed).random((height, width, 3)).astype(np.float32)


@pytest.mark.parametrize(("height", "width"), [(37, 52), (16, 16), (5, 70), (1, 1)])
def test_windows_of_a_network_without_context_change_nothing(height, width):
    model, image = PerPixel(), picture(height, width)
    whole = in_windows(model, image)
    np.testing.assert_allclose(whole.sum(axis=0), 1, rtol=1e-5)
    np.testing.assert_allclose(in_windows(model, image, window=16), whole, rtol=1e-4, atol=1e-6)


def test_of_a_network_with_an_auxiliary_head_the_main_one_counts():
    class TwoHeads(PerPixel):
        def forward(self, x):
            return {"aux": Tensor(np.zeros((1, 3, *x.shape[2:]), np.float32)), "out": self.head(x)}

    two, one, image = TwoHeads(), PerPixel(), picture(5, 7)
    two.load_state_dict(one.state_dict())
    np.testing.assert_array_equal(in_windows(two, image), in_windows(one, image))


def test_a_large_picture_is_cut_by_itself(monkeypatch):
    sizes = small_budget(monkeypatch)
    in_windows(PerPixel(), picture(30, 40))
    assert len(sizes) == 3 * 3  # at 0, 7, 14 and 0, 12, 24
    assert set(sizes) == {(1, 3, 16, 16)}


def small_budget(monkeypatch):
    """1000 pixels, windows of 16; the shapes of what the networks see from now on."""
    for module in (inference, evaluation, predict):
        monkeypatch.setattr(module, "PIXEL_BUDGET", 1000)
    monkeypatch.setattr(inference, "_WINDOW", 16)
    seen = []
    inner = PerPixel.forward

    def forward(model, x):
        seen.append(x.shape)
        return inner(model, x)

    monkeypatch.setattr(PerPixel, "forward", forward)
    return seen


def test_large_images_are_scored_in_windows_and_in_batches_that_fit(monkeypatch):
    """Whole, and eight at once, the photos of a validation set filled the memory."""

    class Data(list):
        classes = ("a", "b", "c")
        ignore_index = 255

    generator = np.random.default_rng(0)
    model = PerPixel()
    loss = recipe.build_loss(Config(epochs=1))
    sizes = [(30, 40), (20, 20), (20, 20), (20, 20), (8, 8)]
    data = Data(
        Sample(picture(*size), generator.integers(0, 3, size), None, str(i))
        for i, size in enumerate(sizes)
    )
    data[4].mask = generator.integers(0, 3, (40, 40))  # larger than its image
    whole = evaluate(model, data, lambda s, g: s, loss, batch_size=8)
    each = [
        loss(forward(model, s.image.transpose(2, 0, 1)[None], s.mask.shape), s.mask[None]).item()
        for s in data
    ]
    np.testing.assert_allclose(whole.loss, np.mean(each), rtol=1e-5)
    labels = predict_labels(model, data[0], lambda s, g: s)
    seen = small_budget(monkeypatch)
    pieces = evaluate(model, data, lambda s, g: s, loss, batch_size=8)
    assert seen == [(1, 3, 16, 16)] * 9 + [(2, 3, 20, 20), (1, 3, 20, 20), (1, 3, 8, 8)]
    assert pieces.confusion.matrix.tolist() == whole.confusion.matrix.tolist()
    np.testing.assert_allclose(pieces.loss, whole.loss, rtol=1e-5)
    assert (predict_labels(model, data[0], lambda s, g: s) == labels).all()
    seen.clear()
    maps = feature_maps(network(model), data[0].image, "head")
    assert seen == [(1, 3, 27, 36)]  # 30 x 40, as many pixels as are in the budget
    assert maps.shape == (3, 27, 36)
    model.head.bias.data[2] = -200  # a probability of 0, which has no logarithm
    assert np.isfinite(evaluate(model, data, lambda s, g: s, loss).loss)


def test_windows_share_the_exposure_of_the_whole_picture():
    config = Config(epochs=1, normalize="image")
    net = Network(PerPixel(), config, ("a", "b", "c"), PALETTE, 3)
    image = picture(24, 32) * np.linspace(0.1, 1, 32, dtype=np.float32)[:, None]  # darker left
    labels, whole = segment(net, image)
    in_pieces, pieces = segment(net, image, window=8)
    np.testing.assert_allclose(pieces, whole, rtol=1e-4, atol=1e-6)
    assert (in_pieces == labels).all()


def test_flip_and_scales_average_probabilities():
    net = network(BrightLeft())
    image = np.full((8, 10, 3), 0.5, np.float32)
    _, plain = segment(net, image)
    labels, flipped = segment(net, image, flip=True)
    # Left wins on one side only; with the mirror image both sides see the same.
    np.testing.assert_allclose(flipped, flipped[:, ::-1], rtol=1e-5)
    assert (labels == labels[0, 0]).all()
    assert not np.allclose(plain[:, 0], plain[:, -1])
    _, scaled = segment(net, image, scales=(0.5, 1, 2))
    assert scaled.shape == (8, 10)


def test_of_the_probabilities_of_all_classes_there_are_two_sets_at_most():
    """The sum, and those that come next: 8 bytes a pixel and class; the rest is less than 4."""
    image = picture(256, 384)
    tracemalloc.start()
    segment(network(nn.Conv2d(3, CLASSES := 16, 1)), image, (1.0, 1.0), flip=True, window=64)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < (8 + 4) * CLASSES * image[..., 0].size


def test_a_picture_is_seen_at_the_scale_of_the_training():
    net = network(PerPixel(), size=(12, 16))
    assert working_size(net, (120, 160)) == (12, 16)
    assert working_size(net, (160, 120)) == (16, 12)
    assert working_size(network(PerPixel()), (7, 9)) == (7, 9)
    labels, confidence = segment(net, picture(61, 83))
    assert labels.shape == confidence.shape == (61, 83)
    assert labels.dtype == np.uint8


@pytest.mark.parametrize("budget", [10000, 1500])
def test_the_crf_finds_the_border_in_the_picture(budget, monkeypatch):
    """At the picture's size, and on a smaller one, whose border is a pixel of its own vague."""
    monkeypatch.setattr(inference, "CRF_PIXELS", budget)
    image = np.full((60, 100, 3), 0.2, np.float32)
    image[:, 40:] = 0.8
    truth = np.zeros((60, 100), int)
    truth[:, 40:] = 1
    shares = []
    before, _ = segment(network(Vague()), image)
    labels, confidence = segment(network(Vague()), image, crf=True, on_progress=shares.append)
    assert (before != truth).any(axis=0).nonzero()[0].tolist() == [40, 41, 42, 43, 44, 45]
    wrong = (labels != truth).any(axis=0).nonzero()[0].tolist()
    assert wrong == [] if budget == 10000 else len(wrong) <= 2
    np.testing.assert_allclose(shares, [1 / 11] * 11)  # one window, ten iterations
    assert confidence[30, 90] > 0.99


@pytest.mark.parametrize("budget", [10000, 1500])
def test_evaluation_may_refine_by_the_crf(budget, monkeypatch):
    class Data(list):
        classes = ("a", "b", "c")
        ignore_index = 255

    monkeypatch.setattr(inference, "CRF_PIXELS", budget)
    image = np.full((60, 100, 3), 0.2, np.float32)
    image[:, 40:] = 0.8
    mask = np.zeros((60, 100), np.int64)
    mask[:, 40:] = 1
    data = Data([Sample(image, mask, None, "x")])
    before = evaluate(Vague(), data, lambda s, g: s).confusion.pixel_accuracy()
    after = evaluate(Vague(), data, lambda s, g: s, crf=True).confusion.pixel_accuracy()
    assert before < 0.95
    assert after == 1 if budget == 10000 else after >= 0.98  # two columns are a smaller one


def test_where_classes_are_as_probable_the_first_wins():
    """As argmax has it, by which networks are scored."""
    net = network(PerPixel())
    net.model.head.weight.data[...] = net.model.head.bias.data[...] = 0
    labels, confidence = segment(net, picture(4, 6))
    assert (labels == 0).all()
    np.testing.assert_allclose(confidence, 1 / 3, rtol=1e-6)


def test_a_picture_with_nan():
    image = picture(8, 8)
    image[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        segment(network(PerPixel()), image)


def test_resizing_averages_what_it_shrinks():
    checks = np.indices((40, 40)).sum(0) % 2  # fine black and white squares
    image = np.repeat(checks[:, :, None], 3, axis=2).astype(np.float32)
    small = resize_image(image, (10, 10))
    np.testing.assert_allclose(small[1:-1, 1:-1], 0.5, atol=0.03)
    assert resize_image(image, (40, 40)) is image


def test_the_files(tmp_path):
    net = network(PerPixel())
    image = picture(20, 30)
    paths = write_prediction(net, image, tmp_path / "x")
    assert [path.name for path in paths] == [
        "x_mask.png", "x_overlay.png", "x_confidence.png", "x_figure.png"]  # fmt: skip
    labels, confidence = segment(net, image)
    with Image.open(paths[0]) as mask:
        assert mask.mode == "P"
        np.testing.assert_array_equal(np.asarray(mask), labels)
        np.testing.assert_array_equal(np.asarray(mask.convert("RGB")), PALETTE[labels])
    with Image.open(paths[2]) as grey:
        np.testing.assert_array_equal(np.asarray(grey), np.rint(255 * confidence))


def test_feature_maps_are_the_layer_s_output():
    model = UNet(3, width=2, depth=1)
    net = network(model)
    image = picture(8, 12)
    maps = feature_maps(net, image, "contract.1")
    assert maps.shape == (4, 4, 6)
    assert not model.contract[1]._forward_hooks
    with pytest.raises(ValueError, match=r"no layer 'nope'; there are: .*contract\.0\.0.*head"):
        feature_maps(net, image, "nope")
    with pytest.raises(ValueError, match=r"'contract' only holds other layers: it gives no maps"):
        feature_maps(net, image, "contract")


# -- a valid network, and masks larger than the images ---------------------------------------------
@pytest.mark.parametrize(("height", "width"), [(20, 30), (33, 17)])
def test_valid_convolutions_see_a_mirrored_frame(height, width):
    model = UNet(3, width=2, depth=2, padding="valid", dropout=0.0).eval()
    images = picture(height, width).transpose(2, 0, 1)[None]
    logits = forward(model, images, (height, width)).numpy()
    assert logits.shape == (1, 3, height, width)
    # Far from the border the frame has no say: what a larger mirrored frame gives is the same.
    other = np.pad(images, [(0, 0), (0, 0), (48, 48), (48, 48)], mode="reflect")
    wide = forward(model, other, other.shape[2:]).numpy()[:, :, 48:-48, 48:-48]
    np.testing.assert_allclose(logits, wide, rtol=0, atol=1e-5)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_frame_leaves_every_level_where_it_lies(depth):
    """A network that copies pixels up from its lowest level: of a ramp, it gives the ramp back."""
    model = UNet(1, 1, width=1, depth=depth, padding="valid", dropout=0.0).eval()
    for name, weight in model.named_parameters():
        weight.data[...] = 0
        if weight.ndim == 4 and name.startswith("up."):
            weight.data[...] = 1
        elif weight.ndim == 4:
            middle = weight.shape[2] // 2
            from_below = -1 if name.startswith("expand") and name.endswith("0.weight") else 0
            weight.data[0, from_below, middle, middle] = 1
    columns = np.arange(40, dtype=np.float32)
    out = forward(model, np.tile(columns, (1, 1, 40, 1)), (40, 40)).numpy()[0, 0]
    # The largest of each 2^depth columns, at all of them.
    step = 2**depth
    inside = slice(step, 40 - step)
    assert abs(out[20, inside] - columns[inside]).max() < step


def test_masks_larger_than_images_score_upsampled_logits():
    class Data(list):
        classes = ("a", "b", "c")
        ignore_index = 255

    image = picture(6, 8)
    model = PerPixel()
    logits = forward(model, image.transpose(2, 0, 1)[None], (18, 24))
    mask = logits.argmax(1).numpy()[0].astype(np.int64)
    mask[0, 0] = 255
    result = evaluate(model, Data([Sample(image, mask, None, "x")]), lambda s, g: s)
    assert result.confusion.matrix.sum() == 18 * 24 - 1
    assert result.confusion.pixel_accuracy() == 1


def test_boundaries_count_where_asked_for_and_an_image_that_is_all_void_nowhere():
    class Data(list):
        classes = ("a", "b", "c")
        ignore_index = 255

    def keep(sample, generator):
        return sample

    mask = np.random.default_rng(0).integers(0, 3, (12, 16))
    one = Data([Sample(picture(12, 16), mask, None, "x")])
    two = Data([*one, Sample(picture(12, 16), np.full((12, 16), 255), None, "void")])
    model, loss = PerPixel(), recipe.build_loss(Config(epochs=1))
    alone = evaluate(model, one, keep, loss)
    result = evaluate(model, two, keep, loss, batch_size=1, boundaries=True)
    assert result.loss == alone.loss
    assert alone.boundary_iou is alone.boundary_f is None
    for metric, scores in (
        (BoundaryIoU(3), result.boundary_iou),
        (BoundaryF(3), result.boundary_f),
    ):
        metric.update(predict_labels(model, one[0], keep), mask)
        np.testing.assert_array_equal(scores, metric.compute())


# -- weights ---------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    options = {"width": 2, "depth": 1}
    config = configure("unet", "shapes", options, size=(16, 16), images=8, steps=1)
    Trainer(config, folder).fit()
    return folder


def test_load_network(run):
    best, file = load_network(run), load_network(run / "last.safetensors")
    assert best.classes == file.classes == ("background", "circle", "rectangle", "triangle")
    image = picture(16, 16)
    np.testing.assert_array_equal(segment(best, image)[1], segment(file, image)[1])


def test_load_network_errors(run, tmp_path):
    with pytest.raises(FileNotFoundError, match="no best"):
        load_network(tmp_path)
    tree = checkpoint.load(run / "best.safetensors")
    for change, says in (
        ({"classes": ["a"]}, "no checkpoint of a network"),
        ({"palette": [[999, 0, 0]] * 4}, "no checkpoint of a network"),
        ({"config": {}}, "config"),
        ({"config": {**tree["config"], "model": "nope"}}, "nope"),
        ({"config": {**tree["config"], "options": {"depth": 2}}}, "missing"),
        ({"channels": "3"}, "no checkpoint of a network"),
    ):
        checkpoint.save(tmp_path / "evil.safetensors", {**tree, **change})
        with pytest.raises(ValueError, match=rf"(?s)evil\.safetensors.*{says}"):
            load_network(tmp_path / "evil.safetensors")
