"""Runs CUDA C++ kernels on the CPU, unmodified, and checks them there better than a GPU would.

A kernel goes through a host C++ compiler with headers that define CUDA's language (`cuda/`); the
threads of a block are fibers that switch at barriers. There are two builds of it:

- fast (`run.py`): on all cores, to compute; `minseg.kernels.launch` uses it for NumPy arrays;
- instrumented (`instrumented.py`): a program of its own in which every access is seen, for the
  sanitizer (`sanitize.py`) and the profiler (`profile.py`).
"""
