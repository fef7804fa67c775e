// racecheck: tile: no barrier between the two accesses
// Which lane stores which element of a WMMA matrix is not specified: reading it takes a __syncwarp.
#include <mma.h>
using namespace nvcuda;

// launch: grid=(1) block=(32)  in: x  out: y
// sample: x=(16, 16) y=(16, 16)
__global__ void broken(const float* x, float* y) {
    __shared__ __align__(32) float tile[256];
    wmma::fragment<wmma::accumulator, 16, 16, 16, float> sum;
    wmma::load_matrix_sync(sum, x, 16, wmma::mem_row_major);
    wmma::store_matrix_sync(tile, sum, 16, wmma::mem_row_major);  // <- here
    for (int i = threadIdx.x; i < 256; i += 32) y[i] = tile[i];  // <- here
}

// launch: grid=(1) block=(32)  in: x  out: y
// sample: x=(16, 16) y=(16, 16)
__global__ void fixed(const float* x, float* y) {
    __shared__ __align__(32) float tile[256];
    wmma::fragment<wmma::accumulator, 16, 16, 16, float> sum;
    wmma::load_matrix_sync(sum, x, 16, wmma::mem_row_major);
    wmma::store_matrix_sync(tile, sum, 16, wmma::mem_row_major);
    __syncwarp();
    for (int i = threadIdx.x; i < 256; i += 32) y[i] = tile[i];
}
