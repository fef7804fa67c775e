"""Runs CUDA C++ kernels on the CPU, unmodified, and checks them there better than a GPU would.

The host's C++ compiler compiles a kernel with headers that define CUDA's language (`cuda/`); the
threads of a block are fibers that switch at barriers. There are two builds of a kernel:

- fast (`run.py`): computes on all cores; `minseg.kernels.launch` uses it for NumPy arrays;
- instrumented (`instrumented.py`): a program of its own that sees every memory access, for the
  sanitizer (`sanitize.py`) and the profiler (`profile.py`).
"""
