"""CUDA C on its way to a GPU: read from its file, compiled, launched, and what goes wrong there."""
