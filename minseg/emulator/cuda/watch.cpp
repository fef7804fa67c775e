// racecheck, memcheck and initcheck: every access of the kernel arrives here.
#include "watch.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#ifdef __APPLE__
#include <mach-o/getsect.h>
#include <mach-o/ldsyms.h>
#endif

#include <algorithm>

namespace minseg {

std::vector<Region*> regions;
uint32_t time_now = 1, block_number;
bool profiling;
Access last_access;

// --- Memory: every array stands alone between two zones that belong to nobody else ---------------------
static Region* last_hit;

Region::Region(std::string name, size_t bytes, size_t item, Role role)
    : name(std::move(name)), bytes(bytes), item(item), role(role) {
    const size_t page = 16384;
    zone = (std::max<size_t>(bytes, 1 << 20) + page - 1) / page * page;
    const size_t all = zone + (bytes + page - 1) / page * page + page + zone;
    base = (char*)mmap(nullptr, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON | MAP_NORESERVE,
                       -1, 0) + zone;
    if (base == (char*)MAP_FAILED + zone) {
        fprintf(stderr, "no memory for %zu bytes of %s\n", bytes, this->name.c_str());
        exit(3);
    }
    unit = std::min<size_t>(item, 4);
    cells.resize((bytes + unit - 1) / unit);
}

Region::Region(char* base, size_t bytes)
    : base(base), bytes(bytes), item(4), zone(0), role(Role::VARIABLES), unit(4) {
    cells.resize((bytes + unit - 1) / unit);
    for (Cell& cell : cells) cell.initialised = true;
}

// The program's own writable data, if p lies there: Python knows the variables' names.
static Region* variables_at(const char* p) {
#ifdef __APPLE__
    unsigned long size = 0;
    char* data_start = (char*)getsegmentdata(&_mh_execute_header, "__DATA", &size);
    char* data_end = data_start + size;
#else
    extern char data_start[] __asm__("__data_start"), data_end[] __asm__("_end");
#endif
    if (p < data_start || p >= data_end) return nullptr;
    char* start = data_start - (uintptr_t)data_start % 16;
    regions.push_back(new Region(start, data_end - start));
    return regions.back();
}

// The kernel sees bytes where the declaration has words: `extern __shared__ float s[];` carved up.
void Region::split() {
    std::vector<Cell> bytewise(bytes);
    for (size_t i = 0; i < bytes; ++i) bytewise[i] = cells[i / unit];
    cells.swap(bytewise);
    unit = 1;
}

static Region* region_of(const char* p) {
    if (last_hit && last_hit->near(p)) return last_hit;
    for (Region* region : regions)
        if (region->near(p)) return last_hit = region;
    return nullptr;
}

static void poison(Region& region) {
    memset(region.base, 0xff, region.bytes);
    for (Cell& cell : region.cells) cell = Cell();
}

constexpr size_t MAX_DECLARED = 48 * 1024;  // bytes a block, of every GPU
static size_t declared_bytes;  // so far: a block's arrays lie one after the other
static const char dynamic_key = 0;

void* shared_variable(const void* key, const char* name, int line, size_t item, size_t bytes,
                      const size_t sizes[MAX_RANK], size_t alignment) {
    for (Region* region : regions)
        if (region->key == key) return region->base;
    Region* region = new Region(name, bytes, item, Role::SHARED);
    region->key = key;
    region->line = line;
    std::copy(sizes, sizes + MAX_RANK, region->sizes);
    if (key != &dynamic_key) {
        const size_t offset = (declared_bytes + alignment - 1) / alignment * alignment;
        declared_bytes = offset + bytes;
        region->base += offset % 1024;  // an array of floats may start at any multiple of 4
    }
    poison(*region);
    regions.push_back(region);
    if (key != &dynamic_key && declared_bytes > MAX_DECLARED)
        report("memcheck", "declared", region, 0, declared_bytes, Side(), Side(), {nullptr, 0});
    return region->base;
}

size_t dynamic_bytes;
void* dynamic_shared(const char* name, int line, size_t item) {
    const size_t sizes[MAX_RANK] = {dynamic_bytes / item};
    return shared_variable(&dynamic_key, name, line, item, dynamic_bytes, sizes, 1);
}

// --- Order: which accesses happen before others ------------------------------------------------------------
// `time_now` counts barriers. An access of another thread of this block is over if a barrier of the
// block came after it; one of this warp, if a __syncwarp of both lanes did. Where there is no barrier,
// fences and atomics order: if its thread fenced after it, and this one did an atomic since. Blocks
// are ordered by such a release alone: by an atomic that came after a __threadfence of the access's
// own thread, or of one that a barrier put behind the access; and by any atomic of this block since.
static uint32_t barrier_time;                          // of the running block's last barrier
static Site barrier_site;
static uint32_t synced[MAX_THREADS][WARP_SIZE];        // [thread][lane]: their last __syncwarp
static std::vector<std::vector<uint32_t>> released;    // [block][thread]: its accesses up to when
static bool acquired;                                  // has the running block done an atomic?
static uint32_t fenced[MAX_THREADS], atomic_time[MAX_THREADS];  // of the running block: their last
static uint32_t device_fenced[MAX_THREADS];            // the same, of __threadfence alone
static uint32_t covered;                               // the last barrier before any of these
static bool to_release;                                // has one come since the last atomic?
static uint32_t write_time[MAX_THREADS];

static int running_thread() { return running_block->running; }

void start_block(Block&) {
    ++time_now;
    barrier_time = 0;
    barrier_site = {nullptr, 0};
    acquired = to_release = false;
    covered = 0;
    memset(device_fenced, 0, sizeof device_fenced);
    memset(synced, 0, sizeof synced);
    memset(fenced, 0, sizeof fenced);
    memset(atomic_time, 0, sizeof atomic_time);
    memset(write_time, 0, sizeof write_time);
    for (Region* region : regions)
        if (region->role == Role::SHARED) poison(*region);
}

void fence() {
    fence_block();
    device_fenced[running_thread()] = time_now;
    covered = barrier_time;
    to_release = true;
}
void fence_block() {
    if (running_block) fenced[running_block->running] = ++time_now;
}

// An atomic of the running thread publishes what fences stand before it.
static void release() {
    if (!to_release) return;
    to_release = false;
    if (released.size() <= block_number) released.resize(block_number + 1);
    std::vector<uint32_t>& times = released[block_number];
    times.resize(running_block->threads);
    const int me = running_thread(), first = me / WARP_SIZE * WARP_SIZE;
    for (size_t i = 0; i < times.size(); ++i)
        times[i] = std::max({times[i], device_fenced[i], covered});
    // And what a __syncwarp had shown to this thread when it fenced.
    for (int i = 0; i < WARP_SIZE && first + i < (int)times.size(); ++i)
        times[first + i] = std::max(times[first + i], std::min(synced[me][i], device_fenced[me]));
}

static bool over(const Access& before, int thread) {
    if (before.block != block_number)
        return acquired && before.block < released.size() &&
               before.thread < released[before.block].size() &&
               before.time < released[before.block][before.thread];
    if (before.thread == thread || before.time < barrier_time) return true;
    if (before.time < fenced[before.thread] && fenced[before.thread] <= atomic_time[thread]) return true;
    const int lane = before.thread % WARP_SIZE, first = before.thread - lane;
    for (int i = first; i < first + WARP_SIZE; ++i)  // by a lane's fence, behind a __syncwarp
        if (before.time < std::min(synced[i][lane], fenced[i]) && fenced[i] <= atomic_time[thread])
            return true;
    return before.thread / WARP_SIZE == thread / WARP_SIZE &&
           before.time < synced[thread][lane];
}

void pass_barrier(Site site) {
    barrier_time = ++time_now;
    barrier_site = site;
}

bool has_written(int thread) { return write_time[thread] > barrier_time; }

// Lanes learn what each of them had learnt before, and that all have come to this point.
void pass_warp_barrier(int warp, unsigned mask) {
    uint32_t all[WARP_SIZE] = {};
    ++time_now;
    for (int lane = 0; lane < WARP_SIZE; ++lane)
        if (mask >> lane & 1)
            for (int i = 0; i < WARP_SIZE; ++i)
                all[i] = std::max(all[i], synced[warp * WARP_SIZE + lane][i]);
    for (int lane = 0; lane < WARP_SIZE; ++lane)
        if (mask >> lane & 1) all[lane] = time_now;
    for (int lane = 0; lane < WARP_SIZE; ++lane)
        if (mask >> lane & 1) memcpy(synced[warp * WARP_SIZE + lane], all, sizeof all);
}

// --- The checks -----------------------------------------------------------------------------------------------
static Kind kind_of(const Access& access, bool wrote) {
    return access.atomic > Scope::VOLATILE ? Kind::ATOMIC : wrote ? Kind::WRITE : Kind::READ;
}

static void check_race(const Region& region, const Cell& cell, size_t offset, size_t bytes,
                       const Access& now, Kind kind) {
    auto conflict = [&](const Access& before, bool wrote) {
        const auto [weaker, stronger] = std::minmax(before.atomic, now.atomic);
        auto reaches = [&](Scope scope) {
            return scope == Scope::GPU || (scope == Scope::BLOCK && before.block == now.block);
        };
        const bool atomic = reaches(stronger) && (weaker == Scope::VOLATILE || reaches(weaker));
        if (!before.valid || atomic || over(before, now.thread)) return false;
        report("racecheck", "", &region, (long long)offset, bytes, side_of(now, kind),
               side_of(before, kind_of(before, wrote)),
               before.block == now.block ? barrier_site : Site{nullptr, 0});
        return true;
    };
    if (conflict(cell.write, true) || kind == Kind::READ) return;
    conflict(cell.read, false) || conflict(cell.second_read, false) ||
        conflict(cell.foreign_read, false);
}

static void remember(Cell& cell, const Access& now, Kind kind) {
    if (kind == Kind::SWAP && cell.read.valid && cell.read.thread == now.thread)
        trust_read(cell.read.code);
    if (kind != Kind::READ) {
        cell.write = now;
        cell.read = cell.second_read = cell.foreign_read = Access();
        cell.in_flight = kind == Kind::COPY;
        if (kind != Kind::COPY) cell.initialised = true;
        return;
    }
    for (Access* old : {&cell.read, &cell.second_read})
        if (old->valid && old->block != now.block) {
            cell.foreign_read = *old;
            *old = Access();
        }
    if (cell.read.valid && cell.read.thread != now.thread) cell.second_read = cell.read;
    cell.read = now;
}

// An unsigned index that was counted down past zero leads 2^32 elements past its array.
static Region* wrapped_region(const char* p) {
    for (Region* region : regions)
        if (region->near(p - ((size_t)region->item << 32))) return region;
    return nullptr;
}

static void stray(const char* detail, const char* p, size_t bytes, const Side& side) {
    const Region* region = wrapped_region(p);
    const long long offset = region ? p - region->base : (long long)(uintptr_t)p;
    report("memcheck", region ? "bounds" : detail, region, offset, bytes, side, Side(), {nullptr, 0});
    fail("an access outside of all memory");  // it would end the process
}

static void see(const void* address, size_t bytes, Kind kind, const void* code, bool aligned,
                Scope scope = Scope::NONE) {
    if (!running_block || bytes == 0) return;
    const char* p = (const char*)address;
    Region* region = region_of(p);
    if (!region && running_block->owns(p)) return;
    Access now;
    now.block = block_number;
    now.time = time_now;
    now.code = code_offset(code);
    now.thread = (uint16_t)running_thread();
    now.valid = true;
    now.atomic = scope;
    if (scope == Scope::GPU) {
        acquired = true;
        release();
    }
    if (scope > Scope::VOLATILE) {
        atomic_time[now.thread] = time_now;
    }
    if (kind != Kind::READ) write_time[now.thread] = time_now;
    last_access = now;
    if (!region) {
        Dl_info info;
        region = variables_at(p);
        if (!region && dladdr((void*)p, &info)) return;  // a constant, a literal
        if (!region) stray((uintptr_t)p < (1 << 24) ? "null" : "wild", p, bytes, side_of(now, kind));
    }
    const Site none = {nullptr, 0};
    const long long offset = p - region->base;
    if (!region->holds(p, bytes))
        return report("memcheck", "bounds", region, offset, bytes, side_of(now, kind), Side(), none);
    if (aligned && (uintptr_t)p % bytes) {
        report("memcheck", "misaligned", region, offset, bytes, side_of(now, kind), Side(), none);
        fail("an access to a misaligned address");  // a GPU ends here, too, and some CPUs
    }
    if (kind != Kind::READ && region->role == Role::IN)
        report("memcheck", "input", region, offset, bytes, side_of(now, kind), Side(), none);
    if (profiling && kind != Kind::COPY && region->role != Role::VARIABLES)
        profile_access(*region, p, bytes, kind_of(now, kind == Kind::WRITE), now.code);
    if (bytes % region->unit || offset % region->unit) region->split();
    const bool reads = kind == Kind::READ || kind == Kind::ATOMIC || kind == Kind::SWAP;
    bool told = false;
    for (size_t at = offset / region->unit; at * region->unit < offset + bytes; ++at) {
        Cell& cell = region->cells[at];
        const size_t where = at * region->unit;
        if (cell.in_flight)
            report("racecheck", "in_flight", region, (long long)where, bytes, side_of(now, kind),
                   side_of(cell.write, Kind::COPY), none);
        if (reads && !cell.initialised && !told) {
            report("initcheck", "read", region, (long long)where, bytes, side_of(now, kind), Side(),
                   none);
            told = true;
        }
        if (reads) cell.initialised = true;
        check_race(*region, cell, where, bytes, now, kind);
        remember(cell, now, kind);
    }
}

static Side running_side(Site site, const char* does) {
    Side side;
    side.known = true;
    side.block = block_number;
    side.thread = running_thread();
    side.site = site;
    side.does = does;
    return side;
}

static void report_at(const char* detail, const Region& region, const void* p, size_t bytes,
                      const void* code) {
    Side side = running_side({nullptr, 0}, "starts at");
    side.code = code_offset(code);
    report("memcheck", detail, &region, (const char*)p - region.base, bytes, side, Side(),
           {nullptr, 0});
}

void report_index(Site site, const char* type, long long index) {
    if (!running_block) return;
    const Side side = running_side(site, "uses the index");
    report("memcheck", type, nullptr, index, 0, side, Side(), {nullptr, 0});
}

// It would end the process on some CPUs, and give 0 on others.
void report_division(Site site) {
    const Side side = running_side(site, "divides by zero");
    report("crash", "division", nullptr, 0, 0, side, Side(), {nullptr, 0});
    fail("an integer division by zero");
}

void finish_launch() {
    for (const Region* region : regions) {
        if (region->role != Role::OUT) continue;
        size_t missing = 0, first = 0;
        for (size_t i = 0; i < region->cells.size(); ++i) {
            if (region->cells[i].initialised) continue;
            if (!missing++) first = i;
        }
        if (missing)
            report("initcheck", "unwritten", region, (long long)(first * region->unit),
                   missing * region->unit, Side(), Side(), {nullptr, 0});
    }
}

void watch_read(const void* p, size_t n, void* code) { see(p, n, Kind::READ, code, true); }
void watch_write(const void* p, size_t n, void* code) { see(p, n, Kind::WRITE, code, true); }
void watch_atomic(const void* p, size_t n, void* code, Scope scope) {
    see(p, n, Kind::ATOMIC, code, true, scope);
}
void watch_swap(const void* p, size_t n, void* code, Scope scope) {
    see(p, n, Kind::SWAP, code, true, scope);
}
void watch_copy(const void* p, size_t n, void* code) {
    const Region* region = region_of((const char*)p);
    if (region && region->role != Role::SHARED) report_at("copy_target", *region, p, n, code);
    see(p, n, Kind::COPY, code, true);
}
void watch_wrong_copy(const void* p, size_t bytes, void* code) {
    const Region* region = region_of((const char*)p);
    if (region) report_at("copy_size", *region, p, bytes, code);
}
// What the programming guide asks of load_matrix_sync and store_matrix_sync.
void watch_matrix(const void* p, size_t stride, void* code) {
    const Region* region = region_of((const char*)p);
    if (region && (uintptr_t)p % 32) report_at("matrix", *region, p, 32, code);
    if (region && stride % 16) report_at("stride", *region, p, stride, code);
}
void watch_landing(const void* p, size_t n, void* code) {
    Region* region = region_of((const char*)p);
    if (region && region->holds((const char*)p, n))
        for (size_t at = (const char*)p - region->base; at < (const char*)p - region->base + n; ++at)
            region->cells[at / region->unit].in_flight = false;
    see(p, n, Kind::WRITE, code, true);
}

uint3 thread_index() { return here.thread; }
uint3 block_index() { return here.block; }
uint3 block_size() { return here.block_size; }
uint3 grid_size() { return here.grid_size; }

}  // namespace minseg

// --- The callbacks that -fsanitize=thread makes the compiler insert -----------------------------------------
using minseg::Kind;
#define CODE __builtin_return_address(0)
#define CALLBACKS(n)                                                                             \
    void __tsan_read##n(void* p) { minseg::see(p, n, Kind::READ, CODE, true); }                  \
    void __tsan_write##n(void* p) { minseg::see(p, n, Kind::WRITE, CODE, true); }                \
    void __tsan_volatile_read##n(void* p) {                                                      \
        minseg::see(p, n, Kind::READ, CODE, true, minseg::Scope::VOLATILE);                      \
    }                                                                                            \
    void __tsan_volatile_write##n(void* p) { minseg::see(p, n, Kind::WRITE, CODE, true); }       \
    void __tsan_unaligned_read##n(void* p) { minseg::see(p, n, Kind::READ, CODE, false); }       \
    void __tsan_unaligned_write##n(void* p) { minseg::see(p, n, Kind::WRITE, CODE, false); }

// Of many bytes, in words: as the loop that a GPU runs.
static void see_range(const void* p, size_t n, Kind kind, void* code) {
    for (size_t i = 0; i < n; i += 4)
        minseg::see((const char*)p + i, std::min(n - i, size_t(4)), kind, code, false);
}

extern "C" {
CALLBACKS(1)
CALLBACKS(2)
CALLBACKS(4)
CALLBACKS(8)
CALLBACKS(16)
void __tsan_read_range(void* p, size_t n) { see_range(p, n, Kind::READ, CODE); }
void __tsan_write_range(void* p, size_t n) { see_range(p, n, Kind::WRITE, CODE); }
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_init() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
void* __tsan_memcpy(void* to, const void* from, size_t n) {
    see_range(from, n, Kind::READ, CODE);
    see_range(to, n, Kind::WRITE, CODE);
    return memcpy(to, from, n);
}
void* __tsan_memmove(void* to, const void* from, size_t n) {
    see_range(from, n, Kind::READ, CODE);
    see_range(to, n, Kind::WRITE, CODE);
    return memmove(to, from, n);
}

// Called by what -fsanitize=bounds adds, where an index is outside of a declared array.
struct TypeName {
    uint16_t kind, info;  // of an integer: bit 0 says signed, the others the logarithm of its bits
    char text[1];         // 'float [4]', in quotes
};
struct Place {
    const char* file;
    uint32_t line, column;
    minseg::Site site() const { return {file, (int)line}; }
};
struct BadIndex {
    Place at;
    const TypeName *array, *index;
};
void __ubsan_handle_out_of_bounds(void* data, void* value) {
    const BadIndex& bad = *(const BadIndex*)data;
    long long index = (long long)(intptr_t)value;
    const int unused = 64 - (1 << (bad.index->info >> 1));
    if (bad.index->info & 1) index = (long long)((unsigned long long)index << unused) >> unused;
    minseg::report_index(bad.at.site(), bad.array->text, index);
}
// And by what -fsanitize=integer-divide-by-zero adds.
void __ubsan_handle_divrem_overflow(void* place, void*, void*) {
    minseg::report_division(((const Place*)place)->site());
}
void* __tsan_memset(void* to, int value, size_t n) {
    see_range(to, n, Kind::WRITE, CODE);
    return memset(to, value, n);
}
}
