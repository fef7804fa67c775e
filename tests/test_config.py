import pytest

from minseg.config import Config, configure


@pytest.mark.parametrize("name", ["optimizer", "schedule", "class_weights", "augment"])
def test_a_choice_that_does_not_exist(name):
    with pytest.raises(ValueError, match=f"{name}: got 'x', needs one of"):
        configure("unet", "shapes", **{name: "x"})


@pytest.mark.parametrize("name", ["seed", "workers", "weight_decay"])
def test_a_number_below_zero_is_named(name):
    with pytest.raises(ValueError, match=f"{name}: got -1, needs a finite number, 0 or more"):
        configure("unet", "shapes", **{name: -1})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["lr", "minutes", "weight_decay"])
def test_a_number_that_is_none_is_named(name, value):
    with pytest.raises(ValueError, match=f"{name}: got {value}, needs"):
        configure("unet", "shapes", **{name: value})


def test_images_scaled_by_chance_are_cropped_to_one_size():
    assert configure("unet", "shapes").crop is None
    assert configure("unet", "shapes", augment="scene").crop == (64, 64)
    assert configure("unet", "shapes", augment="scene", size=(32, 48)).crop == (32, 48)
    assert configure("unet", "shapes", augment="scene", crop=(40, 40)).crop == (40, 40)


def test_a_crop_that_nobody_asked_for_is_no_larger_than_the_images():
    assert configure("unet", "folder:x").crop == (256, 256)
    assert configure("unet", "folder:x", size=(120, 400)).crop == (120, 256)
    assert configure("unet", "folder:x", size=(120, 400), crop=(500, 500)).crop == (500, 500)


def test_options_over_defaults():
    config = configure("unet", "camvid", lr=0.5, minutes=3.0, options={"depth": 2})
    assert config.options == {"width": 16, "norm": "batch", "dropout": 0.0, "depth": 2}
    assert (config.lr, config.minutes, config.epochs, config.size) == (0.5, 3.0, None, (120, 160))
    assert configure("unet", "folder:x").crop == (256, 256)
    assert Config.from_dict(config.to_dict()) == config
    older = {name: value for name, value in config.to_dict().items() if name != "save_every"}
    assert Config.from_dict(older) == config
    with pytest.raises(ValueError, match="knows no colour"):
        Config.from_dict({**config.to_dict(), "colour": 1})
