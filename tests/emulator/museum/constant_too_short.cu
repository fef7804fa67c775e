// memcheck: : index -1 into an array that is declared as float[3]
// Offsets from -1 to 1 look up weights numbered from 0 to 2.
__constant__ const float WEIGHTS[3] = {0.25f, 0.5f, 0.25f};

// launch: grid=(1) block=(32)  in: x  out: y
// sample: x=(34) y=(32)
__global__ void broken(const float* x, float* y) {
    float sum = 0;
    for (int k = -1; k <= 1; ++k)
        sum += x[threadIdx.x + 1 + k]
               * WEIGHTS[k];  // <- here
    y[threadIdx.x] = sum;
}

// launch: grid=(1) block=(32)  in: x  out: y
// sample: x=(34) y=(32)
__global__ void fixed(const float* x, float* y) {
    float sum = 0;
    for (int k = -1; k <= 1; ++k) sum += x[threadIdx.x + 1 + k] * WEIGHTS[k + 1];
    y[threadIdx.x] = sum;
}
