"""The kernels without a GPU: compare, sanitize, profile, ladder."""

from minseg.cli.arguments import Commands, add_command, add_kernels


def compare(commands: Commands) -> None:
    parser = add_command(
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
    add_kernels(parser)


def sanitize(commands: Commands) -> None:
    parser = add_command(
        commands,
        "sanitize",
        "find races, stray accesses and faulty barriers in CUDA kernels, on the CPU",
        "  minseg sanitize\n"
        "  minseg sanitize conv2d.cu --kernels my_kernels\n"
        "  minseg sanitize my_kernel.cu --json findings.json\n"
        "\nA kernel is run on what the `// sample:` lines above it describe, a value or a shape\n"
        "for each parameter: `// sample: n=1000 x=(n) labels=(n)%4` (whole numbers, below 4). The\n"
        "exit code is 0 without and 1 with findings, 2 if a kernel has no such line.\n",
    )
    parser.add_argument("targets", nargs="*", metavar="FILE|KERNEL",
                        help=".cu files or names of kernels (default: all kernels)")  # fmt: skip
    parser.add_argument("--json", metavar="FILE", help="write the findings, too")
    add_kernels(parser)


def profile(commands: Commands) -> None:
    parser = add_command(
        commands,
        "profile",
        "count what CUDA kernels ask of the memory: sectors, bank conflicts, divergence",
        "  minseg profile matmul\n"
        "  minseg profile conv2d_forward --figure conv2d.png\n"
        "\nThe counts are those of a run on the arrays of the first `// sample:` line above the\n"
        "kernel (see `minseg sanitize --help`): counts, never times, since the run is on a CPU.\n",
    )
    parser.add_argument("targets", nargs="+", metavar="KERNEL",
                        help="names of kernels, or .cu files")  # fmt: skip
    parser.add_argument("--figure", metavar="FILE",
                        help="draw where the lanes of a warp reach (one kernel)")  # fmt: skip
    add_kernels(parser)


def ladder(commands: Commands) -> None:
    parser = add_command(
        commands,
        "ladder",
        "climb from a naive CUDA kernel to tensor cores, one idea a step",
        "  minseg ladder matmul\n"
        "  minseg ladder conv2d --kernels my_kernels\n"
        "\nThe steps are kernels/ladder/STAIR/v*.cu. The profiler's counts are those of a small\n"
        "run on the CPU; on a GPU each step is timed as well, beside cuBLAS or cuDNN.\n",
    )
    parser.add_argument("stair", choices=("matmul", "conv2d"))
    add_kernels(parser)
