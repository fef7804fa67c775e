// What the threads of a block and of a warp do together: barriers, shuffles, votes, reductions. Each
// is a meeting (runtime.h): the lanes publish their values, wait for each other, read, and leave.
#pragma once
#include "language.h"

// --- Barriers -------------------------------------------------------------------------------------
#define __syncthreads() minseg::block_barrier(MINSEG_HERE)
#define __syncthreads_count(p) minseg::vote_count(MINSEG_HERE, p)
#define __syncthreads_and(p) minseg::vote_and(MINSEG_HERE, p)
#define __syncthreads_or(p) minseg::vote_or(MINSEG_HERE, p)
#define __syncwarp(...) minseg::sync_warp(MINSEG_MEETING(SYNCWARP), ##__VA_ARGS__)
#define __activemask() minseg::converged_lanes(MINSEG_HERE)

namespace minseg {
inline int vote_count(Site site, int p) { return block_vote(site, Vote::COUNT, p); }
inline int vote_and(Site site, int p) { return block_vote(site, Vote::AND, p); }
inline int vote_or(Site site, int p) { return block_vote(site, Vote::OR, p); }
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

template <class T>
void* const* meet(Site site, unsigned mask, const T* mine) {
    site.words = (sizeof(T) + 3) / 4;
    return warp_meet(site, mask, mine);
}

// Each lane reads the value of the lane that `operand` names within its group of `width` lanes.
template <class T>
T shuffle(Site site, unsigned mask, T value, int operand, int width = WARP_SIZE) {
    if (width < 1 || width > WARP_SIZE || (width & (width - 1))) wrong_width(site, width);
    const int me = lane(), first = me / width * width, end = first + width;
    int source = me;
    if (site.meeting == Meeting::AT_SHUFFLE) source = first + (operand & (width - 1));
    if (site.meeting == Meeting::AT_SHUFFLE_UP) source = me - operand;
    if (site.meeting == Meeting::AT_SHUFFLE_DOWN) source = me + operand;
    if (site.meeting == Meeting::AT_SHUFFLE_XOR) source = me ^ operand;
    // Past an edge of the group, a lane keeps its own value. An xor may reach into an earlier group.
    if (source >= end || (site.meeting == Meeting::AT_SHUFFLE_UP && source < first)) source = me;
    void* const* lanes = meet(site, mask, &value);
    T result = value_of<T>(site, mask, lanes, source);
    warp_leave(mask);
    return result;
}

inline unsigned ballot(Site site, unsigned mask, int predicate) {
    void* const* lanes = meet(site, mask, &predicate);
    unsigned result = 0;
    for (int i = 0; i < WARP_SIZE; ++i)
        if (lanes[i] && (mask >> i & 1) && *(const int*)lanes[i]) result |= 1u << i;
    warp_leave(mask);
    return result;
}

template <class T, class F>
T reduce(Site site, unsigned mask, T value, F combine) {
    void* const* lanes = meet(site, mask, &value);
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
    void* const* lanes = meet(site, mask, &value);
    unsigned result = 0;
    for (int i = 0; i < WARP_SIZE; ++i)
        if (lanes[i] && (mask >> i & 1) && memcmp(lanes[i], &value, sizeof value) == 0)
            result |= 1u << i;
    warp_leave(mask);
    return result;
}
template <class T>
unsigned match_all(Site site, unsigned mask, T value, int* all_equal) {
    void* const* lanes = meet(site, mask, &value);
    *all_equal = 1;
    for (int i = 0; i < WARP_SIZE; ++i)
        if (lanes[i] && (mask >> i & 1) && memcmp(lanes[i], &value, sizeof value) != 0)
            *all_equal = 0;
    warp_leave(mask);
    return *all_equal ? mask : 0;
}
}  // namespace minseg

// --- Shuffles ---------------------------------------------------------------------------------------
#define __shfl_sync(mask, ...) minseg::shuffle(MINSEG_MEETING(SHUFFLE), mask, __VA_ARGS__)
#define __shfl_up_sync(mask, ...) minseg::shuffle(MINSEG_MEETING(SHUFFLE_UP), mask, __VA_ARGS__)
#define __shfl_down_sync(mask, ...) minseg::shuffle(MINSEG_MEETING(SHUFFLE_DOWN), mask, __VA_ARGS__)
#define __shfl_xor_sync(mask, ...) minseg::shuffle(MINSEG_MEETING(SHUFFLE_XOR), mask, __VA_ARGS__)

// --- Votes --------------------------------------------------------------------------------------------
#define __ballot_sync(mask, p) minseg::ballot(MINSEG_MEETING(BALLOT), mask, p)
#define __any_sync(mask, p) (minseg::ballot(MINSEG_MEETING(ANY), mask, p) != 0)
#define __all_sync(mask, p) (minseg::ballot(MINSEG_MEETING(ALL), mask, !(p)) == 0)
#define __match_any_sync(mask, value) minseg::match_any(MINSEG_MEETING(MATCH_ANY), mask, value)
#define __match_all_sync(mask, value, p) minseg::match_all(MINSEG_MEETING(MATCH_ALL), mask, value, p)

// --- Reductions of integers over a warp -----------------------------------------------------------------
#define MINSEG_REDUCE(name, mask, value, expression)           \
    minseg::reduce(MINSEG_MEETING(REDUCE_##name), mask, value, \
                   [](auto a, auto b) { return expression; })
#define __reduce_add_sync(mask, value) MINSEG_REDUCE(ADD, mask, value, a + b)
#define __reduce_min_sync(mask, value) MINSEG_REDUCE(MIN, mask, value, (b < a ? b : a))
#define __reduce_max_sync(mask, value) MINSEG_REDUCE(MAX, mask, value, (a < b ? b : a))
#define __reduce_and_sync(mask, value) MINSEG_REDUCE(AND, mask, value, a & b)
#define __reduce_or_sync(mask, value) MINSEG_REDUCE(OR, mask, value, a | b)
#define __reduce_xor_sync(mask, value) MINSEG_REDUCE(XOR, mask, value, a ^ b)
