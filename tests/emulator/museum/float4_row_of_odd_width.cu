// memcheck: x: no multiple of 16 bytes
// Rows read as float4: fine as long as the width is a multiple of 4.
// launch: grid=(rows) block=(4)  in: x  out: y
// sample: rows=3 width=18 x=(rows, width) y=(rows, 16)
__global__ void broken(const float* x, float* y, int rows, int width) {
    const float* row = x + blockIdx.x * width;
    float4 v = reinterpret_cast<const float4*>(row)[threadIdx.x];  // <- here
    reinterpret_cast<float4*>(y + blockIdx.x * 16)[threadIdx.x] = v;
}

// launch: grid=(rows) block=(4)  in: x  out: y
// sample: rows=3 width=18 x=(rows, width) y=(rows, 16)
__global__ void fixed(const float* x, float* y, int rows, int width) {
    const float* row = x + blockIdx.x * width + 4 * threadIdx.x;
    float4 v = make_float4(row[0], row[1], row[2], row[3]);
    reinterpret_cast<float4*>(y + blockIdx.x * 16)[threadIdx.x] = v;
}
