// sm_70
// Max-unpooling: y[plane, indices[plane, i]] = x[plane, i], the rest 0; where several values name one
// place, the last stays.
//
//   max_unpool2d_claim       winner[place] = 1 + the largest i that names it, 0 where none does
//   max_unpool2d_forward     y[place] = x[winner - 1]
//   max_unpool2d_grad_input  dx[i] = grad[indices[i]], of overwritten values too
//
// Which of two threads writes last is chance, so no thread writes a value before the winner is known.
// The maximum of integers is the same in whatever order they come: that atomic is deterministic.
// A thread handles one element, a block 256 neighbours. claim: reads an index, one atomic on a place
// of its own but for overlaps. forward: reads a winner, at most one value; writes one. grad_input:
// reads an index and one value, scattered over a window; writes one. Expected bottleneck: global
// memory.
#include "common.cuh"

#define THREADS 256

// launch: grid=(ceil_div(planes * inputs, THREADS)) block=(THREADS)  in: indices  inout: winner
// sample: planes=3 inputs=100 places=200 indices=(planes,inputs)%200 winner=(planes,places)%1
extern "C" __global__ void __launch_bounds__(THREADS)
max_unpool2d_claim(const long long* __restrict__ indices, int* __restrict__ winner, int planes,
                   int inputs, int places) {
    long long e = global_index();
    if (e >= (long long)planes * inputs) return;
    atomicMax(&winner[e / inputs * places + indices[e]], (int)(e % inputs) + 1);
}

// launch: grid=(ceil_div(planes * places, THREADS)) block=(THREADS)  in: x winner  out: y
// sample: planes=3 inputs=100 places=200 x=(planes,inputs) winner=(planes,places)%101 y=(planes,places)
extern "C" __global__ void __launch_bounds__(THREADS)
max_unpool2d_forward(const scalar* __restrict__ x, const int* __restrict__ winner,
                     scalar* __restrict__ y, int planes, int inputs, int places) {
    long long e = global_index();
    if (e >= (long long)planes * places) return;
    const int input = winner[e];
    y[e] = input ? x[e / places * inputs + input - 1] : scalar(0);
}

// launch: grid=(ceil_div(planes * inputs, THREADS)) block=(THREADS)  in: grad indices  out: dx
// sample: planes=3 inputs=100 places=200 grad=(planes,places) indices=(planes,inputs)%200 dx=(planes,inputs)
extern "C" __global__ void __launch_bounds__(THREADS)
max_unpool2d_grad_input(const scalar* __restrict__ grad, const long long* __restrict__ indices,
                        scalar* __restrict__ dx, int planes, int inputs, int places) {
    long long e = global_index();
    if (e >= (long long)planes * inputs) return;
    dx[e] = grad[e / inputs * places + indices[e]];
}
