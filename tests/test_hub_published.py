"""Published weights, fetched from a stand-in for their sites: random ones in the same layout."""

import hashlib
import io
import json
import urllib.error
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from minseg import Tensor, hub, no_grad
from minseg.hub import published
from minseg.models import build
from minseg.network import load_network
from minseg.predict import working_size
from tests.golden.make_models import formula
from tests.test_hub import pickled, tensor, zipped

RAW = "https://huggingface.co/nvidia/segformer-b0-finetuned-ade-512-512/raw/main/pytorch_model.bin"
RESOLVE = RAW.replace("/raw/", "/resolve/")


def torch_file(state):
    """What torch.save writes of a state_dict."""
    tree, records = {}, {}
    for key, (name, array) in enumerate(state.items()):
        kind = "torch.LongStorage" if array.dtype == np.int64 else "torch.FloatStorage"
        stride = tuple(s // array.itemsize for s in array.strides)
        tree[name] = tensor(
            shape=array.shape, stride=stride, key=str(key), length=array.size, kind=kind
        )
        records[str(key)] = array.tobytes()
    return zipped(pickled(tree), records)


def pointer(content):
    digest = hashlib.sha256(content).hexdigest()
    text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {len(content)}\n"
    return text.encode()


class Answer(io.BytesIO):
    def __init__(self, content, length):
        super().__init__(content)
        self.headers = {"Content-Length": str(length)} if length else {}


@pytest.fixture
def site(monkeypatch, tmp_path):
    """Address -> content, and what was asked for; an address that is missing is offline."""
    pages, asked = {}, []

    def urlopen(url, timeout):
        asked.append(url)
        if url not in pages:
            raise urllib.error.URLError("no route to host")
        content, length = pages[url] if isinstance(pages[url], tuple) else (pages[url], None)
        return Answer(content, len(content) if length is None else length)

    monkeypatch.setattr(published.urllib.request, "urlopen", urlopen)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    pages["asked"] = asked
    return pages


@pytest.fixture(scope="module")
def segformer():
    """B0's weights for 150 classes under the published names, and the file of them."""
    with np.load(Path(__file__).parent / "golden" / "segformer.npz") as arrays:
        shapes = json.loads(arrays["shapes"].tobytes())["segformer_b0"]
        names = json.loads(arrays["published"].tobytes())
    state = {}
    for name, new in names.items():
        shape = tuple(shapes[new])
        shape = (150, *shape[1:]) if "classifier" in new else shape
        dtype = np.dtype(np.int64 if "num_batches" in new else np.float32)
        state[name] = formula(new, shape, dtype)
    return state, torch_file(state)


def in_cache(tmp_path):
    return sorted(path.name for path in tmp_path.rglob("*") if path.is_file())


def test_segformer_is_fetched_once_checked_and_loaded(site, segformer, tmp_path):
    state, content = segformer
    site |= {RAW: pointer(content), RESOLVE: content}
    network = hub.load("segformer_b0_ade20k")
    assert site["asked"] == [RAW, RESOLVE]
    assert in_cache(tmp_path) == ["segformer_b0_ade20k.pth"]
    assert not network.training
    ours = network.state_dict()
    adapted = hub.adapt("segformer_b0", state)
    assert ours.keys() == adapted.keys()
    for name, array in adapted.items():
        np.testing.assert_array_equal(ours[name], array)

    del site[RAW], site[RESOLVE]  # offline, and from the command line's way in
    trained = load_network("segformer_b0_ade20k")
    assert len(site["asked"]) == 2
    assert (trained.classes[0], trained.classes[149], len(trained.palette)) == ("wall", "flag", 150)
    assert trained.channels == 3
    assert working_size(trained, (3000, 4000)) == (512, 683)  # not 12 million pixels of 150 classes
    image = Tensor(np.zeros((1, 3, 32, 40), np.float32))
    with no_grad():
        np.testing.assert_array_equal(trained.model(image).data, network(image).data)


def test_torchvision_s_hash_is_in_the_name(site, monkeypatch, tmp_path):
    content = torch_file(build("fcn_resnet50", 21, aux_loss=True, width=2).state_dict())
    begin = hashlib.sha256(content).hexdigest()[:8]
    known = hub.PUBLISHED["fcn_resnet50_coco"]
    url = known.url.replace("1167a1af", begin)
    narrow = replace(known, url=url, options={"aux_loss": True, "width": 2})
    monkeypatch.setitem(hub.PUBLISHED, "fcn_resnet50_coco", narrow)
    site[url] = (content, 0)  # in pieces, without a word of their length
    with no_grad():
        out = hub.load("fcn_resnet50_coco")(Tensor(np.zeros((1, 3, 33, 40), np.float32)))
    assert {name: x.shape for name, x in out.items()} == {
        "out": (1, 21, 33, 40),
        "aux": (1, 21, 33, 40),
    }
    assert load_network("fcn_resnet50_coco").classes[15] == "person"

    (tmp_path / "minseg" / "weights" / "fcn_resnet50_coco.pth").unlink()
    site[url] = content[:-1] + b"x"
    with pytest.raises(ValueError, match=rf"SHA-256 .*publisher says {begin}; nothing was kept"):
        hub.load("fcn_resnet50_coco")
    assert in_cache(tmp_path) == []


def test_what_leaves_nothing_behind(site, segformer, tmp_path):
    _, content = segformer
    site |= {RAW: pointer(content), RESOLVE: content[:-1] + bytes([content[-1] ^ 1])}
    with pytest.raises(ValueError, match=r"pytorch_model\.bin has SHA-256 .*nothing was kept"):
        hub.load("segformer_b0_ade20k")
    site[RESOLVE] = (content[:1000], len(content))
    with pytest.raises(OSError, match=rf"could not be fetched: 1000 of {len(content)} bytes came"):
        hub.load("segformer_b0_ade20k")
    site[RAW] = b"<html>Sign in</html>"
    with pytest.raises(ValueError, match="has no Git LFS pointer that states its SHA-256"):
        hub.load("segformer_b0_ade20k")
    assert in_cache(tmp_path) == []


def test_offline_says_where_to_put_the_file(site, segformer, tmp_path):
    path = tmp_path / "minseg" / "weights" / "segformer_b0_ade20k.pth"
    with pytest.raises(OSError, match="no route to host") as caught:
        hub.load("segformer_b0_ade20k")
    assert RESOLVE in str(caught.value)
    assert str(path) in str(caught.value)
    assert in_cache(tmp_path) == []
    path.write_bytes(segformer[1])
    assert len(list(hub.load("segformer_b0_ade20k").parameters())) == 205


def test_unknown_names_and_the_addresses():
    with pytest.raises(ValueError, match=r"did you mean 'segformer_b0_ade20k'"):
        hub.load("segformer_b0_ade")
    with pytest.raises(ValueError, match=r"no weights are called 'x'; there are: fcn_r"):
        hub.load("x")
    urls = {name: known.url for name, known in hub.PUBLISHED.items()}
    assert len(urls) == len(set(urls.values())) == 16
    assert urls["segformer_b5_ade20k"].endswith(
        "/nvidia/segformer-b5-finetuned-ade-640-640/resolve/main/pytorch_model.bin"
    )
    assert urls["segformer_b2_cityscapes"].endswith(
        "/nvidia/segformer-b2-finetuned-cityscapes-1024-1024/resolve/main/pytorch_model.bin"
    )
    assert urls["deeplabv3_resnet101_coco"] == (
        "https://download.pytorch.org/models/deeplabv3_resnet101_coco-586e9e4e.pth"
    )


def test_the_sizes_that_published_weights_see():
    sizes = {name: known.size for name, known in hub.PUBLISHED.items()}
    assert {min(size) for name, size in sizes.items() if name.endswith("_coco")} == {520}
    assert [min(sizes[f"segformer_b{b}_ade20k"]) for b in range(6)] == [512] * 5 + [640]
    for name, (height, width) in sizes.items():
        shape = 2 if "cityscapes" in name else 4 / 3
        assert abs(width - shape * height) < 1
    assert sizes["segformer_b0_cityscapes"] == (1024, 2048)
