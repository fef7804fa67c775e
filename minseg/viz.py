"""Pictures of segmentations: colours, overlays, error maps, training curves, feature maps.

Images are (H, W, 3) or (H, W, 1) floats in 0..1, masks (H, W) integers with 255 for void. Functions
named `*_figure` return a matplotlib Figure, which `save` writes; matplotlib is imported by them
only, and never asks for a screen.
"""

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from minseg.files import PathLike, write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe & Ito's eight colours, which readers with any colour vision can tell apart.
# Source: "Color universal design", 2008, https://jfly.uni-koeln.de/color/
OKABE_ITO = np.array(
    [[0, 0, 0], [230, 159, 0], [86, 180, 233], [0, 158, 115],
     [240, 228, 66], [0, 114, 178], [213, 94, 0], [204, 121, 167]], np.uint8)  # fmt: skip
_BLUE, _ORANGE, _GREEN = "#0072B2", "#D55E00", "#009E73"
_VOID_COLOUR = (255, 255, 255)
_WRONG = OKABE_ITO[6]
DPI = 110  # pixels of a PNG per inch of its figure
_MOST_SHOWN = 2**21  # pixels of a picture in a figure: of a photo, matplotlib makes many copies
_TALLEST = 4.0  # height over width that a picture gets in a figure: strips would make it a tower


def rgb(image: np.ndarray) -> np.ndarray:
    """An image with values in 0..1, grey or RGB, as (H, W, 3) uint8."""
    pixels = (255 * np.clip(image, 0, 1) + 0.5).astype(np.uint8)
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3))


def colourise(mask: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """The mask in the colours of its classes, void in white: (H, W, 3) uint8."""
    table = np.full((256, 3), _VOID_COLOUR, np.uint8)
    table[: len(palette)] = palette
    return table[mask]


def outlines(mask: np.ndarray) -> np.ndarray:
    """Where a pixel's right or lower neighbour has another label: (H, W) bool."""
    edge = np.zeros(mask.shape, bool)
    edge[:-1] |= mask[:-1] != mask[1:]
    edge[:, :-1] |= mask[:, :-1] != mask[:, 1:]
    return edge


def overlay(
    image: np.ndarray, mask: np.ndarray, palette: np.ndarray, opacity: float = 0.5
) -> np.ndarray:
    """The image, tinted in the colours of its classes, with a white line between them.

    Void stays untinted. Returns (H, W, 3) uint8.
    """
    base = rgb(image)
    tinted = colourise(mask, palette).astype(np.float32)  # base + opacity (colour - base), in place
    tinted -= base
    tinted *= np.float32(opacity)
    tinted += base
    tinted += 0.5
    shown = tinted.astype(np.uint8)
    void = mask >= len(palette)
    shown[void] = base[void]
    shown[outlines(mask)] = 255
    return shown


def error_map(
    image: np.ndarray, prediction: np.ndarray, target: np.ndarray, ignore_index: int = 255
) -> np.ndarray:
    """Wrong pixels in vermilion on the pale grey image, void in white: (H, W, 3) uint8."""
    grey = rgb(image).mean(axis=2, keepdims=True)
    picture = np.repeat((150 + 0.35 * grey).astype(np.uint8), 3, axis=2)
    picture[prediction != target] = _WRONG
    picture[target == ignore_index] = _VOID_COLOUR
    return picture


def palette_png(mask: np.ndarray, palette: np.ndarray) -> bytes:
    """A PNG that stores the labels themselves, and shows them in their colours."""
    from PIL import Image

    picture = Image.fromarray(mask.astype(np.uint8)).convert("P")
    table = np.full((256, 3), _VOID_COLOUR, np.uint8)
    table[: len(palette)] = palette
    picture.putpalette(table.tobytes())
    return _png(picture)


def image_png(picture: np.ndarray) -> bytes:
    """A PNG of an (H, W, 3) or (H, W) uint8 picture."""
    from PIL import Image

    return _png(Image.fromarray(np.ascontiguousarray(picture)))


def _png(picture: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()


def save(figure: "Figure", path: PathLike) -> None:
    """Write a figure as PNG, whole or not at all."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DPI)
    write_atomically(path, stream.getvalue())


def samples_figure(
    images: Sequence[np.ndarray],
    targets: Sequence[np.ndarray],
    predictions: Sequence[np.ndarray],
    classes: Sequence[str],
    palette: np.ndarray,
    history: Sequence[Mapping[str, float]] = (),
    title: str = "",
) -> "Figure":
    """A row for each sample: image, truth, prediction, errors; below, the legend and the curves.

    history: the rows of a run's metrics, as for `curves_figure`; none leaves the curves out.
    """
    height, width = targets[0].shape
    rows = len(images)
    row_height = 12 / 4 * min(height / width, _TALLEST)
    pictures_height = rows * row_height + 0.75 + _legend_height(classes, 12)
    curves_height = 2.6 if history else 0.0
    figure = _figure(12, pictures_height + curves_height)
    parts = figure.subfigures(
        2 if history else 1, 1, squeeze=False,
        height_ratios=[pictures_height, curves_height] if history else None,
    )[:, 0]  # fmt: skip
    axes = parts[0].subplots(rows, 4, squeeze=False)
    for row, image, target, prediction in zip(axes, images, targets, predictions, strict=True):
        # The truth's void is white in the prediction too: nobody knows what would be right there.
        shown = np.where(target == 255, 255, prediction)
        valid = target != 255
        share = (prediction != target)[valid].mean() if valid.any() else math.nan
        pictures = (rgb(image), colourise(target, palette), colourise(shown, palette),
                    error_map(image, prediction, target))  # fmt: skip
        for axis, picture in zip(row, pictures, strict=True):
            axis.imshow(picture, interpolation="nearest")
            axis.set_axis_off()
        row[3].text(
            0.98, 0.03, f"{share:.1%} wrong", transform=row[3].transAxes, ha="right", va="bottom",
            fontsize=9, bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 2},
        )  # fmt: skip
    for axis, name in zip(axes[0], ("image", "truth", "prediction", "errors"), strict=True):
        axis.set_title(name, fontsize=11)
    has_void = any((target == 255).any() for target in targets)
    entries = [*zip(classes, palette, strict=True)] + has_void * [("void", np.array(_VOID_COLOUR))]
    _legend(parts[0], entries, 12)
    if title:
        figure.suptitle(title, fontsize=12, parse_math=False)  # it names files
    if history:
        _draw_curves(parts[1].subplots(1, 2), history)
    return figure


def curves_figure(history: Sequence[Mapping[str, float]], title: str = "") -> "Figure":
    """Loss and scores over the steps of training.

    history: rows with "step", "train_loss", "val_loss", "val_mIoU" and "val_pixel_accuracy".
    """
    figure = _figure(10, 3.6)
    if title:
        figure.suptitle(title, fontsize=12, parse_math=False)  # it names files
    _draw_curves(figure.subplots(1, 2), history)
    return figure


def prediction_figure(
    image: np.ndarray,
    mask: np.ndarray,
    confidence: np.ndarray,
    classes: Sequence[str],
    palette: np.ndarray,
) -> "Figure":
    """Image, overlay and confidence (H, W, the winner's probability) with a legend."""
    height, width = mask.shape
    shares = np.bincount(mask.ravel(), minlength=len(classes)) / mask.size
    step = math.ceil(math.sqrt(mask.size / _MOST_SHOWN))
    image, mask, confidence = (a[::step, ::step] for a in (image, mask, confidence))
    entries = [
        (f"{name} ({share:.1%})", colour)
        for name, share, colour in zip(classes, shares, palette, strict=True)
        if share > 0
    ]
    side = 4.1 * min(height / width, _TALLEST)  # of a picture, in inches
    figure = _figure(13, side + 0.5 + _legend_height([name for name, _ in entries], 13))
    axes = figure.subplots(1, 3)
    axes[0].imshow(rgb(image))
    axes[1].imshow(overlay(image, mask, palette))
    shown = axes[2].imshow(confidence, cmap="cividis", vmin=1 / len(classes), vmax=1)
    bar = axes[2].inset_axes([1.02, 0, 0.04, 1])  # as high as the picture
    figure.colorbar(shown, cax=bar, ticks=None if side > 0.5 else [1])
    for axis, name in zip(axes, ("image", "prediction", "confidence"), strict=True):
        axis.set_title(name, fontsize=11)
        axis.set_axis_off()
    _legend(figure, entries, 13)
    return figure


def features_figure(features: np.ndarray, layer: str, most: int = 64) -> "Figure":
    """The first `most` channels of a layer's output (C, H, W), each from its own lowest to highest.

    A channel that has one value everywhere is marked "dead".
    """
    count = min(len(features), most)
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    side = 1.35
    height = side * min(features.shape[1] / features.shape[2], _TALLEST) + 0.22
    figure = _figure(max(side * columns, 4), rows * height + 0.5)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for index, axis in zip(range(count), axes, strict=False):
        channel = features[index]
        dead = channel.min() == channel.max()
        axis.imshow(channel, cmap="gray", interpolation="nearest")
        axis.set_title(f"{index} dead" if dead else str(index), fontsize=7, pad=2)
    channels, h, w = features.shape
    rest = f", the first {count} of {channels} channels" if count < channels else ""
    figure.suptitle(f"{layer}: {channels} x {h} x {w}{rest}", fontsize=10)
    return figure


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _legend_columns(names: Sequence[str], width: float) -> int:
    """How many names fit side by side: at 9 points a letter is 0.08 inches wide, a box 0.7."""
    longest = max(map(len, names))
    return max(1, min(7, len(names), int(width / (0.7 + 0.08 * longest))))


def _legend_height(names: Sequence[str], width: float) -> float:
    """Inches: rows of 9 points, with half of that between them, and a margin."""
    return 0.06 + 13.5 / 72 * math.ceil(len(names) / _legend_columns(names, width))


def _legend(figure: Any, entries: Sequence[tuple[str, np.ndarray]], width: float) -> None:
    """Draw the names and colours (0..255) below a figure of this width, in inches."""
    from matplotlib.patches import Patch

    patches = [
        Patch(facecolor=tuple((colour / 255).tolist()), edgecolor="0.4") for _, colour in entries
    ]
    names = [name for name, _ in entries]
    legend = figure.legend(
        patches, ["-"] * len(names), loc="outside lower center",
        ncols=_legend_columns(names, width), frameon=False, fontsize=9,
    )  # fmt: skip
    # As labels, matplotlib would leave out "_background_" (labelme's name), and typeset "a$b$".
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_parse_math(False)
        text.set_text(name)


def _draw_curves(axes: Any, history: Sequence[Mapping[str, float]]) -> None:
    from matplotlib.ticker import MaxNLocator

    loss, score = axes
    steps = [row["step"] for row in history]

    def line(axis: Any, key: str, label: str, colour: str, style: str = "-") -> None:
        values = [row[key] for row in history]
        axis.plot(steps, values, style, color=colour, label=label, marker=".", markersize=4)

    line(loss, "train_loss", "training", _BLUE)
    line(loss, "val_loss", "validation", _ORANGE, "--")
    line(score, "val_mIoU", "mean IoU", _GREEN)
    line(score, "val_pixel_accuracy", "pixel accuracy", _BLUE, "--")
    loss.set_ylim(bottom=0)
    score.set_ylim(0, 1)
    for axis, name in ((loss, "loss"), (score, "validation")):
        axis.set_title(name, fontsize=10)
        axis.set_xlabel("step", fontsize=9)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
        axis.legend(frameon=False, fontsize=8)
