import numpy as np
import pytest

import minseg
from minseg import Tensor, nn, no_grad
from minseg.models import UNet, build
from minseg.models.unet import join


def test_the_paper_s_network():
    network = UNet(2, in_channels=1, padding="valid")
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    assert len(convolutions) == 23  # section 2
    assert [m.out_channels for m in convolutions[:10:2]] == [64, 128, 256, 512, 1024]
    assert network.output_size(572, 572) == (388, 388)  # figure 1


@pytest.mark.parametrize("name", ["unet", "unetplusplus"])
def test_up_convolutions_start_by_keeping_the_variance(name):
    minseg.manual_seed(0)
    network = build(name, 2, width=16, depth=1)
    (up,) = (m for m in network.modules() if isinstance(m, nn.ConvTranspose2d))
    x = Tensor(np.random.default_rng(0).standard_normal((1, 32, 40, 40)).astype(np.float32))
    assert up(x).data.std() == pytest.approx(1, rel=0.05)  # 2048 weights: 1.6 % of deviation


@pytest.mark.parametrize(("height", "width"), [(572, 204), (188, 220)])
def test_valid_convolutions_give_the_size_that_is_announced(height, width):
    network = UNet(2, in_channels=1, width=1, padding="valid").eval()
    with no_grad():
        output = network(Tensor(np.zeros((1, 1, height, width), np.float32)))
    assert output.shape[2:] == network.output_size(height, width)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("unet", {}),
        ("unetplusplus", {}),
        ("attention_unet", {}),
        ("attention_unet", {"backbone": "monai"}),
    ],
)
def test_a_network_that_no_memory_holds_is_refused_before_it_is_made(name, options, monkeypatch):
    # Weights down to a last level of 1024 channels: 18 * 1024^2 numbers of 4 bytes.
    monkeypatch.setattr("minseg.models.unet.total_memory", lambda: 4 * 18 * 1024**2)
    message = r"width 64, depth 5: .* 64 \* 2\^5 channels; the weights of at most 1,024 fit"
    with pytest.raises(ValueError, match=message):
        build(name, 2, width=64, depth=5, **options)
    with pytest.raises(ValueError, match="width 1, depth 100000: "):
        build(name, 2, width=1, depth=100_000, **options)


def test_the_memory_asked_for_is_that_of_the_weights():
    """What `levels` reckons, against the weights of the path that is made."""
    network = UNet(2, width=8, depth=5)
    made = sum(
        m.weight.numel() for convs in network.contract for m in convs if hasattr(m, "weight")
    )
    np.testing.assert_allclose(made, 18 * (8 * 2**5) ** 2, rtol=1e-3)


def valid_size(size: int, depth: int) -> int | None:
    """Figure 1 step by step; None where a pooling would round, or nothing is left."""
    for _ in range(depth):
        size -= 4
        if size < 2 or size % 2:
            return None
        size //= 2
    for _ in range(depth):
        size = 2 * (size - 4)
    return size - 4 if size > 4 else None


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_sizes_at_which_a_pooling_would_round_are_refused(depth):
    network = UNet(2, in_channels=1, width=1, depth=depth, padding="valid")
    for side in range(1, 300):
        expected = valid_size(side, depth)
        if expected is not None:
            assert network.output_size(side, side) == (expected, expected)
            continue
        fits = next(larger for larger in range(side, 400) if valid_size(larger, depth))
        with pytest.raises(ValueError, match=f"{side}x{side} pixels.* fits is {fits}x{fits}$"):
            network.output_size(side, side)


@pytest.mark.parametrize("size", [(172, 300), (173, 293), (188, 286)])
def test_a_call_names_the_next_size_that_fits(size):
    network = UNet(2, in_channels=1, width=1, padding="valid")
    with pytest.raises(ValueError, match=r"the next size that fits is 188x300"):
        network(Tensor(np.zeros((1, 1, *size), np.float32)))


def test_a_logit_of_valid_convolutions_sees_no_padding():
    """Where every convolution is valid, an image is a window of a larger one."""
    network = UNet(2, in_channels=1, width=2, depth=2, padding="valid").eval()
    image = np.random.default_rng(0).standard_normal((1, 1, 76, 84)).astype(np.float32)
    with no_grad():
        whole = network(Tensor(image)).data
        part = network(Tensor(image[:, :, 8:72, 4:68])).data  # moved by multiples of 2^depth
    np.testing.assert_allclose(part, whole[:, :, 8 : 8 + part.shape[2], 4 : 4 + part.shape[3]],
                               rtol=0, atol=1e-5)  # fmt: skip


def test_overlapping_tiles_are_the_whole():
    """Figure 2: each tile of the output sees its own, larger tile of the image; no seams."""
    network = UNet(2, in_channels=1, width=2, depth=2, padding="valid").eval()
    whole_size, tile = (92, 108), 52
    image = np.random.default_rng(0).standard_normal((1, 1, *whole_size)).astype(np.float32)
    step = network.output_size(tile, tile)[0]  # of 2^depth: where the poolings' windows repeat
    assert step == 12
    with no_grad():
        whole = network(Tensor(image)).data
        tiles = np.full_like(whole, np.nan)
        for top in range(0, whole.shape[2], step):
            for left in range(0, whole.shape[3], step):
                piece = image[:, :, top : top + tile, left : left + tile]
                out = network(Tensor(piece)).data
                tiles[:, :, top : top + step, left : left + step] = out
    np.testing.assert_allclose(tiles, whole, rtol=0, atol=1e-6 * abs(whole).max())


@pytest.mark.slow
def test_the_tiles_of_figure_1():
    """572 -> 388, at an eighth of the width: two tiles side by side are the whole."""
    network = UNet(2, in_channels=1, width=8, padding="valid").eval()
    wide = 572 + 384  # moved by a multiple of 16
    image = np.random.default_rng(0).standard_normal((1, 1, 572, wide)).astype(np.float32)
    with no_grad():
        whole = network(Tensor(image)).data
        left, right = (network(Tensor(image[..., s : s + 572])).data for s in (0, 384))
    assert left.shape == (1, 2, 388, 388)
    scale = 1e-5 * abs(whole).max()
    np.testing.assert_allclose(left, whole[..., :388], rtol=0, atol=scale)
    np.testing.assert_allclose(right, whole[..., 384 : 384 + 388], rtol=0, atol=scale)


def test_join_crops_the_upsampled_map_and_centres_the_skip():
    row = Tensor(np.arange(5.0).reshape(1, 1, 1, 5))
    assert join(Tensor(np.zeros((1, 1, 1, 6))), row).data[0, 0, 0].tolist() == [0, 1, 2, 3, 4]
    cropped = join(Tensor(np.full((1, 1, 1, 3), 9.0)), row)
    assert cropped.data[0, :, 0].tolist() == [[1, 2, 3], [9, 9, 9]]
