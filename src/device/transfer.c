// Copies, fills, uploads and downloads of a session: dispatches like any other, and what runs them
// in memory that the host can reach.
//
// Bytes move in runs, as long as the elements lie without gaps on both sides; the loops over runs
// are those of the outer dims.
#include <weir/session.h>

#include <string.h>

#include "device/session_record.h"

#define TILE_BYTES (256u << 10) // of a tile, about: some tens of microseconds
#define TILES_MAX 64

typedef struct run_loop {
    int64_t count;
    uint64_t strides[2]; // bytes, on both sides
} run_loop;

// What moves from one layout to another; of a fill both are the same.
typedef struct runs {
    run_loop loops[WEIR_RANK_MAX]; // outermost first
    uint32_t loop_count;
    uint64_t run_bytes;
    uint64_t run_count; // the product of the loops; 0 = nothing
} runs;

static runs find_runs(const weir_view* a, const weir_view* b) {
    const weir_dtype_info* info = weir_dtype_describe(a->dtype);
    runs found = {.run_bytes = info->block_bytes, .run_count = 1};
    bool dense = true; // so far, from the innermost on
    for (uint32_t i = a->shape.rank; i-- > 0;) {
        int64_t count = a->shape.dims[i];
        count = i + 1 == a->shape.rank ? count / info->block_elements : count;
        const uint64_t strides[2] = {(uint64_t)a->strides[i], (uint64_t)b->strides[i]};
        if (count == 1) {
            continue;
        }
        dense = dense && strides[0] == found.run_bytes && strides[1] == found.run_bytes;
        if (dense) {
            found.run_bytes *= (uint64_t)count;
        } else {
            run_loop* loop = &found.loops[WEIR_RANK_MAX - ++found.loop_count];
            *loop = (run_loop){count, {strides[0], strides[1]}};
            found.run_count *= (uint64_t)count;
        }
    }
    memmove(found.loops, found.loops + WEIR_RANK_MAX - found.loop_count,
            found.loop_count * sizeof found.loops[0]);
    found.run_count = found.run_bytes == 0 ? 0 : found.run_count;
    return found;
}

static uint32_t count_tiles(const runs* all) {
    const uint64_t byte_count = all->run_bytes * all->run_count;
    const uint64_t wanted = byte_count / TILE_BYTES;
    const uint64_t parts = all->run_count == 1 ? TILES_MAX : all->run_count;
    const uint64_t most = parts < TILES_MAX ? parts : TILES_MAX;
    return (uint32_t)(wanted < 1 ? 1 : wanted < most ? wanted : most);
}

// The part of `count` that belongs to a tile.
static void share(const weir_kernel_call* call, uint64_t count, uint64_t* begin, uint64_t* end) {
    const uint64_t each = count / call->tile_count;
    const uint64_t rest = count % call->tile_count; // the first tiles have one more
    *begin = each * call->tile + (call->tile < rest ? call->tile : rest);
    *end = *begin + each + (call->tile < rest ? 1 : 0);
}

static void move_run(uint8_t* target, const uint8_t* source, uint64_t byte_count) {
    switch (byte_count) { // single elements of the common types, without a call
    case 1:
        *target = *source;
        break;
    case 2:
        memcpy(target, source, 2);
        break;
    case 4:
        memcpy(target, source, 4);
        break;
    case 8:
        memcpy(target, source, 8);
        break;
    default:
        memcpy(target, source, (size_t)byte_count);
    }
}

// Doubles what is filled until all is.
static void fill_run(uint8_t* target, const dispatch_fill* fill, uint64_t byte_count) {
    if (fill->byte_count == 1) {
        memset(target, fill->bytes[0], (size_t)byte_count);
        return;
    }
    move_run(target, fill->bytes, fill->byte_count);
    for (uint64_t done = fill->byte_count; done < byte_count;) {
        const uint64_t more = done < byte_count - done ? done : byte_count - done;
        memcpy(target + done, target, (size_t)more);
        done += more;
    }
}

static void move_or_fill(uint8_t* target, const uint8_t* source, const dispatch_fill* fill,
                         uint64_t byte_count) {
    if (fill) {
        fill_run(target, fill, byte_count);
    } else {
        move_run(target, source, byte_count);
    }
}

// Where run `number` begins, on one side; `indices` receives its place in the loops.
static uint64_t locate(const runs* all, uint64_t number, int side, int64_t indices[WEIR_RANK_MAX]) {
    uint64_t offset = 0;
    for (uint32_t i = all->loop_count; i-- > 0;) {
        indices[i] = (int64_t)(number % (uint64_t)all->loops[i].count);
        number /= (uint64_t)all->loops[i].count;
        offset += (uint64_t)indices[i] * all->loops[i].strides[side];
    }
    return offset;
}

// Runs the tile of a call: a share of the runs, or of the one run there is. A fill has its target
// for a source.
static void run_tile(const weir_kernel_call* call, const runs* all, uint8_t* target,
                     const uint8_t* source, const dispatch_fill* fill) {
    uint64_t begin = 0;
    uint64_t end = 0;
    if (all->run_count == 1) { // by cache lines, which hold whole values of any fill
        const uint64_t lines = (all->run_bytes + 63) / 64;
        share(call, lines, &begin, &end);
        const uint64_t last = end * 64 < all->run_bytes ? end * 64 : all->run_bytes;
        if (begin * 64 < last) {
            move_or_fill(target + begin * 64, source + begin * 64, fill, last - begin * 64);
        }
        return;
    }
    share(call, all->run_count, &begin, &end);
    int64_t indices[WEIR_RANK_MAX];
    uint64_t from = begin < end ? locate(all, begin, 0, indices) : 0;
    uint64_t to = begin < end ? locate(all, begin, 1, indices) : 0;
    for (uint64_t number = begin; number < end; number++) {
        move_or_fill(target + to, source + from, fill, all->run_bytes);
        for (uint32_t i = all->loop_count; i-- > 0;) {
            from += all->loops[i].strides[0];
            to += all->loops[i].strides[1];
            if (++indices[i] < all->loops[i].count) {
                break;
            }
            indices[i] = 0;
            from -= (uint64_t)all->loops[i].count * all->loops[i].strides[0];
            to -= (uint64_t)all->loops[i].count * all->loops[i].strides[1];
        }
    }
}

// The layout of the bytes of a view without its gaps; that cannot fail for a view that was checked.
static weir_status dense_layout(const weir_view* view, weir_view* dense) {
    return weir_view_layout(view->dtype, &view->shape, dense);
}

static weir_status run_copy(const weir_kernel_call* call) {
    const runs all = find_runs(&call->views[0], &call->views[1]);
    run_tile(call, &all, call->pointers[1], call->pointers[0], NULL);
    return WEIR_OK;
}

static weir_status run_fill(const weir_kernel_call* call) {
    const runs all = find_runs(&call->views[0], &call->views[0]);
    run_tile(call, &all, call->pointers[0], call->pointers[0], call->constants);
    return WEIR_OK;
}

static weir_status run_upload(const weir_kernel_call* call) {
    const dispatch_transfer* transfer = call->constants;
    weir_view dense;
    WEIR_TRY(dense_layout(&call->views[0], &dense));
    const runs all = find_runs(&dense, &call->views[0]);
    run_tile(call, &all, call->pointers[0], transfer->host, NULL);
    return WEIR_OK;
}

static weir_status run_download(const weir_kernel_call* call) {
    const dispatch_transfer* transfer = call->constants;
    weir_view dense;
    WEIR_TRY(dense_layout(&call->views[0], &dense));
    const runs all = find_runs(&call->views[0], &dense);
    run_tile(call, &all, transfer->host, call->pointers[0], NULL);
    return WEIR_OK;
}

// Refuses a target of which two elements may share a byte: tiles would race, and which of the
// values stays would be open. Each dim must step over all that smaller strides reach.
static weir_status check_target(const char* name, const weir_view* to) {
    const runs all = find_runs(to, to);
    bool passed[WEIR_RANK_MAX] = {false};
    uint64_t reach = all.run_bytes;
    for (uint32_t k = 0; k < all.loop_count && all.run_count > 0; k++) {
        uint32_t smallest = WEIR_RANK_MAX;
        for (uint32_t i = 0; i < all.loop_count; i++) {
            if (!passed[i] && (smallest == WEIR_RANK_MAX ||
                               all.loops[i].strides[0] < all.loops[smallest].strides[0])) {
                smallest = i;
            }
        }
        const run_loop* loop = &all.loops[smallest];
        if (loop->strides[0] < reach) {
            return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                             "%s: elements of the target share bytes: a stride of %llu steps over "
                             "%llu bytes",
                             name, (unsigned long long)loop->strides[0], (unsigned long long)reach);
        }
        passed[smallest] = true;
        reach += (uint64_t)(loop->count - 1) * loop->strides[0];
    }
    return WEIR_OK;
}

// Views come from the caller: nothing is computed from one before its storage has vouched for it.
static weir_status check_view(const weir_session* session, const char* name,
                              const weir_view* view) {
    const weir_operand operand = {*view, WEIR_ACCESS_READ};
    return weir_session_check(session, name, 0, &operand);
}

weir_status weir_session_copy(weir_session* session, const weir_view* from, const weir_view* to) {
    WEIR_TRY(check_view(session, "copy", from));
    WEIR_TRY(check_view(session, "copy", to));
    if (from->dtype != to->dtype || !weir_shape_equal(&from->shape, &to->shape)) {
        char wanted[128];
        char given[128];
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "copy: %s cannot be copied to %s",
                         weir_view_format(from, given, sizeof given),
                         weir_view_format(to, wanted, sizeof wanted));
    }
    bool shared = false;
    WEIR_TRY(weir_view_overlaps(from, to, &shared));
    if (shared) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "copy: source and target share bytes");
    }
    WEIR_TRY(check_target("copy", to));
    const runs all = find_runs(from, to);
    const weir_operand operands[] = {{*from, WEIR_ACCESS_READ}, {*to, WEIR_ACCESS_WRITE}};
    const session_record record = {.desc = {.name = "copy",
                                            .kernel = run_copy,
                                            .operands = operands,
                                            .operand_count = 2,
                                            .tile_count = count_tiles(&all)},
                                   .kind = DEVICE_COPY};
    return weir_session_record(session, &record, NULL);
}

weir_status weir_session_fill(weir_session* session, const weir_view* to, const void* value,
                              size_t value_size) {
    dispatch_fill fill = {.byte_count = (uint32_t)value_size};
    WEIR_TRY(check_view(session, "fill", to));
    const uint32_t unit = weir_dtype_describe(to->dtype)->block_bytes;
    if ((value_size != 1 && value_size != 2 && value_size != 4 && value_size != 8) ||
        unit % value_size != 0) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                         "fill: a value of %zu bytes, expected 1, 2, 4 or 8 that divide the %u of "
                         "an element",
                         value_size, unit);
    }
    WEIR_TRY(check_target("fill", to));
    memcpy(fill.bytes, value, value_size);
    const runs all = find_runs(to, to);
    const weir_operand operand = {*to, WEIR_ACCESS_WRITE};
    const session_record record = {.desc = {.name = "fill",
                                            .kernel = run_fill,
                                            .operands = &operand,
                                            .operand_count = 1,
                                            .constants = &fill,
                                            .constants_size = sizeof fill,
                                            .tile_count = count_tiles(&all)},
                                   .kind = DEVICE_FILL};
    return weir_session_record(session, &record, NULL);
}

static weir_status check_transfer(const weir_session* session, const char* name,
                                  const weir_view* view, const void* bytes, uint64_t byte_size) {
    WEIR_TRY(check_view(session, name, view));
    if (!bytes && byte_size > 0) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "%s: %llu bytes at NULL", name,
                         (unsigned long long)byte_size);
    }
    const uint64_t expected = weir_view_byte_length(view);
    return byte_size == expected
               ? WEIR_OK
               : WEIR_FAIL(WEIR_OUT_OF_RANGE, "%s: %llu bytes given, the view has %llu", name,
                           (unsigned long long)byte_size, (unsigned long long)expected);
}

// The bytes of the host as the device of the view names them.
static weir_range host_range(const weir_view* view, const void* bytes, uint64_t byte_size) {
    uint64_t memory_id = 0;
    uint64_t byte_offset = 0;
    identity_name_host(view->storage->device, bytes, byte_size, &memory_id, &byte_offset);
    return weir_range_make(memory_id, byte_offset, byte_size);
}

static weir_status record_transfer(weir_session* session, const char* name,
                                   device_dispatch_kind kind, const weir_view* view,
                                   const dispatch_transfer* transfer) {
    const bool upload = kind == DEVICE_UPLOAD;
    weir_view dense;
    WEIR_TRY(dense_layout(view, &dense));
    const runs all = find_runs(view, &dense);
    const weir_operand operand = {*view, upload ? WEIR_ACCESS_WRITE : WEIR_ACCESS_READ};
    const weir_access host = {host_range(view, transfer->host, transfer->byte_length),
                              WEIR_ACCESS_WRITE};
    const session_record record = {.desc = {.name = name,
                                            .kernel = upload ? run_upload : run_download,
                                            .operands = &operand,
                                            .operand_count = 1,
                                            .constants = transfer,
                                            .constants_size = sizeof *transfer,
                                            .tile_count = count_tiles(&all)},
                                   .kind = kind,
                                   .host = upload ? NULL : &host};
    return weir_session_record(session, &record, NULL);
}

weir_status weir_session_upload(weir_session* session, const void* bytes, size_t byte_size,
                                const weir_view* to) {
    void* kept = NULL;
    WEIR_TRY(check_transfer(session, "upload", to, bytes, byte_size));
    WEIR_TRY(check_target("upload", to));
    WEIR_TRY(weir_session_keep(session, bytes, byte_size, &kept));
    const dispatch_transfer transfer = {.host = kept, .byte_length = byte_size};
    return record_transfer(session, "upload", DEVICE_UPLOAD, to, &transfer);
}

weir_status weir_session_download(weir_session* session, const weir_view* from, void* bytes,
                                  size_t byte_size) {
    WEIR_TRY(check_transfer(session, "download", from, bytes, byte_size));
    const weir_range source = weir_view_range(from);
    const weir_range target = host_range(from, bytes, byte_size);
    if (weir_range_overlaps(&source, &target)) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "download: source and target share bytes");
    }
    const dispatch_transfer transfer = {.host = bytes, .byte_length = byte_size};
    return record_transfer(session, "download", DEVICE_DOWNLOAD, from, &transfer);
}
