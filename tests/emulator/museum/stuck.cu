// synccheck: : threads wait for ever
// Half of a warp waits at the barrier of the block, the other half for the first half's lanes.
// launch: grid=(1) block=(32)  in: x  out: y
// sample: x=(32) y=(32)
__global__ void broken(const float* x, float* y) {
    float v = x[threadIdx.x];
    if (threadIdx.x < 16)
        v += __shfl_xor_sync(0xffffffff, v, 1);  // <- here
    else
        __syncthreads();  // <- here
    y[threadIdx.x] = v;
}

// launch: grid=(1) block=(32)  in: x  out: y
// sample: x=(32) y=(32)
__global__ void fixed(const float* x, float* y) {
    float v = x[threadIdx.x], other = __shfl_xor_sync(0xffffffff, v, 1);
    if (threadIdx.x < 16) v += other;
    __syncthreads();
    y[threadIdx.x] = v;
}
