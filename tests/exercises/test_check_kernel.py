"""What a learner is told of a kernel. The solutions and the usual mistakes: test_tasks.py."""

from pathlib import Path

import pytest

from minseg.emulator import compiler
from minseg.exercises.check import check
from minseg.exercises.task import get_exercise
from minseg.exercises.verdict import Verdict

try:
    compiler.compiler()
except RuntimeError as error:
    pytest.skip(str(error), allow_module_level=True)

FILL = "values[t] = i < n ? x[i] : 0;"
TREE = """for (int half = THREADS / 2; half > 0; half /= 2) {
        if (t < half) values[t] += values[t + half];
        __syncthreads();  // the step is done
    }"""
FULL = "__syncthreads();  // all values are there"
WRITE = "if (t == 0) y[blockIdx.x] = values[0];"


def verdict(tmp_path: Path, *changes: tuple[str, str], name: str = "block_reduction") -> Verdict:
    """Of the solution with other lines."""
    exercise = get_exercise(name)
    text = exercise.solution
    for old, new in changes:
        assert text.count(old) == 1
        text = text.replace(old, new)
    path = tmp_path / f"{name}.cu"
    path.write_text(text)
    return check(exercise, path, seconds=3)


@pytest.mark.parametrize(
    ("pattern", "stage", "changes"),
    [
        # every thread adds to one number, by itself
        ("update not atomic", "sanitizer",
         ((TREE, "if (t > 0) values[0] += values[t];\n    __syncthreads();"),)),
        # or to one of y, which nobody has set to 0
        ("read before written", "values",
         ((TREE, ""), (WRITE, "atomicAdd(y + blockIdx.x, values[t]);"))),
        ("nothing written", "values", ((WRITE, ""),)),
        ("gaps in the output", "values",
         ((WRITE, "if (t == 0 && blockIdx.x == 0) y[0] = values[0];"),)),
        ("race between blocks", "values", ((WRITE, "if (t == 0) y[0] = values[0];"),)),
        ("outside of shared memory", "sanitizer", (("values[THREADS]", "values[32]"),)),
        # a shuffle after some lanes have left
        ("missing lanes", "values",
         ((FILL, "if (i >= n) return;\n    float sum = x[i];"), (FULL, ""), ("values[0];", "sum;"),
          (TREE, "sum += __shfl_down_sync(~0u, sum, 1);"))),
        ("endless loop", "values", (("half /= 2", "half = half"),)),
        # one number is always some times another: not to be called a factor
        ("values", "values", (("half /= 2", "half--"),)),
        ("compiler", "values", (("float values", "flaot values"),)),
        ("compiler", "values", (("values[THREADS]", "values[THREADS] = {0}"),)),
        ("signature", "signature", (("int n)", "int count)"),)),
        ("own work", "own work",
         (("#define THREADS", "#include <cub/cub.cuh>\n#define THREADS"),)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_causes(
    tmp_path: Path, pattern: str, stage: str, changes: tuple[tuple[str, str], ...]
) -> None:
    got = verdict(tmp_path, *changes)
    assert (got.diagnosis, got.stage) == (pattern, stage), got.message


def test_a_sum_within_the_warps_is_right_as_well(tmp_path: Path) -> None:
    """Another way to write it, with fewer barriers, and most lanes at work."""
    shuffles = """float sum = i < n ? x[i] : 0;
    for (int far = 16; far > 0; far /= 2) sum += __shfl_down_sync(~0u, sum, far);
    if (t % 32 == 0) values[t / 32] = sum;"""
    first = """sum = t < 8 ? values[t] : 0;
    for (int far = 4; far > 0; far /= 2) sum += __shfl_down_sync(~0u, sum, far);"""
    got = verdict(tmp_path, (FILL, shuffles), (TREE, first), ("values[0];", "sum;"))
    assert got.stage == "", got.message
    assert got.passed[-1] == "profiler"


def test_what_is_said(tmp_path: Path) -> None:
    """The numbers, the two threads that met, the advice, and the case; or the counts."""
    got = verdict(tmp_path, ("__syncthreads();  // the step is done", ""))
    for part in (
        "200 numbers: y[0]: yours is ",
        "racecheck: block_reduction.cu:",
        "time thread (",
        "Threads access one element",
        "The smallest case",
    ):
        assert part in got.message
    barrier = ("__syncthreads();  // both tiles are full", "__syncthreads();\n    sum += 0 * a[0];")
    got = verdict(tmp_path, barrier, name="tiled_matmul")
    assert got.diagnosis == "read again and again"
    assert "The numbers are right, but: a and b are loaded more often" in got.message
    assert "sectors a request" in got.message


def test_each_output_is_compared(tmp_path: Path) -> None:
    change = ("where = r * W + c", "where = 1 - r * W - c")
    got = verdict(tmp_path, change, name="max_pool2d_kernel")
    assert (got.stage, got.pattern) == ("values", "")
    assert "2 of 2 numbers of indices are wrong; the worst is indices[0, 0, 0]" in got.message
    assert "yours is -4, right is 5" in got.message


def test_a_variable_without_a_value(tmp_path: Path) -> None:
    got = verdict(tmp_path, ("float sum = 0;", "float sum;"), name="stencil")
    assert got.diagnosis == "order of threads"
    assert "`float sum;`" in got.message


SAXPY = "y[i] = a * x[i] + y[i]"


def test_what_an_inout_array_held_is_shown(tmp_path: Path) -> None:
    got = verdict(tmp_path, (SAXPY, "y[i] = a * x[i] + 2 * y[i]"), name="saxpy")
    before = get_exercise("saxpy").task.cases[0].arguments["y"]
    assert f"y before ({len(before)}) =" in got.message
    assert f"[{before[0]:.0f}." in got.message.partition("y before")[2].replace(" ", "")


def test_a_case_too_large_to_print_is_told_in_brief(tmp_path: Path) -> None:
    got = verdict(tmp_path, (SAXPY, f"if (blockIdx.x == 0) {SAXPY}"), name="saxpy")
    assert "called with x: 300, y before: 300, a=2.0, n=300" in got.message
    assert "too many numbers" not in got.message


def test_printf_is_shown_once_for_each_case(tmp_path: Path) -> None:
    """Not for each of the orders in which the sanitizer runs it."""
    say = 'if (i == 0) printf("a %d\\n", n); '
    got = verdict(tmp_path, (f"if (i < n) {SAXPY}", f"{say}if (i < n) {SAXPY}"), name="saxpy")
    assert got.stage == ""
    assert got.printed.count("a 5\n") == 1
    assert got.printed.count("a 300\n") == 1


def test_an_endless_printf_is_cut_off(tmp_path: Path) -> None:
    loop = 'while (n > 0) printf("again\\n"); '
    got = verdict(tmp_path, (f"if (i < n) {SAXPY}", loop), name="saxpy")
    assert got.diagnosis == "endless loop"
    assert "again\nagain\n" in got.printed
    assert len(got.printed) < 11_000


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("int n) {", "int n) {\n    if (n > 0) {", "is never closed"),
        ("block=(THREADS)", "block=((THREADS)", "in the launch line"),
    ],
)
def test_an_open_bracket_has_its_line(tmp_path: Path, old: str, new: str, words: str) -> None:
    got = verdict(tmp_path, (old, new), name="saxpy")
    assert got.stage == "signature"
    assert words in got.message
    assert "saxpy.cu:" in got.message


def test_the_second_barrier_of_a_loop_is_asked_for(tmp_path: Path) -> None:
    """The tile is full when it is read, but is filled again while others still read."""
    text = get_exercise("tiled_matmul").solution
    start, end = text.index("__syncthreads();"), text.rindex("__syncthreads();")
    assert start < end
    path = tmp_path / "tiled_matmul.cu"
    path.write_text(text[:end] + text[end + len("__syncthreads();") :])
    got = check(get_exercise("tiled_matmul"), path, seconds=5)
    assert got.diagnosis == "missing barrier"
    assert "after all have read, before it is filled again" in got.message
