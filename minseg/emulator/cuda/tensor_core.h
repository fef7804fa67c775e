// mma.sync by its definition (PTX ISA, "Matrix fragments for mma.m16n8k8"): each lane publishes its
// fragments, and computes its own four elements of D = A B + C from those of the others.
#pragma once
#include "warp.h"

namespace minseg {

// A float's bits with the fraction rounded to TF32's 10 bits, to nearest, ties away from zero.
inline unsigned to_tf32(float value) {
    unsigned bits = __float_as_uint(value);
    if ((bits & 0x7f800000u) == 0x7f800000u) return bits;  // infinity and NaN stay
    return (bits + 0x1000u) & ~0x1fffu;
}

inline void mma_m16n8k8_tf32(float c[4], const unsigned a[4], const unsigned b[2]) {
    struct Fragments {
        float a[4], b[2];
    } mine;
    // The hardware ignores the lower 13 bits of an operand.
    for (int i = 0; i < 4; ++i) mine.a[i] = __uint_as_float(a[i] & ~0x1fffu);
    for (int i = 0; i < 2; ++i) mine.b[i] = __uint_as_float(b[i] & ~0x1fffu);
    const Site site = MINSEG_HERE;
    void* const* lanes = warp_meet(site, FULL_WARP, &mine);
    const int g = lane() / 4, t = lane() % 4;
    for (int i = 0; i < 4; ++i) {
        const int row = g + i / 2 * 8, column = 2 * t + i % 2;
        for (int k = 0; k < 8; ++k) {
            // A[row][k] lies with lane (row % 8, k % 4); B[k][column] with lane (column, k % 4).
            Fragments from_a = value_of<Fragments>(site, FULL_WARP, lanes, row % 8 * 4 + k % 4);
            Fragments from_b = value_of<Fragments>(site, FULL_WARP, lanes, column * 4 + k % 4);
            c[i] += from_a.a[row / 8 + k / 4 * 2] * from_b.b[k / 4];
        }
    }
    warp_leave(FULL_WARP);
}
}  // namespace minseg
