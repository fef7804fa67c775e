import io
import sys

from minseg import capture


def test_of_endless_words_the_beginning_is_kept():
    kept = bytearray()
    capture._read(io.BytesIO(b"ab" * 10**6), kept)
    assert kept == b"ab" * (capture.KEPT // 2) + b"a"  # one more, which tells that it went on


def test_what_a_program_says_and_how_it_ends():
    code = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
    assert capture.run([sys.executable, "-c", code], 30) == capture.Answer(3, "out\n", "err\n")
    assert capture.run([sys.executable, "-c", "while True: pass"], 0.2).status is None
