// Asynchronous copies from global to shared memory (the primitives of CUDA's header of this name).
#pragma once
#include "language.h"

#define __pipeline_memcpy_async(...) minseg::memcpy_async(__VA_ARGS__)
#define __pipeline_commit() minseg::copy_commit()
#define __pipeline_wait_prior(groups_left) minseg::copy_wait(groups_left)

namespace minseg {
__forceinline__ void memcpy_async(void* to, const void* from, size_t bytes, size_t zeros = 0) {
    copy_async(to, from, bytes, zeros);
}
}  // namespace minseg
