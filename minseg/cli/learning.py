"""For learning: lesson, study, exercise."""

from typing import Any

from minseg.cli.arguments import Commands, add_command, add_device, positive


def lesson(commands: Commands) -> None:
    parser = add_command(
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
    add_command(actions, "list", "say what there is", "  minseg lesson list\n")
    running = add_command(
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
    which: Any = {"metavar": "LESSON", "help": "number or name: 7, 14, unet"}
    running.add_argument("lesson", **which)
    running.add_argument("--fast", action="store_true", help="small sizes: a check in seconds")
    running.add_argument("--out", default="out", metavar="DIR",
                         help="where the figures go (default: out)")  # fmt: skip
    running.add_argument("--seed", type=int, default=0, metavar="N",
                         help="of all random numbers (default: 0)")  # fmt: skip
    running.add_argument("--with", action="append", default=[], dest="stand_ins",
                         metavar="NAME=FILE",
                         help="on your solution of an exercise (may be repeated)")  # fmt: skip
    add_device(running)
    exporting = add_command(
        actions,
        "export",
        "write a lesson as a notebook; jupytext is needed for this",
        "  minseg lesson export 14\n  minseg lesson export unet notebooks/unet.ipynb\n",
    )
    exporting.add_argument("lesson", **which)
    exporting.add_argument("file", nargs="?", metavar="FILE.ipynb",
                           help="what to write (default: NN_name.ipynb)")  # fmt: skip


def study(commands: Commands) -> None:
    parser = add_command(
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
    parser.add_argument("--seeds", type=positive(int), metavar="N",
                        help="repetitions of each training (default: the study's)")  # fmt: skip
    parser.add_argument("--budget", type=positive(int), metavar="STEPS",
                        help="how long each training is (default: the study's)")  # fmt: skip
    parser.add_argument("--minutes", type=positive(float), metavar="M",
                        help="CPU time of each of the networks (default: 6)")  # fmt: skip
    parser.add_argument("--out", default="out/studies", metavar="DIR",
                        help="where runs and figures go (default: out/studies)")  # fmt: skip
    parser.add_argument("--record", action="store_true",
                        help="keep the result in the package, as what --list shows")  # fmt: skip


def exercise(commands: Commands) -> None:
    parser = add_command(
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
