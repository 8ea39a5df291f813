#include "plan/plan_csv.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/array.h"

// The text may be anything, so each line is split by what the header says and each field is read to
// its last byte or refused. Messages name line and column by counting from the beginning: that is
// slow, and done once.

#define SHOWN 40 // bytes of a field that a message repeats

static const struct {
    const char* name;
    csv_column column;
} names[] = {
    {"id", CSV_ID},       {"buffer", CSV_ID},           {"buffer_id", CSV_ID},
    {"lower", CSV_LOWER}, {"begin", CSV_LOWER},         {"start", CSV_LOWER},
    {"upper", CSV_UPPER}, {"end", CSV_UPPER},           {"size", CSV_SIZE},
    {"gaps", CSV_GAPS},   {"alignment", CSV_ALIGNMENT}, {"offset", CSV_OFFSET},
    {"block", CSV_BLOCK},
};

size_t plan_csv_line_of(const weir_plan_csv* csv, const char* at) {
    size_t line = 1;
    const char* from = csv->desc.bytes;
    while ((from = memchr(from, '\n', (size_t)(at - from)))) {
        ++from;
        ++line;
    }
    return line;
}

static size_t column_of(const weir_plan_csv* csv, const char* at) {
    const char* begin = at;
    while (begin > csv->desc.bytes && begin[-1] != '\n') {
        --begin;
    }
    return (size_t)(at - begin) + 1;
}

// The beginning of a field, as a message can print it.
static const char* show(csv_span field, char text[SHOWN + 1]) {
    const size_t length = field.length < SHOWN ? field.length : SHOWN;
    for (size_t i = 0; i < length; ++i) {
        text[i] = (char)(field.at[i] >= ' ' && field.at[i] <= '~' ? field.at[i] : '?');
    }
    text[length] = '\0';
    return text;
}

#define FAIL_AT(csv, at, status, format, ...)                                                      \
    WEIR_FAIL((status), "%s:%zu:%zu: " format, (csv)->desc.name, plan_csv_line_of((csv), (at)),    \
              column_of((csv), (at)), __VA_ARGS__)

static bool is_blank(char c) {
    return c == ' ' || c == '\t';
}

static csv_span trim(csv_span field) {
    while (field.length > 0 && is_blank(field.at[0])) {
        ++field.at;
        --field.length;
    }
    while (field.length > 0 && is_blank(field.at[field.length - 1])) {
        --field.length;
    }
    return field;
}

// What a field says: without the blanks round it, and without quotes (RFC 4180).
static csv_span value_of(csv_span field) {
    const csv_span text = trim(field);
    const bool quoted = text.length >= 2 && text.at[0] == '"' && text.at[text.length - 1] == '"';
    return quoted ? trim((csv_span){text.at + 1, text.length - 2}) : text;
}

// The id of a row keeps its blanks unless it stands in quotes.
static csv_span id_of(csv_span field) {
    const csv_span text = trim(field);
    return text.length >= 2 && text.at[0] == '"' && text.at[text.length - 1] == '"'
               ? (csv_span){text.at + 1, text.length - 2}
               : field;
}

// Where a field ends that begins with a quote: at the comma behind the closing one, or at the end
// of the line. Two quotes in a row are one that belongs to the text. A quote that is not closed on
// its line is an ordinary character; NULL then.
static const char* end_of_quoted(csv_span rest) {
    const char* const end = rest.at + rest.length;
    const char* at = rest.at;
    while (at < end && is_blank(*at)) {
        ++at;
    }
    if (at == end || *at != '"') {
        return NULL;
    }
    for (++at; at < end; ++at) {
        if (*at == '"') {
            if (at + 1 == end || at[1] != '"') {
                break;
            }
            ++at;
        }
    }
    if (at >= end) {
        return NULL;
    }
    const char* comma = memchr(at, ',', (size_t)(end - at));
    return comma ? comma : end;
}

// Lines end with LF or CRLF, the last one with the text too.
bool plan_csv_next_line(csv_span* rest, csv_span* line) {
    if (rest->length == 0) {
        return false;
    }
    const char* end = memchr(rest->at, '\n', rest->length);
    const size_t taken = end ? (size_t)(end - rest->at) + 1 : rest->length;
    line->at = rest->at;
    line->length = end ? taken - 1 : taken;
    line->length -= line->length > 0 && line->at[line->length - 1] == '\r';
    rest->at += taken;
    rest->length -= taken;
    return true;
}

bool plan_csv_next_field(csv_span* rest, csv_span* field) {
    if (!rest->at) {
        return false;
    }
    const char* end = rest->length > 0 ? end_of_quoted(*rest) : NULL;
    if (!end && rest->length > 0) {
        end = memchr(rest->at, ',', rest->length);
    }
    if (!end || end == rest->at + rest->length) {
        *field = *rest;
        *rest = (csv_span){0};
        return true;
    }
    *field = (csv_span){rest->at, (size_t)(end - rest->at)};
    rest->length -= field->length + 1;
    rest->at = end + 1;
    return true;
}

// Takes a number off the front; false where there is none, or it has more than 64 bits.
static bool take_number(csv_span* rest, int64_t* number) {
    const bool negative = rest->length > 0 && rest->at[0] == '-';
    size_t used = negative;
    int64_t read = 0;
    while (used < rest->length && rest->at[used] >= '0' && rest->at[used] <= '9') {
        const int64_t digit = rest->at[used++] - '0';
        if (__builtin_mul_overflow(read, 10, &read) ||
            __builtin_add_overflow(read, negative ? -digit : digit, &read)) {
            return false;
        }
    }
    if (used == (size_t)negative) {
        return false;
    }
    *number = read;
    rest->at += used;
    rest->length -= used;
    return true;
}

static weir_status read_number(const weir_plan_csv* csv, csv_span field, const char* name,
                               int64_t least, int64_t* number) {
    csv_span rest = value_of(field);
    if (!take_number(&rest, number) || rest.length > 0 || *number < least) {
        char shown[SHOWN + 1];
        return FAIL_AT(csv, field.at, WEIR_BAD_FORMAT,
                       "%s '%s', expected a whole number from %lld to %lld", name,
                       show(field, shown), (long long)least, (long long)INT64_MAX);
    }
    return WEIR_OK;
}

// The first moment after the last one.
static bool pass_end(const weir_plan_csv* csv, int64_t* end) {
    return !csv->last_moments || !__builtin_add_overflow(*end, 1, end);
}

static weir_status find_column(weir_plan_csv* csv, csv_span field) {
    const csv_span name = value_of(field);
    for (size_t i = 0; i < sizeof names / sizeof *names; ++i) {
        if (name.length != strlen(names[i].name) ||
            memcmp(name.at, names[i].name, name.length) != 0) {
            continue;
        }
        if (csv->columns[names[i].column] != CSV_ABSENT) {
            return FAIL_AT(csv, field.at, WEIR_BAD_FORMAT, "a second column '%s'", names[i].name);
        }
        csv->columns[names[i].column] = csv->field_count;
        csv->last_moments |= strcmp(names[i].name, "end") == 0;
    }
    ++csv->field_count;
    return WEIR_OK;
}

static weir_status read_header(weir_plan_csv* csv, csv_span line) {
    static const char* const needed[] = {"id", "lower", "upper", "size"};
    csv->header = line;
    csv_span rest = line;
    csv_span field;
    while (plan_csv_next_field(&rest, &field)) {
        WEIR_TRY(find_column(csv, field));
    }
    for (size_t i = 0; i < sizeof needed / sizeof *needed; ++i) {
        if (csv->columns[i] == CSV_ABSENT) {
            return FAIL_AT(csv, line.at, WEIR_BAD_FORMAT,
                           "no column '%s'; expected at least id, lower, upper, size", needed[i]);
        }
    }
    if (csv->columns[CSV_BLOCK] != CSV_ABSENT && csv->columns[CSV_OFFSET] == CSV_ABSENT) {
        return FAIL_AT(csv, line.at, WEIR_BAD_FORMAT, "no column '%s', but one of blocks",
                       "offset");
    }
    return WEIR_OK;
}

// A line with fewer or more fields than the header is refused, for which of them would be missing
// is a guess.
static weir_status split_line(const weir_plan_csv* csv, csv_span line,
                              csv_span fields[CSV_COLUMN_COUNT]) {
    csv_span rest = line;
    csv_span field;
    size_t count = 0;
    while (plan_csv_next_field(&rest, &field)) {
        if (count == csv->field_count) {
            return FAIL_AT(csv, field.at, WEIR_BAD_FORMAT, "more than the %zu fields of the header",
                           count);
        }
        for (size_t column = 0; column < CSV_COLUMN_COUNT; ++column) {
            if (csv->columns[column] == count) {
                fields[column] = field;
            }
        }
        ++count;
    }
    if (count < csv->field_count) {
        return FAIL_AT(csv, line.at + line.length, WEIR_BAD_FORMAT,
                       "%zu fields, expected the %zu of the header", count, csv->field_count);
    }
    return WEIR_OK;
}

static weir_status add_interval(weir_plan_csv* csv, int64_t begin, int64_t end) {
    if (csv->intervals.count == UINT32_MAX) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE, "%s: more than %u intervals", csv->desc.name,
                         UINT32_MAX);
    }
    WEIR_TRY(array_reserve(&csv->allocator, &csv->intervals, csv->intervals.count + 1));
    csv->intervals.items[csv->intervals.count++] = (weir_plan_interval){begin, end};
    return WEIR_OK;
}

// Takes "3-5" off the front.
static bool take_gap(const weir_plan_csv* csv, csv_span* rest, weir_plan_interval* gap) {
    if (!take_number(rest, &gap->begin) || rest->length == 0 || rest->at[0] != '-') {
        return false;
    }
    ++rest->at;
    --rest->length;
    return take_number(rest, &gap->end) && pass_end(csv, &gap->end) &&
           (rest->length == 0 || is_blank(rest->at[0]) || rest->at[0] == '@');
}

// Cuts a life at its gaps, which come in order. What has no life left keeps an empty interval: a
// buffer without intervals would always live.
static weir_status add_lives(weir_plan_csv* csv, csv_span gaps, weir_plan_interval life) {
    const size_t first = csv->intervals.count;
    csv_span rest = value_of(gaps);
    while (rest.length > 0) {
        const char* at = rest.at;
        weir_plan_interval gap;
        if (!take_gap(csv, &rest, &gap) || gap.begin < life.begin || gap.end < gap.begin ||
            gap.end > life.end) {
            char shown[SHOWN + 1];
            return FAIL_AT(csv, at, WEIR_BAD_FORMAT,
                           "gaps '%s', expected begin-end in order within what is left of the "
                           "life, [%lld, %lld)",
                           show(gaps, shown), (long long)life.begin, (long long)life.end);
        }
        if (rest.length > 0 && rest.at[0] == '@') {
            char shown[SHOWN + 1];
            return FAIL_AT(csv, at, WEIR_UNSUPPORTED, "gaps '%s', which keep a part of the bytes",
                           show(gaps, shown));
        }
        if (life.begin < gap.begin) {
            WEIR_TRY(add_interval(csv, life.begin, gap.begin));
        }
        life.begin = gap.end;
        rest = trim(rest);
    }
    if (life.begin < life.end || csv->intervals.count == first) {
        WEIR_TRY(add_interval(csv, life.begin, life.end));
    }
    return WEIR_OK;
}

// An empty life is allowed: the buffer then conflicts with nothing.
static weir_status read_life(weir_plan_csv* csv, const csv_span fields[CSV_COLUMN_COUNT],
                             weir_plan_buffer* buffer) {
    weir_plan_interval life = {0};
    WEIR_TRY(read_number(csv, fields[CSV_LOWER], "lower", INT64_MIN, &life.begin));
    WEIR_TRY(read_number(csv, fields[CSV_UPPER], "upper", INT64_MIN, &life.end));
    const long long said = life.end;
    if (!pass_end(csv, &life.end) || life.end < life.begin) {
        return FAIL_AT(csv, fields[CSV_UPPER].at, WEIR_BAD_FORMAT,
                       "upper %lld ends the life before it begins, or passes 2^63 - 1", said);
    }
    buffer->interval_begin = (uint32_t)csv->intervals.count;
    WEIR_TRY(add_lives(csv, fields[CSV_GAPS], life));
    buffer->interval_count = (uint32_t)csv->intervals.count - buffer->interval_begin;
    return WEIR_OK;
}

// The offset is a wish of the problem and an entry of a plan at once: which of them it is depends
// on what the caller asks for.
static weir_status read_offset(weir_plan_csv* csv, const csv_span fields[CSV_COLUMN_COUNT],
                               weir_plan_buffer* buffer) {
    int64_t offset = -1;
    int64_t block = 0;
    if (value_of(fields[CSV_OFFSET]).length > 0) {
        WEIR_TRY(read_number(csv, fields[CSV_OFFSET], "offset", -1, &offset));
    }
    if (value_of(fields[CSV_BLOCK]).length > 0) {
        WEIR_TRY(read_number(csv, fields[CSV_BLOCK], "block", 0, &block));
        if (block > UINT32_MAX) {
            return FAIL_AT(csv, fields[CSV_BLOCK].at, WEIR_BAD_FORMAT, "block %lld passes 2^32 - 1",
                           (long long)block);
        }
    }
    if (offset >= 0) {
        buffer->flags = WEIR_PLAN_FIXED;
        buffer->fixed_offset = (uint64_t)offset;
    } else if (csv->first_free == WEIR_PLAN_NONE) {
        csv->first_free = (uint32_t)csv->buffers.count;
    }
    WEIR_TRY(array_reserve(&csv->allocator, &csv->entries, csv->entries.count + 1));
    csv->entries.items[csv->entries.count++] =
        (weir_plan_entry){.byte_offset = buffer->fixed_offset,
                          .byte_size = buffer->byte_size,
                          .block = (uint32_t)block,
                          .placed_on = WEIR_PLAN_NONE};
    return WEIR_OK;
}

static weir_status read_row(weir_plan_csv* csv, csv_span line) {
    csv_span fields[CSV_COLUMN_COUNT] = {0};
    weir_plan_buffer buffer = {0};
    int64_t size = 0;
    int64_t alignment = 0;
    if (csv->rows.count == WEIR_PLAN_NONE) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE, "%s: more than %u buffers", csv->desc.name, UINT32_MAX);
    }
    WEIR_TRY(split_line(csv, line, fields));
    WEIR_TRY(read_life(csv, fields, &buffer));
    WEIR_TRY(read_number(csv, fields[CSV_SIZE], "size", 0, &size));
    buffer.byte_size = (uint64_t)size;
    if (csv->columns[CSV_ALIGNMENT] != CSV_ABSENT) {
        WEIR_TRY(read_number(csv, fields[CSV_ALIGNMENT], "alignment", 1, &alignment));
        buffer.alignment = (uint64_t)alignment;
    }
    if (csv->columns[CSV_OFFSET] != CSV_ABSENT && !csv->desc.ignore_offsets) {
        WEIR_TRY(read_offset(csv, fields, &buffer));
    }
    assert(csv->rows.count < csv->rows.capacity && csv->buffers.count < csv->buffers.capacity);
    csv->rows.items[csv->rows.count++] = (csv_row){line, id_of(fields[CSV_ID])};
    csv->buffers.items[csv->buffers.count++] = buffer;
    return WEIR_OK;
}

// Eight bytes decide most comparisons.
typedef struct id_key {
    uint64_t head; // the first bytes, most significant first
    csv_span id;
} id_key;

static int compare_ids(const void* a, const void* b) {
    const id_key* x = a;
    const id_key* y = b;
    if (x->head != y->head) {
        return x->head < y->head ? -1 : 1;
    }
    const size_t shared = x->id.length < y->id.length ? x->id.length : y->id.length;
    const int order = shared > 0 ? memcmp(x->id.at, y->id.at, shared) : 0;
    if (order != 0 || x->id.length != y->id.length) {
        return order != 0 ? order : x->id.length < y->id.length ? -1 : 1;
    }
    return x->id.at < y->id.at ? -1 : x->id.at > y->id.at;
}

static bool is_same_id(const id_key* a, const id_key* b) {
    return a->id.length == b->id.length &&
           (a->id.length == 0 || memcmp(a->id.at, b->id.at, a->id.length) == 0);
}

// Sorted and not hashed: no text can make it slow.
static weir_status check_ids(const weir_plan_csv* csv) {
    const size_t count = csv->rows.count;
    id_key* keys = NULL;
    WEIR_TRY(weir_alloc(&csv->allocator, count * sizeof *keys, _Alignof(id_key), (void**)&keys));
    for (size_t i = 0; i < count; ++i) {
        const csv_span id = csv->rows.items[i].id;
        keys[i] = (id_key){.id = id};
        for (size_t k = 0; k < 8; ++k) {
            keys[i].head = keys[i].head << 8 | (k < id.length ? (unsigned char)id.at[k] : 0u);
        }
    }
    qsort(keys, count, sizeof *keys, compare_ids);
    weir_status status = WEIR_OK;
    for (size_t i = 1; i < count && status == WEIR_OK; ++i) {
        if (is_same_id(&keys[i - 1], &keys[i])) {
            char shown[SHOWN + 1];
            status = FAIL_AT(csv, keys[i].id.at, WEIR_BAD_FORMAT, "id '%s' is that of line %zu too",
                             show(keys[i].id, shown), plan_csv_line_of(csv, keys[i - 1].id.at));
        }
    }
    weir_free(&csv->allocator, keys, count * sizeof *keys, _Alignof(id_key));
    return status;
}

// The buffers that a text can hold at most: a line of one has seven bytes, ",0,0,0" and a break,
// and the header comes before. Blank lines must not cost more memory than their own.
static size_t count_rows(csv_span rest) {
    const size_t most = rest.length / 7;
    size_t count = 0;
    csv_span line;
    while (plan_csv_next_line(&rest, &line)) {
        ++count;
    }
    return count < most ? count : most;
}

// Without what spreadsheets put before UTF-8. A header that still began with it would lose it, and
// name other columns, when what is written of it is read again.
static csv_span past_marks(csv_span line) {
    while (line.length >= 3 && memcmp(line.at, "\xEF\xBB\xBF", 3) == 0) {
        line = (csv_span){line.at + 3, line.length - 3};
    }
    return line;
}

weir_status plan_csv_read(weir_plan_csv* csv) {
    csv_span rest = {csv->desc.bytes, csv->desc.byte_size};
    csv_span line;
    csv->first_free = WEIR_PLAN_NONE;
    for (size_t column = 0; column < CSV_COLUMN_COUNT; ++column) {
        csv->columns[column] = CSV_ABSENT;
    }
    const size_t rows = count_rows(rest);
    WEIR_TRY(array_reserve(&csv->allocator, &csv->rows, rows));
    WEIR_TRY(array_reserve(&csv->allocator, &csv->buffers, rows));
    WEIR_TRY(array_reserve(&csv->allocator, &csv->intervals, rows));
    while (plan_csv_next_line(&rest, &line)) {
        if (csv->field_count == 0) {
            line = past_marks(line);
        }
        if (trim(line).length > 0) {
            WEIR_TRY(csv->field_count > 0 ? read_row(csv, line) : read_header(csv, line));
        }
    }
    if (csv->field_count == 0) {
        return WEIR_FAIL(WEIR_BAD_FORMAT, "%s: no header line; expected id,lower,upper,size",
                         csv->desc.name);
    }
    return check_ids(csv);
}
