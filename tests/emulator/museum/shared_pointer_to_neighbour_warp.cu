// racecheck: edge: one reads, one writes
// __syncwarp orders a warp, not the block: the neighbour's value lies in another warp.
#define BLOCK 128

// launch: grid=(1) block=(BLOCK)  in: x  out: y
// sample: x=(BLOCK) y=(BLOCK)
__global__ void broken(const float* x, float* y) {
    __shared__ float edge[BLOCK];
    int t = threadIdx.x;
    edge[t] = x[t];  // <- here
    __syncwarp();
    y[t] =
        edge[(t + 1) % BLOCK];  // <- here
}

// launch: grid=(1) block=(BLOCK)  in: x  out: y
// sample: x=(BLOCK) y=(BLOCK)
__global__ void fixed(const float* x, float* y) {
    __shared__ float edge[BLOCK];
    int t = threadIdx.x;
    edge[t] = x[t];
    __syncthreads();
    y[t] = edge[(t + 1) % BLOCK];
}
