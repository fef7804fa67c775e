"""The weights that come with minseg: small, usable without a word, and as good as they say."""

import numpy as np
from PIL import Image

from minseg import checkpoint
from minseg.cli import main
from minseg.data import Street
from minseg.metrics import ConfusionMatrix
from minseg.network import load_network
from minseg.predict import segment
from minseg.pretrained import STREET


def test_the_file_is_small_and_says_how_it_was_made():
    assert STREET.stat().st_size < 2e6
    state = checkpoint.load(STREET)
    assert state["command"] == "python -m minseg.pretrained"
    assert state["config"]["data"] == "street"
    assert state["config"]["steps"] == state["step"]
    assert tuple(state["classes"]) == Street.classes


def test_scenes_that_it_never_saw():
    """Its record says what it scored on the validation set, of 250 others."""
    network = load_network(STREET)
    confusion = ConfusionMatrix(network.classes)
    scenes = Street(24, (96, 128), seed=12345)
    for index in range(24):
        sample = scenes[index]
        confusion.update(segment(network, sample.image)[0].astype(int), sample.mask)
    recorded = checkpoint.load(STREET)["scores"]["val_pixel_accuracy"]
    assert abs(confusion.pixel_accuracy() - recorded) < 0.03


def test_predict_needs_nothing_but_a_picture(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    picture = (255 * Street(1, (120, 160), seed=9)[0].image).astype(np.uint8)
    Image.fromarray(picture).save("photo.jpg")
    assert main(["predict", "photo.jpg"]) == 0
    out = capsys.readouterr().out
    assert "no --weights: a small U-Net that comes with minseg" in out
    assert "expect little" in out
    mask = np.asarray(Image.open("out/photo_mask.png"))
    assert mask.shape == (120, 160)
    assert len(np.unique(mask)) >= 3
