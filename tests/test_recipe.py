import numpy as np
import pytest

import minseg.functional as F
from minseg import Tensor, nn, optim, recipe
from minseg.config import configure
from minseg.data import Sample


def test_schedules():
    assert recipe.schedule("constant", 0.7) == 1
    assert recipe.schedule("onecycle", 0) == pytest.approx(1 / 25)
    assert recipe.schedule("onecycle", 0.3) == pytest.approx(1)
    assert recipe.schedule("onecycle", 1) == pytest.approx(1e-4)
    assert recipe.schedule("poly", 0.5) == pytest.approx(0.5**0.9)
    assert recipe.schedule("cosine", 0.25) == pytest.approx((1 + np.cos(np.pi / 4)) / 2)
    assert [recipe.schedule("step", p) for p in (0.5, 0.7, 0.9)] == [1, 0.1, 0.01]


def test_class_weights_by_hand():
    class Data(list):
        classes = ("a", "b", "c", "d")

    first, second = np.array([[0, 0, 0, 1]]), np.array([[0, 2, 255, 255]])
    data = Data(Sample(np.zeros((1, 4, 3), np.float32), mask) for mask in (first, second))
    # frequencies: a 4/6, b 1/4 (in the first image only), c 1/2; their median is 1/2
    median = recipe.count_class_weights(data, "median")
    np.testing.assert_allclose(median, [0.75, 2, 1, 0], rtol=1e-6)
    invlog = recipe.count_class_weights(data, "invlog")
    expected = [1 / np.log(1.02 + share) for share in (4 / 6, 1 / 6, 1 / 6, 0)]
    np.testing.assert_allclose(invlog, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "kind"), [("sgd", optim.SGD), ("adam", optim.Adam), ("adamw", optim.AdamW)]
)
def test_biases_and_norms_are_not_decayed(name, kind):
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1, bias=False))
    config = configure("unet", "shapes", optimizer=name, lr=0.25, weight_decay=0.5)
    optimizer = recipe.build_optimizer(config, model)
    assert type(optimizer) is kind
    matrices, vectors = optimizer.param_groups
    assert matrices["params"] == [model[0].weight, model[2].weight]
    assert vectors["params"] == [model[0].bias, model[1].weight, model[1].bias]
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.5, 0)
    assert (matrices["lr"], vectors["lr"]) == (0.25, 0.25)


def loss(name):
    return recipe.build_loss(configure("unet", "shapes", loss=name))


def test_losses_add_up():
    generator = np.random.default_rng(0)
    logits = Tensor(generator.standard_normal((2, 3, 4, 5)).astype(np.float32))
    masks = generator.integers(0, 3, (2, 4, 5))
    masks[0, 0, 0] = 255
    names = ("cross_entropy", "dice", "focal", "lovasz")
    values = {name: loss(name)(logits, masks).item() for name in names}
    mixed = loss("focal + 0.5*dice+2 * cross_entropy")(logits, masks)
    expected = values["focal"] + 0.5 * values["dice"] + 2 * values["cross_entropy"]
    assert mixed.item() == pytest.approx(expected, rel=1e-5)
    weights = np.float32([1, 2, 5])  # which Dice does not take
    weighted = recipe.build_loss(configure("unet", "shapes", loss="cross_entropy + dice"), weights)
    expected = values["dice"] + F.cross_entropy(
        logits, Tensor(masks), weight=Tensor(weights), ignore_index=255
    )
    assert weighted(logits, masks).item() == pytest.approx(expected.item(), rel=1e-5)
    aux = Tensor(generator.standard_normal((2, 3, 4, 5)).astype(np.float32))
    total = loss("cross_entropy")({"out": logits, "aux": aux}, masks).item()
    expected = values["cross_entropy"] + 0.4 * loss("cross_entropy")(aux, masks).item()
    assert total == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["crossentropy", "dice +", "x * dice"])
def test_a_loss_that_does_not_exist(name):
    with pytest.raises(ValueError, match="loss: got"):
        loss(name)
