"""The report of a GPU's times: what it writes. The times themselves need the GPU."""

import pytest

from minseg.bench.gpu import Line, as_markdown
from minseg.cli import main
from minseg.device import has_gpu


def test_the_table_says_what_was_measured():
    measured = [
        Line("conv2d", "forward", "input 2x3", 2e-3, 1e-3, 12345.6, "GFLOP/s", 0.25),
        Line("overlap", "grad_input", "input 2x3", 5e-5, None, 900.0, "GB/s", 0.5),
    ]
    table = as_markdown(measured).splitlines()
    assert table[2] == "| conv2d | forward | input 2x3 | 2.000 | 1.000 | 12,346 GFLOP/s | 25% |"
    assert table[3] == "| overlap | grad_input | input 2x3 | 0.050 |  | 900 GB/s | 50% |"
    assert {line.count("|") for line in table} == {8}


@pytest.mark.skipif(has_gpu(), reason="a GPU is here")
def test_nothing_is_written_without_a_gpu(capsys):
    assert main(["bench", "cuda"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "nothing was measured" in err
