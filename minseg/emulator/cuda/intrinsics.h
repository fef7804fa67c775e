// CUDA's arithmetic for a host compiler: min and max, fast-math intrinsics, casts of bits, bit tricks,
// cached loads. A fast-math intrinsic is computed exactly here; on a GPU it is off by a few ulp.
#pragma once
#include "assert.h"
#include "language.h"

// --- Minimum and maximum: CUDA's overloads stand outside std, and let NaN lose ------------------
template <class A, class B>
constexpr std::common_type_t<A, B> min(A a, B b) {
    using T = std::common_type_t<A, B>;
    if constexpr (std::is_floating_point_v<T>) return fmin(T(a), T(b));
    else return T(b) < T(a) ? T(b) : T(a);
}
template <class A, class B>
constexpr std::common_type_t<A, B> max(A a, B b) {
    using T = std::common_type_t<A, B>;
    if constexpr (std::is_floating_point_v<T>) return fmax(T(a), T(b));
    else return T(a) < T(b) ? T(b) : T(a);
}

// --- Functions that the C library lacks ---------------------------------------------------------
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline float rsqrt(float x) { return 1.0f / sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }
inline float rcbrtf(float x) { return 1.0f / cbrtf(x); }
inline double rcbrt(double x) { return 1.0 / cbrt(x); }
// Of multiples of pi that are exact: sinpi(1e6) is 0, where sin(1e6 * M_PI) is 1e-10.
inline double sinpi(double x) {
    const double r = remainder(x, 2.0);
    return sin(M_PI * (fabs(r) > 0.5 ? copysign(1 - fabs(r), r) : r));
}
inline double cospi(double x) { return sin(M_PI * (0.5 - fabs(remainder(x, 2.0)))); }
inline float sinpif(float x) { return (float)sinpi((double)x); }
inline float cospif(float x) { return (float)cospi((double)x); }
inline void sincospi(double x, double* s, double* c) { *s = sinpi(x), *c = cospi(x); }
inline void sincospif(float x, float* s, float* c) { *s = sinpif(x), *c = cospif(x); }
inline float normcdff(float x) { return 0.5f * erfcf(-x * (float)M_SQRT1_2); }
inline double normcdf(double x) { return 0.5 * erfc(-x * M_SQRT1_2); }
inline float fdividef(float a, float b) { return a / b; }

// --- Fast-math intrinsics (macros: glibc declares some of these names for itself) ---------------
#define __expf(x) expf(x)
#define __exp10f(x) powf(10.0f, x)
#define __logf(x) logf(x)
#define __log2f(x) log2f(x)
#define __log10f(x) log10f(x)
#define __powf(x, y) powf(x, y)
#define __sinf(x) sinf(x)
#define __cosf(x) cosf(x)
#define __tanf(x) tanf(x)
#define __sincosf(x, s, c) (*(s) = sinf(x), *(c) = cosf(x))
inline float __fdividef(float a, float b) { return a / b; }
inline float __saturatef(float x) { return fminf(fmaxf(x, 0.0f), 1.0f); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __frsqrt_rn(float x) { return 1.0f / sqrtf(x); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
inline double __drcp_rn(double x) { return 1.0 / x; }
inline double __dsqrt_rn(double x) { return sqrt(x); }

// --- Conversions: CUDA saturates where C++ leaves the result undefined ---------------------------
namespace minseg {
template <class To, class From>
To convert(From x) {
    if (x != x) return 0;
    if (x <= (From)std::numeric_limits<To>::min()) return std::numeric_limits<To>::min();
    if (x >= (From)std::numeric_limits<To>::max()) return std::numeric_limits<To>::max();
    return (To)x;
}
template <class To, class From>
To bits(From from) {
    static_assert(sizeof(To) == sizeof(From), "a cast of bits keeps the size");
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}
}  // namespace minseg
#define MINSEG_ROUNDED(type, short_name, to, to_name)                                    \
    inline to __##short_name##2##to_name##_rn(type x) { return minseg::convert<to>(rint(x)); }   \
    inline to __##short_name##2##to_name##_rz(type x) { return minseg::convert<to>(trunc(x)); }  \
    inline to __##short_name##2##to_name##_rd(type x) { return minseg::convert<to>(floor(x)); }  \
    inline to __##short_name##2##to_name##_ru(type x) { return minseg::convert<to>(ceil(x)); }
MINSEG_ROUNDED(float, float, int, int)
MINSEG_ROUNDED(float, float, unsigned, uint)
MINSEG_ROUNDED(float, float, long long, ll)
MINSEG_ROUNDED(float, float, unsigned long long, ull)
MINSEG_ROUNDED(double, double, int, int)
MINSEG_ROUNDED(double, double, unsigned, uint)
MINSEG_ROUNDED(double, double, long long, ll)
MINSEG_ROUNDED(double, double, unsigned long long, ull)
inline float __int2float_rn(int x) { return (float)x; }
inline float __uint2float_rn(unsigned x) { return (float)x; }
inline float __ll2float_rn(long long x) { return (float)x; }
inline float __ull2float_rn(unsigned long long x) { return (float)x; }
inline double __int2double_rn(int x) { return x; }
inline double __ll2double_rn(long long x) { return (double)x; }
inline double __ull2double_rn(unsigned long long x) { return (double)x; }
inline float __double2float_rn(double x) { return (float)x; }

inline float __int_as_float(int x) { return minseg::bits<float>(x); }
inline int __float_as_int(float x) { return minseg::bits<int>(x); }
inline float __uint_as_float(unsigned x) { return minseg::bits<float>(x); }
inline unsigned __float_as_uint(float x) { return minseg::bits<unsigned>(x); }
inline double __longlong_as_double(long long x) { return minseg::bits<double>(x); }
inline long long __double_as_longlong(double x) { return minseg::bits<long long>(x); }

// --- Integers and bits ----------------------------------------------------------------------------
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)x) : 64; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline unsigned __brev(unsigned x) {
    unsigned r = 0;
    for (int i = 0; i < 32; ++i) r |= (x >> i & 1u) << (31 - i);
    return r;
}
inline unsigned long long __brevll(unsigned long long x) {
    return (unsigned long long)__brev((unsigned)x) << 32 | __brev((unsigned)(x >> 32));
}
// Byte i of the result is the one of b:a's eight that selector's i-th hexadecimal digit names; the
// digit's high bit asks for that byte's sign, eight times.
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
    const unsigned long long both = (unsigned long long)b << 32 | a;
    unsigned r = 0;
    for (int i = 0; i < 4; ++i) {
        const unsigned digit = selector >> 4 * i, byte = both >> 8 * (digit & 7) & 0xff;
        r |= (digit & 8 ? byte >> 7 ? 0xffu : 0u : byte) << 8 * i;
    }
    return r;
}
// Four products of bytes, and c.
inline int __dp4a(int a, int b, int c) {
    for (int i = 0; i < 32; i += 8) c += (signed char)(a >> i) * (signed char)(b >> i);
    return c;
}
inline unsigned __dp4a(unsigned a, unsigned b, unsigned c) {
    for (int i = 0; i < 32; i += 8) c += (a >> i & 0xff) * (b >> i & 0xff);
    return c;
}
inline unsigned __sad(int a, int b, unsigned c) {
    return (a < b ? (unsigned)b - a : (unsigned)a - b) + c;
}
inline unsigned __usad(unsigned a, unsigned b, unsigned c) { return (a < b ? b - a : a - b) + c; }
inline int __hadd(int a, int b) { return (int)(((long long)a + b) >> 1); }
inline int __rhadd(int a, int b) { return (int)(((long long)a + b + 1) >> 1); }
inline unsigned __uhadd(unsigned a, unsigned b) {
    return (unsigned)(((unsigned long long)a + b) >> 1);
}
inline unsigned __urhadd(unsigned a, unsigned b) {
    return (unsigned)(((unsigned long long)a + b + 1) >> 1);
}
inline int __mul24(int a, int b) { return (a << 8 >> 8) * (b << 8 >> 8); }
inline unsigned __umul24(unsigned a, unsigned b) { return (a & 0xffffff) * (b & 0xffffff); }
inline int __mulhi(int a, int b) { return (int)((long long)a * b >> 32); }
inline unsigned __umulhi(unsigned a, unsigned b) {
    return (unsigned)((unsigned long long)a * b >> 32);
}
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}
inline long long __mul64hi(long long a, long long b) { return (long long)((__int128)a * b >> 64); }
inline unsigned __funnelshift_l(unsigned lo, unsigned hi, unsigned shift) {
    return (unsigned)((((unsigned long long)hi << 32 | lo) << (shift & 31)) >> 32);
}
inline unsigned __funnelshift_r(unsigned lo, unsigned hi, unsigned shift) {
    return (unsigned)(((unsigned long long)hi << 32 | lo) >> (shift & 31));
}

// --- Loads and stores with a cache hint: plain ones here --------------------------------------------
#define MINSEG_LOAD(name)              \
    template <class T>                 \
    __forceinline__ T name(const T* p) { \
        return *p;                     \
    }
MINSEG_LOAD(__ldg)
MINSEG_LOAD(__ldca)
MINSEG_LOAD(__ldcg)
MINSEG_LOAD(__ldcs)
MINSEG_LOAD(__ldlu)
MINSEG_LOAD(__ldcv)
#define MINSEG_STORE(name)                        \
    template <class T>                            \
    __forceinline__ void name(T* p, const T& value) { \
        *p = value;                               \
    }
MINSEG_STORE(__stwb)
MINSEG_STORE(__stcg)
MINSEG_STORE(__stcs)
MINSEG_STORE(__stwt)

// --- The rest -----------------------------------------------------------------------------------------
#define __threadfence() minseg::fence()
#define __threadfence_block() minseg::fence_block()
#define __threadfence_system() minseg::fence()
#define __trap() minseg::trap()
inline void __nanosleep(unsigned) {}
inline long long clock64() { return 0; }  // no time is measured here: it would not be a GPU's
