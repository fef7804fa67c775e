// racecheck: y: race between blocks
// A transpose whose rows count within the tile, not within the image: all blocks of a row collide.
#define TILE 8

// launch: grid=(ceil_div(W, TILE), ceil_div(H, TILE)) block=(TILE, TILE)  in: x  inout: y
// sample: H=8 W=24 x=(H, W) y=(W, H)
__global__ void broken(const float* x, float* y, int H, int W) {
    int column = blockIdx.x * TILE + threadIdx.x, row = blockIdx.y * TILE + threadIdx.y;
    if (row < H && column < W) y[threadIdx.x * H + row] = x[row * W + column];  // <- here
}

// launch: grid=(ceil_div(W, TILE), ceil_div(H, TILE)) block=(TILE, TILE)  in: x  out: y
// sample: H=8 W=24 x=(H, W) y=(W, H)
__global__ void fixed(const float* x, float* y, int H, int W) {
    int column = blockIdx.x * TILE + threadIdx.x, row = blockIdx.y * TILE + threadIdx.y;
    if (row < H && column < W) y[column * H + row] = x[row * W + column];
}
