// memcheck: x: past the end of 240 elements
// A row of the image is W long, not H: with H > W the last rows lie outside.
#define TILE 8

// launch: grid=(ceil_div(W, TILE), ceil_div(H, TILE)) block=(TILE, TILE)  in: x  out: y
// sample: H=20 W=12 x=(H, W) y=(H, W)
__global__ void broken(const float* x, float* y, int H, int W) {
    int column = blockIdx.x * TILE + threadIdx.x, row = blockIdx.y * TILE + threadIdx.y;
    if (row < H && column < W) y[row * W + column] = x[row * H + column];  // <- here
}

// launch: grid=(ceil_div(W, TILE), ceil_div(H, TILE)) block=(TILE, TILE)  in: x  out: y
// sample: H=20 W=12 x=(H, W) y=(H, W)
__global__ void fixed(const float* x, float* y, int H, int W) {
    int column = blockIdx.x * TILE + threadIdx.x, row = blockIdx.y * TILE + threadIdx.y;
    if (row < H && column < W) y[row * W + column] = x[row * W + column];
}
