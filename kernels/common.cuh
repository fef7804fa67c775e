// What every kernel of minseg shares: the scalar type, index helpers, reductions over a warp and over
// a block, and named wrappers for the few instructions that CUDA C++ has no name for.
//
// A kernel file needs nothing but this one beside it. It compiles with NVRTC, with nvcc, and in the
// emulator (which defines MINSEG_EMULATOR).
#pragma once

// --- The scalar type ---------------------------------------------------------------------------
// One source serves both precisions: the launcher passes -DMINSEG_DOUBLE when the arrays are float64.
#ifdef MINSEG_DOUBLE
typedef double scalar;
#else
typedef float scalar;
#endif

#define WARP 32
#define FULL_MASK 0xffffffffu  // every lane of a warp

// Minus infinity without <limits>, which NVRTC does not have: the start of every maximum.
__device__ __forceinline__ scalar minus_infinity() {
    return -(scalar)__int_as_float(0x7f800000);
}

// --- Indices -----------------------------------------------------------------------------------
__host__ __device__ constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }

// Index of this thread in a one-dimensional grid. 64 bits: a batch of images passes 2^31 elements.
__device__ __forceinline__ long long global_index() {
    return (long long)blockIdx.x * blockDim.x + threadIdx.x;
}

// Row-major place of element (n, c, y, x) in an array of shape (N, C, H, W). N itself is not needed.
__device__ __forceinline__ long long at(int n, int c, int y, int x, int C, int H, int W) {
    return (((long long)n * C + c) * H + y) * W + x;
}

// The inverse of at(): which (n, c, y, x) lies at a row-major place.
struct Nchw {
    int n, c, y, x;
};
__device__ __forceinline__ Nchw unravel(long long i, int C, int H, int W) {
    Nchw p;
    p.x = (int)(i % W);
    i /= W;
    p.y = (int)(i % H);
    i /= H;
    p.c = (int)(i % C);
    p.n = (int)(i / C);
    return p;
}

__device__ __forceinline__ bool inside(int y, int x, int H, int W) {
    return y >= 0 && y < H && x >= 0 && x < W;
}

// Place of element e of channel c in an array (N, C, L): a channel's elements lie in N pieces of L.
__device__ __forceinline__ long long in_channel(int e, int c, int C, int L) {
    return ((long long)(e / L) * C + c) * L + e % L;
}

struct Range {
    int first, end;  // end: one past the last
};

// What block `part` takes where `parts` blocks share the elements 0, ..., size - 1: one piece of them.
__device__ __forceinline__ Range share_of(int size, int part, int parts) {
    int each = ceil_div(size, parts), first = min(part * each, size);
    return {first, min(first + each, size)};
}

// --- Reductions --------------------------------------------------------------------------------
// All 32 lanes of a warp must call these; every lane gets the result. The tree's shape depends on
// nothing but the lane, so that the same input gives the same bits on every run.
template <typename T>
__device__ __forceinline__ T warp_sum(T value) {
    for (int step = WARP / 2; step > 0; step /= 2) value += __shfl_xor_sync(FULL_MASK, value, step);
    return value;
}

template <typename T>
__device__ __forceinline__ T warp_max(T value) {
    for (int step = WARP / 2; step > 0; step /= 2) {
        T other = __shfl_xor_sync(FULL_MASK, value, step);
        value = other > value ? other : value;
    }
    return value;
}

// Every thread of a one-dimensional block must call it, and the block's size must be a multiple of
// 32. `scratch` is shared memory for 32 values (one a warp). Every thread gets the result. The last
// barrier lets the caller use `scratch` again at once.
template <typename T>
__device__ __forceinline__ T block_sum(T value, T* scratch) {
    int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, warps = blockDim.x / WARP;
    value = warp_sum(value);
    if (lane == 0) scratch[warp] = value;
    __syncthreads();
    value = warp_sum(lane < warps ? scratch[lane] : T(0));
    __syncthreads();
    return value;
}

// --- A tile of a matrix product ----------------------------------------------------------------
// What matmul and the convolutions share. A block of GEMM_SIDE x GEMM_SIDE threads computes
// GEMM_TILE x GEMM_TILE elements of A @ B; per GEMM_STEP along the sum, both operands' tiles are
// brought to shared memory, so that an element is read once from global memory for GEMM_TILE products.
// There a thread reads 8 elements for 16 multiply-adds. A multiprocessor with 64 float units (sm_70,
// sm_80) needs as long for the ones as for the others, one with 128 (sm_86, sm_90) twice as long for the
// reads: 8 x 8 elements a thread, and float4, are the way on (kernels/ladder/matmul/v5_vectorized.cu).
#define GEMM_TILE 64  // rows and columns of the result a block computes
#define GEMM_STEP 16  // how far along the sum a tile in shared memory reaches
#define GEMM_SIDE 16  // the block is GEMM_SIDE x GEMM_SIDE threads
#define GEMM_EACH 4   // a thread computes GEMM_EACH x GEMM_EACH elements: GEMM_TILE / GEMM_SIDE

// The tile of A @ B whose upper left element is (row0, col0), over k in [k0, k1). a(row, k) and
// b(k, col) return 0 outside their matrices. Thread (x, y) gets the elements
// (row0 + y + GEMM_SIDE r, col0 + x + GEMM_SIDE c).
template <class A, class B>
__device__ void tile_product(A a, B b, int row0, int col0, int k0, int k1,
                             scalar sum[GEMM_EACH][GEMM_EACH]) {
    // + 2: what a warp stores at a time, 16 of k by 2 rows, lies in 32 banks
    __shared__ scalar a_tile[GEMM_STEP][GEMM_TILE + 2];
    __shared__ scalar b_tile[GEMM_STEP][GEMM_TILE];
    const int thread = threadIdx.y * GEMM_SIDE + threadIdx.x;

    for (int r = 0; r < GEMM_EACH; r++)
        for (int c = 0; c < GEMM_EACH; c++) sum[r][c] = 0;

    for (int k = k0; k < k1; k += GEMM_STEP) {
        for (int e = thread; e < GEMM_STEP * GEMM_TILE; e += GEMM_SIDE * GEMM_SIDE) {
            int ka = e % GEMM_STEP, row = e / GEMM_STEP;  // neighbours along k: the order in which A lies
            a_tile[ka][row] = k + ka < k1 ? a(row0 + row, k + ka) : scalar(0);
            int kb = e / GEMM_TILE, col = e % GEMM_TILE;  // neighbours along the columns of B
            b_tile[kb][col] = k + kb < k1 ? b(k + kb, col0 + col) : scalar(0);
        }
        __syncthreads();  // both tiles are complete
        for (int s = 0; s < GEMM_STEP; s++) {
            scalar from_a[GEMM_EACH], from_b[GEMM_EACH];
            for (int r = 0; r < GEMM_EACH; r++) from_a[r] = a_tile[s][threadIdx.y + GEMM_SIDE * r];
            for (int c = 0; c < GEMM_EACH; c++) from_b[c] = b_tile[s][threadIdx.x + GEMM_SIDE * c];
            for (int r = 0; r < GEMM_EACH; r++)
                for (int c = 0; c < GEMM_EACH; c++) sum[r][c] += from_a[r] * from_b[c];
        }
        __syncthreads();  // all have read them: the next step may overwrite
    }
}

// --- Instructions without a name in CUDA C++ ---------------------------------------------------
// Tensor cores by their PTX instruction: a warp multiplies a 16 x 8 tile of A by an 8 x 8 tile of B
// and adds to a 16 x 8 tile of C. TF32 operands are float bits of which the hardware reads the upper
// 19. With g = lane / 4 and t = lane % 4, a lane holds
//   a = A[g][t], A[g + 8][t], A[g][t + 4], A[g + 8][t + 4]        b = B[t][g], B[t + 4][g]
//   c = C[g][2t], C[g][2t + 1], C[g + 8][2t], C[g + 8][2t + 1]
// (PTX ISA, "Matrix fragments for mma.m16n8k8"). Needs sm_80; all 32 lanes must call it.
__device__ __forceinline__ void mma_m16n8k8_tf32(float c[4], const unsigned a[4],
                                                 const unsigned b[2]) {
#if defined(MINSEG_EMULATOR)
    minseg::mma_m16n8k8_tf32(c, a, b);
#elif __CUDA_ARCH__ >= 800
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    __trap();  // no tensor core reads TF32 before sm_80
#endif
}

// float bits rounded to TF32 (10 bits of fraction, to nearest, ties away from zero), as mma wants them.
__device__ __forceinline__ unsigned to_tf32(float value) {
#if defined(MINSEG_EMULATOR)
    return minseg::to_tf32(value);
#elif __CUDA_ARCH__ >= 800
    unsigned bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
    return bits;
#else
    __trap();
    return 0;
#endif
}

// --- Hopper's tensor cores -----------------------------------------------------------------------
// Four warps together, a warp group, multiply a 64 x 8 tile of A by an 8 x 128 tile of B and add to a
// 64 x 128 tile of D. Both operands lie in shared memory, where two descriptors say (PTX ISA, "Matrix
// descriptor format"; kernels/ladder/matmul/v9_wgmma.cu builds them); D lies in registers. With warp w
// of the group, g = lane / 4, t = lane % 4, a thread holds, for j from 0 to 15 and i from 0 to 3,
//   d[4j + i] = D[16w + g + i / 2 * 8][8j + 2t + i % 2]
// The instruction only starts the work: wgmma_fence() before the first one that uses these registers,
// wgmma_commit() behind the last one, and wgmma_wait() before anyone reads the registers or overwrites
// the shared memory. Needs sm_90a, on which code for later GPUs does not build; so not in the emulator.
#if !defined(MINSEG_EMULATOR)
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define HOPPER_ASM(...) asm volatile(__VA_ARGS__)
#else
#define HOPPER_ASM(...) __trap()
#endif
#define EIGHT(d, i)                                                                            \
    "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
        "+f"(d[i + 6]), "+f"(d[i + 7])

__device__ __forceinline__ void wgmma_m64n128k8_tf32(float d[64], unsigned long long a,
                                                     unsigned long long b) {
    HOPPER_ASM(
        "wgmma.mma_async.sync.aligned.m64n128k8.f32.tf32.tf32 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        " %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
        " %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
        " %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
        "%64, %65, 1, 1, 1;"  // D += (1 A) (1 B)
        : EIGHT(d, 0), EIGHT(d, 8), EIGHT(d, 16), EIGHT(d, 24), EIGHT(d, 32), EIGHT(d, 40),
          EIGHT(d, 48), EIGHT(d, 56)
        : "l"(a), "l"(b)
        : "memory");
}

__device__ __forceinline__ void wgmma_fence() { HOPPER_ASM("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void wgmma_commit() {
    HOPPER_ASM("wgmma.commit_group.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void wgmma_wait() {  // until all that was committed is done
    HOPPER_ASM("wgmma.wait_group.sync.aligned 0;" ::: "memory");
}

// Tensor cores reach shared memory by a way of their own (the "async proxy"). Each thread that wrote
// there calls this before the barrier that lets others start a wgmma on what it wrote.
__device__ __forceinline__ void fence_proxy_async() {
    HOPPER_ASM("fence.proxy.async.shared::cta;" ::: "memory");
}

// A pointer to shared memory as the instructions know it: an offset, below 2^18.
__device__ __forceinline__ unsigned shared_address(const void* p) {
    return (unsigned)__cvta_generic_to_shared(p);
}
#endif
