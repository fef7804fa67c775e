// racecheck: maximum: one reads, one writes
// All threads read the maximum, then the last one writes a new value there: who reads which?
#define BLOCK 64

// launch: grid=(1) block=(BLOCK)  in: x  out: y
// sample: x=(BLOCK) y=(BLOCK)
__global__ void broken(const float* x, float* y) {
    __shared__ float maximum;
    int t = threadIdx.x;
    if (t == 0) maximum = x[0];
    __syncthreads();
    y[t] = x[t] - maximum;  // <- here
    if (t == BLOCK - 1) maximum = x[t];  // <- here
}

// launch: grid=(1) block=(BLOCK)  in: x  out: y
// sample: x=(BLOCK) y=(BLOCK)
__global__ void fixed(const float* x, float* y) {
    __shared__ float maximum;
    int t = threadIdx.x;
    if (t == 0) maximum = x[0];
    __syncthreads();
    y[t] = x[t] - maximum;
    __syncthreads();
    if (t == BLOCK - 1) maximum = x[t];
}
