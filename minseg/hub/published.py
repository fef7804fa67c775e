"""Published weights by name: `load("segformer_b0_ade20k")` fetches, checks and keeps them.

A file is fetched once, into ~/.cache/minseg/weights ($XDG_CACHE_HOME moves it), and read from there
afterwards, offline too. Its SHA-256 is compared with what its publisher says: torchvision's file
names end with its first digits, and Hugging Face's Git LFS pointer, served under raw/ in place of
resolve/, states it. A file with another hash is not kept.

The weights have licences of their own; NVIDIA's SegFormer allows research, not commerce.
"""

import hashlib
import os
import re
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minseg import nn
from minseg.cache import cache_folder
from minseg.data.cityscapes import Cityscapes
from minseg.data.dataset import voc_palette
from minseg.data.voc import VOC
from minseg.hub.ade20k import ADE20K
from minseg.hub.names import adapt
from minseg.hub.weights import load_weights
from minseg.models import build
from minseg.suggest import suggest

TORCHVISION = "https://download.pytorch.org/models"
HUGGING_FACE = "https://huggingface.co/nvidia"
CHUNK = 1 << 18  # bytes


# The classes that the logits stand for, and their colours.
CLASSES = {
    "voc": (VOC.classes, VOC.palette),
    "cityscapes": (Cityscapes.classes, Cityscapes.palette),
    "ade20k": (ADE20K, voc_palette(len(ADE20K))),
}


@dataclass(frozen=True)
class Published:
    """A file of weights: where it is, and the network and the data set that it is for."""

    url: str
    model: str
    data: str  # a key of CLASSES
    size: tuple[int, int]  # (H, W) for a 4:3 picture, or Cityscapes'; others get as many pixels
    options: dict[str, Any] = field(default_factory=dict)


def _torchvision(file: str) -> Published:
    """Trained on the images of COCO that show VOC's classes, with an auxiliary head.

    The shorter side is scaled to 520 (torchvision's SemanticSegmentation preset of these weights).
    """
    model = file.partition("_coco")[0]
    return Published(f"{TORCHVISION}/{file}", model, "voc", (520, 693), {"aux_loss": True})


def _segformer(variant: int, data: str, size: int) -> Published:
    """ADE20K's shorter side is scaled to `size` (Xie et al. 2021, section 4.1); Cityscapes' images,
    of which the crops of training are parts, stay as they are.
    """
    short = data.removesuffix("20k")
    folder = f"segformer-b{variant}-finetuned-{short}-{size}-{size}"
    url = f"{HUGGING_FACE}/{folder}/resolve/main/pytorch_model.bin"
    whole = (1024, 2048) if data == "cityscapes" else (size, round(size * 4 / 3))
    return Published(url, f"segformer_b{variant}", data, whole)


PUBLISHED: dict[str, Published] = {
    "fcn_resnet50_coco": _torchvision("fcn_resnet50_coco-1167a1af.pth"),
    "fcn_resnet101_coco": _torchvision("fcn_resnet101_coco-7ecb50ca.pth"),
    "deeplabv3_resnet50_coco": _torchvision("deeplabv3_resnet50_coco-cd0a2569.pth"),
    "deeplabv3_resnet101_coco": _torchvision("deeplabv3_resnet101_coco-586e9e4e.pth"),
    **{f"segformer_b{b}_ade20k": _segformer(b, "ade20k", 512) for b in range(5)},
    "segformer_b5_ade20k": _segformer(5, "ade20k", 640),
    **{f"segformer_b{b}_cityscapes": _segformer(b, "cityscapes", 1024) for b in range(6)},
}


def load(name: str) -> nn.Module:
    """The network with published weights, in evaluation mode; fetched if it is not here yet.

    fcn_resnet50_coco, fcn_resnet101_coco, deeplabv3_resnet50_coco, deeplabv3_resnet101_coco: of
    torchvision, 21 classes of VOC. segformer_b0_ade20k ... b5, segformer_b0_cityscapes ... b5: of
    Hugging Face, 150 and 19 classes. All want images normalised by ImageNet's mean and deviation.

    Raises ValueError for another name, and for a file that is not what was published; OSError,
    which says where to put a file fetched by other means, where there is no network.
    """
    path = fetch(name)
    known = PUBLISHED[name]
    classes, _ = CLASSES[known.data]
    network = build(known.model, num_classes=len(classes), **known.options)
    network.load_state_dict(adapt(known.model, load_weights(path)), strict=True)
    return network.eval()


def fetch(name: str) -> Path:
    """The file of these weights, which is downloaded unless it is there. Raises as `load` does."""
    if name not in PUBLISHED:
        raise ValueError(
            f"load: no weights are called {name!r}{suggest(name, PUBLISHED)}; there are: "
            f"{', '.join(PUBLISHED)}"
        )
    path = cache_folder("weights") / f"{name}.pth"
    if path.exists():
        return path
    url = PUBLISHED[name].url
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        expected = _published_hash(url)
        found = _download(url, partial, name)
        if not found.startswith(expected):
            raise ValueError(
                f"load: {url} has SHA-256 {found}, its publisher says {expected}; nothing was kept"
            )
        os.replace(partial, path)
    except OSError as error:
        reason = getattr(error, "reason", None) or error
        raise OSError(
            f"load: {name} could not be fetched: {reason}. Without a network, fetch\n  {url}\n"
            f"by other means, and put it here:\n  {path}"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return path


def _published_hash(url: str) -> str:
    """The hexadecimal SHA-256 of the file, or how it begins, as its publisher says."""
    if in_name := re.search(r"-([0-9a-f]{8})\.pth$", url):
        return in_name[1]
    with urllib.request.urlopen(url.replace("/resolve/", "/raw/"), timeout=30) as answer:
        pointer = answer.read(1 << 12).decode("utf-8", "replace")
    stated = re.search(r"^oid sha256:([0-9a-f]{64})$", pointer, re.MULTILINE)
    if stated is None:
        raise ValueError(f"load: {url} has no Git LFS pointer that states its SHA-256")
    return stated[1]


def _download(url: str, path: Path, title: str) -> str:
    """Writes the file, with a bar on a terminal; its SHA-256. Raises OSError if it is cut short."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    digest = hashlib.sha256()
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with (
        urllib.request.urlopen(url, timeout=30) as answer,
        open(path, "wb") as file,
        Progress(*columns, TimeRemainingColumn(), console=console,
                 disable=not console.is_terminal, transient=True) as bar,
    ):  # fmt: skip
        length = int(answer.headers.get("Content-Length") or 0)
        task = bar.add_task(title, total=length or None)
        while chunk := answer.read(CHUNK):
            file.write(chunk)
            digest.update(chunk)
            bar.advance(task, len(chunk))
        if length and file.tell() != length:
            raise OSError(f"{file.tell()} of {length} bytes came")
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()
