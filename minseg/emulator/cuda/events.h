// What the block scheduler tells the sanitizer. In the fast build nobody listens.
#pragma once
#include "block.h"

namespace minseg {
#ifdef MINSEG_WATCH
void on_thread_end(Block&);
void on_barrier(Block&);                         // all live threads wait at a barrier and will go on
void on_warp_barrier(Block&, Warp&, unsigned mask);  // all present lanes of `mask` will go on
void on_memory_order(Block&, unsigned mask);     // the current thread left a __syncwarp of `mask`
void on_deadlock(Block&);
#else
inline void on_thread_end(Block&) {}
inline void on_barrier(Block&) {}
inline void on_warp_barrier(Block&, Warp&, unsigned) {}
inline void on_memory_order(Block&, unsigned) {}
inline void on_deadlock(Block&) {}
#endif
}  // namespace minseg
