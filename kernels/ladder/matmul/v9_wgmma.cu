// sm_90a
// Step 9: Hopper's tensor cores read both operands straight from shared memory, four warps at a time.
//
// In v8 each warp loads fragments into registers before every instruction, and the loads are what it
// waits for. wgmma.mma_async needs none: a warp group (4 warps) names two tiles in shared memory by
// descriptors, starts 64 x 128 x 8 multiplications with one instruction, and is free until it waits for
// the result; meanwhile it loads the next tiles from global memory. A block of two warp groups computes
// a 128 x 128 tile of C, a group 64 rows of it. Per 32 along K a thread loads 16 floats of A and 16 of
// B and writes them, rounded to TF32 as in v7, to one of two buffers; a group starts 4 instructions.
// Expected bottleneck: the path from global to shared memory through registers; the tensor memory
// accelerator (TMA) and more buffers would be next.
//
// How the hardware wants a tile to lie. Both tiles have their K neighbours side by side ("K-major"): a
// row of A, or a column of B, is 32 floats, which are 128 bytes, which are all 32 banks. 8 such rows
// make an atom of 1024 bytes. Wherever the tensor core reads the same k of 8 rows, plain rows would put
// all of them into the same banks. So the 8 chunks of 16 bytes in a row are permuted: chunk q of row r
// lies where chunk q ^ (r % 8) would have been. This is the 128-byte swizzle. The hardware computes the
// plain address and then XORs its bits 4-6 (the chunk) with its bits 7-9 (the row in the atom); that is
// the same thing as long as an atom starts on a multiple of 1024 bytes.
#include "../../common.cuh"

#define TILE 128  // of C, rows and columns a block
#define DEPTH 32  // of the tiles, along K: 128 bytes
#define THREADS 256
#define CHUNK 4                         // floats: 16 bytes
#define CHUNKS (TILE * DEPTH / CHUNK)  // of a tile
#define EACH (CHUNKS / THREADS)        // chunks of a tile that a thread brings

// Where chunk q of row r begins in a tile, counted in floats.
__device__ __forceinline__ int swizzled(int r, int q) { return r * DEPTH + (q ^ r % 8) * CHUNK; }

// What a wgmma gets to know of an operand, in 64 bits (addresses and distances in units of 16 bytes):
//   bits  0-13  where it starts in shared memory
//   bits 16-29  distance between swizzle widths along K: ours is one wide, and the field is not read
//   bits 32-45  distance between groups of 8 rows: an atom, 1024 bytes
//   bits 49-51  0, as our atoms start on multiples of 1024
//   bits 62-63  1: 128-byte swizzle
// To move on along K within the atom, the start moves by plain bytes: 8 floats are 32 bytes.
__device__ __forceinline__ unsigned long long descriptor(const unsigned* tile) {
    const unsigned long long start = shared_address(tile) / 16, group = 1024 / 16, swizzle = 1;
    return start | 1ull << 16 | group << 32 | swizzle << 62;
}

// A[row][k ... k + 3] and B[k ... k + 3][col], 0 outside of the matrices.
__device__ __forceinline__ float4 chunk_of_a(const float* a, int row, int k, int M, int K) {
    const float* from = a + (long long)row * K + k;
    if (row < M && k + 3 < K && K % 4 == 0) return *(const float4*)from;
    float4 v = make_float4(0, 0, 0, 0);
    if (row < M && k < K) v.x = from[0];
    if (row < M && k + 1 < K) v.y = from[1];
    if (row < M && k + 2 < K) v.z = from[2];
    if (row < M && k + 3 < K) v.w = from[3];
    return v;
}

__device__ __forceinline__ float4 chunk_of_b(const float* b, int k, int col, int K, int L) {
    const float* from = b + (long long)k * L + col;
    float4 v = make_float4(0, 0, 0, 0);
    if (col < L && k < K) v.x = from[0];
    if (col < L && k + 1 < K) v.y = from[L];
    if (col < L && k + 2 < K) v.z = from[2ll * L];
    if (col < L && k + 3 < K) v.w = from[3ll * L];
    return v;
}

__device__ __forceinline__ uint4 rounded(float4 v) {
    return make_uint4(to_tf32(v.x), to_tf32(v.y), to_tf32(v.z), to_tf32(v.w));
}

// launch: grid=(ceil_div(L, TILE), ceil_div(M, TILE)) block=(THREADS)
//   shared=(2 * 2 * TILE * DEPTH * sizeof(float))  in: a b  out: c
extern "C" __global__ void __launch_bounds__(THREADS)
matmul_wgmma(const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ c, int M,
             int K, int L) {
    extern __shared__ __align__(1024) unsigned tiles[];  // two buffers, each a tile of A and one of B
    const int thread = threadIdx.x, group = thread / 128;
    const int row0 = blockIdx.y * TILE, col0 = blockIdx.x * TILE;
    float sum[64] = {};

    // 8 neighbouring threads load the 8 chunks of a row of A; 32 of them load neighbours in a row of B
    // four times, and so turn B on the way. Either way 8 threads write 8 chunks to all 32 banks.
    float4 next_a[EACH], next_b[EACH];
    for (int i = 0; i < EACH; i++) {
        int e = thread + i * THREADS;
        next_a[i] = chunk_of_a(a, row0 + e / 8, e % 8 * CHUNK, M, K);
        next_b[i] = chunk_of_b(b, e / TILE * CHUNK, col0 + e % TILE, K, L);
    }
    for (int k0 = 0, now = 0; k0 < K; k0 += DEPTH, now ^= 1) {
        unsigned *a_tile = tiles + now * 2 * TILE * DEPTH, *b_tile = a_tile + TILE * DEPTH;
        for (int i = 0; i < EACH; i++) {
            int e = thread + i * THREADS;
            *(uint4*)&a_tile[swizzled(e / 8, e % 8)] = rounded(next_a[i]);
            *(uint4*)&b_tile[swizzled(e % TILE, e / TILE)] = rounded(next_b[i]);
        }
        fence_proxy_async();
        __syncthreads();  // buffer `now` is complete; both groups are done with the other one

        wgmma_fence();
        for (int k = 0; k < DEPTH; k += 8)
            wgmma_m64n128k8_tf32(sum, descriptor(a_tile + group * 64 * DEPTH + k),
                                 descriptor(b_tile + k));
        wgmma_commit();

        if (k0 + DEPTH < K)  // these loads travel while the tensor cores multiply
            for (int i = 0; i < EACH; i++) {
                int e = thread + i * THREADS;
                next_a[i] = chunk_of_a(a, row0 + e / 8, k0 + DEPTH + e % 8 * CHUNK, M, K);
                next_b[i] = chunk_of_b(b, k0 + DEPTH + e / TILE * CHUNK, col0 + e % TILE, K, L);
            }
        wgmma_wait();
    }

    const int warp = thread % 128 / WARP, g = thread % WARP / 4, t = thread % 4;
    for (int i = 0; i < 64; i++) {
        int row = row0 + group * 64 + warp * 16 + g + i % 4 / 2 * 8, col = col0 + i / 4 * 8 + 2 * t + i % 2;
        if (row < M && col < L) c[(long long)row * L + col] = sum[i];
    }
}
