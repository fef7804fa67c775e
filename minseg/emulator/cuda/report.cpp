// Findings, gathered while the kernel runs and written as lines of JSON. Python resolves the code
// addresses, names the index and draws.
#include <stdlib.h>
#include <string.h>

#include <map>
#include <set>
#include <tuple>

#include "watch.h"
#ifdef __APPLE__
#include <mach-o/dyld.h>
#endif

namespace minseg {

static void code_anchor() {}
int32_t code_offset(const void* code) { return (int32_t)((intptr_t)code - (intptr_t)&code_anchor); }

// An address as the executable's file has it.
static long long in_file(intptr_t address) {
#ifdef __APPLE__
    address -= _dyld_get_image_vmaddr_slide(0);
#endif
    return (long long)address;
}
long long file_address(int32_t code) { return code ? in_file((intptr_t)&code_anchor + code) : 0; }

Side side_of(const Access& access, Kind kind) {
    Side side;
    side.known = true;
    side.block = access.block;
    side.thread = access.thread;
    side.code = access.code;
    const char* does[] = {"reads", "writes", "updates atomically", "updates atomically",
                          "starts to copy to"};
    side.does = access.atomic == Scope::BLOCK ? "updates atomically in its block" : does[(int)kind];
    side.kind = kind;
    return side;
}

struct Finding {
    const char *kind, *detail;
    const Region* region;
    long long offset;
    size_t bytes;
    Side now, before;
    Site barrier;
    long long count;
};
typedef std::tuple<std::string, const Region*, int32_t, int, int32_t, int> Place;
static std::map<Place, size_t> places;
static std::vector<Finding> findings;
static FILE* file;
static std::set<int32_t> trusted;

void trust_read(int32_t code) { trusted.insert(code); }

static bool is_trusted(const Side& read, const Side& other) {
    return read.kind == Kind::READ && trusted.count(read.code) &&
           (other.kind == Kind::ATOMIC || other.kind == Kind::SWAP);
}

void report(const char* kind, const char* detail, const Region* region, long long offset,
            size_t bytes, const Side& now, const Side& before, Site barrier) {
    const Place place(std::string(kind) + detail, region, now.code, now.site.line, before.code,
                      before.site.line);
    auto [found, fresh] = places.try_emplace(place, findings.size());
    if (!fresh) {
        ++findings[found->second].count;
        return;
    }
    findings.push_back({kind, detail, region, offset, bytes, now, before, barrier, 1});
}

static void write_text(const char* name, const std::string& text) {
    fprintf(file, ", \"%s\": \"", name);
    for (char c : text) {
        if (c == '"' || c == '\\') fputc('\\', file);
        fputc((unsigned char)c < ' ' ? ' ' : c, file);
    }
    fputc('"', file);
}

static void write_site(const char* name, Site site) {
    if (!site.file) return;
    fprintf(file, ", \"%s\": {\"line\": %d", name, site.line);
    write_text("file", site.file);
    fputc('}', file);
}

static void write_side(const char* name, const Side& side) {
    if (!side.known) return;
    fprintf(file, ", \"%s\": {\"block\": %u, \"thread\": %d, \"code\": %lld", name, side.block,
            side.thread, file_address(side.code));
    write_text("does", side.does);
    write_site("site", side.site);
    fputc('}', file);
}

void open_report(const char* path) {
    file = fopen(path, "w");
    if (!file) exit(3);
}

void close_report() {
    for (size_t i = 0; i < regions.size(); ++i) {
        const Region& r = *regions[i];
        fprintf(file, "{\"what\": \"region\", \"id\": %zu, \"item\": %zu, \"bytes\": %zu, "
                "\"shared\": %s, \"variables\": %lld, \"line\": %d, \"sizes\": [", i,
                r.item, r.bytes, r.role == Role::SHARED ? "true" : "false",
                r.role == Role::VARIABLES ? in_file((intptr_t)r.base) : 0, r.line);
        for (int k = 0; k < MAX_RANK; ++k) fprintf(file, "%s%zu", k ? ", " : "", r.sizes[k]);
        fputc(']', file);
        write_text("name", r.name);
        fputs("}\n", file);
    }
    for (const Finding& f : findings) {
        if (is_trusted(f.now, f.before) || is_trusted(f.before, f.now)) continue;
        long long id = -1;
        for (size_t i = 0; i < regions.size(); ++i)
            if (regions[i] == f.region) id = (long long)i;
        fprintf(file, "{\"what\": \"finding\", \"region\": %lld, \"offset\": %lld, \"bytes\": %zu, "
                "\"count\": %lld", id, f.offset, f.bytes, f.count);
        write_text("kind", f.kind);
        write_text("detail", f.detail);
        write_side("now", f.now);
        write_side("before", f.before);
        write_site("barrier", f.barrier);
        fputs("}\n", file);
    }
    if (profiling) write_profile(file);
    fputs("{\"what\": \"end\"}\n", file);
    fclose(file);
}

}  // namespace minseg
