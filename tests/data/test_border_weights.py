import numpy as np
import pytest

import minseg.functional as F
from minseg import Tensor, recipe
from minseg.config import Config
from minseg.data.border_weights import border_definition, border_weights


def cells(height=24, width=30):
    instances = np.zeros((height, width), np.int32)
    instances[2:9, 3:12] = 4
    instances[2:9, 13:20] = 1  # a gap of one pixel
    instances[12:20, 5:10] = 7
    instances[9, 16:18] = 1
    return instances


@pytest.mark.parametrize(("w0", "sigma"), [(10.0, 5.0), (3.0, 1.0)])
def test_by_definition(w0, sigma):
    instances = cells()
    expected = border_definition(instances, w0, sigma)
    got = border_weights(instances, w0, sigma)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=w0 * np.exp(-32))


def test_what_a_gap_weighs():
    """d1 = d2 = 1 between the cells of one pixel's distance: 10 exp(-4 / 50)."""
    weights = border_weights(cells())
    assert weights[5, 12] == pytest.approx(10 * np.exp(-4 / 50))
    assert (weights[cells() > 0] == 0).all()
    assert weights[23, 29] < 0.1


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_cells_have_no_border(count):
    instances = np.zeros((9, 9), int)
    instances[3:5, 3:6] = count
    assert (border_weights(instances) == 0).all()


def test_the_loss_is_cross_entropy_with_these_weights():
    """ "cross_entropy + border": -(1 + w) log p, over the pixels that have a class."""
    rng = np.random.default_rng(0)
    instances = np.stack([cells(), cells()[::-1]])
    masks = (instances > 0).astype(np.int64)
    masks[0, :, -3:] = 255
    logits = Tensor(rng.standard_normal((2, 2, 24, 30))).requires_grad_()
    loss = recipe.build_loss(Config(epochs=1, loss="cross_entropy + border"))
    value = loss(logits, masks, instances)
    log_p = F.log_softmax(logits, dim=1).data
    valid = masks != 255
    each = -np.take_along_axis(log_p, np.where(valid, masks, 0)[:, None], 1)[:, 0]
    weights = 1 + np.stack([border_definition(i, 10.0, 5.0) for i in instances])
    expected = (each * weights * valid).sum() / valid.sum()
    assert value.item() == pytest.approx(expected, rel=1e-6)
    value.backward()
    # In a gap the gradient is 1 + w times the plain one's.
    plain = Tensor(logits.data.copy()).requires_grad_()
    recipe.build_loss(Config(epochs=1))(plain, masks).backward()
    ratio = logits.grad.data[0, :, 5, 12] / plain.grad.data[0, :, 5, 12]
    np.testing.assert_allclose(ratio, weights[0, 5, 12], rtol=1e-6)


def test_data_without_cells_is_refused():
    loss = recipe.build_loss(Config(epochs=1, loss="cross_entropy + border"))
    with pytest.raises(ValueError, match="border needs instances"):
        loss(Tensor(np.zeros((1, 2, 4, 4), np.float32)), np.zeros((1, 4, 4), np.int64))
    with pytest.raises(ValueError, match="loss: got 'border'"):
        recipe.build_loss(Config(epochs=1, loss="border"))


def test_networks_without_padding_get_the_middle():
    loss = recipe.build_loss(Config(epochs=1, loss="cross_entropy + border"))
    instances = cells()[None]
    masks = (instances > 0).astype(np.int64)
    logits = np.random.default_rng(0).standard_normal((1, 2, 20, 22))
    got = loss(Tensor(logits), masks, instances).item()
    framed = np.zeros((1, 2, 24, 30))
    framed[:, :, 2:-2, 4:-4] = logits
    outside = np.full_like(masks, 255)
    outside[:, 2:-2, 4:-4] = masks[:, 2:-2, 4:-4]
    assert got == pytest.approx(loss(Tensor(framed), outside, instances).item(), rel=1e-6)
