// memcheck: row: 1 past the end of 33 elements
// Two cells of border need BLOCK + 2 elements; the launch line asks for one less.
#define BLOCK 32

// launch: grid=(1) block=(BLOCK) shared=(BLOCK + 1) * sizeof(float)  in: x  out: y
// sample: x=(BLOCK) y=(BLOCK)
__global__ void broken(const float* x, float* y) {
    extern __shared__ float row[];
    int t = threadIdx.x;
    if (t == 0) row[0] = 0;
    if (t == 0) row[BLOCK + 1] = 0;  // <- here
    row[t + 1] = x[t];
    __syncthreads();
    y[t] = row[t] + row[t + 1] +
           row[t + 2];  // <- here
}

// launch: grid=(1) block=(BLOCK) shared=(BLOCK + 2) * sizeof(float)  in: x  out: y
// sample: x=(BLOCK) y=(BLOCK)
__global__ void fixed(const float* x, float* y) {
    extern __shared__ float row[];
    int t = threadIdx.x;
    if (t == 0) row[0] = 0;
    if (t == 0) row[BLOCK + 1] = 0;
    row[t + 1] = x[t];
    __syncthreads();
    y[t] = row[t] + row[t + 1] + row[t + 2];
}
