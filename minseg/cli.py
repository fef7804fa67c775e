"""The command `minseg`: what it takes. `minseg/commands.py` has what each command does.

Exit codes: 0 for success; 1 for an error, which is one message on stderr, or for a picture that
could not be read; 2 for a wrong command line; 130 for a run that Ctrl-C stopped.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence

EPILOG = """\
start with:
  minseg demo                                  train a small U-Net on drawn street scenes, 1 minute
  minseg train --data camvid --data-root D     train on real images
  minseg predict photo.jpg                     what a network that comes with minseg makes of it
  minseg compare conv2d                        one op, by every way that minseg has to compute it
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line (default: the process's own). Returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = _parser()
    if not arguments:
        parser.print_help()
        return 0
    options = vars(parser.parse_args(arguments))
    command = options.pop("command")
    if folder := options.pop("kernels", None):
        os.environ["MINSEG_KERNELS"] = folder
    try:
        from minseg import commands

        return getattr(commands, command)(**options)
    except KeyboardInterrupt:
        print("minseg: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has left: `minseg models | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, TypeError, OSError, RuntimeError, MemoryError) as error:
        if os.environ.get("MINSEG_TRACEBACK"):
            raise
        print(f"minseg: error: {str(error) or type(error).__name__}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="minseg",
        description="Segmentation networks from scratch: train, evaluate, predict, look inside.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    from minseg import __version__

    parser.add_argument("--version", action="version", version=f"minseg {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for add in (
        _demo, _train, _eval, _predict, _compare, _sanitize, _profile, _ladder, _bench,
        _lesson, _study, _exercise, _models, _doctor,
    ):  # fmt: skip
        add(commands)
    return parser


def _command(commands: argparse._SubParsersAction, name: str, summary: str, examples: str):
    return commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog="examples:\n" + examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _demo(commands: argparse._SubParsersAction) -> None:
    parser = _command(
        commands,
        "demo",
        "train a small U-Net on drawn scenes, in under a minute, and draw what it learnt",
        "  minseg demo\n  minseg demo --data shapes --seconds 15 --out out/shapes\n",
    )
    parser.add_argument("--data", choices=("street", "shapes"), default="street",
                        help="street scenes, or circles, rectangles and triangles")  # fmt: skip
    parser.add_argument("--seconds", type=_positive(float), default=40.0, metavar="S",
                        help="train no longer than this (default: 40)")  # fmt: skip
    parser.add_argument("--out", default="out/demo", metavar="DIR",
                        help="where the figure goes (default: out/demo)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, metavar="N")


_TRAIN_EXAMPLES = """\
  minseg train --data shapes
  minseg train --model unet --data camvid --data-root ~/data --minutes 10 --out runs/camvid
  minseg train --data folder:my_images --crop 192x192 --loss "cross_entropy + dice"
  minseg train --model fcn16s --init runs/fcn32s-street --data street
  minseg train --resume runs/camvid

--resume goes on to the same weights, bit for bit, as a run that was never stopped, unless the run
is timed by --minutes, where the learning rate follows the clock.
"""


def _train(commands: argparse._SubParsersAction) -> None:
    parser = _command(
        commands, "train", "train a network; Ctrl-C saves, --resume goes on", _TRAIN_EXAMPLES
    )
    add = parser.add_argument
    add("--model", help="the network; `minseg models` lists them (default: unet)")
    _add_data(parser, "(default: shapes)")
    add("--width", type=_positive(int), metavar="N", help="channels of the network's first stage")
    add("--depth", type=_positive(int), metavar="N", help="how deep: see `minseg models`")
    add("--norm", choices=("batch", "none"), help="normalisation after the convolutions")

    add("--option", action="append", metavar="NAME=VALUE", help="another option of the network")
    add("--init", metavar="RUN",
        help="start from this run's weights: the same network, or fcn32s for fcn16s")  # fmt: skip
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--epochs", type=_positive(int), metavar="N", help="train N epochs")
    budget.add_argument("--steps", type=_positive(int), metavar="N", help="train N batches")
    budget.add_argument("--minutes", type=_positive(float), metavar="M",
                        help="train M minutes, counted across --resume")  # fmt: skip

    add("--batch-size", type=_positive(int), metavar="N", help="images in a batch")
    add("--size", type=_size, metavar="HxW", help="scale whole images to this size first")
    add("--crop", type=_size, metavar="HxW", help="train on random crops of this size")
    add("--images", type=_positive(int), metavar="N", help="images to draw (shapes, street)")
    add(
        "--augment",
        choices=("none", "flip", "scene", "cells", "elastic"),
        help="flip: mirror; scene: and scale, recolour; cells: and turn, bend; elastic: bend only",
    )
    add(
        "--normalize",
        choices=("imagenet", "image", "upright"),
        help="by ImageNet's mean and deviation; by each image's own; and things made bright",
    )
    add("--lr", type=_positive(float), metavar="X", help="peak learning rate")
    add("--optimizer", choices=("adamw", "adam", "sgd"))
    add("--weight-decay", type=float, metavar="X")
    add("--schedule", choices=("onecycle", "poly", "cosine", "step", "constant"),
        help="of the learning rate")  # fmt: skip
    add("--loss", metavar="L",
        help='cross_entropy, dice, focal, lovasz, or a sum: "focal + 0.5 * dice"; '
             '"+ border" weighs the gaps between cells, as U-Net does')  # fmt: skip
    add("--class-weights", choices=("none", "median", "invlog"),
        help="weigh rare classes more: median frequency, inverse log frequency")  # fmt: skip
    add("--eval-every", type=_positive(int), metavar="N", help="epochs between validations")
    add("--save-every", type=_positive(float), metavar="S",
        help="seconds between checkpoints (default: 30)")  # fmt: skip
    add("--seed", type=int, metavar="N", help="same seed, same weights (default: 0)")
    add("--workers", type=int, metavar="N", help="threads that prepare batches (default: 2)")
    _add_device(parser)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--out", metavar="RUN", help="the run folder (default: runs/MODEL-DATA)")
    where.add_argument("--resume", metavar="RUN", help="go on with a run that was stopped")


_CRF = "let a fully connected CRF move borders to those of the picture"


def _eval(commands: argparse._SubParsersAction) -> None:
    parser = _command(
        commands,
        "eval",
        "score a trained network: IoU of each class, and the means",
        "  minseg eval --weights runs/unet-camvid --data-root ~/data\n"
        "  minseg eval --weights runs/unet-shapes --boundaries --json scores.json\n",
    )
    _add_weights(parser)
    _add_data(parser, "(default: what the network was trained on)")
    parser.add_argument("--split", default="val", help="which part of the data (default: val)")
    parser.add_argument("--boundaries", action="store_true",
                        help="boundary IoU and boundary F as well")  # fmt: skip
    parser.add_argument("--crf", action="store_true", help=_CRF)
    parser.add_argument("--batch-size", type=_positive(int), metavar="N")
    parser.add_argument("--json", metavar="FILE", help="write the scores there, too")
    _add_device(parser)


def _predict(commands: argparse._SubParsersAction) -> None:
    parser = _command(
        commands,
        "predict",
        "label the pixels of pictures of any size",
        "  minseg predict photo.jpg\n"
        "  minseg predict photo.jpg --weights runs/unet-camvid --out out\n"
        "  minseg predict *.png --weights W --out out --scales .75,1,1.25 --flip\n"
        "  minseg predict large.tif --weights W --out out --window 512\n"
        "  minseg predict photo.jpg --weights W --out out --crf\n"
        "  minseg predict photo.jpg --weights W --out out --features contract.0\n"
        "\nWithout --weights: a small U-Net that comes with minseg, trained on drawn streets.\n"
        "For each picture: NAME_mask.png (class indices, with a palette), NAME_overlay.png,\n"
        "NAME_confidence.png (white: certain) and NAME_figure.png (with a legend).\n",
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE")
    _add_weights(parser, required=False)
    parser.add_argument("--out", default="out", metavar="DIR",
                        help="where the results go (default: out)")  # fmt: skip
    parser.add_argument("--scales", type=_scales, default=(1.0,), metavar="A,B,..",
                        help="average over copies scaled by these factors")  # fmt: skip
    parser.add_argument("--flip", action="store_true", help="average over the mirror image, too")
    parser.add_argument("--window", type=_positive(int), metavar="N",
                        help="side of the windows that a large picture is cut into")  # fmt: skip
    parser.add_argument("--size", type=_size, metavar="HxW",
                        help="work at this size (default: the scale of the training)")  # fmt: skip
    parser.add_argument("--crf", action="store_true", help=_CRF)
    parser.add_argument("--features", metavar="LAYER", help="draw the feature maps of a layer")
    _add_device(parser)


def _compare(commands: argparse._SubParsersAction) -> None:
    parser = _command(
        commands,
        "compare",
        "compare every op's definition, NumPy, CUDA kernels and PyTorch, against float64",
        "  minseg compare\n"
        "  minseg compare conv2d max_pool2d --sanitize\n"
        "  minseg compare --html compare.html --json compare.json\n"
        "  minseg compare --model unet\n"
        "  minseg compare conv2d --kernels my_kernels\n"
        "\nKernels run in the emulator, on any CPU, and on a GPU if there is one. The exit code\n"
        "is 1 if anything differs by more than rounding can explain.\n",
    )
    parser.add_argument("ops", nargs="*", metavar="OP", help="the ops (default: all)")
    parser.add_argument("--device", choices=("auto", "cuda", "emulator"), default="auto",
                        help="where the kernels run (default: both, if it can be)")  # fmt: skip
    parser.add_argument("--sanitize", action="store_true",
                        help="look for races and stray accesses in emulated launches")  # fmt: skip
    parser.add_argument("--model", metavar="M",
                        help="compare the layers of a network: unet, fcn8s, ...")  # fmt: skip
    parser.add_argument("--html", metavar="FILE", help="write a page, with maps of the errors")
    parser.add_argument("--json", metavar="FILE", help="write all rows")
    _add_kernels(parser)


def _sanitize(commands: argparse._SubParsersAction) -> None:
    parser = _command(
        commands,
        "sanitize",
        "find races, stray accesses and faulty barriers in CUDA kernels, on the CPU",
        "  minseg sanitize\n"
        "  minseg sanitize conv2d.cu --kernels my_kernels\n"
        "  minseg sanitize my_kernel.cu --json findings.json\n"
        "\nA kernel is run on the arrays that the `// sample:` lines above it describe. The exit\n"
        "code is 0 without and 1 with findings, 2 if a kernel has no such line.\n",
    )
    parser.add_argument("targets", nargs="*", metavar="FILE|KERNEL",
                        help=".cu files or names of kernels (default: all kernels)")  # fmt: skip
    parser.add_argument("--json", metavar="FILE", help="write the findings, too")
    _add_kernels(parser)


def _profile(commands: argparse._SubParsersAction) -> None:
    parser = _command(
        commands,
        "profile",
        "count what CUDA kernels ask of the memory: sectors, bank conflicts, divergence",
        "  minseg profile matmul\n"
        "  minseg profile conv2d.cu --figure conv2d.png\n"
        "\nThe counts are those of a run on the arrays of the first `// sample:` line above the\n"
        "kernel. They are counts, never times: the run is on a CPU.\n",
    )
    parser.add_argument("targets", nargs="+", metavar="KERNEL",
                        help="names of kernels, or .cu files")  # fmt: skip
    parser.add_argument("--figure", metavar="FILE",
                        help="draw where the lanes of a warp reach (one kernel)")  # fmt: skip
    _add_kernels(parser)


def _ladder(commands: argparse._SubParsersAction) -> None:
    parser = _command(
        commands,
        "ladder",
        "climb from a naive CUDA kernel to tensor cores, one idea a step",
        "  minseg ladder matmul\n"
        "  minseg ladder conv2d --kernels my_kernels\n"
        "\nThe steps are kernels/ladder/STAIR/v*.cu. The profiler's counts are those of a small\n"
        "run on the CPU; on a GPU each step is timed as well, beside cuBLAS or cuDNN.\n",
    )
    parser.add_argument("stair", choices=("matmul", "conv2d"))
    _add_kernels(parser)


def _bench(commands: argparse._SubParsersAction) -> None:
    parser = _command(
        commands,
        "bench",
        "time ops and whole networks, beside PyTorch where it is installed",
        "  minseg bench --ops conv2d norm\n"
        "  minseg bench --models unet --json bench.json\n"
        "  minseg bench --growth growth.png\n"
        "  minseg bench --explain deeplabv3plus\n"
        "  minseg bench cuda > results.md\n"
        "\nWithout options: everything but the growth, which takes minutes. Each engine runs in a\n"
        "process of its own, in turns; a time is the median of 7 runs or more. Let nothing else\n"
        "run meanwhile.\n",
    )
    parser.add_argument("device", nargs="?", choices=("cpu", "cuda"), default="cpu",
                        help="cuda: the kernels and the ladders, as Markdown")  # fmt: skip
    parser.add_argument("--ops", nargs="*", metavar="NAME",
                        help="time the ops, or those with NAME in their name")  # fmt: skip
    parser.add_argument("--models", nargs="*", metavar="NAME",
                        help="time training steps and predictions of the networks")  # fmt: skip
    parser.add_argument("--growth", metavar="FILE.png",
                        help="draw how a U-Net's time and memory grow with its size")  # fmt: skip
    parser.add_argument("--explain", metavar="NAME",
                        help="show how each convolution of a network is computed")  # fmt: skip
    parser.add_argument("--json", metavar="FILE", help="write every run's time")


def _lesson(commands: argparse._SubParsersAction) -> None:
    parser = _command(
        commands,
        "lesson",
        "list the lessons, run one, or make a notebook of one",
        "  minseg lesson list\n"
        "  minseg lesson run 14 --fast\n"
        "  minseg lesson export unet\n"
        "\n`minseg lesson run --help` says more.\n",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    parser.set_defaults(action="list")
    _command(actions, "list", "say what there is", "  minseg lesson list\n")
    running = _command(
        actions,
        "run",
        "run a lesson; its figures go to ./out",
        "  minseg lesson run 14\n"
        "  minseg lesson run unet --fast --out figures\n"
        "  minseg lesson run 14 --fast --with conv2d=exercises/conv2d.py\n"
        "\n--with: all networks of the lesson compute with what you wrote for an exercise, a\n"
        "function or a CUDA kernel; what you do not give, a gradient for one, stays minseg's.\n"
        "The exit code is the lesson's: 0 if what it claims held.\n",
    )
    which = {"metavar": "LESSON", "help": "number or name: 7, 14, unet"}
    running.add_argument("lesson", **which)
    running.add_argument("--fast", action="store_true", help="small sizes: a check in seconds")
    running.add_argument("--out", default="out", metavar="DIR",
                         help="where the figures go (default: out)")  # fmt: skip
    running.add_argument("--seed", type=int, default=0, metavar="N",
                         help="of all random numbers (default: 0)")  # fmt: skip
    running.add_argument("--with", action="append", default=[], dest="stand_ins",
                         metavar="NAME=FILE",
                         help="on your solution of an exercise (may be repeated)")  # fmt: skip
    _add_device(running)
    exporting = _command(
        actions,
        "export",
        "write a lesson as a notebook; jupytext is needed for this",
        "  minseg lesson export 14\n  minseg lesson export unet notebooks/unet.ipynb\n",
    )
    exporting.add_argument("lesson", **which)
    exporting.add_argument("file", nargs="?", metavar="FILE.ipynb",
                           help="what to write (default: NN_name.ipynb)")  # fmt: skip


def _study(commands: argparse._SubParsersAction) -> None:
    parser = _command(
        commands,
        "study",
        "put a paper's claim to the test: train what it compares, with several seeds",
        "  minseg study --list\n"
        "  minseg study skips\n"
        "  minseg study rare-class --seeds 3 --budget 40\n"
        "  minseg study all --record\n"
        "  minseg study networks --minutes 6\n"
        "\nEvery training runs in a process of its own, as many at once as there are cores. What\n"
        "is finished is kept in the output folder, so that a study goes on after an interruption.\n"
        "Some studies need real images, in the folder that $MINSEG_DATA names. `networks` trains\n"
        "all networks on such, each for so many minutes of CPU time (two cores: over an hour in\n"
        "all), and makes a table and a figure of them.\n",
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="a study, or all, or networks")
    parser.add_argument("--list", action="store_true", help="all studies, and what they showed")
    parser.add_argument("--seeds", type=_positive(int), metavar="N",
                        help="repetitions of each training (default: the study's)")  # fmt: skip
    parser.add_argument("--budget", type=_positive(int), metavar="STEPS",
                        help="how long each training is (default: the study's)")  # fmt: skip
    parser.add_argument("--minutes", type=_positive(float), metavar="M",
                        help="CPU time of each of the networks (default: 6)")  # fmt: skip
    parser.add_argument("--out", default="out/studies", metavar="DIR",
                        help="where runs and figures go (default: out/studies)")  # fmt: skip
    parser.add_argument("--record", action="store_true",
                        help="keep the result in the package, as what --list shows")  # fmt: skip


def _exercise(commands: argparse._SubParsersAction) -> None:
    parser = _command(
        commands,
        "exercise",
        "write layers and kernels, and be told what is wrong with them",
        "  minseg exercise init               write the exercises to ./exercises\n"
        "  minseg exercise                    watch: save a file, and it is checked at once\n"
        "  minseg exercise next               what is to be done\n"
        "  minseg exercise check conv2d       check one, or without a name the next\n"
        "  minseg exercise hint conv2d        three hints, one more each time\n"
        "  minseg exercise solution conv2d    one way to write it\n"
        "  minseg exercise reset conv2d       begin again; what you wrote is kept\n"
        "  minseg exercise list               what is passed\n"
        "  minseg exercise verify             are the exercises themselves right?\n"
        "\nThe exit code of check is 0 for a pass, 1 for a failure.\n",
    )
    actions = ("init", "list", "next", "check", "watch", "hint", "reset", "solution", "verify")
    parser.add_argument("action", nargs="?", choices=actions, default="watch",
                        metavar="ACTION",
                        help=f"{', '.join(actions)} (default: watch)")  # fmt: skip
    parser.add_argument("name", nargs="?", metavar="NAME",
                        help="an exercise; for init, the folder")  # fmt: skip


def _models(commands: argparse._SubParsersAction) -> None:
    _command(commands, "models", "list the networks", "  minseg models\n")


def _doctor(commands: argparse._SubParsersAction) -> None:
    summary = "say what this machine has, and what each missing part would give"
    _command(commands, "doctor", summary, "  minseg doctor\n")


def _add_data(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--data", metavar="DATA",
        help="shapes, street, camvid, cityscapes, voc, isbi, nuclei, coco, coco-panoptic or "
        f"folder:PATH {default}",
    )  # fmt: skip
    parser.add_argument("--data-root", metavar="D",
                        help="where the data lies (default: $MINSEG_DATA)")  # fmt: skip


def _add_weights(parser: argparse.ArgumentParser, required: bool = True) -> None:
    parser.add_argument("--weights", required=required, metavar="W",
                        help="a run folder (its best weights), a .safetensors file, or the name "
                        "of published weights: segformer_b0_ade20k, ...")  # fmt: skip


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", metavar="D", help="cpu, cuda or cuda:N (default: cpu)")
    _add_kernels(parser)


def _add_kernels(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kernels", metavar="DIR",
                        help="take the .cu files from there ($MINSEG_KERNELS)")  # fmt: skip


def _positive(kind: type) -> Callable[[str], float]:
    def parse(text: str) -> float:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise ValueError
        return value

    parse.__name__ = f"positive {'whole ' if kind is int else ''}number"  # for argparse's message
    return parse


def _size(text: str) -> tuple[int, int]:
    """ "120x160" (height x width) or "128" (a square)."""
    parts = [int(part) for part in text.lower().split("x")]
    if len(parts) > 2 or min(parts) < 1:
        raise ValueError
    return parts[0], parts[-1]


_size.__name__ = "size HEIGHTxWIDTH"


def _scales(text: str) -> tuple[float, ...]:
    scales = tuple(float(part) for part in text.split(","))
    if not all(0 < scale <= 8 for scale in scales):
        raise ValueError
    return scales


_scales.__name__ = "list of scales"
