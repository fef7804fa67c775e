"""The `// sample:` lines of kernels: arguments made of them, and errors that name the line."""

import numpy as np
import pytest

from minseg import kernels
from minseg.commands import kernels as commands
from minseg.emulator.samples import samples


@pytest.mark.parametrize(
    ("text", "value"), [("1e-5", 1e-5), ("2.f", 2), ("-.5", -0.5), ("1E3f", 1000), ("0x1e", 30)]
)
def test_numbers_of_a_sample_line_are_written_as_in_c(text, value, tmp_path):
    (tmp_path / "k.cu").write_text(
        f"// launch: grid=(1) block=(1)\n// sample: a={text}\n__global__ void k(float a) {{}}\n"
    )
    (case,) = samples(kernels.kernel_info(f"{tmp_path / 'k.cu'}:k"))
    assert case[1] == (value,)


def sample(line, tmp_path):
    (tmp_path / "k.cu").write_text(
        f"// launch: grid=(n) block=(1)  out: y v\n// sample: {line}\n"
        "__global__ void k(scalar* y, float4* v, int n) {}\n"
    )
    (case,) = samples(kernels.kernel_info(f"{tmp_path / 'k.cu'}:k"))
    return case[1]


@pytest.mark.parametrize(("more", "dtype"), [("", np.float32), ("scalar=double ", np.float64)])
def test_arrays_of_a_sample_line(more, dtype, tmp_path):
    y, v, n = sample(f"{more}y=(n, 4 >> max(1, (2 - 1) * 1)) v=(n) n=3", tmp_path)
    assert (y.shape, y.dtype, v.shape, v.dtype, n) == ((3, 2), dtype, (3, 4), np.float32, 3)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("y=(n) v=null n=3 z=1", r"sample line: unknown \['z'\]"),
        ("y=(n) n=3", r"sample line: no value for \['v'\]"),
        ("y=(m) v=null n=3", r"sample line: 'm' is no parameter"),
        ("y=(n) v=null n=3,", r"sample line: expression '3,'"),
        ("y=(n) v=null n=n", r"sample line: .*recursion"),
        ("y=n v=null n=3", r"sample line: y is an array: give its shape, as in y=\(n\), or null"),
        ("y=(n - 4) v=null n=3", r"sample line: y has the shape \[-1\]"),
        ("<2> y=(n) v=null n=3", r"sample line: template arguments \['2'\], needs <>"),
    ],
)
def test_a_faulty_sample_line_is_named(line, message, tmp_path):
    with pytest.raises(ValueError, match=rf"k \(k.cu:3\): {message}"):
        sample(line, tmp_path)


@pytest.mark.parametrize(
    ("ctype", "size", "message"),
    [("float", "M", "'M' is no parameter and no constant"),
     ("Point", "4", "x: arrays of C type Point are not known")],
)  # fmt: skip
def test_a_sample_line_that_cannot_be_read_says_why(ctype, size, message, tmp_path):
    file = tmp_path / "sample.cu"
    file.write_text(
        "struct Point { float x, y; };\n"
        "// launch: grid=(1) block=(4)  inout: x\n"
        f"// sample: x=({size})\n"
        f"__global__ void k({ctype}* x) {{}}\n"
    )
    with pytest.raises(ValueError, match=rf"k \(sample.cu:4\): .*{message}"):
        commands.sanitize([str(file)], None)
