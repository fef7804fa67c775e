"""The ops, one file a family: definition in loops, NumPy, CUDA launch, and the gradient."""
