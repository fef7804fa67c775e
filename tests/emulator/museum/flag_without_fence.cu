// racecheck: sums: race between blocks
// Each block raises a counter when its sum is there; without a fence the counter may be seen first.
#define BLOCK 32

// launch: grid=(4) block=(BLOCK)  in: x  inout: sums done  out: y
// sample: x=(4, BLOCK) sums=(4) done=(1)%1 y=(1)
__global__ void broken(const float* x, float* sums, unsigned* done, float* y) {
    float sum = x[blockIdx.x * BLOCK + threadIdx.x];
    for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffff, sum, step);
    if (threadIdx.x > 0) return;
    sums[blockIdx.x] = sum;  // <- here
    if (atomicAdd(done, 1u) < gridDim.x - 1) return;
    float total = 0;
    for (int b = 0; b < gridDim.x; ++b)
        total += sums[b];  // <- here
    y[0] = total;
}

// launch: grid=(4) block=(BLOCK)  in: x  inout: sums done  out: y
// sample: x=(4, BLOCK) sums=(4) done=(1)%1 y=(1)
__global__ void fixed(const float* x, float* sums, unsigned* done, float* y) {
    float sum = x[blockIdx.x * BLOCK + threadIdx.x];
    for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffff, sum, step);
    if (threadIdx.x > 0) return;
    sums[blockIdx.x] = sum;
    __threadfence();
    if (atomicAdd(done, 1u) < gridDim.x - 1) return;
    __threadfence();
    float total = 0;
    for (int b = 0; b < gridDim.x; ++b) total += sums[b];
    y[0] = total;
}
