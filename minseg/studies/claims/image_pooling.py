"""Image pooling in ASPP, where something far away decides."""

from functools import partial

from minseg import Tensor, nn
from minseg.data import Cached
from minseg.models.deeplabv3 import ASPP, ConvBNReLU
from minseg.models.resize import resize
from minseg.studies.scenes import Signs
from minseg.studies.study import Study
from minseg.studies.training import GREYS, fit, score

WIDTH = 16


class Net(nn.Module):
    """Three convolutions, of stride 4 together, and DeepLabV3's ASPP at rates 1, 2, 3.

    A score sees 19 pixels to each side. Without image pooling a 1x1 convolution stands in its
    place, so that weights and depth are the same.
    """

    def __init__(self, image_pooling: bool) -> None:
        super().__init__()
        stem = [ConvBNReLU(a, b, 3) for a, b in ((1, WIDTH), (WIDTH, WIDTH), (WIDTH, 2 * WIDTH))]
        for layer in stem[:2]:
            layer[0].stride = (2, 2)
        self.stem = nn.Sequential(*stem)
        self.aspp = ASPP(2 * WIDTH, (1, 2, 3), 2 * WIDTH)
        if not image_pooling:
            self.aspp.convs[-1] = ConvBNReLU(2 * WIDTH, 2 * WIDTH)
        self.head = nn.Conv2d(2 * WIDTH, len(Signs.classes), 1)

    def forward(self, x: Tensor) -> Tensor:
        return resize(self.head(self.aspp(self.stem(x))), like=x)


def disc_iou(model: nn.Module, seed: int) -> float:
    """The mean over both kinds of disc; one kind everywhere is about 0.25."""
    return float(score(model, Signs(60, 2 * seed + 1), GREYS).confusion.iou().values[1:].mean())


def train(image_pooling: bool, seed: int, steps: int) -> float:
    model = Net(image_pooling)
    fit(model, Cached(Signs(400, 2 * seed)), seed, steps, GREYS)
    return disc_iou(model, seed)


STUDY = Study(
    name="image-pooling",
    claim="The average over the image brings in what no rate reaches",
    source="Chen et al. 2017, arXiv:1706.05587 (DeepLab v3), section 3.3",
    setting="drawn discs whose kind a sign tells, 30 pixels away and more; a small network with "
    "ASPP that sees 19 pixels to each side",
    measure="IoU of discs",
    trainings={"image pooling": partial(train, True), "a 1x1 instead": partial(train, False)},
    expect=(("image pooling", "a 1x1 instead"),),
    steps=400,
)
