"""Shared by the commands: options, and types of arguments that say what is wrong with a value."""

import argparse
from collections.abc import Callable
from typing import Any

from minseg.suggest import suggest

Commands = argparse._SubParsersAction


class Parser(argparse.ArgumentParser):
    """Suggests the command, action or choice that was meant for one that was mistyped."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        choices = [str(choice) for choice in action.choices or ()]
        if choices and value not in choices:
            hint = suggest(value, choices)
            known = ", ".join(choices)
            raise argparse.ArgumentError(action, f"got {value!r}{hint}, needs one of {known}")


def add_command(commands: Commands, name: str, summary: str, examples: str) -> Parser:
    return commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog="examples:\n" + examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_data(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--data", metavar="DATA",
        help="shapes, street, camvid, cityscapes, voc, isbi, nuclei, coco, coco-panoptic or "
        f"folder:PATH {default}",
    )  # fmt: skip
    parser.add_argument("--data-root", metavar="D",
                        help="where the data lies (default: $MINSEG_DATA)")  # fmt: skip


def add_weights(parser: argparse.ArgumentParser, required: bool = True) -> None:
    parser.add_argument("--weights", required=required, metavar="W",
                        help="a run folder (its best weights), a .safetensors file, or the name "
                        "of published weights: segformer_b0_ade20k, ...")  # fmt: skip


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", metavar="D", help="cpu, cuda or cuda:N (default: cpu)")
    add_kernels(parser)


def add_kernels(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kernels", metavar="DIR",
                        help="take the .cu files from there ($MINSEG_KERNELS)")  # fmt: skip


def positive(kind: type) -> Callable[[str], float]:
    def parse(text: str) -> float:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise ValueError
        return value

    parse.__name__ = f"positive {'whole ' if kind is int else ''}number"  # for argparse's message
    return parse


def size(text: str) -> tuple[int, int]:
    """ "120x160" (height x width) or "128" (a square)."""
    parts = [int(part) for part in text.lower().split("x")]
    if len(parts) > 2 or min(parts) < 1:
        raise ValueError
    return parts[0], parts[-1]


size.__name__ = "size HEIGHTxWIDTH"


def scales(text: str) -> tuple[float, ...]:
    scales = tuple(float(part) for part in text.split(","))
    if not all(0 < scale <= 8 for scale in scales):
        raise ValueError
    return scales


scales.__name__ = "list of scales"
