// sm_70
// Resizing, in whatever mode, forward and back: rows and columns are mixed as two tables of taps say.
//
//   y[plane, o, q] = sum over s, t of  row_weight[s, o] * col_weight[t, q] * x[plane, row_index[s, o],
//                                                                              col_index[t, q]]
//
// A table's row t holds every output's t-th tap, (taps, size). Nearest has one tap, linear two, cubic
// four, area the length of a window; minseg/ops/interpolate_taps.py makes them. The gradient is the same
// kernel on the tables turned round, which list the outputs that an input reached: a gather, no atomics.
//
// A thread computes one output pixel, a block 256 neighbours along the rows. It reads row_taps *
// col_taps elements of x, which neighbours share, each with an entry of the column table (neighbours
// side by side: coalesced, and from cache, for all planes and rows use the same), and writes one.
// Expected bottleneck: global memory, of the larger of both images.
#include "common.cuh"

#define THREADS 256

// launch: grid=(ceil_div(planes * H_out * W_out, THREADS)) block=(THREADS)  in: x row_index row_weight col_index col_weight  out: y
// sample: planes=3 H=4 W=5 H_out=7 W_out=9 row_taps=2 col_taps=4 x=(planes,H,W) row_index=(row_taps,H_out)%4 row_weight=(row_taps,H_out) col_index=(col_taps,W_out)%5 col_weight=(col_taps,W_out) y=(planes,H_out,W_out)
extern "C" __global__ void __launch_bounds__(THREADS)
interpolate(const scalar* __restrict__ x, const int* __restrict__ row_index,
            const scalar* __restrict__ row_weight, const int* __restrict__ col_index,
            const scalar* __restrict__ col_weight, scalar* __restrict__ y, int planes, int H, int W,
            int H_out, int W_out, int row_taps, int col_taps) {
    long long i = global_index();
    if (i >= (long long)planes * H_out * W_out) return;
    Nchw out = unravel(i, planes, H_out, W_out);
    scalar sum = 0;
    for (int s = 0; s < row_taps; s++) {
        const scalar* row = x + ((long long)out.c * H + row_index[s * H_out + out.y]) * W;
        scalar mixed = 0;
        for (int t = 0; t < col_taps; t++)
            mixed += col_weight[t * W_out + out.x] * row[col_index[t * W_out + out.x]];
        sum += row_weight[s * H_out + out.y] * mixed;
    }
    y[i] = sum;
}
