// Atomics. A kernel that uses them runs on one CPU worker (so that the order of its additions, and
// with it every bit of the result, is always the same), and a fiber is never interrupted: so an
// atomic is a plain read and write here. The instrumented build tells the sanitizer that it was one.
#pragma once
#include "language.h"

#ifdef MINSEG_WATCH
#define MINSEG_ATOMIC MINSEG_UNSEEN
#define MINSEG_SEE(p) minseg::watch_atomic(p, sizeof *(p), __builtin_return_address(0))
#else
#define MINSEG_ATOMIC inline
#define MINSEG_SEE(p) ((void)0)
#endif

// `V` keeps the operand out of the deduction: atomicAdd(&a_float, 1) is an atomicAdd on floats.
template <class T>
struct MinsegSame {
    typedef T type;
};
#define MINSEG_READ_MODIFY_WRITE(name, expression)                               \
    template <class T>                                                           \
    MINSEG_ATOMIC T name(T* p, typename MinsegSame<T>::type value) {             \
        MINSEG_SEE(p);                                                           \
        T old = *p;                                                              \
        *p = (expression);                                                       \
        return old;                                                              \
    }                                                                            \
    template <class T>                                                           \
    MINSEG_ATOMIC T name##_block(T* p, typename MinsegSame<T>::type value) {     \
        MINSEG_SEE(p);                                                           \
        T old = *p;                                                              \
        *p = (expression);                                                       \
        return old;                                                              \
    }
MINSEG_READ_MODIFY_WRITE(atomicAdd, old + value)
MINSEG_READ_MODIFY_WRITE(atomicSub, old - value)
MINSEG_READ_MODIFY_WRITE(atomicExch, value)
MINSEG_READ_MODIFY_WRITE(atomicMin, value < old ? value : old)
MINSEG_READ_MODIFY_WRITE(atomicMax, old < value ? value : old)
MINSEG_READ_MODIFY_WRITE(atomicAnd, old & value)
MINSEG_READ_MODIFY_WRITE(atomicOr, old | value)
MINSEG_READ_MODIFY_WRITE(atomicXor, old ^ value)
MINSEG_READ_MODIFY_WRITE(atomicInc, old >= value ? 0 : old + 1)
MINSEG_READ_MODIFY_WRITE(atomicDec, old == 0 || old > value ? value : old - 1)

template <class T>
MINSEG_ATOMIC T atomicCAS(T* p, typename MinsegSame<T>::type expected,
                          typename MinsegSame<T>::type value) {
    MINSEG_SEE(p);
    T old = *p;
    if (memcmp(&old, &expected, sizeof(T)) == 0) *p = value;
    return old;
}
