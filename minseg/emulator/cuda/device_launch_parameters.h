// What CUDA's header of this name declares for kernels is there without it.
#pragma once
