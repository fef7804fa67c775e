"""Find the bug: the sanitizer shows it; every right repair passes. (Wrong ones: test_tasks.py.)"""

from pathlib import Path

import pytest

from minseg import kernels
from minseg.emulator import compiler
from minseg.emulator.samples import samples
from minseg.emulator.sanitize import sanitize
from minseg.exercises.check import check
from minseg.exercises.task import Exercise, exercises, get_exercise

try:
    compiler.compiler()
except RuntimeError as error:
    pytest.skip(str(error), allow_module_level=True)

WITH_A_BUG = [exercise for exercise in exercises().values() if exercise.task.bug]

# What the sanitizer finds on the stub's sample line.
KINDS = {
    "label_borders": "racecheck",
    "class_scores": "synccheck",
    "stretch": "memcheck",
    "class_counts": "initcheck",
    "nearest_grad": "racecheck",
    "row_sums": "racecheck",
}


def findings(exercise: Exercise, text: str, folder: Path) -> set[str]:
    path = folder / f"{exercise.name}.cu"
    path.write_text(text)
    cases = samples(kernels.kernel_info(f"{path}:{exercise.name}"))
    assert cases
    return {found.kind for name, given in cases for found in sanitize(name, *given)}


@pytest.mark.parametrize("exercise", WITH_A_BUG, ids=lambda e: e.name)
def test_the_sanitizer_shows_the_bug(exercise: Exercise, tmp_path: Path) -> None:
    """So `minseg sanitize FILE` helps whoever has not looked at the check's report."""
    assert KINDS[exercise.name] in findings(exercise, exercise.stub, tmp_path)
    assert not findings(exercise, exercise.solution, tmp_path)


@pytest.mark.parametrize("name", ["label_borders", "stretch", "nearest_grad"])
def test_the_numbers_do_not_show_it(name: str, tmp_path: Path) -> None:
    """As their statements say: right here, and yet wrong."""
    path = tmp_path / f"{name}.cu"
    path.write_text(get_exercise(name).stub)
    verdict = check(get_exercise(name), path)
    assert verdict.passed[-1] == "values"
    assert verdict.stage == "sanitizer"


GUARDED = """    float sum = 0;
    for (int start = 0; start < C; start += THREADS) {
        part[t] = start + t < C ? x[start + t] : 0;
        __syncthreads();
        if (k < K)
            for (int c = start; c < C && c < start + THREADS; c++)
                sum += part[c - start] * w[c * K + k];
        __syncthreads();
    }
    if (k >= K) return;
    y[k] = sum;
}
"""
GATHER = """    if (row >= H / s || col >= W / s) return;
    float sum = 0;
    for (int i = 0; i < s; i++)
        for (int j = 0; j < s; j++) sum += grad[(row * s + i) * W + col * s + j];
    grad_x[row * (W / s) + col] += sum;
"""
ONE_OF_EACH_SQUARE = """    if (row >= H || col >= W || row % s > 0 || col % s > 0) return;
    float sum = 0;
    for (int i = row; i < row + s; i++)
        for (int j = col; j < col + s; j++) sum += grad[i * W + j];
    grad_x[row / s * (W / s) + col / s] = sum;
"""
SHUFFLES = """        sum = sums[t] + sums[t + 32];
        for (int half = 16; half > 0; half /= 2) sum += __shfl_down_sync(~0u, sum, half);
        if (t == 0) y[blockIdx.x] = sum;
    }
}
"""
STRAIGHT_ON = """    for (int half = 32; half > 0; half /= 2) {
        if (t < half) sums[t] += sums[t + half];
        __syncthreads();
    }
    if (t == 0) y[blockIdx.x] = sums[0];
}
"""
FEWER_LANES = """        for (int half = 32; half > 0; half /= 2) {
            if (t < half) sums[t] += sums[t + half];
            __syncwarp();
        }
"""


@pytest.mark.parametrize(
    ("name", "start", "end", "repair"),
    [
        # the stub's text from `start` to (not with) `end` is replaced; all the rest stays
        ("label_borders", "    bool inside", "    if (inside) {\n        int own",
         "    bool inside = row < H && col < W;\n"
         "    for (int i = ty * TILE + tx; i < 17 * 17; i += TILE * TILE) {\n"
         "        int r = row - ty + i / 17 - 1, c = col - tx + i % 17 - 1;\n"
         "        if (r >= 0 && r < H && c >= 0 && c < W) tile[i / 17][i % 17] = labels[r * W + c];"
         "\n    }\n    __syncthreads();\n"),
        ("class_scores", "    if (k >= K)", "", GUARDED),
        ("stretch", "    y[i] = (1", "}", "    y[i] = (1 - share) * x[left];\n"
         "    if (share > 0) y[i] += share * x[right];\n"),
        ("stretch", "    int right", "    float share",
         "    int right = left + 1 < n ? left + 1 : 0;\n"),
        ("class_counts", "    int end", "    for (int i", "    int t = threadIdx.x;\n"
         "    ours[t] = 0;\n    if (t + THREADS < CLASSES) ours[t + THREADS] = 0;\n"
         "    __syncthreads();\n    int end = min(n, (blockIdx.x + 1) * PIXELS);\n"),
        ("class_counts", "    int end", "    for (int i", "    if (threadIdx.x == 0)\n"
         "        for (int k = 0; k < CLASSES; k++) ours[k] = 0;\n    __syncthreads();\n"
         "    int end = min(n, (blockIdx.x + 1) * PIXELS);\n"),
        ("class_counts", "    int end", "    for (int i", "    if (threadIdx.x == 0) memset(ours,"
         " 0, sizeof(ours));\n    __syncthreads();\n"
         "    int end = min(n, (blockIdx.x + 1) * PIXELS);\n"),
        ("nearest_grad", "    if (row >= H", "}", GATHER),
        ("nearest_grad", "    if (row >= H", "}", ONE_OF_EACH_SQUARE),
        ("row_sums", "        volatile", "", SHUFFLES),
        ("row_sums", "    if (t < 32)", "", STRAIGHT_ON),
        ("row_sums", "        volatile", "        if (t == 0)", FEWER_LANES),
    ],
)  # fmt: skip
def test_other_repairs_pass(name: str, start: str, end: str, repair: str, tmp_path: Path) -> None:
    exercise = get_exercise(name)
    kernel = exercise.stub.index("__global__")  # the statement has formulas, too
    first = exercise.stub.index(start, kernel)
    last = exercise.stub.index(end, first) if end else len(exercise.stub)
    path = tmp_path / f"{name}.cu"
    path.write_text(exercise.stub[:first] + repair + exercise.stub[last:])
    verdict = check(exercise, path)
    assert verdict.stage == "", verdict.message
