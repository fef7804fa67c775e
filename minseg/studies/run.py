"""Running a study: each training and seed in a process of its own, as many at once as cores.

One process with all cores would take 1.8 times as long, measured on two cores with `skips` and
`fcn-strides`, as most of a step besides its matrix products runs on one core.

A finished run is a file in the output folder, so that a study that was interrupted goes on where it
stopped. The file's name has everything that the run depends on, and a digest of two sources, the
study's and that of the function that trains: a study that was changed runs again. (Changes
elsewhere in minseg go unnoticed: use another folder after them.)
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from inspect import getsourcefile
from itertools import dropwhile
from pathlib import Path
from typing import Any

from minseg.parallel import get_num_threads
from minseg.studies.study import Study

Run = dict[str, Any]  # "scores" by arm, "seconds"
CLAIMS = Path(__file__).resolve().with_name("claims")
# For BLAS, whichever NumPy has; the worker sets minseg's own threads.
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
}


def run_study(
    study: Study,
    seeds: int,
    steps: int,
    out: Path,
    done: Callable[[str, int, Run], None] = lambda training, seed, run: None,
) -> dict[tuple[str, int], Run]:
    """All runs of a study; those in `out` are not run again.

    done: called with each run, in the order in which they end.
    Raises RuntimeError with the error of a run that fails; those that were finished are kept.
    """
    out.mkdir(parents=True, exist_ok=True)
    runs: dict[tuple[str, int], Run] = {}
    missing = []
    for seed in range(seeds):
        for training in study.trainings:
            file = out / file_name(study, training, seed, steps)
            if file.is_file():
                runs[training, seed] = json.loads(file.read_text())
                done(training, seed, runs[training, seed])
            else:
                missing.append((training, seed, file))
    with ThreadPoolExecutor(get_num_threads()) as pool:
        waiting = {
            pool.submit(_run, study, training, seed, steps, file): (training, seed)
            for training, seed, file in missing
        }
        try:
            for future in as_completed(waiting):
                training, seed = waiting[future]
                runs[training, seed] = future.result()
                done(training, seed, runs[training, seed])
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    return runs


def file_name(study: Study, training: str, seed: int, steps: int) -> str:
    """The name of a run's file: "fcn-8s-seed0-steps100-3f2a91c4.json"."""
    words = "".join(c if c.isalnum() else " " for c in training.lower()).split()
    function = study.trainings[training]
    source = getsourcefile(getattr(function, "func", function)) or __file__
    claim = CLAIMS / f"{study.name.replace('-', '_')}.py"  # may train by another claim's function
    sources = {Path(source).resolve(), claim} if claim.is_file() else {Path(source)}
    text = b"".join(path.read_bytes() for path in sorted(sources))
    digest = hashlib.sha256(text + training.encode())
    return f"{'-'.join(words)}-seed{seed}-steps{steps}-{digest.hexdigest()[:8]}.json"


def _run(study: Study, training: str, seed: int, steps: int, file: Path) -> Run:
    what = f"study {study.name}, {training}, seed {seed}"
    arguments = (study.name, training, str(seed), str(steps), str(file))
    run_module(what, "minseg.studies.worker", *arguments)
    return json.loads(file.read_text())


def run_module(what: str, module: str, *arguments: str) -> None:
    """Run a module in a process of its own, on one thread.

    Raises RuntimeError if it fails: `what`, and its error.
    """
    command = [sys.executable, "-m", module, *arguments]
    ended = subprocess.run(
        command, env={**os.environ, **ONE_THREAD}, stderr=subprocess.PIPE, text=True
    )
    if ended.returncode:
        raise RuntimeError(f"{what}: {_error(ended.stderr) or f'exit code {ended.returncode}'}")


def _error(printed: str) -> str:
    """The error that a traceback ends with: the lines after its last frame."""
    lines = printed.rpartition('\n  File "')[2].strip().splitlines()
    return "\n".join(dropwhile(lambda line: line.startswith((" ", "/")), lines)) or printed
