"""What lessons share: command line, random seed, training of small networks, look of figures.

lesson = start()                         # reads --fast --seed --device --out
steps = 20 if lesson.fast else 300
lesson.fit(model, images, masks, steps)  # trains; lesson.predict(model, images) gives labels
figure = lesson.figure(9, 4)             # inches
lesson.save(figure, "02_convolution")    # out/02_convolution.png; shown, too, in a notebook
lesson.compiler()                        # for lessons about kernels: what compiles them, or the end
result = lesson.study("crf")             # what a recorded study found; lesson.dots draws its seeds
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import minseg.functional as F
from minseg import nn, optim, viz
from minseg.device import to_device
from minseg.random import manual_seed
from minseg.tape import no_grad
from minseg.tensor import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from minseg.studies import Result

# Okabe & Ito's colours, which readers with any colour vision can tell apart, the darkest first.
BLUE, ORANGE, GREEN, PINK, SKY, AMBER = (
    f"#{r:02x}{g:02x}{b:02x}" for r, g, b in viz.OKABE_ITO[[5, 6, 3, 7, 2, 1]]
)
# Large enough to be read at half size.
_STYLE: dict[Any, Any] = {
    "font.size": 13,
    "axes.titlesize": 13,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": f"cycler('color', {[BLUE, ORANGE, GREEN, PINK, SKY, AMBER]})",
    "lines.linewidth": 2.2,
    "image.cmap": "cividis",
    "image.interpolation": "nearest",
    "legend.frameon": False,
}
FOOT = 0.28  # inches, for a line below a figure

FAST = "--fast: small sizes, short runs; what the lesson claims need not show here"

# What of this run is a learner's own: `minseg lesson run --with` fills it, each figure shows it.
stand_ins: list[object] = []


@dataclass(frozen=True)
class Lesson:
    """How this run was asked for.

    fast: small sizes, for a quick check; a lesson then asserts only what holds even there.
    seed: `minseg.manual_seed` has it already. device: "cpu", "cuda". out: where figures go.
    """

    fast: bool
    seed: int
    device: str
    out: Path

    def fit(
        self,
        model: nn.Module,
        images: np.ndarray,
        masks: np.ndarray,
        steps: int,
        batch_size: int = 8,
        lr: float = 0.01,
        loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    ) -> list[float]:
        """Train on images (n, C, H, W) and masks (n, H, W); returns the loss of each step.

        AdamW, a one-cycle schedule; the batches depend on the seed alone.
        """
        order = np.random.default_rng(self.seed)
        optimizer = optim.AdamW(model.to(self.device).train().parameters(), lr=lr)
        schedule = optim.OneCycleLR(optimizer, max_lr=lr, total_steps=steps)
        losses = []
        for _ in range(steps):
            batch = order.choice(len(images), batch_size, replace=False)
            x, target = Tensor(images[batch]).to(self.device), Tensor(masks[batch]).to(self.device)
            value = loss(model(x), target)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            schedule.step()
            losses.append(value.item())
        return losses

    def predict(self, model: nn.Module, images: np.ndarray) -> np.ndarray:
        """The class of each pixel, (n, H, W), in evaluation mode."""
        model.to(self.device).eval()
        batches = [images[i : i + 16] for i in range(0, len(images), 16)]
        with no_grad():
            scores = [model(Tensor(batch).to(self.device)).numpy() for batch in batches]
        return np.concatenate([part.argmax(axis=1) for part in scores])

    def compiler(self) -> tuple[str, ...]:
        """The command that compiles kernels for the CPU.

        Where there is none, the lesson ends here, with what to install and exit code 1.
        """
        from minseg.emulator.compiler import compiler

        try:
            return compiler()
        except RuntimeError as error:
            sys.exit(f"minseg: error: {error}")

    def study(self, name: str) -> "Result":
        """The recorded result of a study, printed: means and spreads over its seeds, the verdicts.

        Raises ValueError for an unknown study.
        """
        from minseg.studies import recorded
        from minseg.studies.report import sentence

        result = recorded(name)
        direction = ", lower is better" if result.lower_is_better else ""
        print(f"minseg study {name}, {len(result.seeds)} seeds: {result.measure}{direction}")
        print(f"    ({result.setting})")
        wide = max(map(len, result.scores))
        for arm in result.scores:
            print(f"    {arm:{wide}}  {result.mean(arm):.3f}, spread {result.spread(arm):.3f}")
        for comparison in result.comparisons:
            print(f"    {sentence(comparison)}")
        return result

    def dots(self, axis: "Axes", result: "Result", arms: Sequence[str] | None = None) -> None:
        """Draw a dot a seed of these arms (default: all), and a bar and a number for each mean."""
        from minseg.studies.report import dots

        dots(axis, result, arms or list(result.scores), letters=10)

    def figure(self, width: float, height: float) -> "Figure":
        """An empty figure of this size in inches, in the style of the lessons."""
        import matplotlib
        from matplotlib.figure import Figure

        matplotlib.rcParams.update(_STYLE)
        return Figure(figsize=(width, height), layout="constrained")

    def save(self, figure: "Figure", name: str) -> None:
        """Write the figure as `out`/name.png and say so; in a notebook, show it as well.

        A line below the figure says so where the run is a --fast one, or has a learner's layers.
        """
        path = self.out / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [FAST] * self.fast + [str(stand_in) for stand_in in stand_ins]
        viz.save(_with_text_below(figure, lines) if lines else figure, path)
        print(f"figure: {path}")
        if _in_notebook():
            from IPython.display import Image, display

            display(Image(filename=str(path)))


def start(arguments: Sequence[str] | None = None) -> Lesson:
    """Read the command line (or `arguments`) and seed minseg's random numbers.

    In a notebook the command line belongs to the notebook, and the defaults hold.
    """
    # No abbreviations: a notebook passes --f=connection.json, which is not short for --fast.
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--fast", action="store_true", help="small sizes: a check in seconds")
    parser.add_argument("--seed", type=int, default=0, help="of all random numbers (default: 0)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: cpu)")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the figures")
    options, unknown = parser.parse_known_args(arguments)
    if unknown and not _in_notebook():
        parser.error(f"unknown argument {unknown[0]!r}")
    try:
        to_device(np.empty(0, np.float32), options.device)
    except (ValueError, RuntimeError) as error:
        parser.error(str(error))
    manual_seed(options.seed)
    if options.fast:
        print(FAST)
    return Lesson(options.fast, options.seed, options.device, options.out)


def _with_text_below(figure: "Figure", lines: Sequence[str]) -> "Figure":
    """A picture of the figure with these lines below it, so that the two cannot overlap."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure.dpi = viz.DPI
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = np.asarray(canvas.buffer_rgba())
    pixels_high, pixels_wide = picture.shape[:2]
    foot = int(viz.DPI * FOOT * (len(lines) + 0.5))
    size = pixels_wide / viz.DPI, (pixels_high + foot) / viz.DPI
    taller = Figure(size, viz.DPI)
    taller.figimage(picture, 0, foot)
    for number, line in enumerate(reversed(lines)):
        y = (number + 0.3) * FOOT / size[1]
        taller.text(0.01, y, line, fontsize=12, parse_math=False)
    return taller


def _in_notebook() -> bool:
    return "ipykernel" in sys.modules
