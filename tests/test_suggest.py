"""Names that were mistyped are met with the one that was meant."""

import pytest

from minseg import models
from minseg.data import open_dataset
from minseg.suggest import suggest


def test_what_is_near_and_what_is_not():
    assert suggest("unett", ["fcn8s", "unet"]) == "; did you mean 'unet'?"
    assert suggest("zebra", ["fcn8s", "unet"]) == ""


@pytest.mark.parametrize(
    ("wrong", "right"), [("camvit", "camvid"), ("shape", "shapes"), ("foldr:photos", "folder:PATH")]
)
def test_data_sets(wrong, right):
    with pytest.raises(ValueError, match=f"did you mean '{right}'"):
        open_dataset(wrong)


@pytest.mark.parametrize(
    ("wrong", "right"), [("unett", "unet"), ("fcn-8s", "fcn8s"), ("deeplabv3pls", "deeplabv3plus")]
)
def test_networks(wrong, right):
    with pytest.raises(ValueError, match=f"did you mean '{right}'"):
        models.build(wrong, num_classes=2)
