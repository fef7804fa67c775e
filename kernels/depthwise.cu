// sm_70
// Depthwise convolution: every channel has a kernel of its own, and there is no sum over channels.
//
//   forward      y[c, p]  = sum over (i, j) of  w[c, i, j] * x[c, q]       q = p s - pad + (i, j) d
//   grad_input   dx[c, q] = sum over (i, j) of  w[c, i, j] * grad[c, p]    where such a p exists
//   grad_weight  dweight[c, i, j] = sum over images and outputs p of  grad[c, p] * x[c, q]
//
// As a matrix product (conv2d.cu) one row of 64 would be in use. Here, in forward and grad_input, a
// thread computes one element and a block 256 neighbours along the rows: kh * kw reads from the image,
// of which its neighbours share most (cache), as many of the weights, the same for nearly all the block
// (broadcast), one write. In grad_weight a block computes one weight: its 256 threads walk over the
// outputs with two reads each, then sum up. Expected bottleneck: global memory, for 2 kh kw operations
// an element do not keep the arithmetic busy.
#include "common.cuh"

#define THREADS 256

// launch: grid=(ceil_div(N * C * H_out * W_out, THREADS)) block=(THREADS)  in: x w b  out: y
// sample: N=2 C=3 H=9 W=8 H_out=5 W_out=4 kh=3 kw=3 sh=2 sw=2 ph=1 pw=1 dh=1 dw=1 x=(N,C,H,W) w=(C,1,kh,kw) b=(C) y=(N,C,H_out,W_out)
extern "C" __global__ void __launch_bounds__(THREADS)
depthwise_forward(const scalar* __restrict__ x, const scalar* __restrict__ w,
                  const scalar* __restrict__ b, scalar* __restrict__ y, int N, int C, int H, int W,
                  int H_out, int W_out, int kh, int kw, int sh, int sw, int ph, int pw, int dh,
                  int dw) {
    long long o = global_index();
    if (o >= (long long)N * C * H_out * W_out) return;
    Nchw out = unravel(o, C, H_out, W_out);
    const scalar* plane = x + at(out.n, out.c, 0, 0, C, H, W);
    const scalar* weight = w + out.c * kh * kw;
    scalar sum = b ? b[out.c] : scalar(0);
    for (int i = 0; i < kh; i++)
        for (int j = 0; j < kw; j++) {
            int row = out.y * sh - ph + i * dh, col = out.x * sw - pw + j * dw;
            if (inside(row, col, H, W)) sum += weight[i * kw + j] * plane[(long long)row * W + col];
        }
    y[o] = sum;
}

// launch: grid=(ceil_div(N * C * H * W, THREADS)) block=(THREADS)  in: grad w  out: dx
// sample: N=2 C=3 H=9 W=8 H_out=5 W_out=4 kh=3 kw=3 sh=2 sw=2 ph=1 pw=1 dh=1 dw=1 grad=(N,C,H_out,W_out) w=(C,1,kh,kw) dx=(N,C,H,W)
extern "C" __global__ void __launch_bounds__(THREADS)
depthwise_grad_input(const scalar* __restrict__ grad, const scalar* __restrict__ w,
                     scalar* __restrict__ dx, int N, int C, int H, int W, int H_out, int W_out,
                     int kh, int kw, int sh, int sw, int ph, int pw, int dh, int dw) {
    long long q = global_index();
    if (q >= (long long)N * C * H * W) return;
    Nchw in = unravel(q, C, H, W);
    const scalar* plane = grad + at(in.n, in.c, 0, 0, C, H_out, W_out);
    const scalar* weight = w + in.c * kh * kw;
    scalar sum = 0;
    for (int i = 0; i < kh; i++)
        for (int j = 0; j < kw; j++) {
            int row = in.y + ph - i * dh, col = in.x + pw - j * dw;  // s times the output
            if (row % sh == 0 && col % sw == 0 && inside(row / sh, col / sw, H_out, W_out))
                sum += weight[i * kw + j] * plane[(long long)(row / sh) * W_out + col / sw];
        }
    dx[q] = sum;
}

// launch: grid=(C * kh * kw) block=(THREADS)  in: grad x  out: dweight
// sample: N=2 C=3 H=19 W=18 H_out=10 W_out=9 kh=3 kw=3 sh=2 sw=2 ph=1 pw=1 dh=1 dw=1 grad=(N,C,H_out,W_out) x=(N,C,H,W) dweight=(C,1,kh,kw)
extern "C" __global__ void __launch_bounds__(THREADS)
depthwise_grad_weight(const scalar* __restrict__ grad, const scalar* __restrict__ x,
                      scalar* __restrict__ dweight, int N, int C, int H, int W, int H_out, int W_out,
                      int kh, int kw, int sh, int sw, int ph, int pw, int dh, int dw) {
    __shared__ scalar scratch[WARP];
    const int j = blockIdx.x % kw, i = blockIdx.x / kw % kh, c = blockIdx.x / (kw * kh);
    const int area = H_out * W_out;
    scalar sum = 0;
    for (long long e = threadIdx.x; e < (long long)N * area; e += THREADS) {
        int n = (int)(e / area), p = (int)(e % area);
        int row = p / W_out * sh - ph + i * dh, col = p % W_out * sw - pw + j * dw;
        if (inside(row, col, H, W))
            sum += grad[((long long)n * C + c) * area + p] * x[at(n, c, row, col, C, H, W)];
    }
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) dweight[blockIdx.x] = sum;
}
