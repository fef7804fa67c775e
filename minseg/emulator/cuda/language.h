// The language of CUDA C++ for a host compiler: its keywords, built-in variables and vector types.
#pragma once
#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <algorithm>
#include <initializer_list>
#include <limits>
#include <type_traits>
#include <utility>

#include "runtime.h"

// --- Keywords ----------------------------------------------------------------------------------
#ifdef MINSEG_WATCH
#define __global__ __attribute__((noinline))  // it must not melt into the uninstrumented caller
#define __noinline__                          // g++ does not see the structs that a call passes
#else
#define __global__
#define __noinline__ __attribute__((noinline))
#endif
#define __device__
#define __host__
#define __constant__
#define __managed__
#define __grid_constant__
#define __launch_bounds__(...)
#define __forceinline__ inline __attribute__((always_inline))
#define __align__(n) __attribute__((aligned(n)))
#define __CUDA_ARCH__ 800  // what the emulator knows: everything up to sm_80

// --- Built-in variables ------------------------------------------------------------------------
#define threadIdx (minseg::thread_index())
#define blockIdx (minseg::block_index())
#define blockDim (minseg::block_size())
#define gridDim (minseg::grid_size())
constexpr int warpSize = minseg::WARP_SIZE;

#define MINSEG_HERE (minseg::Site{__FILE__, __LINE__})
// Pasted, so that a kernel may have a macro of the name.
#define MINSEG_MEETING(name) (minseg::Site{__FILE__, __LINE__, minseg::Meeting::AT_##name})

// --- Shared memory -----------------------------------------------------------------------------
namespace minseg {
// One object for each Declaration and CPU worker: a block runs on one worker from start to end.
template <class T, class Declaration>
T& shared(const char* name, int line) {
    using Item = std::remove_all_extents_t<T>;
#ifdef MINSEG_WATCH
    static const char key = 0;
    static_assert(std::rank_v<T> <= MAX_RANK, "too many dimensions for the emulator");
    const size_t sizes[MAX_RANK] = {std::extent_v<T, 0>, std::extent_v<T, 1>, std::extent_v<T, 2>,
                                    std::extent_v<T, 3>, std::extent_v<T, 4>, std::extent_v<T, 5>};
    const size_t alignment = std::max(alignof(Item), alignof(Declaration));
    return *(T*)shared_variable(&key, name, line, sizeof(Item), sizeof(T), sizes, alignment);
#else
    (void)name, (void)line, (void)sizeof(Item);
    alignas(16) alignas(Declaration) static __thread unsigned char storage[sizeof(T)];
    return *(T*)storage;
#endif
}
// `extern __shared__ float values[];`: the size comes with the launch.
template <class T>
auto& shared_dynamic(const char* name, int line) {
    using Item = std::remove_all_extents_t<T>;
    return *(T(*)[1 << 20]) dynamic_shared(name, line, sizeof(Item));
}
}  // namespace minseg

// --- Vector types ------------------------------------------------------------------------------
// A float4 moves in one access of 16 bytes, and the instrumented build must see it as one: so there
// it copies through functions of its own.
#ifdef MINSEG_WATCH
#define MINSEG_UNSEEN __attribute__((no_sanitize("thread"), noinline))
#define MINSEG_COPIES(T)                                                     \
    T() = default;                                                           \
    MINSEG_UNSEEN T(const T& from) {                                         \
        minseg::watch_read(&from, sizeof(T), __builtin_return_address(0));   \
        minseg::watch_write(this, sizeof(T), __builtin_return_address(0));   \
        __builtin_memcpy((void*)this, &from, sizeof(T));                     \
    }                                                                        \
    MINSEG_UNSEEN T& operator=(const T& from) {                              \
        minseg::watch_read(&from, sizeof(T), __builtin_return_address(0));   \
        minseg::watch_write(this, sizeof(T), __builtin_return_address(0));   \
        __builtin_memcpy((void*)this, &from, sizeof(T));                     \
        return *this;                                                        \
    }
#else
#define MINSEG_COPIES(T) T() = default;
#endif

// In CUDA they are plain structs: `float4 v = {1, 2};` leaves zeros behind the numbers given.
template <class T>
constexpr T minseg_given(std::initializer_list<T> values, size_t i) {
    return i < values.size() ? values.begin()[i] : T(0);
}
#define MINSEG_LIST_2(name, item)                \
    constexpr name(std::initializer_list<item> v) \
        : x(minseg_given(v, 0)), y(minseg_given(v, 1)) {}
#define MINSEG_LIST_4(name, item)                                                   \
    constexpr name(std::initializer_list<item> v)                                   \
        : x(minseg_given(v, 0)), y(minseg_given(v, 1)), z(minseg_given(v, 2)),      \
          w(minseg_given(v, 3)) {}

#define MINSEG_VECTORS(name, item, align2, align4)                                           \
    struct name##1 {                                                                         \
        item x;                                                                              \
    };                                                                                       \
    struct alignas(align2) name##2 {                                                         \
        item x, y;                                                                           \
        MINSEG_COPIES(name##2)                                                               \
        MINSEG_LIST_2(name##2, item)                                                         \
        constexpr name##2(item x, item y) : x(x), y(y) {}                                    \
    };                                                                                       \
    struct name##3 {                                                                         \
        item x, y, z;                                                                        \
    };                                                                                       \
    struct alignas(align4) name##4 {                                                         \
        item x, y, z, w;                                                                     \
        MINSEG_COPIES(name##4)                                                               \
        MINSEG_LIST_4(name##4, item)                                                         \
        constexpr name##4(item x, item y, item z, item w) : x(x), y(y), z(z), w(w) {}        \
    };                                                                                       \
    inline name##1 make_##name##1(item x) { return {x}; }                                    \
    inline name##2 make_##name##2(item x, item y) { return name##2(x, y); }                  \
    inline name##3 make_##name##3(item x, item y, item z) { return {x, y, z}; }              \
    inline name##4 make_##name##4(item x, item y, item z, item w) { return name##4(x, y, z, w); }

MINSEG_VECTORS(char, signed char, 2, 4)
MINSEG_VECTORS(uchar, unsigned char, 2, 4)
MINSEG_VECTORS(short, short, 4, 8)
MINSEG_VECTORS(ushort, unsigned short, 4, 8)
MINSEG_VECTORS(int, int, 8, 16)
MINSEG_VECTORS(float, float, 8, 16)
MINSEG_VECTORS(longlong, long long, 16, 16)
MINSEG_VECTORS(ulonglong, unsigned long long, 16, 16)
MINSEG_VECTORS(double, double, 16, 16)

// uint3 is in runtime.h; its brothers are here.
struct uint1 {
    unsigned x;
};
struct alignas(8) uint2 {
    unsigned x, y;
    MINSEG_COPIES(uint2)
    MINSEG_LIST_2(uint2, unsigned)
    constexpr uint2(unsigned x, unsigned y) : x(x), y(y) {}
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
    MINSEG_COPIES(uint4)
    MINSEG_LIST_4(uint4, unsigned)
    constexpr uint4(unsigned x, unsigned y, unsigned z, unsigned w) : x(x), y(y), z(z), w(w) {}
};
inline uint1 make_uint1(unsigned x) { return {x}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return uint2(x, y); }
inline uint3 make_uint3(unsigned x, unsigned y, unsigned z) { return {x, y, z}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return uint4(x, y, z, w); }
