"""The command line of `minseg`: its arguments. `minseg/commands/` runs the commands.

Exit codes: 0 for success; 1 for an error, which is one message on stderr, or for a picture that
could not be read; 2 for a wrong command line; 130 for a run that Ctrl-C stopped.
"""

import argparse
import io
import os
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from minseg.cli import kernels, learning, machine, scoring, training
from minseg.cli.arguments import Parser
from minseg.cuda import faults
from minseg.memory import limit_memory

EPILOG = """\
start with:
  minseg demo                                  train a small U-Net on drawn street scenes, 1 minute
  minseg train --data camvid --data-root D     train on real images
  minseg predict photo.jpg                     what a network that comes with minseg makes of it
  minseg compare conv2d                        one op, by every way that minseg has to compute it
"""

# The module with a command's arguments. minseg.commands has one of the same name that runs it.
COMMANDS = {
    "demo": training, "train": training, "eval": scoring, "predict": scoring, "models": scoring,
    "compare": kernels, "sanitize": kernels, "profile": kernels, "ladder": kernels,
    "lesson": learning, "study": learning, "exercise": learning, "bench": machine,
    "doctor": machine,
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line (default: the process's own). Returns the exit code."""
    _open_closed_streams()
    _replace_what_a_terminal_lacks()
    # A photo of 100 million pixels is no attack; above twice pillow's limit, it reads none.
    warnings.filterwarnings("ignore", "Image size .* exceeds limit")
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = _parser()
    if not arguments:
        parser.print_help()
        return 0
    options = vars(parser.parse_args(arguments))
    command = options.pop("command")
    try:
        if folder := options.pop("kernels", None):
            if not Path(folder).expanduser().is_dir():
                raise ValueError(f"--kernels {folder}: there is no such folder")
            os.environ["MINSEG_KERNELS"] = folder
        group = COMMANDS[command].__name__.rpartition(".")[2]
        # Where a user's images and sizes come in. (A GPU's driver has its own use of addresses.)
        if COMMANDS[command] in (training, scoring) and options.get("device") in (None, "cpu"):
            limit_memory()
        code = getattr(import_module(f"minseg.commands.{group}"), command)(**options)
        sys.stdout.flush()  # here, where a reader that has left is noticed
        return code
    except KeyboardInterrupt:
        print("minseg: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has left: `minseg models | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        known = isinstance(error, (ValueError, TypeError, OSError, RuntimeError, MemoryError))
        if os.environ.get("MINSEG_TRACEBACK") or not (known or faults.of_cuda(error)):
            raise
        print(f"minseg: error: {_words(error)}", file=sys.stderr)
        return 1


def _open_closed_streams() -> None:
    """Open standard streams that are closed (by a service, or `>&-`) on the null device.

    Otherwise a checkpoint might be opened under the missing stream's number, and get what is
    printed. The system gives the lowest free number, so this goes from the lowest up.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


def _replace_what_a_terminal_lacks() -> None:
    """Print "?" for a character that the terminal's encoding lacks, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="replace")


def _words(error: Exception) -> str:
    """What is wrong, and what to do; a system's error without its number."""
    if isinstance(error, FileExistsError) and error.filename:
        return f"{error.filename}: a file is there already, where a folder is needed"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, MemoryError):
        detail = f": {error}" if str(error) else ""
        return f"not enough memory; smaller images, crops, batches or networks need less{detail}"
    return faults.words(error)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="minseg",
        description="Segmentation networks from scratch: train, evaluate, predict, look inside.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    from minseg import __version__

    parser.add_argument("--version", action="version", version=f"minseg {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, group in COMMANDS.items():
        getattr(group, name)(commands)
    return parser
