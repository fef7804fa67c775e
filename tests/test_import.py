"""What `import minseg` costs: no plotting, no other heavy library, little time beside NumPy's."""

import os
import subprocess
import sys
from pathlib import Path


def seconds(statement: str, compiled: Path) -> float:
    """Of CPU time, which other processes do not lengthen as they do the time on the clock.

    compiled: where Python finds its modules compiled, as it does from the second import on.
    """
    printed = f"{statement}; import time; print(time.process_time())"
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(compiled)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-c", printed]
    return float(subprocess.run(command, capture_output=True, check=True, env=environment).stdout)


def test_import_loads_no_heavy_library():
    heavy = {"matplotlib", "PIL", "rich", "safetensors", "threadpoolctl", "cupy", "torch"}
    statement = f"import sys, minseg; print(*({heavy!r} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", statement], capture_output=True, check=True)
    assert out.stdout.split() == []


def test_import_takes_at_most_half_as_long_again_as_numpy(tmp_path):
    # The fastest of several, in turn: the work itself, its files in the system's cache.
    statements = ("import numpy", "import minseg")
    rounds = [[seconds(statement, tmp_path) for statement in statements] for _ in range(7)]
    numpy, minseg = (min(times) for times in zip(*rounds, strict=True))
    assert minseg <= 1.5 * numpy
