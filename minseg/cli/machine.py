"""What this machine has and how fast it is: bench, doctor."""

from minseg.cli.arguments import Commands, add_command


def bench(commands: Commands) -> None:
    parser = add_command(
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


def doctor(commands: Commands) -> None:
    summary = "say what this machine has, and what each missing part would give"
    add_command(commands, "doctor", summary, "  minseg doctor\n")
