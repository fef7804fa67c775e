// sm_70
// Convolution as implicit GEMM: forward, input gradient, weight gradient.
//
// Each is a matrix product whose patch matrix (im2col) is never written out: when a tile of it is
// needed in shared memory, its elements are gathered from the image by index.
//
//   forward      y[o, p]       = sum over k = (c, i, j) of  w[o, k] * patch[k, p]         p: an output
//   grad_input   dx[c, q]      = sum over k = (o, i, j) of  w[o, c, i, j] * grad[o, p]    q: an input
//   grad_weight  dweight[o, k] = sum over outputs p of      grad[o, p] * patch[k, p]
//
// A block computes a 64 x 64 tile of the result with 16 x 16 threads, a thread 4 x 4 elements of it
// (tile_product, in common.cuh).
// Per step of 16 along the sum a thread reads 4 + 4 elements from global and 16 * 8 from shared memory
// for 16 * 16 multiply-adds; it writes 16. Expected bottleneck: shared memory and arithmetic, for enough
// channels; with few output channels (rows of the tile stay empty) the index arithmetic of the gather.
#include "common.cuh"

struct Size {
    int h, w;
};

// How the kernel moves over the image: output (r, q) reads input (r * sh - ph + i * dh, q * sw - ...).
// Size, stride, padding and dilation, along the height and the width (so dw is no gradient: see dweight).
struct Window {
    int kh, kw, sh, sw, ph, pw, dh, dw;
};

// patch[k, p]: what kernel element k = (c, i, j) of a group sees at output p = (n, y, x).
struct Patches {
    const scalar* x;
    Window w;
    Size in, out;
    int channels;      // of the image
    int first, count;  // channels of the group: c = first, ..., first + count - 1
    int positions;     // outputs of the batch

    __device__ scalar operator()(int k, int p) const {
        if (k >= count * w.kh * w.kw || p >= positions) return 0;
        int j = k % w.kw, i = k / w.kw % w.kh, c = first + k / (w.kw * w.kh);
        int q = p % out.w, r = p / out.w % out.h, n = p / (out.w * out.h);
        int row = r * w.sh - w.ph + i * w.dh, col = q * w.sw - w.pw + j * w.dw;
        return inside(row, col, in.h, in.w) ? x[at(n, c, row, col, channels, in.h, in.w)] : scalar(0);
    }
};

// launch: grid=(ceil_div(N * H_out * W_out, GEMM_TILE), ceil_div(O / groups, GEMM_TILE), groups) block=(GEMM_SIDE, GEMM_SIDE)  in: x w b  out: y
// sample: N=2 C=4 H=7 W=6 O=6 H_out=4 W_out=3 kh=3 kw=3 sh=2 sw=2 ph=1 pw=1 dh=1 dw=1 groups=2 x=(N,C,H,W) w=(O,C/groups,kh,kw) b=(O) y=(N,O,H_out,W_out)
// sample: N=2 C=3 H=9 W=9 O=70 H_out=9 W_out=9 kh=3 kw=3 sh=1 sw=1 ph=1 pw=1 dh=1 dw=1 groups=1 x=(N,C,H,W) w=(O,C/groups,kh,kw) b=(O) y=(N,O,H_out,W_out)
extern "C" __global__ void __launch_bounds__(GEMM_SIDE * GEMM_SIDE)
conv2d_forward(const scalar* __restrict__ x, const scalar* __restrict__ w,
               const scalar* __restrict__ b, scalar* __restrict__ y, int N, int C, int H, int W,
               int O, int H_out, int W_out, int kh, int kw, int sh, int sw, int ph, int pw, int dh,
               int dw, int groups) {
    const int rows = O / groups, count = C / groups, length = count * kh * kw;
    const int area = H_out * W_out, positions = N * area, group = blockIdx.z;
    const int row0 = blockIdx.y * GEMM_TILE, col0 = blockIdx.x * GEMM_TILE;

    const scalar* weights = w + (long long)group * rows * length;
    auto a = [=](int o, int k) { return o < rows ? weights[(long long)o * length + k] : scalar(0); };
    Patches patches{x, {kh, kw, sh, sw, ph, pw, dh, dw}, {H, W}, {H_out, W_out},
                    C, group * count, count, positions};
    scalar sum[GEMM_EACH][GEMM_EACH];
    tile_product(a, patches, row0, col0, 0, length, sum);

    for (int r = 0; r < GEMM_EACH; r++)
        for (int c = 0; c < GEMM_EACH; c++) {
            int o = row0 + threadIdx.y + GEMM_SIDE * r, p = col0 + threadIdx.x + GEMM_SIDE * c;
            if (o >= rows || p >= positions) continue;
            int channel = group * rows + o;
            y[in_channel(p, channel, O, area)] = sum[r][c] + (b ? b[channel] : scalar(0));
        }
}

// grad[o, p] as input q sees it through kernel element (i, j): of the output p with p s - pad + (i, j) d = q,
// if there is one. So the stride becomes a division that must leave no rest: a gather, no atomics.
// launch: grid=(ceil_div(N * H * W, GEMM_TILE), ceil_div(C / groups, GEMM_TILE), groups) block=(GEMM_SIDE, GEMM_SIDE)  in: grad w  out: dx
// sample: N=2 C=4 H=7 W=6 O=6 H_out=4 W_out=3 kh=3 kw=3 sh=2 sw=2 ph=1 pw=1 dh=1 dw=1 groups=2 grad=(N,O,H_out,W_out) w=(O,C/groups,kh,kw) dx=(N,C,H,W)
// sample: N=2 C=70 H=9 W=9 O=3 H_out=9 W_out=9 kh=3 kw=3 sh=1 sw=1 ph=1 pw=1 dh=1 dw=1 groups=1 grad=(N,O,H_out,W_out) w=(O,C/groups,kh,kw) dx=(N,C,H,W)
extern "C" __global__ void __launch_bounds__(GEMM_SIDE * GEMM_SIDE)
conv2d_grad_input(const scalar* __restrict__ grad, const scalar* __restrict__ w,
                  scalar* __restrict__ dx, int N, int C, int H, int W, int O, int H_out, int W_out,
                  int kh, int kw, int sh, int sw, int ph, int pw, int dh, int dw, int groups) {
    const int rows = C / groups, count = O / groups, taps = kh * kw, length = count * taps;
    const int area = H * W, positions = N * area, group = blockIdx.z;
    const int row0 = blockIdx.y * GEMM_TILE, col0 = blockIdx.x * GEMM_TILE;

    const scalar* weights = w + (long long)group * count * rows * taps;
    auto a = [=](int c, int k) {
        return c < rows ? weights[((long long)(k / taps) * rows + c) * taps + k % taps] : scalar(0);
    };
    auto b = [=](int k, int q) {
        if (q >= positions) return scalar(0);
        int j = k % kw, i = k / kw % kh, o = group * count + k / taps;
        int n = q / (W * H), row = q / W % H + ph - i * dh, col = q % W + pw - j * dw;  // s times p
        if (row % sh != 0 || col % sw != 0 || !inside(row / sh, col / sw, H_out, W_out)) return scalar(0);
        return grad[at(n, o, row / sh, col / sw, O, H_out, W_out)];
    };
    scalar sum[GEMM_EACH][GEMM_EACH];
    tile_product(a, b, row0, col0, 0, length, sum);

    for (int r = 0; r < GEMM_EACH; r++)
        for (int c = 0; c < GEMM_EACH; c++) {
            int c_in = row0 + threadIdx.y + GEMM_SIDE * r, q = col0 + threadIdx.x + GEMM_SIDE * c;
            if (c_in < rows && q < positions) dx[in_channel(q, group * rows + c_in, C, area)] = sum[r][c];
        }
}

// The sum runs over all outputs of the batch, the result is small: too few blocks to fill a GPU. So the
// outputs are split into `splits` ranges, each with a partial sum of its own; these are then added in order.
// launch: grid=(ceil_div(C / groups * kh * kw, GEMM_TILE), ceil_div(O / groups, GEMM_TILE), groups * splits) block=(GEMM_SIDE, GEMM_SIDE)  in: grad x  out: partial
// sample: N=2 C=4 H=7 W=6 O=6 H_out=4 W_out=3 kh=3 kw=3 sh=2 sw=2 ph=1 pw=1 dh=1 dw=1 groups=2 grad=(N,O,H_out,W_out) x=(N,C,H,W) partial=(splits,O,C/groups,kh,kw) splits=2
// sample: N=2 C=8 H=9 W=9 O=70 H_out=9 W_out=9 kh=3 kw=3 sh=1 sw=1 ph=1 pw=1 dh=1 dw=1 groups=1 grad=(N,O,H_out,W_out) x=(N,C,H,W) partial=(splits,O,C/groups,kh,kw) splits=2
extern "C" __global__ void __launch_bounds__(GEMM_SIDE * GEMM_SIDE)
conv2d_grad_weight(const scalar* __restrict__ grad, const scalar* __restrict__ x,
                   scalar* __restrict__ partial, int N, int C, int H, int W, int O, int H_out,
                   int W_out, int kh, int kw, int sh, int sw, int ph, int pw, int dh, int dw,
                   int groups, int splits) {
    const int rows = O / groups, count = C / groups, cols = count * kh * kw;
    const int area = H_out * W_out, positions = N * area;
    const int group = blockIdx.z % groups, split = blockIdx.z / groups;
    const int row0 = blockIdx.y * GEMM_TILE, col0 = blockIdx.x * GEMM_TILE;
    const Range range = share_of(positions, split, splits);

    auto a = [=](int o, int p) {
        return o < rows ? grad[in_channel(p, group * rows + o, O, area)] : scalar(0);
    };
    Patches patches{x, {kh, kw, sh, sw, ph, pw, dh, dw}, {H, W}, {H_out, W_out},
                    C, group * count, count, positions};
    auto b = [=](int p, int k) { return patches(k, p); };
    scalar sum[GEMM_EACH][GEMM_EACH];
    tile_product(a, b, row0, col0, range.first, range.end, sum);

    scalar* result = partial + (long long)split * O * cols;
    for (int r = 0; r < GEMM_EACH; r++)
        for (int c = 0; c < GEMM_EACH; c++) {
            int o = row0 + threadIdx.y + GEMM_SIDE * r, k = col0 + threadIdx.x + GEMM_SIDE * c;
            if (o < rows && k < cols) result[(long long)(group * rows + o) * cols + k] = sum[r][c];
        }
}
