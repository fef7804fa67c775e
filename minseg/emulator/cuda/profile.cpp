#include "watch.h"
namespace minseg {
void profile_access(const Region&, const char*, size_t, Kind, int32_t) {}
void profile_barrier() {}
void profile_block_end() {}
void write_profile(FILE*) {}
}
