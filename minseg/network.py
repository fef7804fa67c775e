"""A trained network and what its labels mean, from a run folder, a file or published weights."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minseg import checkpoint, hub, nn
from minseg.config import Config
from minseg.data.resized import Size
from minseg.device import to_device
from minseg.files import PathLike
from minseg.recipe import build_model
from minseg.suggest import suggest


@dataclass
class Network:
    """A trained network, and what its labels mean."""

    model: nn.Module
    config: Config
    classes: tuple[str, ...]
    palette: np.ndarray
    channels: int
    published_size: Size | None = None  # (H, W) that the publisher of the weights scales to


def load_network(path: PathLike, device: str = "cpu") -> Network:
    """The network in a run folder (its best weights, or else its last) or in a checkpoint.

    Or the one with weights that are published under this name (`minseg.hub.load`).
    Raises FileNotFoundError, and ValueError that names the file if it is broken or does not fit.
    """
    to_device(np.zeros(0), device)  # a wrong device is not the checkpoint's fault
    path = Path(path)
    if str(path) in hub.PUBLISHED and not path.exists():
        return _published(str(path), device)
    if not path.exists():
        hint = suggest(str(path), hub.PUBLISHED)
        raise FileNotFoundError(f"{path}: no such checkpoint{hint}")
    if path.is_dir():
        best, last = path / "best.safetensors", path / "last.safetensors"
        if not best.exists() and not last.exists():
            raise FileNotFoundError(f"{path}: no best.safetensors or last.safetensors in it")
        path = best if best.exists() else last
    state = checkpoint.load(path)
    try:
        config = Config.from_dict({**state["config"], "device": device})
        classes = tuple(str(name) for name in state["classes"])
        palette = np.array(state["palette"], np.uint8).reshape(len(classes), 3)
        model = build_model(config, len(classes), state["channels"])
        model.load_state_dict(state["model"])
        return Network(model, config, classes, palette, state["channels"])
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        what = f"{error.args[0]} is missing" if isinstance(error, KeyError) else error
        raise ValueError(f"{path}: no checkpoint of a network: {what}") from error


def _published(name: str, device: str) -> Network:
    known = hub.PUBLISHED[name]
    classes, palette = hub.CLASSES[known.data]
    config = Config(known.model, known.data, options=known.options, epochs=1, device=device)
    model = hub.load(name).to(device)
    return Network(model, config, classes, palette, channels=3, published_size=known.size)
