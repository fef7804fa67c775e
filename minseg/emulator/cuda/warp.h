// What the threads of a block and of a warp do together: barriers, shuffles, votes, reductions. Each
// is a meeting (runtime.h): the lanes publish their values, wait for each other, read, and leave.
#pragma once
#include "language.h"

// --- Barriers -------------------------------------------------------------------------------------
#define __syncthreads() minseg::block_barrier(MINSEG_HERE)
#define __syncthreads_count(p) minseg::block_vote(MINSEG_HERE, minseg::Vote::COUNT, p)
#define __syncthreads_and(p) minseg::block_vote(MINSEG_HERE, minseg::Vote::AND, p)
#define __syncthreads_or(p) minseg::block_vote(MINSEG_HERE, minseg::Vote::OR, p)
#define __syncwarp(...) minseg::sync_warp(MINSEG_HERE, ##__VA_ARGS__)
#define __activemask() minseg::converged_lanes(MINSEG_HERE)

namespace minseg {
inline void sync_warp(Site site, unsigned mask = 0xffffffffu) { warp_barrier(site, mask); }

// What a lane gets from one that is not there: all bits set, which is NaN or -1. A GPU promises less.
template <class T>
T missing() {
    T value;
    memset((void*)&value, 0xff, sizeof value);
    return value;
}

template <class T>
T value_of(Site site, unsigned mask, void* const* lanes, int source) {
    if ((mask >> source & 1) && lanes[source]) return *(const T*)lanes[source];
    missing_lane(site, source);
    return missing<T>();
}

// Each lane reads the value of the lane that `source` names within its group of `width` lanes.
enum class Shuffle { INDEX, UP, DOWN, XOR };
template <class T>
T shuffle(Site site, Shuffle kind, unsigned mask, T value, int operand, int width = WARP_SIZE) {
    if (width < 1 || width > WARP_SIZE || (width & (width - 1))) wrong_width(site, width);
    const int me = lane(), first = me / width * width, end = first + width;
    int source = me;
    if (kind == Shuffle::INDEX) source = first + (operand & (width - 1));
    if (kind == Shuffle::UP) source = me - operand;
    if (kind == Shuffle::DOWN) source = me + operand;
    if (kind == Shuffle::XOR) source = me ^ operand;
    // Past an edge of the group, a lane keeps its own value. An xor may reach into an earlier group.
    if (source >= end || (kind == Shuffle::UP && source < first)) source = me;
    void* const* lanes = warp_meet(site, mask, &value);
    T result = value_of<T>(site, mask, lanes, source);
    warp_leave(mask);
    return result;
}

inline unsigned ballot(Site site, unsigned mask, int predicate) {
    void* const* lanes = warp_meet(site, mask, &predicate);
    unsigned result = 0;
    for (int i = 0; i < WARP_SIZE; ++i)
        if (lanes[i] && (mask >> i & 1) && *(const int*)lanes[i]) result |= 1u << i;
    warp_leave(mask);
    return result;
}

template <class T, class F>
T reduce(Site site, unsigned mask, T value, F combine) {
    void* const* lanes = warp_meet(site, mask, &value);
    bool first = true;
    T result = value;
    for (int i = 0; i < WARP_SIZE; ++i) {
        if (!lanes[i] || !(mask >> i & 1)) continue;
        result = first ? *(const T*)lanes[i] : combine(result, *(const T*)lanes[i]);
        first = false;
    }
    warp_leave(mask);
    return result;
}

template <class T>
unsigned match_any(Site site, unsigned mask, T value) {
    void* const* lanes = warp_meet(site, mask, &value);
    unsigned result = 0;
    for (int i = 0; i < WARP_SIZE; ++i)
        if (lanes[i] && (mask >> i & 1) && memcmp(lanes[i], &value, sizeof value) == 0)
            result |= 1u << i;
    warp_leave(mask);
    return result;
}
template <class T>
unsigned match_all(Site site, unsigned mask, T value, int* all_equal) {
    void* const* lanes = warp_meet(site, mask, &value);
    *all_equal = 1;
    for (int i = 0; i < WARP_SIZE; ++i)
        if (lanes[i] && (mask >> i & 1) && memcmp(lanes[i], &value, sizeof value) != 0)
            *all_equal = 0;
    warp_leave(mask);
    return *all_equal ? mask : 0;
}
}  // namespace minseg

// --- Shuffles ---------------------------------------------------------------------------------------
#define __shfl_sync(mask, ...) \
    minseg::shuffle(MINSEG_HERE, minseg::Shuffle::INDEX, mask, __VA_ARGS__)
#define __shfl_up_sync(mask, ...) \
    minseg::shuffle(MINSEG_HERE, minseg::Shuffle::UP, mask, __VA_ARGS__)
#define __shfl_down_sync(mask, ...) \
    minseg::shuffle(MINSEG_HERE, minseg::Shuffle::DOWN, mask, __VA_ARGS__)
#define __shfl_xor_sync(mask, ...) \
    minseg::shuffle(MINSEG_HERE, minseg::Shuffle::XOR, mask, __VA_ARGS__)

// --- Votes --------------------------------------------------------------------------------------------
#define __ballot_sync(mask, p) minseg::ballot(MINSEG_HERE, mask, p)
#define __any_sync(mask, p) (minseg::ballot(MINSEG_HERE, mask, p) != 0)
#define __all_sync(mask, p) (minseg::ballot(MINSEG_HERE, mask, !(p)) == 0)
#define __match_any_sync(mask, value) minseg::match_any(MINSEG_HERE, mask, value)
#define __match_all_sync(mask, value, p) minseg::match_all(MINSEG_HERE, mask, value, p)

// --- Reductions of integers over a warp -----------------------------------------------------------------
#define MINSEG_REDUCE(mask, value, expression) \
    minseg::reduce(MINSEG_HERE, mask, value, [](auto a, auto b) { return expression; })
#define __reduce_add_sync(mask, value) MINSEG_REDUCE(mask, value, a + b)
#define __reduce_min_sync(mask, value) MINSEG_REDUCE(mask, value, (b < a ? b : a))
#define __reduce_max_sync(mask, value) MINSEG_REDUCE(mask, value, (a < b ? b : a))
#define __reduce_and_sync(mask, value) MINSEG_REDUCE(mask, value, a & b)
#define __reduce_or_sync(mask, value) MINSEG_REDUCE(mask, value, a | b)
#define __reduce_xor_sync(mask, value) MINSEG_REDUCE(mask, value, a ^ b)
