#include <stdlib.h>
#include <string.h>

#include "plan/plan_layout.h"
#include "plan/plan_text.h"

// The begins and ends of all lives cut the clock into sections in which nothing changes. A line
// shows one section; where there are more sections than lines, the one of its share that has the
// most live bytes, so that the peak is always seen.

#define CELLS 52 // with time and KiB a line has 80 columns
#define DEFAULT_LINES 64

__extension__ typedef unsigned __int128 u128;

typedef struct map_writer {
    const plan_layout* layout;
    plan_text* text;
    int64_t* times; // the first moment of each section, and the end of the last
    size_t section_count;
    uint64_t* live; // bytes by section, of one block
    size_t line_count;
} map_writer;

// The line of one moment in one block.
typedef struct map_line {
    char marks[CELLS];
    uint64_t held[CELLS]; // bytes of a cell that its mark stands for
    uint32_t cell_count;  // at most one per byte
    uint64_t byte_size;   // of the block
    uint64_t live;
} map_line;

static int compare_times(const void* a, const void* b) {
    const int64_t x = *(const int64_t*)a;
    const int64_t y = *(const int64_t*)b;
    return x < y ? -1 : x > y;
}

static size_t count_lives(const plan_layout* layout) {
    size_t count = 0;
    for (uint32_t i = 0; i < layout->count; ++i) {
        count += plan_layout_lives(layout, layout->boxes[i].buffer);
    }
    return count;
}

// `times` has room for two per life, and two for the clock.
static void find_sections(map_writer* map) {
    const plan_layout* layout = map->layout;
    size_t count = 0;
    map->times[count++] = layout->clock_begin;
    map->times[count++] = layout->clock_end;
    for (uint32_t i = 0; i < layout->count; ++i) {
        const uint32_t buffer = layout->boxes[i].buffer;
        for (uint32_t k = 0; k < plan_layout_lives(layout, buffer); ++k) {
            const weir_plan_interval life = plan_layout_life(layout, buffer, k);
            if (life.begin < life.end) {
                map->times[count++] = life.begin;
                map->times[count++] = life.end;
            }
        }
    }
    qsort(map->times, count, sizeof *map->times, compare_times);
    size_t kept = 1;
    for (size_t i = 1; i < count; ++i) {
        if (map->times[i] != map->times[kept - 1]) {
            map->times[kept++] = map->times[i];
        }
    }
    map->section_count = kept - 1;
}

static size_t section_of(const map_writer* map, int64_t time) {
    size_t low = 0;
    size_t high = map->section_count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (map->times[middle] < time) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

// Only to choose what is shown: wraps round where sums pass 64 bits, and counts lives that overlap
// within one buffer twice.
static void sum_live(map_writer* map, uint32_t first, uint32_t count) {
    memset(map->live, 0, (map->section_count + 1) * sizeof *map->live);
    for (uint32_t i = first; i < first + count; ++i) {
        const plan_box* box = &map->layout->boxes[i];
        for (uint32_t k = 0; k < plan_layout_lives(map->layout, box->buffer); ++k) {
            const weir_plan_interval life = plan_layout_life(map->layout, box->buffer, k);
            if (life.begin < life.end) {
                map->live[section_of(map, life.begin)] += box->end - box->begin;
                map->live[section_of(map, life.end)] -= box->end - box->begin;
            }
        }
    }
    for (size_t i = 1; i <= map->section_count; ++i) {
        map->live[i] += map->live[i - 1];
    }
}

static bool is_live(const plan_layout* layout, uint32_t buffer, int64_t moment) {
    for (uint32_t k = 0; k < plan_layout_lives(layout, buffer); ++k) {
        const weir_plan_interval life = plan_layout_life(layout, buffer, k);
        if (life.begin <= moment && moment < life.end) {
            return true;
        }
    }
    return false;
}

// Cell c holds the bytes from floor(c * size / cells) on.
static uint64_t cell_begin(const map_line* line, uint32_t cell) {
    return plan_layout_scale(line->byte_size, cell, line->cell_count);
}

static uint32_t cell_of(const map_line* line, uint64_t byte) {
    return (uint32_t)((((u128)byte + 1) * line->cell_count - 1) / line->byte_size);
}

// Marks bytes [begin, end); a buffer yields a cell to one that holds more of it, a collision never.
static void mark(map_line* line, uint64_t begin, uint64_t end, char letter) {
    for (uint32_t cell = cell_of(line, begin); cell <= cell_of(line, end - 1); ++cell) {
        const uint64_t low = cell_begin(line, cell);
        const uint64_t high = cell_begin(line, cell + 1);
        const uint64_t held = (end < high ? end : high) - (begin > low ? begin : low);
        if (letter == '!' || (line->marks[cell] != '!' && held > line->held[cell])) {
            line->marks[cell] = letter;
            line->held[cell] = held;
        }
    }
}

static bool is_pair_in_place(const weir_plan_report* report, uint32_t a, uint32_t b) {
    return report->entries[a].placed_on == b || report->entries[b].placed_on == a;
}

// Boxes come in the order of their begins, so that the highest end so far meets every collision.
static void fill_line(const plan_layout* layout, uint32_t first, uint32_t count, int64_t moment,
                      map_line* line) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    const plan_box* highest = NULL;
    memset(line->marks, '.', sizeof line->marks);
    memset(line->held, 0, sizeof line->held);
    line->live = 0;
    for (uint32_t i = first; i < first + count; ++i) {
        const plan_box* box = &layout->boxes[i];
        if (!is_live(layout, box->buffer, moment)) {
            continue;
        }
        line->live += box->end - box->begin;
        mark(line, box->begin, box->end, letters[box->buffer % (sizeof letters - 1)]);
        if (highest && box->begin < highest->end &&
            !is_pair_in_place(layout->report, box->buffer, highest->buffer)) {
            mark(line, box->begin, box->end < highest->end ? box->end : highest->end, '!');
        }
        highest = !highest || box->end > highest->end ? box : highest;
    }
}

static void write_line(plan_text* text, const map_line* line, int64_t moment) {
    char cells[CELLS + 1];
    memset(cells, ' ', CELLS);
    memcpy(cells, line->marks, line->cell_count);
    cells[CELLS] = '\0';
    const uint64_t tenths = plan_layout_scale(line->live % 1024, 10, 1024);
    plan_text_format(text, "%10lld %s %10llu.%llu KiB\n", (long long)moment, cells,
                     (unsigned long long)(line->live / 1024), (unsigned long long)tenths);
}

static void write_block(map_writer* map, uint32_t first, uint32_t count, uint64_t byte_size) {
    const plan_box* box = &map->layout->boxes[first];
    map_line line = {.byte_size = byte_size,
                     .cell_count = byte_size < CELLS ? (uint32_t)byte_size : CELLS};
    const uint64_t cell_size = (byte_size - 1) / line.cell_count + 1; // of the largest
    plan_text_format(
        map->text, "pool %u, block %u: %u buffers, %llu bytes, %llu per cell, %zu of %zu moments\n",
        box->pool, box->block, count, (unsigned long long)byte_size, (unsigned long long)cell_size,
        map->line_count, map->section_count);
    sum_live(map, first, count);
    for (size_t i = 0; i < map->line_count; ++i) {
        size_t busiest = plan_layout_scale(map->section_count, i, map->line_count);
        const size_t end = plan_layout_scale(map->section_count, i + 1, map->line_count);
        for (size_t section = busiest + 1; section < end; ++section) {
            busiest = map->live[section] > map->live[busiest] ? section : busiest;
        }
        fill_line(map->layout, first, count, map->times[busiest], &line);
        write_line(map->text, &line, map->times[busiest]);
    }
}

static weir_status write_map(const plan_layout* layout, plan_text* text) {
    const size_t time_count = 2 * count_lives(layout) + 2;
    const uint32_t lines = layout->report->map_lines;
    map_writer map = {.layout = layout, .text = text};
    WEIR_TRY(weir_alloc(&layout->allocator, time_count * sizeof *map.times, _Alignof(int64_t),
                        (void**)&map.times));
    const weir_status status = weir_alloc(&layout->allocator, time_count * sizeof *map.live,
                                          _Alignof(uint64_t), (void**)&map.live);
    if (status == WEIR_OK) {
        find_sections(&map);
        map.line_count = lines > 0 ? lines : DEFAULT_LINES;
        map.line_count = map.line_count < map.section_count ? map.line_count : map.section_count;
        uint32_t count = 0;
        for (uint32_t first = 0; first < layout->count; first += count) {
            uint64_t byte_size = 0;
            count = plan_layout_block(layout, first, &byte_size);
            write_block(&map, first, count, byte_size);
        }
    }
    weir_free(&layout->allocator, map.live, time_count * sizeof *map.live, _Alignof(uint64_t));
    weir_free(&layout->allocator, map.times, time_count * sizeof *map.times, _Alignof(int64_t));
    return status;
}

weir_status weir_plan_report_map(const weir_allocator* allocator, const weir_plan_report* report,
                                 weir_plan_write_fn write, void* context) {
    plan_text text = {.write = write, .context = context};
    plan_layout layout;
    WEIR_TRY(plan_layout_make(allocator, report, &layout));
    weir_status status = write_map(&layout, &text);
    plan_layout_free(&layout);
    if (status == WEIR_OK) {
        status = plan_text_finish(&text);
    }
    return status;
}
