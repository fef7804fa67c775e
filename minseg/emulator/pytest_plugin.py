"""The pytest fixture `sanitizer`, available wherever minseg is installed.

    def test_my_kernel(sanitizer):
        launch("my_kernel.cu:saxpy", x, y, 2.0, n)

Every pytest run imports this file, so it imports little.
"""

from collections.abc import Iterator

import pytest


@pytest.fixture
def sanitizer() -> Iterator[None]:
    """Every kernel that the test launches is sanitized first; the first finding fails the test.

    Ops on NumPy arrays run their CUDA kernels. A kernel with findings is not run after that, so
    that it cannot crash the test run. Without a C++ compiler the test is skipped.
    """
    from minseg import kernels, use_kernels
    from minseg.emulator import compiler
    from minseg.emulator.sanitize import sanitize_launch

    try:
        compiler.compiler()
    except RuntimeError as error:
        pytest.skip(str(error))

    def observe(launch: kernels.Launch) -> None:
        findings = sanitize_launch(launch)
        if findings:
            pytest.fail("\n\n".join(map(str, findings)), pytrace=False)

    kernels.observers.append(observe)
    try:
        with use_kernels("emulator"):
            yield
    finally:
        kernels.observers.remove(observe)
