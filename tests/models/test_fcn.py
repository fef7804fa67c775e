from pathlib import Path

import numpy as np
import pytest

import minseg
import minseg.functional as F
from minseg import Tensor, no_grad
from minseg.backbones import VGG
from minseg.hub import adapt
from minseg.models.fcn import FCN, copy_classifier, copy_coarser
from tests.golden import make_fcn
from tests.golden.make_smp import directions


def small(stride, **options):
    minseg.manual_seed(stride)
    return FCN(3, stride=stride, width=2, depth=11, **options).eval()


def with_scores(network):
    """Score heads that are not zero, and upsamplings that are not bilinear."""
    rng = np.random.default_rng(0)
    for name, parameter in network.named_parameters():
        if "score" in name:
            parameter.data += rng.standard_normal(parameter.shape).astype(np.float32)
    return network


@pytest.mark.parametrize("stride", [32, 16, 8])
def test_the_frame_of_100_pixels_fits_any_image(stride):
    network = small(stride)
    with no_grad():
        for size in [(1, 1), (33, 2), (47, 64)]:
            image = Tensor(np.zeros((1, 3, *size), np.float32))
            assert network(image).shape == (1, 3, *size)


@pytest.mark.parametrize("stride", [32, 16, 8])
def test_same_padding_is_the_framed_network_on_a_framed_image(stride):
    """The crops of both agree: 99 zeros around the image, and the last in conv1_1, are the frame.

    Near the border the coarse map of the one ends earlier, so that is left out.
    """
    framed, same = with_scores(small(stride)), small(stride, padding="same")
    same.load_state_dict(framed.state_dict())
    image = Tensor(np.random.default_rng(0).standard_normal((1, 3, 230, 215)).astype(np.float32))
    with no_grad():
        expected = framed(image).data
        got = same(F.pad(image, (99, 99, 99, 99))).data[:, :, 99:-99, 99:-99]
    inner = np.s_[:, :, 90:-90, 90:-90]
    scale = abs(expected).max()
    np.testing.assert_allclose(got[inner], expected[inner], rtol=0, atol=1e-5 * scale)
    assert expected[inner].std() > 0.01 * scale


def test_scores_start_at_zero_and_the_last_upsampling_is_fixed():
    network = small(8)
    fixed = [name for name, p in network.named_parameters() if not p.requires_grad]
    assert fixed == ["upscore8.weight"]
    image = Tensor(np.ones((1, 3, 8, 8), np.float32))
    assert (network(image).data == 0).all()


def test_upsampling_starts_as_bilinear_interpolation():
    """Away from the border, the transposed convolution gives what interpolate gives."""
    network = small(8)
    scores = np.random.default_rng(0).standard_normal((1, 3, 6, 7)).astype(np.float32)
    up = network.upscore2(Tensor(scores)).data[:, :, 1:-1, 1:-1]
    expected = F.interpolate(Tensor(scores), scale_factor=2, mode="bilinear").data
    np.testing.assert_allclose(up[:, :, 1:-1, 1:-1], expected[:, :, 1:-1, 1:-1], atol=1e-6)


def test_the_finer_network_goes_on_from_the_coarser():
    coarse, middle, fine = with_scores(small(32)), small(16), small(8)
    copy_coarser(fine, copy_coarser(middle, coarse))
    for name, value in coarse.state_dict().items():
        if name != "upscore.weight":
            np.testing.assert_array_equal(fine.state_dict()[name], value)
    assert (fine.score_pool4.weight.data == 0).all()
    with pytest.raises(ValueError, match="from stride 32 to 8"):
        copy_coarser(fine, coarse)


def test_a_classifier_becomes_convolutional():
    """On the 224x224 that fill the 7x7, fc7 of both is the same."""
    minseg.manual_seed(0)
    vgg = VGG(num_classes=5, width=2, depth=11).eval()
    fcn = copy_classifier(small(32, padding="same"), vgg.state_dict())
    image = Tensor(np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype(np.float32))
    with no_grad():
        pooled = fcn.features(image)[-1]
        got = fcn.fc7(fcn.relu(fcn.fc6(pooled))).data[:, :, 3, 3]  # the kernel lies on all 7x7
        flat = vgg.features(image)[-1].flatten(1)
        expected = vgg.fc7(vgg.relu(vgg.fc6(flat))).data
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * abs(expected).max())
    with pytest.raises(ValueError, match=r"missing: fc7.weight"):
        copy_classifier(fcn, {k: v for k, v in vgg.state_dict().items() if k != "fc7.weight"})


def test_at_once_the_skips_are_scaled():
    """pool4 by 0.01 and pool3 by 0.0001 (voc-fcn8s-atonce): as smaller weights of the scores."""
    staged, at_once = with_scores(small(8)), small(8, at_once=True)
    at_once.load_state_dict(staged.state_dict())
    staged.score_pool4.weight.data *= np.float32(0.01)
    staged.score_pool3.weight.data *= np.float32(0.0001)
    image = Tensor(np.random.default_rng(0).standard_normal((1, 3, 20, 33)).astype(np.float32))
    with no_grad():
        got, expected = at_once(image).data, staged(image).data
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * abs(expected).max())


def layers_of_the_authors(stride, k):
    """voc-fcn{32,16,8}s: name -> the weight's shape, and whether there is a bias."""
    layers, channels = {}, 3
    for stage, (count, out) in enumerate([(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)], 1):
        for i in range(1, count + 1):
            layers[f"conv{stage}_{i}"] = (out, channels, 3, 3), True
            channels = out
    layers |= {"fc6": ((4096, 512, 7, 7), True), "fc7": ((4096, 4096, 1, 1), True)}
    layers["score_fr"] = (k, 4096, 1, 1), True
    if stride < 32:
        layers |= {"upscore2": ((k, k, 4, 4), False), "score_pool4": ((k, 512, 1, 1), True)}
    if stride < 16:
        layers |= {"upscore_pool4": ((k, k, 4, 4), False), "score_pool3": ((k, 256, 1, 1), True)}
    layers[{32: "upscore", 16: "upscore16", 8: "upscore8"}[stride]] = (
        (k, k, 2 * stride, 2 * stride),
        False,
    )
    return layers


@pytest.mark.parametrize("stride", [32, 16, 8])
def test_weights_called_as_the_authors_load_strictly(stride):
    """At an eighth of the width, which all shapes but the classes' follow."""

    def narrow(shape):
        return tuple(n // 8 if n >= 64 and i < 2 else n for i, n in enumerate(shape))

    rng = np.random.default_rng(0)
    state = {}
    for name, (shape, bias) in layers_of_the_authors(stride, 21).items():
        state[f"{name}.weight"] = rng.standard_normal(narrow(shape)).astype(np.float32)
        if bias:
            state[f"{name}.bias"] = rng.standard_normal(narrow(shape)[:1]).astype(np.float32)
    network = FCN(21, stride=stride, width=8)
    network.load_state_dict(adapt(f"fcn{stride}s", state), strict=True)
    for name, value in state.items():
        np.testing.assert_array_equal(network.state_dict()[name], value)


@pytest.mark.slow
def test_the_paper_s_size():
    network = FCN(21)
    # VGG16 without fc8, then score heads and upsamplings of 21 classes.
    vgg16 = 138_357_544 - (4096 * 1000 + 1000)
    heads = 21 * (4096 + 512 + 256 + 3) + 21 * 21 * (4 * 4 * 2 + 16 * 16)
    assert sum(p.numel() for p in network.parameters()) == vgg16 + heads


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("stride", make_fcn.STRIDES)
def test_the_authors_network(stride, dtype):
    """Output and gradients, against their layers written out on PyTorch."""
    network = make_fcn.small(stride)
    weights = make_fcn.weights_of(network)
    network.load_state_dict(adapt(f"fcn{stride}s", weights), strict=True)
    network = network.to(dtype)
    image = Tensor(make_fcn.IMAGE.astype(dtype), requires_grad=True)
    output = network(image)
    output.backward(make_fcn.UPSTREAM.astype(dtype))
    parameters = dict(network.named_parameters())
    learnt = [parameters[key].requires_grad for key in weights]  # upsampling is frozen, as theirs
    products = [
        (parameters[key].grad.data * directions(key, parameters[key].shape)).sum()
        for key, is_learnt in zip(weights, learnt, strict=True)
        if is_learnt
    ]
    with np.load(Path(make_fcn.__file__).with_name("fcn.npz")) as golden:
        for got, expected in [
            (output.data[make_fcn.KEPT], golden[f"{stride}.out"]),
            (image.grad.data[make_fcn.KEPT], golden[f"{stride}.grad"]),
            (np.array(products), golden[f"{stride}.products"][learnt]),
        ]:
            bound = {np.float64: 1e-9, np.float32: 1e-4}[dtype] * abs(expected).max()
            np.testing.assert_allclose(got, expected, rtol=0, atol=bound)
