"""Training: demo, train."""

from minseg.cli.arguments import Commands, add_command, add_data, add_device, positive, size


def demo(commands: Commands) -> None:
    parser = add_command(
        commands,
        "demo",
        "train a small U-Net on drawn scenes, in under a minute, and draw what it learnt",
        "  minseg demo\n  minseg demo --data shapes --seconds 15 --out out/shapes\n",
    )
    parser.add_argument("--data", choices=("street", "shapes"), default="street",
                        help="street scenes, or circles, rectangles and triangles")  # fmt: skip
    parser.add_argument("--seconds", type=positive(float), default=40.0, metavar="S",
                        help="train no longer than this (default: 40)")  # fmt: skip
    parser.add_argument("--out", metavar="DIR",
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


def train(commands: Commands) -> None:
    parser = add_command(
        commands, "train", "train a network; Ctrl-C saves, --resume goes on", _TRAIN_EXAMPLES
    )
    add = parser.add_argument
    add("--model", help="the network; `minseg models` lists them (default: unet)")
    add_data(parser, "(default: shapes)")
    add("--width", type=positive(int), metavar="N", help="channels of the network's first stage")
    add("--depth", type=positive(int), metavar="N",
        help="how often a U-Net halves the image; layers of a VGG, ResNet, Xception")  # fmt: skip
    add("--norm", choices=("batch", "none"), help="normalisation after the convolutions")
    add("--option", action="append", metavar="NAME=VALUE", help="another option of the network")
    add("--init", metavar="RUN",
        help="start from this run's weights: the same network, or fcn32s for fcn16s")  # fmt: skip
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--epochs", type=positive(int), metavar="N", help="train N epochs")
    budget.add_argument("--steps", type=positive(int), metavar="N", help="train N batches")
    budget.add_argument("--minutes", type=positive(float), metavar="M",
                        help="train M minutes, counted across --resume")  # fmt: skip

    add("--batch-size", type=positive(int), metavar="N", help="images in a batch")
    add("--size", type=size, metavar="HxW", help="scale whole images to this size first")
    add("--crop", type=size, metavar="HxW", help="train on random crops of this size")
    add("--images", type=positive(int), metavar="N", help="images to draw (shapes, street)")
    add(
        "--augment",
        choices=("none", "flip", "scene", "cells", "elastic"),
        help="flip: mirror; scene: mirror, scale, recolour; cells: mirror, turn, bend, recolour; "
        "elastic: bend, brighten or darken",
    )
    add(
        "--normalize",
        choices=("imagenet", "image", "upright"),
        help="by ImageNet's mean and deviation; by each image's own; and things made bright",
    )
    add("--lr", type=positive(float), metavar="X", help="peak learning rate")
    add("--optimizer", choices=("adamw", "adam", "sgd"))
    add("--weight-decay", type=float, metavar="X")
    add("--schedule", choices=("onecycle", "poly", "cosine", "step", "constant"),
        help="of the learning rate")  # fmt: skip
    add("--loss", metavar="L",
        help='cross_entropy, dice, focal, lovasz, or a sum: "focal + 0.5 * dice"; '
             '"+ border" weighs the gaps between cells, as U-Net does')  # fmt: skip
    add("--class-weights", choices=("none", "median", "invlog"),
        help="weigh rare classes more: median frequency, inverse log frequency")  # fmt: skip
    add("--eval-every", type=positive(int), metavar="N", help="epochs between validations")
    add("--save-every", type=positive(float), metavar="S",
        help="seconds between checkpoints (default: 30)")  # fmt: skip
    add("--seed", type=int, metavar="N", help="same seed, same weights (default: 0)")
    add("--workers", type=int, metavar="N", help="threads that prepare batches (default: 2)")
    add_device(parser)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--out", metavar="RUN", help="the run folder (default: runs/MODEL-DATA)")
    where.add_argument("--resume", metavar="RUN", help="go on with a run that was stopped")
