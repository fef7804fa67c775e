// Storage of floats in 16 bits: half (5 bits of exponent, 10 of fraction) and bfloat16 (8 and 7).
// Arithmetic on them converts to float, computes, and rounds once, as CUDA specifies.
#pragma once
#include "language.h"

namespace minseg {

// The nearest number with so many bits, ties to even; a double holds each of them exactly.
template <int EXPONENT, int FRACTION>
unsigned short encode(double value) {
    const int bias = (1 << (EXPONENT - 1)) - 1;
    const unsigned short sign = signbit(value) ? 0x8000 : 0;
    const unsigned short infinite = ((1 << EXPONENT) - 1) << FRACTION;
    if (value != value) return 0x7fff;
    double size = fabs(value);
    if (size == 0) return sign;
    if (isinf(size)) return sign | infinite;
    int exponent = ilogb(size);
    if (exponent < 1 - bias) exponent = 1 - bias;  // subnormal: the smallest exponent, less fraction
    const double steps = nearbyint(ldexp(size, FRACTION - exponent));
    if (ldexp(steps, exponent - FRACTION) >= ldexp(1.0, bias + 1)) return sign | infinite;
    const int hidden = 1 << FRACTION;
    if (steps < hidden) return sign | (unsigned short)steps;
    // A fraction that rounds up to 2 carries into the exponent by itself.
    return sign | (unsigned short)(((exponent + bias) << FRACTION) + (int)steps - hidden);
}

template <int EXPONENT, int FRACTION>
float decode(unsigned short bits) {
    const int bias = (1 << (EXPONENT - 1)) - 1;
    const int exponent = bits >> FRACTION & ((1 << EXPONENT) - 1);
    const int fraction = bits & ((1 << FRACTION) - 1);
    float size;
    if (exponent == (1 << EXPONENT) - 1) size = fraction ? NAN : INFINITY;
    else if (exponent == 0) size = ldexpf((float)fraction, 1 - bias - FRACTION);
    else size = ldexpf((float)(fraction + (1 << FRACTION)), exponent - bias - FRACTION);
    return bits & 0x8000 ? -size : size;
}

// EXPONENT and FRACTION tell the two types apart.
template <int EXPONENT, int FRACTION>
struct SmallFloat {
    unsigned short bits;
    SmallFloat() = default;
    template <class T, class = std::enable_if_t<std::is_arithmetic_v<T>>>
    SmallFloat(T value) : bits(encode<EXPONENT, FRACTION>((double)value)) {}
    operator float() const { return decode<EXPONENT, FRACTION>(bits); }

    static SmallFloat of_bits(unsigned short bits) {
        SmallFloat x;
        x.bits = bits;
        return x;
    }
    // Friends, so that the types on both sides convert; exact matches, so that float's don't compete.
    friend SmallFloat operator+(SmallFloat a, SmallFloat b) { return float(a) + float(b); }
    friend SmallFloat operator-(SmallFloat a, SmallFloat b) { return float(a) - float(b); }
    friend SmallFloat operator*(SmallFloat a, SmallFloat b) { return float(a) * float(b); }
    friend SmallFloat operator/(SmallFloat a, SmallFloat b) { return float(a) / float(b); }
    friend SmallFloat operator-(SmallFloat a) { return of_bits(a.bits ^ 0x8000); }
    SmallFloat& operator+=(SmallFloat b) { return *this = *this + b; }
    SmallFloat& operator-=(SmallFloat b) { return *this = *this - b; }
    SmallFloat& operator*=(SmallFloat b) { return *this = *this * b; }
    SmallFloat& operator/=(SmallFloat b) { return *this = *this / b; }
    friend bool operator==(SmallFloat a, SmallFloat b) { return float(a) == float(b); }
    friend bool operator!=(SmallFloat a, SmallFloat b) { return float(a) != float(b); }
    friend bool operator<(SmallFloat a, SmallFloat b) { return float(a) < float(b); }
    friend bool operator>(SmallFloat a, SmallFloat b) { return float(a) > float(b); }
    friend bool operator<=(SmallFloat a, SmallFloat b) { return float(a) <= float(b); }
    friend bool operator>=(SmallFloat a, SmallFloat b) { return float(a) >= float(b); }
};

template <class T>
struct alignas(4) Pair {
    T x, y;
    MINSEG_COPIES(Pair)
    Pair(T x, T y) : x(x), y(y) {}
    friend Pair operator+(Pair a, Pair b) { return {a.x + b.x, a.y + b.y}; }
    friend Pair operator-(Pair a, Pair b) { return {a.x - b.x, a.y - b.y}; }
    friend Pair operator*(Pair a, Pair b) { return {a.x * b.x, a.y * b.y}; }
};

// Fused: one rounding. A double holds the product of two of these exactly, and the sum nearly so.
template <class T>
T fused(T a, T b, T c) {
    return T((double)float(a) * (double)float(b) + (double)float(c));
}
template <class T>
Pair<T> fused(Pair<T> a, Pair<T> b, Pair<T> c) {
    return {fused(a.x, b.x, c.x), fused(a.y, b.y, c.y)};
}
}  // namespace minseg

// CUDA's functions that both types share by overloading.
#define MINSEG_SMALL_FUNCTIONS(T, T2)                                     \
    inline T __hadd(T a, T b) { return a + b; }                           \
    inline T __hsub(T a, T b) { return a - b; }                           \
    inline T __hmul(T a, T b) { return a * b; }                           \
    inline T __hdiv(T a, T b) { return a / b; }                           \
    inline T __hneg(T a) { return -a; }                                   \
    inline T __hfma(T a, T b, T c) { return minseg::fused(a, b, c); }     \
    inline T __hmax(T a, T b) { return fmaxf(a, b); }                     \
    inline T __hmin(T a, T b) { return fminf(a, b); }                     \
    inline T __habs(T a) { return fabsf(a); }                             \
    inline T hexp(T a) { return exp((double)float(a)); }                  \
    inline T hlog(T a) { return log((double)float(a)); }                  \
    inline T hsqrt(T a) { return sqrt((double)float(a)); }                \
    inline T hrsqrt(T a) { return 1 / sqrt((double)float(a)); }           \
    inline T hrcp(T a) { return 1 / (double)float(a); }                   \
    inline T hsin(T a) { return sin((double)float(a)); }                  \
    inline T hcos(T a) { return cos((double)float(a)); }                  \
    inline bool __hle(T a, T b) { return a <= b; }                        \
    inline bool __hge(T a, T b) { return a >= b; }                        \
    inline bool __hne(T a, T b) { return a != b; }                        \
    inline bool __hlt(T a, T b) { return a < b; }                         \
    inline bool __hgt(T a, T b) { return a > b; }                         \
    inline bool __heq(T a, T b) { return a == b; }                        \
    inline bool __hisnan(T a) { return isnan(float(a)); }                 \
    inline T2 __hadd2(T2 a, T2 b) { return a + b; }                       \
    inline T2 __hsub2(T2 a, T2 b) { return a - b; }                       \
    inline T2 __hmul2(T2 a, T2 b) { return a * b; }                       \
    inline T2 __hfma2(T2 a, T2 b, T2 c) { return minseg::fused(a, b, c); } \
    inline float __low2float(T2 a) { return a.x; }                        \
    inline float __high2float(T2 a) { return a.y; }
