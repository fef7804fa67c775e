// memcheck: tile: 34 bytes between its rows (or columns), which have to be a multiple of 16
// The usual padding by one element against bank conflicts: WMMA needs rows of whole 16 bytes.
#include <mma.h>
using namespace nvcuda;

template <int ROW>
__device__ void product(const half* x, float* y) {
    __shared__ __align__(32) half tile[16 * ROW];
    for (int i = threadIdx.x; i < 256; i += 32) tile[i / 16 * ROW + i % 16] = x[i];
    __syncwarp();
    wmma::fragment<wmma::matrix_a, 16, 16, 16, half, wmma::row_major> a;
    wmma::fragment<wmma::matrix_b, 16, 16, 16, half, wmma::row_major> b;
    wmma::fragment<wmma::accumulator, 16, 16, 16, float> sum;
    wmma::fill_fragment(sum, 0.0f);
    wmma::load_matrix_sync(a, tile, ROW);  // <- here
    wmma::load_matrix_sync(b, x, 16);
    wmma::mma_sync(sum, a, b, sum);
    wmma::store_matrix_sync(y, sum, 16, wmma::mem_row_major);
}

// launch: grid=(1) block=(32)  in: x  out: y
// sample: x=(16, 16) y=(16, 16)
__global__ void broken(const half* x, float* y) { product<17>(x, y); }

// launch: grid=(1) block=(32)  in: x  out: y
// sample: x=(16, 16) y=(16, 16)
__global__ void fixed(const half* x, float* y) { product<24>(x, y); }
