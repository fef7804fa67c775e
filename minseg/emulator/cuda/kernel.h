// The first include of every kernel that is compiled for the CPU: all of CUDA C++ that the emulator
// knows, and the two ways in which the runtime calls a kernel.
#pragma once
#include "atomics.h"
#include "intrinsics.h"
#include "language.h"
#include "tensor_core.h"
#include "warp.h"

#define MINSEG_EXPORT extern "C" __attribute__((visibility("default")))

namespace minseg {

#ifdef MINSEG_WATCH
#define MINSEG_CALLER __attribute__((no_sanitize("thread")))
#else
#define MINSEG_CALLER __forceinline__
#endif

template <auto* kernel, class... P, size_t... I>
MINSEG_CALLER void call(void (*)(P...), void** arguments, std::index_sequence<I...>) {
    kernel(*(std::remove_reference_t<P>*)arguments[I]...);
}

// The kernel for one thread, the one that `here` names. arguments[i] points to argument i.
template <auto* kernel, class... P>
MINSEG_CALLER void run_thread(void (*k)(P...), void** arguments) {
    call<kernel>(k, arguments, std::index_sequence_for<P...>());
}

// The kernel for all threads of a block, one after the other: for kernels in which none waits.
template <auto* kernel, class... P>
MINSEG_CALLER void run_block(void (*k)(P...), void** arguments) {
    for (unsigned z = 0; z < here.block_size.z; ++z)
        for (unsigned y = 0; y < here.block_size.y; ++y)
            for (unsigned x = 0; x < here.block_size.x; ++x) {
                here.thread = {x, y, z};
                call<kernel>(k, arguments, std::index_sequence_for<P...>());
            }
}
}  // namespace minseg

// Compilers would call the C library's, unless they are clang 15 or later.
#ifdef MINSEG_WATCH
extern "C" {
void* __tsan_memset(void*, int, size_t);
void* __tsan_memcpy(void*, const void*, size_t);
void* __tsan_memmove(void*, const void*, size_t);
}
#define memset(...) __tsan_memset(__VA_ARGS__)
#define memcpy(...) __tsan_memcpy(__VA_ARGS__)
#define memmove(...) __tsan_memmove(__VA_ARGS__)
#endif

#ifdef MINSEG_WATCH
#define MINSEG_ENTRIES(symbol, ...)                                                        \
    extern "C" MINSEG_CALLER void minseg_entry(void** arguments) { \
        minseg::run_thread<&__VA_ARGS__>(&__VA_ARGS__, arguments);                         \
    }
#else
#define MINSEG_ENTRIES(symbol, ...)                                             \
    MINSEG_EXPORT void minseg_thread_##symbol(void** arguments) {               \
        minseg::run_thread<&__VA_ARGS__>(&__VA_ARGS__, arguments);              \
    }                                                                           \
    MINSEG_EXPORT void minseg_block_##symbol(void** arguments) {                \
        minseg::run_block<&__VA_ARGS__>(&__VA_ARGS__, arguments);               \
    }
#endif
