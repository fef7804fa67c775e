"""Run a program that a learner wrote: it may print without end, and must not fill the memory."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Thread
from typing import IO

KEPT = 10_000  # bytes of what is printed


@dataclass(frozen=True)
class Answer:
    """status: the exit code; None if it took too long. Of `printed` and `errors`, the beginning."""

    status: int | None
    printed: str
    errors: str


def run(words: Sequence[str], seconds: float) -> Answer:
    """Run it for at most `seconds`, without input: nothing may wait for words of the terminal."""
    program = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)  # fmt: skip
    assert program.stdout is not None
    assert program.stderr is not None
    kept = [bytearray(), bytearray()]
    readers = [Thread(target=_read, args=pair, daemon=True)
               for pair in zip((program.stdout, program.stderr), kept, strict=True)]  # fmt: skip
    with program:
        for reader in readers:
            reader.start()
        try:
            status = program.wait(seconds)
        except subprocess.TimeoutExpired:
            status = None
        finally:  # by Ctrl-C as well
            program.kill()
        for reader in readers:
            reader.join()
    return Answer(status, *map(_text, kept))


def _read(stream: IO[bytes], kept: bytearray) -> None:
    """Read to the end; what is beyond KEPT bytes is dropped, but for one, which tells of it."""
    while piece := stream.read1(65536):  # type: ignore[attr-defined]
        kept += piece[: KEPT + 1 - len(kept)]


def _text(kept: bytearray) -> str:
    text = kept[:KEPT].decode(errors="replace").replace("\r\n", "\n")
    return text + f"\n(it goes on; these were the first {KEPT:,} bytes)\n" * (len(kept) > KEPT)
