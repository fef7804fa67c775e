"""Skips against none, on structures one or two pixels wide."""

from functools import partial

import minseg.functional as F
from minseg import Tensor, cat, nn
from minseg.data import Cached, Compose, Flip
from minseg.models.unet import double_conv
from minseg.studies.scenes import Wires
from minseg.studies.study import Study
from minseg.studies.training import GREYS, fit, score

TRANSFORM = Compose([GREYS, Flip(0.5, 0.5)])


class JoinedUNet(nn.Module):
    """A U-Net of 3 poolings whose way up meets the skips by `join`: "concat", "add" or "none".

    "none" puts zeros in the skip's place, so that all else, the number of weights too, is equal.
    """

    def __init__(self, join: str, width: int = 8) -> None:
        super().__init__()
        self.join = join
        channels = [width * 2**level for level in range(4)]
        pairs = zip([1, *channels], channels, strict=False)
        self.contract = nn.ModuleList(double_conv(a, b, "same", "batch") for a, b in pairs)
        upward = channels[-2::-1]
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * c, c, 2, stride=2) for c in upward)
        times = 1 if join == "add" else 2
        self.expand = nn.ModuleList(double_conv(times * c, c, "same", "batch") for c in upward)
        self.head = nn.Conv2d(width, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips: list[Tensor] = []
        for level, convs in enumerate(self.contract):
            x = convs(F.max_pool2d(x, 2) if level else x)
            skips.append(x)
        x = skips.pop()
        for up, convs in zip(self.up, self.expand, strict=True):
            x, skip = up(x), skips.pop()
            if self.join == "add":
                x = skip + x
            else:
                x = cat([skip if self.join == "concat" else 0 * skip.detach(), x], dim=1)
            x = convs(x)
        return self.head(x)


def train(join: str, width: int, seed: int, steps: int) -> float:
    model = JoinedUNet(join, width)
    fit(model, Cached(Wires(160, 2 * seed)), seed, steps, TRANSFORM)
    return score(model, Wires(40, 2 * seed + 1), GREYS).confusion.iou()["wire"]


STUDY = Study(
    name="skips",
    claim="Where a thin structure lies, only skips can say",
    source="Ronneberger, Fischer, Brox 2015, arXiv:1505.04597, section 1 and figure 1",
    setting="drawn wires of 1-2 pixels; U-Net of width 8, 3 poolings; zeros in place of the skips",
    measure="IoU of wires",
    trainings={"skips": partial(train, "concat", 8), "no skips": partial(train, "none", 8)},
    expect=(("skips", "no skips"),),
    steps=200,
)
