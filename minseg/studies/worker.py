"""One run of a study, in a process of its own: python -m minseg.studies.worker NAME TRAINING ...

It writes its scores and seconds, as JSON, to the file that it is given.
"""

import json
import sys
import time

from minseg import manual_seed, set_num_threads
from minseg.files import write_atomically
from minseg.studies import study


def main(name: str, training: str, seed: str, steps: str, file: str) -> None:
    set_num_threads(1)
    manual_seed(int(seed))
    found = study(name).trainings[training](int(seed), int(steps))
    scores = found if isinstance(found, dict) else {training: found}
    run = {
        "scores": {arm: float(value) for arm, value in scores.items()},
        "seconds": round(time.process_time(), 1),  # of CPU time, of one thread
    }
    write_atomically(file, json.dumps(run).encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
