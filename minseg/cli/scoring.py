"""Scores and predictions of trained networks, and the list of networks: eval, predict, models."""

from minseg.cli.arguments import (
    Commands,
    add_command,
    add_data,
    add_device,
    add_weights,
    positive,
    scales,
    size,
)

_CRF = "let a fully connected CRF move borders to those of the picture"


def eval(commands: Commands) -> None:
    parser = add_command(
        commands,
        "eval",
        "score a trained network: IoU of each class, and the means",
        "  minseg eval --weights runs/unet-camvid --data-root ~/data\n"
        "  minseg eval --weights runs/unet-shapes --boundaries --json scores.json\n",
    )
    add_weights(parser)
    add_data(parser, "(default: what the network was trained on)")
    parser.add_argument("--split", default="val", help="which part of the data (default: val)")
    parser.add_argument("--boundaries", action="store_true",
                        help="boundary IoU and boundary F as well")  # fmt: skip
    parser.add_argument("--crf", action="store_true", help=_CRF)
    parser.add_argument("--batch-size", type=positive(int), metavar="N")
    parser.add_argument("--json", metavar="FILE", help="write the scores there, too")
    add_device(parser)


def predict(commands: Commands) -> None:
    parser = add_command(
        commands,
        "predict",
        "label the pixels of pictures of any size",
        "  minseg predict photo.jpg\n"
        "  minseg predict photo.jpg --weights runs/unet-camvid --out out\n"
        "  minseg predict photos --weights W --out out --scales .75,1,1.25 --flip\n"
        "  minseg predict large.tif --weights W --out out --window 512\n"
        "  minseg predict photo.jpg --weights W --out out --crf\n"
        "  minseg predict photo.jpg --weights W --out out --features contract.0\n"
        "\nWithout --weights: a small U-Net that comes with minseg, trained on drawn streets.\n"
        "For each picture: NAME_mask.png (class indices, with a palette), NAME_overlay.png,\n"
        "NAME_confidence.png (white: certain) and NAME_figure.png (with a legend).\n",
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE",
                        help="a picture, or a folder of them")  # fmt: skip
    add_weights(parser, required=False)
    parser.add_argument("--out", default="out", metavar="DIR",
                        help="where the results go (default: out)")  # fmt: skip
    parser.add_argument("--scales", type=scales, default=(1.0,), metavar="A,B,..",
                        help="average over copies scaled by these factors")  # fmt: skip
    parser.add_argument("--flip", action="store_true", help="average over the mirror image, too")
    parser.add_argument("--window", type=positive(int), metavar="N",
                        help="side of the windows that a large picture is cut into")  # fmt: skip
    parser.add_argument("--size", type=size, metavar="HxW",
                        help="work at this size (default: the scale of the training)")  # fmt: skip
    parser.add_argument("--crf", action="store_true", help=_CRF)
    parser.add_argument("--features", metavar="LAYER", help="draw the feature maps of a layer")
    add_device(parser)


def models(commands: Commands) -> None:
    add_command(commands, "models", "list the networks", "  minseg models\n")
