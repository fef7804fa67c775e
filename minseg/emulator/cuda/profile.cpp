// The profiler: groups the accesses of a warp's lanes into requests, as a GPU issues them, and counts
// what each request costs: 32-byte sectors of global memory, passes over the banks of shared memory.
//
// The threads run one after the other here, so a request is put together afterwards: the n-th time
// that the lanes of a warp reach the same instruction is one request. Where lanes skip different
// iterations of a loop, this is an approximation.
#include <algorithm>
#include <map>

#include "watch.h"

namespace minseg {

constexpr size_t SECTOR = 32;  // bytes: what global memory moves at least
constexpr size_t BANKS = 32;   // of 4 bytes each

struct Request {
    unsigned lanes = 0;              // who takes part
    uint32_t offset[WARP_SIZE];      // from the start of the array
};

// One load or store instruction of the kernel, on one array.
struct Instruction {
    const Region* region;
    size_t bytes;  // a lane
    Kind kind;
    long long requests = 0, accesses = 0, sectors = 0, passes = 0, least_passes = 0, partial = 0;
    std::vector<Request> open[MAX_WARPS];  // of the running block
    uint32_t reached[MAX_THREADS] = {};    // how often each thread of the block came here
    bool has_example = false;
    Request example;
};
typedef std::tuple<int32_t, const Region*, Kind, size_t> Key;
static std::map<Key, Instruction> instructions;
static std::map<const Region*, std::vector<unsigned char>> touched;  // bit 0: read, bit 1: written
static long long barriers;

void profile_access(const Region& region, const char* p, size_t bytes, Kind kind, int32_t code) {
    Instruction& one = instructions[Key(code, &region, kind, bytes)];
    one.region = &region;
    one.bytes = bytes;
    one.kind = kind;
    const int thread = running_block->running;
    std::vector<Request>& open = one.open[thread / WARP_SIZE];
    const uint32_t n = one.reached[thread]++;
    if (open.size() <= n) open.resize(n + 1);
    open[n].lanes |= 1u << thread % WARP_SIZE;
    open[n].offset[thread % WARP_SIZE] = (uint32_t)(p - region.base);
    if (region.role == Role::SHARED) return;
    std::vector<unsigned char>& marks = touched[&region];
    marks.resize(region.bytes);
    const unsigned char mark = kind == Kind::READ ? 1 : kind == Kind::WRITE ? 2 : 3;
    for (size_t i = 0; i < bytes; ++i) marks[p - region.base + i] |= mark;
}

void profile_barrier() { ++barriers; }

static long long count_sectors(const Request& request, size_t bytes) {
    std::vector<size_t> sectors;
    for (int lane = 0; lane < WARP_SIZE; ++lane)
        if (request.lanes >> lane & 1)
            for (size_t at = request.offset[lane] / SECTOR;
                 at <= (request.offset[lane] + bytes - 1) / SECTOR; ++at)
                sectors.push_back(at);
    std::sort(sectors.begin(), sectors.end());
    return std::unique(sectors.begin(), sectors.end()) - sectors.begin();
}

// Lanes that ask for the same word share it; different words of one bank take a pass each. Wide
// accesses go in groups of lanes that ask for 128 bytes together.
static void count_passes(const Request& request, Instruction& one) {
    const int words = (int)std::max<size_t>(one.bytes / 4, 1), group = WARP_SIZE / words;
    for (int first = 0; first < WARP_SIZE; first += group) {
        std::vector<size_t> asked[BANKS];
        size_t longest = 0;
        for (int lane = first; lane < first + group; ++lane) {
            if (!(request.lanes >> lane & 1)) continue;
            for (int i = 0; i < words; ++i) {
                const size_t word = request.offset[lane] / 4 + i;
                std::vector<size_t>& bank = asked[word % BANKS];
                if (std::find(bank.begin(), bank.end(), word) == bank.end()) bank.push_back(word);
                longest = std::max(longest, bank.size());
            }
        }
        one.passes += (long long)longest;
        one.least_passes += longest > 0;
    }
}

void profile_block_end() {
    const int threads = (int)(here.block_size.x * here.block_size.y * here.block_size.z);
    for (auto& [key, one] : instructions) {
        for (int warp = 0; warp < MAX_WARPS; ++warp) {
            const int lanes = std::min(threads - warp * WARP_SIZE, WARP_SIZE);
            const unsigned all = lanes <= 0 ? 0 : lanes == WARP_SIZE ? ~0u : (1u << lanes) - 1;
            for (const Request& request : one.open[warp]) {
                ++one.requests;
                one.accesses += __builtin_popcount(request.lanes);
                one.partial += request.lanes != all;
                if (one.region->role == Role::SHARED) count_passes(request, one);
                else one.sectors += count_sectors(request, one.bytes);
                if (!one.has_example) one.example = request;
                one.has_example = true;
            }
            one.open[warp].clear();
        }
        std::fill(one.reached, one.reached + MAX_THREADS, 0u);
    }
}

void write_profile(FILE* file) {
    for (const auto& [key, one] : instructions) {
        const char* kinds[] = {"load", "store", "atomic"};
        fprintf(file,
                "{\"what\": \"instruction\", \"code\": %lld, \"array\": \"%s\", \"shared\": %s, "
                "\"kind\": \"%s\", \"bytes\": %zu, \"requests\": %lld, \"accesses\": %lld, "
                "\"sectors\": %lld, \"passes\": %lld, \"least_passes\": %lld, \"partial\": %lld, "
                "\"example\": [",
                file_address(std::get<0>(key)), one.region->name.c_str(),
                one.region->role == Role::SHARED ? "true" : "false", kinds[(int)one.kind], one.bytes, one.requests,
                one.accesses, one.sectors, one.passes, one.least_passes, one.partial);
        for (int lane = 0; lane < WARP_SIZE; ++lane)
            fprintf(file, "%s%lld", lane ? ", " : "",
                    one.example.lanes >> lane & 1 ? (long long)one.example.offset[lane] : -1LL);
        fputs("]}\n", file);
    }
    long long read = 0, written = 0;
    for (const auto& [region, marks] : touched)
        for (unsigned char mark : marks) {
            read += mark & 1;
            written += mark >> 1;
        }
    fprintf(file, "{\"what\": \"totals\", \"barriers\": %lld, \"bytes_read\": %lld, "
            "\"bytes_written\": %lld}\n", barriers, read, written);
}

}  // namespace minseg
