// What the block scheduler tells the sanitizer. In the fast build nobody listens.
#pragma once
#include "block.h"

namespace minseg {
#ifdef MINSEG_WATCH
void on_barrier(Block&);                         // all live threads are at a barrier and will go on
void on_warp_barrier(Block&, int warp, unsigned mask);  // all present lanes of `mask` will go on
void on_deadlock(Block&);                        // all live threads wait, and none will go on
void on_wrong_mask(Block&);                      // the running thread is not in its own mask
void on_wrong_width(Block&, Site, int width);    // of its shuffle
#else
inline void on_barrier(Block&) {}
inline void on_warp_barrier(Block&, int, unsigned) {}
inline void on_deadlock(Block&) {}
inline void on_wrong_mask(Block&) {}
inline void on_wrong_width(Block&, Site, int) {}
#endif
}  // namespace minseg
