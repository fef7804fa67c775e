"""Names that were mistyped are met with the one that was meant."""

import pytest

import minseg
from minseg import models
from minseg.cli import main
from minseg.data import open_dataset
from minseg.network import load_network
from minseg.suggest import suggest


def test_what_is_near_and_what_is_not():
    assert suggest("unett", ["fcn8s", "unet"]) == " (did you mean 'unet'?)"
    assert suggest("zebra", ["fcn8s", "unet"]) == ""
    assert suggest("zebra", []) == ""


def test_of_several_that_are_as_near_the_first():
    assert suggest("segformer", ["unet", "segformer_b0", "segformer_b5"]).endswith("_b0'?)")


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


def test_ops():
    with pytest.raises(ValueError, match="did you mean 'conv2d'"), minseg.override("conv2"):
        pass


def test_published_weights():
    with pytest.raises(FileNotFoundError, match="did you mean 'segformer_b0_ade20k'"):
        load_network("segformer_b0_ade")


@pytest.mark.parametrize(
    ("words", "right"),
    [
        ("compare conv2", "conv2d"),
        ("sanitize conv2d_forwrd", "conv2d_forward"),
        ("profile matmull", "matmul"),
    ],
)
def test_ops_and_kernels_of_the_command_line(words, right, capsys):
    assert main(words.split()) == 1
    assert f"(did you mean '{right}'?)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "right"),
    [
        ("trian --steps 3", "train"),
        ("ladder matmal", "matmul"),
        ("lesson rum 14", "run"),
        ("exercise chek conv2d", "check"),
        ("train --schedule onecicle", "onecycle"),
    ],
)
def test_commands_actions_and_choices(words, right, capsys):
    with pytest.raises(SystemExit) as stop:
        main(words.split())
    assert stop.value.code == 2
    assert f"(did you mean '{right}'?)" in capsys.readouterr().err
