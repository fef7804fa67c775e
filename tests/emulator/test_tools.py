"""The tools of other systems: what they print is read as it is there; one that is dead is no tool.

The tools are scripts here that print what macOS's own print, as its manual and llvm-nm have it.
"""

import shlex
import sys

import pytest

from minseg.emulator import compiler, instrumented

# llvm-nm -C -S -n of a Mach-O program: no sizes, C names with an underscore.
SYMBOLS = """\
0000000100000000 0000000000000000 T __mh_execute_header
00000001000018c8 0000000000000000 T _minseg_entry
00000001000d2f60 0000000000000000 s _passed
00000001000d2f68 0000000000000000 b minseg::weights
00000001000d2f74 0000000000000000 b minseg::regions
"""


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """Makes a program of this name; there is no other."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def make(name, prints, status=0, needs=""):
        script = f'case "$*" in *{needs}*) echo {shlex.quote(prints)}; esac\nexit {status}\n'
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}")
        (tmp_path / name).chmod(0o755)

    return make


def test_a_variable_of_a_mac_program_ends_where_the_next_begins(tool, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    tool("nm", SYMBOLS)
    variable_at = instrumented.variable_at
    assert variable_at(tmp_path, 0x1000D2F60) == ("passed", 0x1000D2F60, 8)
    assert variable_at(tmp_path, 0x1000D2F73) == ("minseg::weights", 0x1000D2F68, 12)
    assert variable_at(tmp_path, 0x2000D2F73) == ("", 0x2000D2F73, 4)


def test_lines_by_atos_leave_out_the_emulators_own_headers(tool, tmp_path):
    tool(
        "atos",
        f"""__ldg<float> (in my.program) ({compiler.SHIM}/intrinsics.h:150)
broken (in my.program) (/Users/who ever/kernels/mine.cu:12)

0x0000000100003f00 (in my.program)

minseg::run(void**) (in my.program) (/tmp/build/mine.cu:31)
""",
        needs="-fullPath",
    )
    codes = [0x100003E00, 0x100003F01, 0x100003F80]
    assert instrumented.lines_of(tmp_path, codes) == {
        codes[0]: ("mine.cu", 12),
        codes[2]: ("mine.cu", 31),
    }


@pytest.fixture
def fresh_compiler(monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    compiler.compiler.cache_clear()
    yield compiler.compiler
    compiler.compiler.cache_clear()


def test_a_compiler_that_does_not_run_is_passed_over(tool, fresh_compiler, monkeypatch):
    tool("c++", "no developer tools were found", status=1)
    tool("clang++", "Apple clang version 17.0.0")
    assert fresh_compiler() == ("clang++",)
    fresh_compiler.cache_clear()
    monkeypatch.setenv("CXX", "c++ -O3")
    with pytest.raises(RuntimeError, match=r"CXX=c\+\+ -O3: no such compiler"):
        fresh_compiler()
