// memcheck: x: a matrix that starts at x[0][8] in global memory: its address has to be a multiple of 32
// A tile of a WMMA matrix starts at a multiple of 32 bytes: of 8 floats, but of 16 halves.
#include <mma.h>
using namespace nvcuda;

template <int FIRST>
__device__ void product(const half* x, float* y) {
    wmma::fragment<wmma::matrix_a, 16, 16, 16, half, wmma::row_major> a;
    wmma::fragment<wmma::matrix_b, 16, 16, 16, half, wmma::row_major> b;
    wmma::fragment<wmma::accumulator, 16, 16, 16, float> sum;
    wmma::fill_fragment(sum, 0.0f);
    wmma::load_matrix_sync(a, x + FIRST, 32);  // <- here
    wmma::load_matrix_sync(b, x, 32);
    wmma::mma_sync(sum, a, b, sum);
    wmma::store_matrix_sync(y, sum, 16, wmma::mem_row_major);
}

// launch: grid=(1) block=(32)  in: x  out: y
// sample: x=(16, 32) y=(16, 16)
__global__ void broken(const half* x, float* y) { product<8>(x, y); }

// launch: grid=(1) block=(32)  in: x  out: y
// sample: x=(16, 32) y=(16, 16)
__global__ void fixed(const half* x, float* y) { product<16>(x, y); }
