// sm_70
// Sampling an image, or a volume, at the places that a grid names: forward and both gradients.
//
//   forward     y[n, c, o]  = sum over taps t of  weight[n, o, t] * x[n, c, index[n, o, t]]
//   grad_grid   dgrid[n, o] = sum over channels and taps of  grad[n, c, o] * x[...] * slope[n, o, t]
//   grad_input  dx[n, c, i] = sum over entries e = (t, n, o) whose index is i of  weight[e] * grad[n, c, o]
//
// The taps of a place are the product of those of its axes: 1 (nearest), 2 (linear) or 4 (cubic) along
// each. They are the same for all channels. So in forward and grad_grid a thread takes one place, finds
// its taps once, and walks over the channels; a block has 256 neighbours.
// grad_input scatters: any number of outputs may name one input. Instead of adding by float atomics, in
// an order that changes from run to run, grid_sample_entries lists all taps with their inputs, the
// caller sorts that list by input, and in grad_input a thread adds up one input's segment in order. (The
// atomic variant needs no sort, and is the faster one where few outputs meet.)
// Reads a thread: D grid values, then taps elements a channel, near each other if the grid is smooth;
// writes one a channel (forward), D (grad_grid), taps entries (entries), one (grad_input). Expected
// bottleneck: global memory; for a grid that jumps about, its scattered reads. The taps (480 bytes a
// thread) are too many for registers and lie in local memory: with few channels they cost as much.
#include "common.cuh"

#define THREADS 256
#define MOST_TAPS 16  // of a place: 4 * 4, cubic in the plane; linear in a volume has 2 * 2 * 2

enum Mode { BILINEAR, NEAREST, BICUBIC };
enum Padding { ZEROS, BORDER, REFLECTION };

// --- Along one axis ------------------------------------------------------------------------------
// Where the axis is looked up, and the derivative: 1, -1 where mirrored, 0 where held at the border.
struct Inside {
    scalar place, sign;
};

__device__ Inside bring_inside(scalar place, int size, int padding, bool align_corners) {
    if (padding == ZEROS) return {place, 1};
    scalar sign = 1;
    if (padding == REFLECTION) {
        const scalar low = align_corners ? 0 : scalar(-0.5), span = align_corners ? size - 1 : size;
        if (span == 0) return {0, 0};
        scalar distance = fabs(place - low), rest = fmod(distance, span);
        bool odd = fmod(floor(distance / span), scalar(2)) == 1;  // mirrored an odd number of times
        sign = (odd ? -1 : 1) * (place < low ? -1 : 1);
        place = (odd ? span - rest : rest) + low;
    }
    const scalar last = size - 1;
    if (place > 0 && place < last) return {place, sign};
    return {place >= last ? last : scalar(0), 0};  // NaN: 0
}

struct AxisTaps {
    int count, index[4];  // -1: outside, a zero is read
    scalar weight[4], slope[4];  // slope: d weight / d grid
};

__device__ __forceinline__ int index_of(scalar tap, int size) {
    return tap >= 0 && tap < size ? (int)tap : -1;  // NaN: outside
}

// The kernel of cubic convolution (Keys, a = -3/4) at a distance s >= 0, and its derivative.
__device__ __forceinline__ scalar cubic(scalar s) {
    const scalar a = scalar(-0.75);
    if (s <= 1) return ((a + 2) * s - (a + 3)) * s * s + 1;
    return s >= 2 ? scalar(0) : ((a * s - 5 * a) * s + 8 * a) * s - 4 * a;
}
__device__ __forceinline__ scalar cubic_slope(scalar s) {
    const scalar a = scalar(-0.75);
    if (s <= 1) return (3 * (a + 2) * s - 2 * (a + 3)) * s;
    return s >= 2 ? scalar(0) : (3 * a * s - 10 * a) * s + 8 * a;
}

__device__ AxisTaps axis_taps(scalar grid, int size, int mode, int padding, bool align_corners) {
    const scalar half = scalar(align_corners ? size - 1 : size) / 2;
    scalar place = (grid + 1) * half - (align_corners ? scalar(0) : scalar(0.5));
    AxisTaps taps;
    if (mode == BICUBIC) {  // the taps are brought inside, not the place
        taps.count = 4;
        for (int t = 0; t < 4; t++) {
            scalar tap = floor(place) + (t - 1), s = place - floor(place) - (t - 1);
            taps.index[t] = index_of(bring_inside(tap, size, padding, align_corners).place, size);
            taps.weight[t] = cubic(fabs(s));
            taps.slope[t] = cubic_slope(fabs(s)) * (s < 0 ? -half : half);
        }
        return taps;
    }
    Inside inside = bring_inside(place, size, padding, align_corners);
    if (mode == NEAREST) {
        taps.count = 1;
        taps.index[0] = index_of(rint(inside.place), size);
        taps.weight[0] = 1;
        taps.slope[0] = 0;
        return taps;
    }
    scalar below = floor(inside.place), s = inside.place - below;
    taps.count = 2;
    for (int t = 0; t < 2; t++) {
        taps.index[t] = index_of(below + t, size);
        taps.weight[t] = t ? s : 1 - s;
        taps.slope[t] = (t ? half : -half) * inside.sign;
    }
    return taps;
}

// --- In the plane, or in a volume ----------------------------------------------------------------
struct Taps {
    int count, index[MOST_TAPS];  // index: within an image of depth * H * W
    scalar weight[MOST_TAPS], slope[3][MOST_TAPS];  // slope: along x, y, z
};

// The taps of the place that `grid` (x, y(, z)) names. An image is a volume of depth 1 that no grid
// value moves through: dims is 2.
__device__ void find_taps(const scalar* grid, int dims, int depth, int H, int W, int mode,
                          int padding, bool align_corners, Taps& taps) {
    AxisTaps x = axis_taps(grid[0], W, mode, padding, align_corners);
    AxisTaps y = axis_taps(grid[1], H, mode, padding, align_corners);
    AxisTaps z = {1, {0}, {1}, {0}};
    if (dims == 3) z = axis_taps(grid[2], depth, mode, padding, align_corners);
    taps.count = 0;
    for (int k = 0; k < z.count; k++)
        for (int i = 0; i < y.count; i++)
            for (int j = 0; j < x.count; j++) {
                int t = taps.count++;
                bool outside = z.index[k] < 0 || y.index[i] < 0 || x.index[j] < 0;
                taps.index[t] = outside ? -1 : (z.index[k] * H + y.index[i]) * W + x.index[j];
                taps.weight[t] = z.weight[k] * y.weight[i] * x.weight[j];
                taps.slope[0][t] = z.weight[k] * y.weight[i] * x.slope[j];
                taps.slope[1][t] = z.weight[k] * y.slope[i] * x.weight[j];
                taps.slope[2][t] = z.slope[k] * y.weight[i] * x.weight[j];
            }
}

// launch: grid=(ceil_div(N * outputs, THREADS)) block=(THREADS)  in: x grid  out: y
// sample: N=2 C=3 depth=1 H=5 W=6 outputs=40 dims=2 mode=2 padding=2 align_corners=0 x=(N,C,H,W) grid=(N,outputs,2) y=(N,C,outputs)
// sample: N=2 C=3 depth=4 H=5 W=6 outputs=40 dims=3 mode=0 padding=2 align_corners=0 x=(N,C,depth,H,W) grid=(N,outputs,3) y=(N,C,outputs)
extern "C" __global__ void __launch_bounds__(THREADS)
grid_sample_forward(const scalar* __restrict__ x, const scalar* __restrict__ grid,
                    scalar* __restrict__ y, int N, int C, int depth, int H, int W, int outputs,
                    int dims, int mode, int padding, bool align_corners) {
    long long e = global_index();
    if (e >= (long long)N * outputs) return;
    const long long n = e / outputs, o = e % outputs, area = (long long)depth * H * W;
    Taps taps;
    find_taps(grid + e * dims, dims, depth, H, W, mode, padding, align_corners, taps);
    for (int c = 0; c < C; c++) {
        const scalar* image = x + (n * C + c) * area;
        scalar sum = 0;
        for (int t = 0; t < taps.count; t++)
            sum += taps.weight[t] * (taps.index[t] < 0 ? scalar(0) : image[taps.index[t]]);
        y[(n * C + c) * outputs + o] = sum;
    }
}

// launch: grid=(ceil_div(N * outputs, THREADS)) block=(THREADS)  in: grad x grid  out: dgrid
// sample: N=2 C=3 depth=1 H=5 W=6 outputs=40 dims=2 mode=2 padding=2 align_corners=0 grad=(N,C,outputs) x=(N,C,H,W) grid=(N,outputs,2) dgrid=(N,outputs,2)
// sample: N=2 C=3 depth=4 H=5 W=6 outputs=40 dims=3 mode=0 padding=2 align_corners=0 grad=(N,C,outputs) x=(N,C,depth,H,W) grid=(N,outputs,3) dgrid=(N,outputs,3)
extern "C" __global__ void __launch_bounds__(THREADS)
grid_sample_grad_grid(const scalar* __restrict__ grad, const scalar* __restrict__ x,
                      const scalar* __restrict__ grid, scalar* __restrict__ dgrid, int N, int C,
                      int depth, int H, int W, int outputs, int dims, int mode, int padding,
                      bool align_corners) {
    long long e = global_index();
    if (e >= (long long)N * outputs) return;
    const long long n = e / outputs, o = e % outputs, area = (long long)depth * H * W;
    Taps taps;
    find_taps(grid + e * dims, dims, depth, H, W, mode, padding, align_corners, taps);
    scalar sum[3] = {0, 0, 0};
    for (int t = 0; t < taps.count; t++) {
        scalar moved = 0;  // what more weight on this tap would add to the loss
        for (int c = 0; c < C; c++) {
            scalar here = taps.index[t] < 0 ? scalar(0) : x[(n * C + c) * area + taps.index[t]];
            moved += grad[(n * C + c) * outputs + o] * here;
        }
        for (int d = 0; d < dims; d++) sum[d] += moved * taps.slope[d][t];
    }
    for (int d = 0; d < dims; d++) dgrid[e * dims + d] = sum[d];
}

// Entry e = (t, n, o), t < each: its weight, and key = input * number of entries + e. So the
// keys, sorted, stand in order of their inputs, those of one input in order of e. What is outside goes
// to one input more, after all images. With t first, neighbouring threads write neighbouring entries.
// launch: grid=(ceil_div(N * outputs, THREADS)) block=(THREADS)  in: grid  out: key weight
// sample: N=2 depth=1 H=5 W=6 outputs=40 dims=2 mode=2 padding=2 align_corners=0 each=16 grid=(N,outputs,2) key=(each,N,outputs) weight=(each,N,outputs)
// sample: N=2 depth=4 H=5 W=6 outputs=40 dims=3 mode=0 padding=2 align_corners=0 each=8 grid=(N,outputs,3) key=(each,N,outputs) weight=(each,N,outputs)
extern "C" __global__ void __launch_bounds__(THREADS)
grid_sample_entries(const scalar* __restrict__ grid, long long* __restrict__ key,
                    scalar* __restrict__ weight, int N, int depth, int H, int W, int outputs,
                    int dims, int mode, int padding, bool align_corners, int each) {
    const long long place = global_index(), places = (long long)N * outputs;
    if (place >= places) return;
    const long long n = place / outputs, area = (long long)depth * H * W;
    Taps taps;
    find_taps(grid + place * dims, dims, depth, H, W, mode, padding, align_corners, taps);
    for (int t = 0; t < each; t++) {
        long long input = taps.index[t] < 0 ? N * area : n * area + taps.index[t];
        long long e = t * places + place;
        key[e] = input * (each * places) + e;
        weight[e] = taps.weight[t];
    }
}

// start[n, i]: where among the sorted keys the segment of input i of image n begins.
// launch: grid=(ceil_div(N * C * area, THREADS)) block=(THREADS)  in: grad key weight start  out: dx
// sample: N=1 C=3 area=30 outputs=40 each=4 grad=(C,outputs) key=(each,outputs)%160 weight=(each,outputs) start=(31)%161 dx=(C,area)
extern "C" __global__ void __launch_bounds__(THREADS)
grid_sample_grad_input(const scalar* __restrict__ grad, const long long* __restrict__ key,
                       const scalar* __restrict__ weight, const long long* __restrict__ start,
                       scalar* __restrict__ dx, int N, int C, int area, int outputs, int each) {
    long long i = global_index();
    if (i >= (long long)N * C * area) return;
    const long long n = i / area / C, input = n * area + i % area;
    const long long entries = (long long)N * outputs * each;
    const scalar* plane = grad + i / area * outputs;
    scalar sum = 0;
    const long long end = start[input + 1];
    for (long long k = start[input]; k < end; k++) {
        long long e = key[k] % entries;
        sum += weight[e] * plane[e % outputs];
    }
    dx[i] = sum;
}
