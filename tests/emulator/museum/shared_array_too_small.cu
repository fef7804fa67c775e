// memcheck: tile: in shared memory
// The tile has no room for the halo that the threads load into it.
#define BLOCK 64

// launch: grid=(1) block=(BLOCK)  in: x  out: y
// sample: x=(BLOCK) y=(BLOCK)
__global__ void broken(const float* x, float* y) {
    __shared__ float tile[BLOCK];
    int t = threadIdx.x;
    tile[t + 1] = x[t];  // <- here
    if (t == 0) tile[0] = 0;
    __syncthreads();
    y[t] = tile[t];
}

// launch: grid=(1) block=(BLOCK)  in: x  out: y
// sample: x=(BLOCK) y=(BLOCK)
__global__ void fixed(const float* x, float* y) {
    __shared__ float tile[BLOCK + 1];
    int t = threadIdx.x;
    tile[t + 1] = x[t];
    if (t == 0) tile[0] = 0;
    __syncthreads();
    y[t] = tile[t];
}
