#include "backends/vulkan/vulkan_ranges.h"

#include <stdlib.h>
#include <string.h>

#define RUNS_MAX ((size_t)1 << 22)

// Bytes without a gap that one access touches.
typedef struct byte_run {
    uint64_t memory_id, begin, end;
    uint32_t access;
} byte_run;

// A set of accesses, as two sums of random numbers: equal sets have equal sums, and others do but
// once in 2^128.
typedef struct signature {
    uint64_t a, b;
} signature;

// Where the set of accesses that cover a byte changes.
typedef struct endpoint {
    uint64_t memory_id, offset;
    signature change;
    uint32_t class_number; // of the bytes from here to the next endpoint; NO_CLASS
} endpoint;

#define NO_CLASS UINT32_MAX

// A class, in the order of signatures.
typedef struct known_class {
    signature set;
    size_t first; // endpoint
} known_class;

typedef struct class_search {
    const weir_allocator* allocator;
    struct {
        byte_run* items;
        size_t count, capacity;
    } runs;
    struct {
        endpoint* items;
        size_t count, capacity;
    } endpoints;
    struct {
        known_class* items;
        size_t count, capacity;
    } classes;
    struct {
        uint32_t* items; // classes of one access
        size_t count, capacity;
    } members;
} class_search;

static weir_status add_run(class_search* search, uint32_t access, const weir_range* range,
                           uint64_t offset) {
    if (search->runs.count >= RUNS_MAX) {
        return WEIR_FAIL(WEIR_UNSUPPORTED, "accesses of more than %zu runs of bytes", RUNS_MAX);
    }
    WEIR_TRY(array_reserve(search->allocator, &search->runs, search->runs.count + 1));
    search->runs.items[search->runs.count++] = (byte_run){.memory_id = range->memory_id,
                                                          .begin = offset,
                                                          .end = offset + range->byte_length,
                                                          .access = access};
    return WEIR_OK;
}

static weir_status add_access(class_search* search, uint32_t access, const weir_range* range) {
    uint64_t index[WEIR_RANGE_LEVELS] = {0};
    for (; range->byte_length > 0;) {
        uint64_t offset = range->byte_offset;
        for (uint32_t i = 0; i < range->level_count; i++) {
            offset += index[i] * range->levels[i].stride;
        }
        WEIR_TRY(add_run(search, access, range, offset));
        uint32_t level = range->level_count;
        while (level > 0 && ++index[level - 1] == range->levels[level - 1].count) {
            index[--level] = 0;
        }
        if (level == 0) {
            break;
        }
    }
    return WEIR_OK;
}

static int compare_runs(const void* left, const void* right) {
    const byte_run* a = left;
    const byte_run* b = right;
    if (a->access != b->access) {
        return a->access < b->access ? -1 : 1;
    }
    return a->begin < b->begin ? -1 : a->begin > b->begin;
}

// Runs of one access that overlap or touch become one: it covers every byte once.
static void merge_runs(class_search* search) {
    byte_run* items = search->runs.items;
    size_t kept = 0;
    qsort(items, search->runs.count, sizeof *items, compare_runs);
    for (size_t i = 0; i < search->runs.count; i++) {
        if (kept > 0 && items[kept - 1].access == items[i].access &&
            items[i].begin <= items[kept - 1].end) {
            const uint64_t end = items[i].end;
            items[kept - 1].end = end > items[kept - 1].end ? end : items[kept - 1].end;
        } else {
            items[kept++] = items[i];
        }
    }
    search->runs.count = kept;
}

// SplitMix64 (Steele, Lea and Flood 2014).
static uint64_t mix(uint64_t x) {
    x += UINT64_C(0x9E3779B97F4A7C15);
    x = (x ^ x >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ x >> 27) * UINT64_C(0x94D049BB133111EB);
    return x ^ x >> 31;
}

static signature add_signatures(signature x, signature y, bool subtract) {
    return subtract ? (signature){x.a - y.a, x.b - y.b} : (signature){x.a + y.a, x.b + y.b};
}

static int compare_endpoints(const void* left, const void* right) {
    const endpoint* a = left;
    const endpoint* b = right;
    if (a->memory_id != b->memory_id) {
        return a->memory_id < b->memory_id ? -1 : 1;
    }
    return a->offset < b->offset ? -1 : a->offset > b->offset;
}

// Lists the endpoints by place, each place once, with what changes there.
static weir_status list_endpoints(class_search* search) {
    const size_t count = search->runs.count;
    WEIR_TRY(array_reserve(search->allocator, &search->endpoints, 2 * count + 1));
    endpoint* items = search->endpoints.items;
    const signature none = {0, 0};
    for (size_t i = 0; i < count; i++) {
        const byte_run* run = &search->runs.items[i];
        const signature own = {mix(2 * (uint64_t)run->access), mix(2 * (uint64_t)run->access + 1)};
        items[2 * i] = (endpoint){run->memory_id, run->begin, own, NO_CLASS};
        items[2 * i + 1] =
            (endpoint){run->memory_id, run->end, add_signatures(none, own, true), NO_CLASS};
    }
    qsort(items, 2 * count, sizeof *items, compare_endpoints);
    size_t kept = 0;
    for (size_t i = 0; i < 2 * count; i++) {
        if (kept > 0 && compare_endpoints(&items[kept - 1], &items[i]) == 0) {
            items[kept - 1].change = add_signatures(items[kept - 1].change, items[i].change, false);
        } else {
            items[kept++] = items[i];
        }
    }
    search->endpoints.count = kept;
    return WEIR_OK;
}

static int compare_classes(const void* left, const void* right) {
    const known_class* x = left;
    const known_class* y = right;
    if (x->set.a != y->set.a) {
        return x->set.a < y->set.a ? -1 : 1;
    }
    if (x->set.b != y->set.b) {
        return x->set.b < y->set.b ? -1 : 1;
    }
    return x->first < y->first ? -1 : x->first > y->first;
}

static int compare_first(const void* left, const void* right) {
    const known_class* x = left;
    const known_class* y = right;
    return x->first < y->first ? -1 : x->first > y->first;
}

static bool is_same_set(const known_class* x, const known_class* y) {
    return x->set.a == y->set.a && x->set.b == y->set.b;
}

// Gives every segment that an access covers its class: equal sets are brought together, each takes
// the place of its first segment, and places are numbered.
static weir_status number_classes(class_search* search, uint32_t* class_count) {
    endpoint* endpoints = search->endpoints.items;
    signature open = {0, 0};
    WEIR_TRY(array_reserve(search->allocator, &search->classes, search->endpoints.count + 1));
    known_class* classes = search->classes.items;
    size_t count = 0;
    for (size_t i = 0; i < search->endpoints.count; i++) {
        open = add_signatures(open, endpoints[i].change, false);
        if (open.a != 0 || open.b != 0) {
            classes[count++] = (known_class){open, i};
        }
    }
    qsort(classes, count, sizeof *classes, compare_classes);
    // `class_number` holds the first segment of the set until the places are numbered.
    size_t first = 0;
    for (size_t i = 0; i < count; i++) {
        first = i > 0 && is_same_set(&classes[i], &classes[i - 1]) ? first : classes[i].first;
        endpoints[classes[i].first].class_number = (uint32_t)first;
    }
    qsort(classes, count, sizeof *classes, compare_first);
    uint32_t numbered = 0;
    for (size_t i = 0; i < count; i++) {
        endpoint* segment = &endpoints[classes[i].first];
        segment->class_number = segment->class_number == classes[i].first
                                    ? numbered++
                                    : endpoints[segment->class_number].class_number;
    }
    *class_count = numbered;
    return WEIR_OK;
}

static size_t find_endpoint(const class_search* search, uint64_t memory_id, uint64_t offset) {
    const endpoint wanted = {.memory_id = memory_id, .offset = offset};
    size_t low = 0;
    size_t high = search->endpoints.count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (compare_endpoints(&search->endpoints.items[middle], &wanted) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static int compare_numbers(const void* left, const void* right) {
    const uint32_t a = *(const uint32_t*)left;
    const uint32_t b = *(const uint32_t*)right;
    return a < b ? -1 : a > b;
}

static weir_status list_members(class_search* search, const byte_run* run) {
    size_t at = find_endpoint(search, run->memory_id, run->begin);
    for (; search->endpoints.items[at].memory_id == run->memory_id &&
           search->endpoints.items[at].offset < run->end;
         at++) {
        WEIR_TRY(array_reserve(search->allocator, &search->members, search->members.count + 1));
        search->members.items[search->members.count++] = search->endpoints.items[at].class_number;
    }
    return WEIR_OK;
}

// The classes of one access as runs of numbers.
static weir_status add_members(class_search* search, class_runs* runs) {
    uint32_t* members = search->members.items;
    qsort(members, search->members.count, sizeof *members, compare_numbers);
    for (size_t i = 0; i < search->members.count; i++) {
        class_run* last = runs->count > 0 ? &runs->items[runs->count - 1] : NULL;
        const bool own = runs->count > runs->begins[runs->access_count];
        if (own && members[i] < last->end) {
            continue;
        }
        if (own && members[i] == last->end) {
            last->end++;
            continue;
        }
        WEIR_TRY(array_reserve(search->allocator, runs, runs->count + 1));
        runs->items[runs->count++] = (class_run){members[i], members[i] + 1};
    }
    return WEIR_OK;
}

static weir_status find_runs(class_search* search, size_t count, class_runs* runs) {
    size_t at = 0;
    for (runs->access_count = 0; runs->access_count < count; runs->access_count++) {
        runs->begins[runs->access_count] = runs->count;
        search->members.count = 0;
        for (; at < search->runs.count && search->runs.items[at].access == runs->access_count;
             at++) {
            WEIR_TRY(list_members(search, &search->runs.items[at]));
        }
        WEIR_TRY(add_members(search, runs));
    }
    runs->begins[count] = runs->count;
    return WEIR_OK;
}

static weir_status search_classes(class_search* search, const weir_access* accesses, size_t count,
                                  class_runs* runs) {
    for (size_t i = 0; i < count; i++) {
        WEIR_TRY(add_access(search, (uint32_t)i, &accesses[i].range));
    }
    if (search->runs.count > 0) {
        merge_runs(search);
        WEIR_TRY(list_endpoints(search));
        WEIR_TRY(number_classes(search, &runs->class_count));
    }
    return find_runs(search, count, runs);
}

static size_t begins_bytes(size_t count) {
    return (count + 1) * sizeof(size_t);
}

weir_status class_runs_make(const weir_allocator* allocator, const weir_access* accesses,
                            size_t count, class_runs* runs) {
    class_search search = {.allocator = allocator};
    void* memory = NULL;
    *runs = (class_runs){0};
    WEIR_TRY(weir_alloc_zeroed(allocator, begins_bytes(count), &memory));
    runs->begins = memory;
    const weir_status status = search_classes(&search, accesses, count, runs);
    runs->access_count = count;
    array_free(allocator, &search.runs);
    array_free(allocator, &search.endpoints);
    array_free(allocator, &search.classes);
    array_free(allocator, &search.members);
    return status;
}

void class_runs_free(const weir_allocator* allocator, class_runs* runs) {
    weir_free(allocator, runs->begins, runs->begins ? begins_bytes(runs->access_count) : 0,
              _Alignof(max_align_t));
    array_free(allocator, runs);
    runs->begins = NULL;
}
