// racecheck: tile: one reads, one writes
// A tiled loop needs two barriers: without the second, a fast warp loads the next tile over this one.
#define TILE 64

// launch: grid=(1) block=(TILE)  in: x  out: y
// sample: n=256 x=(n) y=(TILE)
__global__ void broken(const float* x, float* y, int n) {
    __shared__ float tile[TILE];
    float sum = 0;
    for (int start = 0; start < n; start += TILE) {
        tile[threadIdx.x] = x[start + threadIdx.x];  // <- here
        __syncthreads();
        for (int k = 0; k < TILE; ++k)
            sum += tile[k];  // <- here
    }
    y[threadIdx.x] = sum;
}

// launch: grid=(1) block=(TILE)  in: x  out: y
// sample: n=256 x=(n) y=(TILE)
__global__ void fixed(const float* x, float* y, int n) {
    __shared__ float tile[TILE];
    float sum = 0;
    for (int start = 0; start < n; start += TILE) {
        tile[threadIdx.x] = x[start + threadIdx.x];
        __syncthreads();
        for (int k = 0; k < TILE; ++k) sum += tile[k];
        __syncthreads();
    }
    y[threadIdx.x] = sum;
}
