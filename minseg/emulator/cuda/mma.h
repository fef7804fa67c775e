// The WMMA matrix API (CUDA C++ Programming Guide, "Warp matrix functions"): a warp holds a matrix in
// fragments, num_elements of it in each lane. Which element lies where is not specified, and a
// kernel that counts on any order is wrong; so the order here (element_of) is none that it would
// think of. Of half, a lane has 16 of A and of B, whatever their shape (CUDA's crt/mma.h): of small
// ones, some repeatedly.
#pragma once
#include "cuda_bf16.h"
#include "cuda_fp16.h"
#include "tensor_core.h"

namespace nvcuda {
namespace wmma {

struct matrix_a {};
struct matrix_b {};
struct accumulator {};
struct row_major {};
struct col_major {};
enum layout_t { mem_row_major, mem_col_major };
namespace precision {
struct tf32 {};
}

inline float __float_to_tf32(float x) { return __uint_as_float(minseg::to_tf32(x)); }

template <class T>
struct Storage {
    typedef T type;
};
template <>
struct Storage<precision::tf32> {
    typedef float type;
};

template <class Use, int M, int N, int K, class T, class Layout = void>
struct fragment {
    typedef typename Storage<T>::type element_type;
    static constexpr int rows = std::is_same_v<Use, matrix_b> ? K : M;
    static constexpr int columns = std::is_same_v<Use, matrix_a> ? K : N;
    static constexpr int distinct = rows * columns / minseg::WARP_SIZE;  // the first of x
    static constexpr bool half_operand = std::is_same_v<T, half> && !std::is_same_v<Use, accumulator>;
    static constexpr int num_elements = half_operand ? 16 : distinct;
    element_type x[num_elements];
};

template <class F>
void fill_fragment(F& fragment, typename F::element_type value) {
    for (auto& element : fragment.x) element = value;
}

// The lane that holds the element at a row-major place. Were it place % 32, a kernel that stores a
// matrix and reads it with no __syncwarp between would mostly read what its own lane has stored.
inline int lane_of(int place) { return place % minseg::WARP_SIZE ^ 21; }
// And the place of element i of this lane.
inline int element_of(int i) { return i * minseg::WARP_SIZE + (minseg::lane() ^ 21); }

// Where element i of this lane lies in memory: `stride` elements between rows (or columns).
template <class F>
size_t offset_of(int i, unsigned stride, bool by_rows) {
    const int place = element_of(i);
    const size_t row = place / F::columns, column = place % F::columns;
    return by_rows ? row * stride + column : column * stride + row;
}

// Loads and stores carry the place of the call, so that findings name the kernel's own line.
#ifdef MINSEG_WATCH
#define MINSEG_WMMA MINSEG_UNSEEN
#define MINSEG_SEE_ELEMENT(kind, p) \
    minseg::watch_##kind(p, sizeof *(p), __builtin_return_address(0))
#define MINSEG_SEE_MATRIX(p, stride) \
    minseg::watch_matrix(p, (stride) * sizeof *(p), __builtin_return_address(0))
#else
#define MINSEG_WMMA inline
#define MINSEG_SEE_MATRIX(p, stride) ((void)0)
#define MINSEG_SEE_ELEMENT(kind, p) ((void)0)
#endif
#define load_matrix_sync(...) load_matrix(MINSEG_HERE, __VA_ARGS__)
#define store_matrix_sync(...) store_matrix(MINSEG_HERE, __VA_ARGS__)
#define mma_sync(...) multiply(MINSEG_HERE, __VA_ARGS__)

// All 32 lanes must take part. Returns what they published.
inline void* const* meet(minseg::Site site, const void* mine) {
    void* const* lanes = minseg::warp_meet(site, minseg::FULL_WARP, mine);
    for (int i = 0; i < minseg::WARP_SIZE; ++i)
        if (!lanes[i]) minseg::missing_lane(site, i);
    return lanes;
}

template <class Use, int M, int N, int K, class T, class Layout, class Item>
MINSEG_WMMA void load_matrix(minseg::Site site, fragment<Use, M, N, K, T, Layout>& f, const Item* p,
                             unsigned stride, layout_t layout = mem_col_major) {
    typedef fragment<Use, M, N, K, T, Layout> F;
    const bool by_rows = std::is_same_v<Layout, row_major> ||
                         (std::is_same_v<Layout, void> && layout == mem_row_major);
    meet(site, p);
    MINSEG_SEE_MATRIX(p, stride);
    for (int i = 0; i < F::distinct; ++i) {
        const Item* element = p + offset_of<F>(i, stride, by_rows);
        MINSEG_SEE_ELEMENT(read, element);
        f.x[i] = *element;
    }
    for (int i = F::distinct; i < F::num_elements; ++i) f.x[i] = f.x[i % F::distinct];
    minseg::warp_leave(minseg::FULL_WARP);
}
template <int M, int N, int K, class T, class Item>
MINSEG_WMMA void store_matrix(minseg::Site site, Item* p, const fragment<accumulator, M, N, K, T>& f,
                              unsigned stride, layout_t layout) {
    typedef fragment<accumulator, M, N, K, T> F;
    meet(site, p);
    MINSEG_SEE_MATRIX(p, stride);
    for (int i = 0; i < F::num_elements; ++i) {
        Item* element = p + offset_of<F>(i, stride, layout == mem_row_major);
        MINSEG_SEE_ELEMENT(write, element);
        *element = f.x[i];
    }
    minseg::warp_leave(minseg::FULL_WARP);
}

// An operand as the hardware multiplies it: TF32 leaves out the lower 13 bits.
template <class T, class Item>
auto operand(Item x) {
    if constexpr (std::is_same_v<T, precision::tf32>)
        return __uint_as_float(__float_as_uint(x) & ~0x1fffu);
    else if constexpr (std::is_same_v<T, double>) return x;
    else return float(x);
}

template <int M, int N, int K, class T, class LayoutA, class LayoutB, class C, class D>
void multiply(minseg::Site site, fragment<accumulator, M, N, K, D>& d,
              const fragment<matrix_a, M, N, K, T, LayoutA>& a,
              const fragment<matrix_b, M, N, K, T, LayoutB>& b,
              const fragment<accumulator, M, N, K, C>& c) {
    typedef fragment<matrix_a, M, N, K, T, LayoutA> A;
    typedef fragment<matrix_b, M, N, K, T, LayoutB> B;
    const std::pair<const A*, const B*> mine(&a, &b);
    void* const* lanes = meet(site, &mine);
    fragment<accumulator, M, N, K, D> result;
    for (int i = 0; i < result.num_elements; ++i) {
        const int place = element_of(i);
        const int row = place / N, column = place % N;
        auto sum = operand<T>(typename A::element_type(0));
        for (int k = 0; k < K; ++k) {
            const int in_a = row * K + k, in_b = k * N + column;
            typedef std::pair<const A*, const B*> Lane;
            const Lane* from_a = (const Lane*)lanes[lane_of(in_a)];
            const Lane* from_b = (const Lane*)lanes[lane_of(in_b)];
            if (!from_a || !from_b) continue;  // a lane that is not there
            sum += operand<T>(from_a->first->x[in_a / 32]) *
                   operand<T>(from_b->second->x[in_b / 32]);
        }
        result.x[i] = D(decltype(sum)(c.x[i]) + sum);  // C may be half: added before it is rounded
    }
    minseg::warp_leave(minseg::FULL_WARP);
    d = result;
}
}  // namespace wmma
}  // namespace nvcuda
