// racecheck: x: race between blocks
// A blur in place, with a barrier between reading and writing: but no barrier spans two blocks.
#define BLOCK 32

// launch: grid=(ceil_div(n, BLOCK)) block=(BLOCK)  inout: x
// sample: n=96 x=(n)
__global__ void broken(float* x, int n) {
    int i = blockIdx.x * BLOCK + threadIdx.x;
    float left =
        x[max(i - 1, 0)];  // <- here
    __syncthreads();
    x[i] = (left + x[i]) / 2;  // <- here
}

// launch: grid=(ceil_div(n, BLOCK)) block=(BLOCK)  in: x  out: y
// sample: n=96 x=(n) y=(n)
__global__ void fixed(const float* x, float* y, int n) {
    int i = blockIdx.x * BLOCK + threadIdx.x;
    y[i] = (x[max(i - 1, 0)] + x[i]) / 2;
}
