// memcheck: : index 8 into an array that is declared as float[8]
// One past the end of a row is the start of the next: no stray address, and a wrong value.
// launch: grid=(1) block=(8, 8)  in: x  out: y
// sample: x=(8, 8) y=(8, 8)
__global__ void broken(const float* x, float* y) {
    __shared__ float tile[9][8];
    const int tx = threadIdx.x, ty = threadIdx.y;
    tile[ty][tx] = x[ty * 8 + tx];
    if (ty == 0) tile[8][tx] = 0;
    __syncthreads();
    y[ty * 8 + tx] = tile[ty][tx + 1] - tile[ty][tx];  // <- here
}

// launch: grid=(1) block=(8, 8)  in: x  out: y
// sample: x=(8, 8) y=(8, 8)
__global__ void fixed(const float* x, float* y) {
    __shared__ float tile[8][9];
    const int tx = threadIdx.x, ty = threadIdx.y;
    tile[ty][tx] = x[ty * 8 + tx];
    if (tx == 0) tile[ty][8] = 0;
    __syncthreads();
    y[ty * 8 + tx] = tile[ty][tx + 1] - tile[ty][tx];
}
