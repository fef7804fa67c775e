"""Reading CUDA C: the kernels of a file, their signatures, and their launch lines."""
