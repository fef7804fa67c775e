// racecheck: passed: race between blocks
// A counter that is a variable of the file is shared by all threads of all blocks.
__device__ int passed;

// launch: grid=(4) block=(1)  in: x  out: y
// sample: x=(4) y=(4)
__global__ void broken(const float* x, float* y) {
    y[blockIdx.x] = x[blockIdx.x];
    ++passed;  // <- here
}

// launch: grid=(4) block=(1)  in: x  out: y
// sample: x=(4) y=(4)
__global__ void fixed(const float* x, float* y) {
    y[blockIdx.x] = x[blockIdx.x];
    atomicAdd(&passed, 1);
}
