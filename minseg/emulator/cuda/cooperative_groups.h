// Cooperative groups, as CUDA's header of this name has them (CUDA C++ Programming Guide): a block, its
// tiles of up to 32 lanes, the lanes that come together. A grid has no sync() here: blocks run one
// after the other.
#pragma once
#include "warp.h"

// A member's last parameters: where it is called.
#define MINSEG_CALL const char *file = __builtin_FILE(), int line = __builtin_LINE()
#define MINSEG_CALL_OF(name) (minseg::Site{file, line, minseg::Meeting::AT_##name})

namespace cooperative_groups {

class thread_group {
  public:
    explicit thread_group(unsigned lanes) : lanes(lanes) {}
    void sync(MINSEG_CALL) const {
        if (lanes) minseg::warp_barrier(MINSEG_CALL_OF(SYNCWARP), lanes);
        else minseg::block_barrier({file, line});
    }
    unsigned size() const {
        return lanes ? __popc(lanes) : blockDim.x * blockDim.y * blockDim.z;
    }
    unsigned num_threads() const { return size(); }
    unsigned thread_rank() const {
        return lanes ? __popc(lanes & ((1u << minseg::lane()) - 1)) : minseg::linear_thread();
    }

  protected:
    unsigned lanes;  // of the warp; 0: all threads of the block
};

struct thread_block : thread_group {
    thread_block() : thread_group(0) {}
    dim3 group_index() const { return blockIdx; }
    dim3 thread_index() const { return threadIdx; }
    dim3 group_dim() const { return blockDim; }
    dim3 dim_threads() const { return blockDim; }
};
inline thread_block this_thread_block() { return {}; }

struct grid_group {
    unsigned long long size() const {
        return 1ull * gridDim.x * gridDim.y * gridDim.z * thread_block().size();
    }
    unsigned long long num_threads() const { return size(); }
    unsigned long long thread_rank() const {
        const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
        return 1ull * block * thread_block().size() + thread_block().thread_rank();
    }
};
inline grid_group this_grid() { return {}; }

// What lanes of one warp can do. Ranks count within the group, and so do the bits of a ballot.
class warp_group : public thread_group {
  public:
    using thread_group::thread_group;
    int any(int p, MINSEG_CALL) const { return minseg::ballot(MINSEG_CALL_OF(ANY), lanes, p) != 0; }
    int all(int p, MINSEG_CALL) const { return minseg::ballot(MINSEG_CALL_OF(ALL), lanes, !p) == 0; }
    unsigned ballot(int p, MINSEG_CALL) const {
        return ranks(minseg::ballot(MINSEG_CALL_OF(BALLOT), lanes, p));
    }
    template <class T>
    unsigned match_any(T value, MINSEG_CALL) const {
        return ranks(minseg::match_any(MINSEG_CALL_OF(MATCH_ANY), lanes, value));
    }
    template <class T>
    T shfl(T value, unsigned rank, MINSEG_CALL) const {
        unsigned left = lanes;
        for (rank %= size(); rank; --rank) left &= left - 1;
        return minseg::shuffle(MINSEG_CALL_OF(SHUFFLE), lanes, value, __ffs(left) - 1);
    }
    template <class T, class Operation>
    T reduced(T value, Operation operation, const char* file, int line) const {
        return minseg::reduce(MINSEG_CALL_OF(REDUCE_ADD), lanes, value, operation);
    }

  private:
    unsigned ranks(unsigned of_lanes) const {
        unsigned result = 0, rank = 0;
        for (unsigned left = lanes; left; left &= left - 1)
            result |= (of_lanes >> (__ffs(left) - 1) & 1) << rank++;
        return result;
    }
};

template <unsigned SIZE, class Parent = thread_block>
struct thread_block_tile : warp_group {
    static_assert(SIZE <= 32 && (SIZE & (SIZE - 1)) == 0, "a tile has 1, 2, 4, 8, 16 or 32 threads");
    thread_block_tile() : warp_group((SIZE < 32 ? (1u << SIZE % 32) - 1 : ~0u) << first()) {}
    static constexpr unsigned size() { return SIZE; }
    static constexpr unsigned num_threads() { return SIZE; }
    unsigned meta_group_rank() const { return minseg::linear_thread() / SIZE; }
    unsigned meta_group_size() const { return (thread_block().size() + SIZE - 1) / SIZE; }
    template <class T>
    T shfl_up(T value, unsigned step, MINSEG_CALL) const {
        return minseg::shuffle(MINSEG_CALL_OF(SHUFFLE_UP), lanes, value, step, SIZE);
    }
    template <class T>
    T shfl_down(T value, unsigned step, MINSEG_CALL) const {
        return minseg::shuffle(MINSEG_CALL_OF(SHUFFLE_DOWN), lanes, value, step, SIZE);
    }
    template <class T>
    T shfl_xor(T value, unsigned mask, MINSEG_CALL) const {
        return minseg::shuffle(MINSEG_CALL_OF(SHUFFLE_XOR), lanes, value, mask, SIZE);
    }

  private:
    static unsigned first() { return minseg::lane() / SIZE * SIZE; }
};
template <unsigned SIZE, class Parent>
thread_block_tile<SIZE, Parent> tiled_partition(const Parent&) {
    return {};
}
inline thread_group tiled_partition(const thread_group&, unsigned size) {
    const unsigned lanes = size < 32 ? (1u << size) - 1 : ~0u;
    return thread_group(lanes << minseg::lane() / size * size);
}

typedef warp_group coalesced_group;
inline coalesced_group coalesced_threads(MINSEG_CALL) {
    return coalesced_group(minseg::converged_lanes({file, line}));
}

template <class Group>
void sync(const Group& group, MINSEG_CALL) {
    group.sync(file, line);
}

// cooperative_groups/reduce.h
template <class Group, class T, class Operation>
T reduce(const Group& group, T value, Operation operation, MINSEG_CALL) {
    return group.reduced(value, operation, file, line);
}
#define MINSEG_OPERATION(name, expression)                                 \
    template <class T = void>                                              \
    struct name {                                                          \
        template <class U>                                                 \
        U operator()(U a, U b) const {                                     \
            return expression;                                             \
        }                                                                  \
    };
MINSEG_OPERATION(plus, a + b)
MINSEG_OPERATION(less, (b < a ? b : a))
MINSEG_OPERATION(greater, (a < b ? b : a))
MINSEG_OPERATION(bit_and, a & b)
MINSEG_OPERATION(bit_or, a | b)
MINSEG_OPERATION(bit_xor, a ^ b)
}  // namespace cooperative_groups
