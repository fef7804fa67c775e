// racecheck: best: one reads, one writes
// The sum of a row is broadcast through one shared element; the next row's thread 0 may overwrite it.
#define BLOCK 64

// launch: grid=(1) block=(BLOCK)  in: x  out: y
// sample: rows=3 x=(rows, BLOCK) y=(rows, BLOCK)
__global__ void broken(const float* x, float* y, int rows) {
    __shared__ float best;
    for (int r = 0; r < rows; ++r) {
        if (threadIdx.x == 0)
            best = x[r * BLOCK];  // <- here
        __syncthreads();
        y[r * BLOCK + threadIdx.x] =
            x[r * BLOCK + threadIdx.x] - best;  // <- here
    }
}

// launch: grid=(1) block=(BLOCK)  in: x  out: y
// sample: rows=3 x=(rows, BLOCK) y=(rows, BLOCK)
__global__ void fixed(const float* x, float* y, int rows) {
    __shared__ float best[2];
    for (int r = 0; r < rows; ++r) {
        if (threadIdx.x == 0) best[r % 2] = x[r * BLOCK];
        __syncthreads();
        y[r * BLOCK + threadIdx.x] = x[r * BLOCK + threadIdx.x] - best[r % 2];
    }
}
