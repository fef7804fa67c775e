// The instrumented build: what is known of each piece of memory, and who touched it last.
//
// The kernel is compiled with -fsanitize=thread, but that sanitizer's runtime is not linked: its
// callbacks are defined here (watch.cpp), and so every load and store arrives with the emulated
// thread that makes it.
#pragma once
#include <stdint.h>
#include <stdio.h>

#include <string>
#include <vector>

#include "block.h"

namespace minseg {

// One access, as its cell remembers it.
struct Access {
    uint32_t block = 0;
    uint32_t time = 0;    // number of barriers that this launch had passed
    int32_t code = 0;     // return address of the callback, relative to code_anchor
    uint16_t thread = 0;
    bool valid = false;
    Scope atomic = Scope::NONE;
};

// What is remembered of a few bytes. Two readers are enough: a write by one of them races with the
// other. A reader from an earlier block is kept apart: a barrier in this block never orders it.
struct Cell {
    Access write, read, second_read, foreign_read;
    bool initialised = false;
    bool in_flight = false;  // an asynchronous copy to it is under way
};

enum class Role { SHARED, IN, OUT, INOUT, VARIABLES };  // VARIABLES: all `__device__` ones

struct Region {
    std::string name;
    char* base;
    size_t bytes, item, zone;  // `zone` bytes of padding on both sides belong to it
    Role role;
    int line = 0;
    size_t sizes[MAX_RANK] = {};
    size_t unit = 1;  // bytes a cell
    const void* key = nullptr;
    std::vector<Cell> cells;

    Region(std::string name, size_t bytes, size_t item, Role role);
    Region(char* base, size_t bytes);  // VARIABLES
    bool near(const char* p) const { return p >= base - zone && p < base + bytes + zone; }
    bool holds(const char* p, size_t n) const { return p >= base && p + n <= base + bytes; }
    void split();  // a cell for every byte, from now on
};

enum class Kind { READ, WRITE, ATOMIC, SWAP, COPY };  // SWAP: atomicCAS; COPY: its start

extern std::vector<Region*> regions;
extern uint32_t time_now;           // counts barriers
extern uint32_t block_number;       // the running block, counted x first
extern bool profiling;
extern Access last_access;          // where the kernel was last seen

void report_index(Site, const char* type, long long index);
[[noreturn]] void report_division(Site);  // by zero
int32_t code_offset(const void* code);
long long file_address(int32_t code);  // of a code offset, as addr2line wants it
void start_block(Block&);           // forget shared memory, note the new block
void finish_launch();               // reports outputs that nobody wrote

// report.cpp
struct Side {
    bool known = false;
    uint32_t block = 0;
    int thread = 0;
    int32_t code = 0;               // 0: `site` says where
    Site site = {nullptr, 0};
    Kind kind = Kind::READ;         // of an access
    const char* does = "";          // "reads", "writes", "waits", "has ended", ...
};
// Findings of one kind at the same place are one finding that counts.
void report(const char* kind, const char* detail, const Region* region, long long offset,
            size_t bytes, const Side& now, const Side& before, Site barrier);
// A read that a compare-and-swap of the same thread checked afterwards: no race with other atomics.
void trust_read(int32_t code);
void open_report(const char* path);
void close_report();
Side side_of(const Access& access, Kind kind);

// profile.cpp
void profile_access(const Region& region, const char* p, size_t bytes, Kind kind, int32_t code);
void profile_barrier();
void profile_block_end();
void write_profile(FILE* file);

}  // namespace minseg
