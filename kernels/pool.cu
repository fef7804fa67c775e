// sm_70
// Pooling: max (with the places of the maxima) and average, over moving and over adaptive windows.
//
//   max_pool2d_forward          y = the largest value of a window, indices = its place, row * W + col
//   avg_pool2d_forward          y = the mean of a window, or its sum over a given divisor
//   adaptive_*_forward          the same over windows that cover the image in a given number
//   *_grad_input                dx = what the outputs send back to each input
//
// A thread computes one element of the result, a block 256 neighbours along the rows; only in
// adaptive_avg_pool2d_forward, whose windows may be the whole image, a warp shares one. A gradient is
// a gather: a thread looks at the outputs whose windows can hold its input and adds up what they owe
// it, always in the same order; no atomics.
// A thread reads a window (kh * kw elements, neighbours overlap and find them in cache) and writes
// one element, and one index. Its gradient reads as many outputs as windows overlap, about
// (kh / sh) * (kw / sw). Expected bottleneck: global memory.
#include "common.cuh"

#define THREADS 256

// --- Windows along one axis --------------------------------------------------------------------
// Window i has the places i * s - p + t * d, t < k. Which of them lie inside the image, 0 to n - 1?
__device__ __forceinline__ Range clipped(int i, int n, int k, int s, int p, int d) {
    int first = i * s - p, end = min(first + d * (k - 1) + 1, n);
    if (first < 0) first += ceil_div(-first, d) * d;
    return {first, end};
}

// The windows, of `count` in all, that reach over `place`: it lies between their first and last.
__device__ __forceinline__ Range reaching(int place, int count, int k, int s, int p, int d) {
    int before = place + p - d * (k - 1);  // a window that starts earlier ends before `place`
    return {before > 0 ? ceil_div(before, s) : 0, min((place + p) / s + 1, count)};
}

// Adaptive pooling: the places of window i, where `count` windows cover n places; and the windows
// that hold `place`.
__device__ __forceinline__ Range adaptive(int i, int n, int count) {
    return {(int)((long long)i * n / count), (int)(((long long)(i + 1) * n + count - 1) / count)};
}
__device__ __forceinline__ Range adaptive_reaching(int place, int n, int count) {
    return adaptive(place, count, n);  // the formula is its own inverse
}

// --- Maximum -----------------------------------------------------------------------------------
// The first of the largest values, row by row; a NaN is larger than all, and of several the last counts.
__device__ void largest(const scalar* plane, int W, Range rows, int row_step, Range cols,
                        int col_step, scalar* value, long long* index) {
    scalar best = minus_infinity();
    int where = -1;
    for (int row = rows.first; row < rows.end; row += row_step)
        for (int col = cols.first; col < cols.end; col += col_step) {
            scalar here = plane[(long long)row * W + col];
            if (where < 0 || here > best || here != here) {
                best = here;
                where = row * W + col;
            }
        }
    *value = best;
    *index = where;
}

// The gradients of those outputs, among rows x cols of a plane, whose maximum stood at `place`.
__device__ scalar taken_from(int place, const scalar* grad, const long long* indices, int W_out,
                             Range rows, Range cols) {
    scalar sum = 0;
    for (int row = rows.first; row < rows.end; row++)
        for (int col = cols.first; col < cols.end; col++) {
            long long o = (long long)row * W_out + col;
            if (indices[o] == place) sum += grad[o];
        }
    return sum;
}

// launch: grid=(ceil_div(N * C * H_out * W_out, THREADS)) block=(THREADS)  in: x  out: y indices
// sample: N=2 C=3 H=9 W=8 H_out=5 W_out=4 kh=3 kw=2 sh=2 sw=2 ph=1 pw=0 dh=1 dw=1 x=(N,C,H,W) y=(N,C,H_out,W_out) indices=(N,C,H_out,W_out)
extern "C" __global__ void __launch_bounds__(THREADS)
max_pool2d_forward(const scalar* __restrict__ x, scalar* __restrict__ y,
                   long long* __restrict__ indices, int N, int C, int H, int W, int H_out,
                   int W_out, int kh, int kw, int sh, int sw, int ph, int pw, int dh, int dw) {
    long long o = global_index();
    if (o >= (long long)N * C * H_out * W_out) return;
    Nchw out = unravel(o, C, H_out, W_out);
    largest(x + at(out.n, out.c, 0, 0, C, H, W), W, clipped(out.y, H, kh, sh, ph, dh), dh,
            clipped(out.x, W, kw, sw, pw, dw), dw, y + o, indices + o);
}

// launch: grid=(ceil_div(N * C * H * W, THREADS)) block=(THREADS)  in: grad indices  out: dx
// sample: N=2 C=3 H=9 W=8 H_out=5 W_out=4 kh=3 kw=2 sh=2 sw=2 ph=1 pw=0 dh=1 dw=1 grad=(N,C,H_out,W_out) indices=(N,C,H_out,W_out)%72 dx=(N,C,H,W)
extern "C" __global__ void __launch_bounds__(THREADS)
max_pool2d_grad_input(const scalar* __restrict__ grad, const long long* __restrict__ indices,
                      scalar* __restrict__ dx, int N, int C, int H, int W, int H_out, int W_out,
                      int kh, int kw, int sh, int sw, int ph, int pw, int dh, int dw) {
    long long i = global_index();
    if (i >= (long long)N * C * H * W) return;
    Nchw in = unravel(i, C, H, W);
    long long plane = at(in.n, in.c, 0, 0, C, H_out, W_out);
    dx[i] = taken_from(in.y * W + in.x, grad + plane, indices + plane, W_out,
                       reaching(in.y, H_out, kh, sh, ph, dh), reaching(in.x, W_out, kw, sw, pw, dw));
}

// launch: grid=(ceil_div(N * C * H_out * W_out, THREADS)) block=(THREADS)  in: x  out: y indices
// sample: N=2 C=3 H=7 W=5 H_out=3 W_out=7 x=(N,C,H,W) y=(N,C,H_out,W_out) indices=(N,C,H_out,W_out)
extern "C" __global__ void __launch_bounds__(THREADS)
adaptive_max_pool2d_forward(const scalar* __restrict__ x, scalar* __restrict__ y,
                            long long* __restrict__ indices, int N, int C, int H, int W, int H_out,
                            int W_out) {
    long long o = global_index();
    if (o >= (long long)N * C * H_out * W_out) return;
    Nchw out = unravel(o, C, H_out, W_out);
    largest(x + at(out.n, out.c, 0, 0, C, H, W), W, adaptive(out.y, H, H_out), 1,
            adaptive(out.x, W, W_out), 1, y + o, indices + o);
}

// launch: grid=(ceil_div(N * C * H * W, THREADS)) block=(THREADS)  in: grad indices  out: dx
// sample: N=2 C=3 H=7 W=5 H_out=3 W_out=7 grad=(N,C,H_out,W_out) indices=(N,C,H_out,W_out)%35 dx=(N,C,H,W)
extern "C" __global__ void __launch_bounds__(THREADS)
adaptive_max_pool2d_grad_input(const scalar* __restrict__ grad, const long long* __restrict__ indices,
                               scalar* __restrict__ dx, int N, int C, int H, int W, int H_out,
                               int W_out) {
    long long i = global_index();
    if (i >= (long long)N * C * H * W) return;
    Nchw in = unravel(i, C, H, W);
    long long plane = at(in.n, in.c, 0, 0, C, H_out, W_out);
    dx[i] = taken_from(in.y * W + in.x, grad + plane, indices + plane, W_out,
                       adaptive_reaching(in.y, H, H_out), adaptive_reaching(in.x, W, W_out));
}

// --- Average -----------------------------------------------------------------------------------
// How many places of window i the mean divides by: those in the image or, with_padding, all of them.
__device__ __forceinline__ int counted(int i, int n, int k, int s, int p, bool with_padding) {
    int first = i * s - p, end = min(first + k, n + p);
    return with_padding ? end - first : min(end, n) - max(first, 0);
}

// launch: grid=(ceil_div(N * C * H_out * W_out, THREADS)) block=(THREADS)  in: x  out: y
// sample: N=2 C=3 H=9 W=8 H_out=5 W_out=4 kh=3 kw=2 sh=2 sw=2 ph=1 pw=0 count_include_pad=0 divisor=0 x=(N,C,H,W) y=(N,C,H_out,W_out)
extern "C" __global__ void __launch_bounds__(THREADS)
avg_pool2d_forward(const scalar* __restrict__ x, scalar* __restrict__ y, int N, int C, int H, int W,
                   int H_out, int W_out, int kh, int kw, int sh, int sw, int ph, int pw,
                   bool count_include_pad, int divisor) {  // 0: each window's own
    long long o = global_index();
    if (o >= (long long)N * C * H_out * W_out) return;
    Nchw out = unravel(o, C, H_out, W_out);
    const scalar* plane = x + at(out.n, out.c, 0, 0, C, H, W);
    Range rows = clipped(out.y, H, kh, sh, ph, 1), cols = clipped(out.x, W, kw, sw, pw, 1);
    scalar sum = 0;
    for (int row = rows.first; row < rows.end; row++)
        for (int col = cols.first; col < cols.end; col++) sum += plane[(long long)row * W + col];
    int count = counted(out.y, H, kh, sh, ph, count_include_pad) *
                counted(out.x, W, kw, sw, pw, count_include_pad);
    y[o] = sum / (divisor ? divisor : count);
}

// launch: grid=(ceil_div(N * C * H * W, THREADS)) block=(THREADS)  in: grad  out: dx
// sample: N=2 C=3 H=9 W=8 H_out=5 W_out=4 kh=3 kw=2 sh=2 sw=2 ph=1 pw=0 count_include_pad=1 divisor=0 grad=(N,C,H_out,W_out) dx=(N,C,H,W)
extern "C" __global__ void __launch_bounds__(THREADS)
avg_pool2d_grad_input(const scalar* __restrict__ grad, scalar* __restrict__ dx, int N, int C, int H,
                      int W, int H_out, int W_out, int kh, int kw, int sh, int sw, int ph, int pw,
                      bool count_include_pad, int divisor) {
    long long i = global_index();
    if (i >= (long long)N * C * H * W) return;
    Nchw in = unravel(i, C, H, W);
    const scalar* plane = grad + at(in.n, in.c, 0, 0, C, H_out, W_out);
    Range rows = reaching(in.y, H_out, kh, sh, ph, 1), cols = reaching(in.x, W_out, kw, sw, pw, 1);
    scalar sum = 0;
    for (int row = rows.first; row < rows.end; row++)
        for (int col = cols.first; col < cols.end; col++) {
            int count = counted(row, H, kh, sh, ph, count_include_pad) *
                        counted(col, W, kw, sw, pw, count_include_pad);
            sum += plane[(long long)row * W_out + col] / (divisor ? divisor : count);
        }
    dx[i] = sum;
}

// launch: grid=(ceil_div(N * C * H_out * W_out * WARP, THREADS)) block=(THREADS)  in: x  out: y
// sample: N=2 C=3 H=7 W=5 H_out=3 W_out=7 x=(N,C,H,W) y=(N,C,H_out,W_out)
extern "C" __global__ void __launch_bounds__(THREADS)
adaptive_avg_pool2d_forward(const scalar* __restrict__ x, scalar* __restrict__ y, int N, int C,
                            int H, int W, int H_out, int W_out) {
    long long o = global_index() / WARP;  // the same for all lanes: a warp stays or leaves as one
    if (o >= (long long)N * C * H_out * W_out) return;
    Nchw out = unravel(o, C, H_out, W_out);
    const scalar* plane = x + at(out.n, out.c, 0, 0, C, H, W);
    Range rows = adaptive(out.y, H, H_out), cols = adaptive(out.x, W, W_out);
    const int width = cols.end - cols.first, count = (rows.end - rows.first) * width;
    scalar sum = 0;
    for (int e = threadIdx.x % WARP; e < count; e += WARP)
        sum += plane[(long long)(rows.first + e / width) * W + cols.first + e % width];
    sum = warp_sum(sum);
    if (threadIdx.x % WARP == 0) y[o] = sum / count;
}

// launch: grid=(ceil_div(N * C * H * W, THREADS)) block=(THREADS)  in: grad  out: dx
// sample: N=2 C=3 H=7 W=5 H_out=3 W_out=7 grad=(N,C,H_out,W_out) dx=(N,C,H,W)
extern "C" __global__ void __launch_bounds__(THREADS)
adaptive_avg_pool2d_grad_input(const scalar* __restrict__ grad, scalar* __restrict__ dx, int N, int C,
                               int H, int W, int H_out, int W_out) {
    long long i = global_index();
    if (i >= (long long)N * C * H * W) return;
    Nchw in = unravel(i, C, H, W);
    const scalar* plane = grad + at(in.n, in.c, 0, 0, C, H_out, W_out);
    Range rows = adaptive_reaching(in.y, H, H_out), cols = adaptive_reaching(in.x, W, W_out);
    scalar sum = 0;
    for (int row = rows.first; row < rows.end; row++)
        for (int col = cols.first; col < cols.end; col++) {
            Range high = adaptive(row, H, H_out), wide = adaptive(col, W, W_out);
            int count = (high.end - high.first) * (wide.end - wide.first);
            sum += plane[(long long)row * W_out + col] / count;
        }
    dx[i] = sum;
}
