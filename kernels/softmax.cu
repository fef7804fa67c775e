// sm_70
// softmax and log_softmax along one dimension of an array, seen as (outer, C, inner): a line is the C
// elements, `inner` apart, of one (outer, inner) place.
//
//   forward      y_c = e^(x_c - top) / sum of e^(x - top)      or  x_c - top - log(sum of e^(x - top))
//   grad_input   dx_c = y_c (grad_c - sum of grad y)           or  grad_c - e^(y_c) sum of grad
//
// `lanes` threads share a line. One, where lines lie side by side (channels of an image, inner > 1):
// neighbouring threads then read neighbouring pixels. A warp, where a line lies in one piece
// (inner = 1): lane i takes the elements i, i + 32, ... So a block of 256 threads takes 256 lines, or 8.
// A thread reads each element of its share three times (top, sum, result; the gradient twice, of two
// arrays) and writes it once; all but the first read find it in the cache while lines are short.
// Expected bottleneck: global memory.
#include "common.cuh"

#define THREADS 256

// All threads of a line get the sum, or the maximum, of their values.
__device__ __forceinline__ scalar line_sum(scalar value, int lanes) {
    return lanes == 1 ? value : warp_sum(value);
}
__device__ __forceinline__ scalar line_max(scalar value, int lanes) {
    return lanes == 1 ? value : warp_max(value);
}

// Where this thread's line starts; -1 behind the last. A warp that shares a line agrees on it.
__device__ __forceinline__ long long line_start(int outer, int C, int inner, int lanes) {
    long long line = global_index() / lanes;
    return line < (long long)outer * inner ? line / inner * C * inner + line % inner : -1;
}

// launch: grid=(ceil_div(outer * inner * lanes, THREADS)) block=(THREADS)  in: x  out: y
// sample: x=(3, 5, 70) y=(3, 5, 70) outer=3 C=5 inner=70 lanes=1 logarithm=0
// sample: scalar=double x=(9, 45) y=(9, 45) outer=9 C=45 inner=1 lanes=32 logarithm=1
extern "C" __global__ void __launch_bounds__(THREADS)
softmax_forward(const scalar* __restrict__ x, scalar* __restrict__ y, int outer, int C, int inner,
                int lanes, bool logarithm) {
    const long long start = line_start(outer, C, inner, lanes);
    if (start < 0) return;
    const int lane = lanes == 1 ? 0 : threadIdx.x % WARP;

    scalar top = minus_infinity();
    for (int c = lane; c < C; c += lanes) {
        scalar value = x[start + (long long)c * inner];
        top = value > top ? value : top;
    }
    top = line_max(top, lanes);

    scalar sum = 0;  // of powers of which none is above 1; NaN in a line of -inf: it has no softmax
    for (int c = lane; c < C; c += lanes) sum += exp(x[start + (long long)c * inner] - top);
    sum = line_sum(sum, lanes);

    const scalar log_sum = log(sum);
    for (int c = lane; c < C; c += lanes) {
        long long i = start + (long long)c * inner;
        scalar below = x[i] - top;
        y[i] = logarithm ? below - log_sum : exp(below) / sum;
    }
}

// launch: grid=(ceil_div(outer * inner * lanes, THREADS)) block=(THREADS)  in: grad y  out: dx
// sample: grad=(3, 5, 70) y=(3, 5, 70) dx=(3, 5, 70) outer=3 C=5 inner=70 lanes=1 logarithm=1
// sample: grad=(9, 45) y=(9, 45) dx=(9, 45) outer=9 C=45 inner=1 lanes=32 logarithm=0
extern "C" __global__ void __launch_bounds__(THREADS)
softmax_grad_input(const scalar* __restrict__ grad, const scalar* __restrict__ y,
                   scalar* __restrict__ dx, int outer, int C, int inner, int lanes,
                   bool logarithm) {
    const long long start = line_start(outer, C, inner, lanes);
    if (start < 0) return;
    const int lane = lanes == 1 ? 0 : threadIdx.x % WARP;

    scalar sum = 0;
    for (int c = lane; c < C; c += lanes) {
        long long i = start + (long long)c * inner;
        sum += logarithm ? grad[i] : grad[i] * y[i];
    }
    sum = line_sum(sum, lanes);

    for (int c = lane; c < C; c += lanes) {
        long long i = start + (long long)c * inner;
        dx[i] = logarithm ? grad[i] - exp(y[i]) * sum : y[i] * (grad[i] - sum);
    }
}
