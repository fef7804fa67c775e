// memcheck: b: b makes it 65536 bytes of shared memory that are declared, and a block has 49152
// Two tiles of 128 x 64 floats are too much for shared memory that is declared with its size.
#define SIDE 128

template <int DEPTH>
__device__ void reversed(const float* x, float* y) {
    __shared__ float a[SIDE][DEPTH];
    __shared__ float b[SIDE][DEPTH];
    const int t = threadIdx.x;
    a[t][0] = x[t];
    b[t][DEPTH - 1] = 2 * x[t];
    __syncthreads();
    y[t] = a[SIDE - 1 - t][0] + b[SIDE - 1 - t][DEPTH - 1];
}

// launch: grid=(1) block=(SIDE)  in: x  out: y
// sample: x=(SIDE) y=(SIDE)
__global__ void broken(const float* x, float* y) { reversed<64>(x, y); }  // <- here

// launch: grid=(1) block=(SIDE)  in: x  out: y
// sample: x=(SIDE) y=(SIDE)
__global__ void fixed(const float* x, float* y) { reversed<32>(x, y); }
