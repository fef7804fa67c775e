"""What `import minseg` costs: no plotting, no other heavy library, little time beside NumPy's."""

import subprocess
import sys
import time


def seconds(statement: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - start


def test_import_loads_no_heavy_library():
    heavy = {"matplotlib", "PIL", "rich", "safetensors", "threadpoolctl", "cupy", "torch"}
    statement = f"import sys, minseg; print(*({heavy!r} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", statement], capture_output=True, check=True)
    assert out.stdout.split() == []


def test_import_takes_at_most_half_as_long_again_as_numpy():
    # The fastest of several, in turn: the work itself, without the machine's other load.
    pairs = [(seconds("import numpy"), seconds("import minseg")) for _ in range(7)]
    numpy, minseg = (min(times) for times in zip(*pairs, strict=True))
    assert minseg <= 1.5 * numpy
