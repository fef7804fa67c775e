// Atomics. A kernel that uses them runs on one CPU worker (so that the order of its additions, and
// with it every bit of the result, is always the same), and a fiber is never interrupted: so an
// atomic is a plain read and write here. The instrumented build tells the sanitizer that it was one.
#pragma once
#include "language.h"

#ifdef MINSEG_WATCH
#define MINSEG_ATOMIC MINSEG_UNSEEN
#define MINSEG_SEE(p, scope) \
    minseg::watch_atomic(p, sizeof *(p), __builtin_return_address(0), minseg::Scope::scope)
#define MINSEG_SEE_SWAP(p, scope) \
    minseg::watch_swap(p, sizeof *(p), __builtin_return_address(0), minseg::Scope::scope)
#else
#define MINSEG_ATOMIC inline
#define MINSEG_SEE(p, scope) ((void)0)
#define MINSEG_SEE_SWAP(p, scope) ((void)0)
#endif

// It keeps the operand out of the deduction: atomicAdd(&a_float, 1) is an atomicAdd on floats.
template <class T>
struct MinsegSame {
    typedef T type;
};
// CUDA has each atomic for some types only. (`long` and so, on Linux, uint64_t is none of them.)
template <class T, class... Known>
constexpr bool minseg_among = (std::is_same_v<T, Known> || ...);
#define MINSEG_32 int, unsigned
#define MINSEG_64 int, unsigned, unsigned long long
#define MINSEG_HAS(name, ...) \
    static_assert(minseg_among<T, __VA_ARGS__>, "CUDA has no " #name " of this type")

#define MINSEG_READ_MODIFY_WRITE(name, scope, expression, ...)       \
    template <class T>                                               \
    MINSEG_ATOMIC T name(T* p, typename MinsegSame<T>::type value) { \
        MINSEG_HAS(name, __VA_ARGS__);                               \
        MINSEG_SEE(p, scope);                                        \
        T old = *p;                                                  \
        *p = (expression);                                           \
        return old;                                                  \
    }
// Within a block; for CPU and GPU together, which is here the same as for the GPU.
#define MINSEG_ATOMICS(name, expression, ...)                               \
    MINSEG_READ_MODIFY_WRITE(name, GPU, expression, __VA_ARGS__)            \
    MINSEG_READ_MODIFY_WRITE(name##_block, BLOCK, expression, __VA_ARGS__)  \
    MINSEG_READ_MODIFY_WRITE(name##_system, GPU, expression, __VA_ARGS__)
// The only classes that can be added are half, bfloat16 and their pairs, which atomicAdd takes too.
MINSEG_ATOMICS(atomicAdd, old + value, MINSEG_64, float, double,
               std::conditional_t<std::is_class_v<T>, T, int>)
MINSEG_ATOMICS(atomicSub, old - value, MINSEG_32)
MINSEG_ATOMICS(atomicExch, value, MINSEG_64, float)
MINSEG_ATOMICS(atomicMin, value < old ? value : old, MINSEG_64, long long)
MINSEG_ATOMICS(atomicMax, old < value ? value : old, MINSEG_64, long long)
MINSEG_ATOMICS(atomicAnd, old & value, MINSEG_64)
MINSEG_ATOMICS(atomicOr, old | value, MINSEG_64)
MINSEG_ATOMICS(atomicXor, old ^ value, MINSEG_64)
MINSEG_ATOMICS(atomicInc, old >= value ? 0 : old + 1, unsigned)
MINSEG_ATOMICS(atomicDec, old == 0 || old > value ? value : old - 1, unsigned)

#define MINSEG_COMPARE_AND_SWAP(name, scope)                              \
    template <class T>                                                    \
    MINSEG_ATOMIC T name(T* p, typename MinsegSame<T>::type expected,     \
                         typename MinsegSame<T>::type value) {            \
        MINSEG_HAS(name, MINSEG_64, unsigned short);                      \
        MINSEG_SEE_SWAP(p, scope);                                        \
        T old = *p;                                                       \
        if (memcmp(&old, &expected, sizeof(T)) == 0) *p = value;          \
        return old;                                                       \
    }
MINSEG_COMPARE_AND_SWAP(atomicCAS, GPU)
MINSEG_COMPARE_AND_SWAP(atomicCAS_block, BLOCK)
MINSEG_COMPARE_AND_SWAP(atomicCAS_system, GPU)
