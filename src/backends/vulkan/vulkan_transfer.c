// Copies, fills, uploads and downloads as commands between buffers.
#include <string.h>

#include "backends/vulkan/vulkan_work.h"

#define WORD 4

static weir_status add_copy(vulkan_work* work, const work_copy* copy) {
    WEIR_TRY(array_reserve(&work->device->base.allocator, &work->copies, work->copies.count + 1));
    work->copies.items[work->copies.count++] = *copy;
    return WEIR_OK;
}

// Takes `byte_count` bytes of the staging; what is not set later is zero.
static weir_status take_staging(vulkan_work* work, uint64_t byte_count, uint64_t* offset) {
    const size_t begin = (work->staged.count + 15) / 16 * 16;
    WEIR_TRY(
        array_reserve(&work->device->base.allocator, &work->staged, begin + (size_t)byte_count));
    memset(work->staged.items + work->staged.count, 0,
           begin + (size_t)byte_count - work->staged.count);
    work->staged.count = begin + (size_t)byte_count;
    *offset = begin;
    return WEIR_OK;
}

// One side of a copy: elements of a layout in a buffer. VK_NULL_HANDLE is the staging.
typedef struct copy_side {
    VkBuffer buffer;
    uint64_t offset;
    weir_view layout;
} copy_side;

static weir_status find_side(const weir_view* view, copy_side* side) {
    side->layout = *view;
    return vulkan_storage_locate(view->storage, view->byte_offset, weir_view_byte_span(view),
                                 &side->buffer, &side->offset);
}

// A side in the staging, without gaps.
static weir_status stage_side(vulkan_work* work, const weir_view* like, copy_side* side) {
    side->buffer = VK_NULL_HANDLE;
    WEIR_TRY(weir_view_layout(like->dtype, &like->shape, &side->layout));
    return take_staging(work, weir_view_byte_span(&side->layout), &side->offset);
}

// The innermost dimensions without gaps on both sides move as one run; the others are walked.
static uint32_t find_run(const weir_view* a, const weir_view* b, uint64_t* run_bytes) {
    const weir_dtype_info* info = weir_dtype_describe(a->dtype);
    uint64_t bytes = info->block_bytes;
    uint32_t level = a->shape.rank;
    for (; level > 0; level--) {
        const uint32_t i = level - 1;
        const bool inner = level == a->shape.rank;
        const uint64_t count = (uint64_t)a->shape.dims[i] / (inner ? info->block_elements : 1);
        if (count > 1 && (a->strides[i] != (int64_t)bytes || b->strides[i] != (int64_t)bytes)) {
            break;
        }
        bytes *= count;
    }
    *run_bytes = bytes;
    return level;
}

static int64_t steps_of(const weir_view* view, uint32_t level) {
    const bool inner = level + 1 == view->shape.rank;
    return view->shape.dims[level] /
           (inner ? (int64_t)weir_dtype_describe(view->dtype)->block_elements : 1);
}

static weir_status add_runs(vulkan_work* work, uint32_t number, const copy_side* from,
                            const copy_side* to) {
    uint64_t run_bytes = 0;
    int64_t index[WEIR_RANK_MAX] = {0};
    const uint32_t walked = find_run(&from->layout, &to->layout, &run_bytes);
    for (;;) {
        work_copy copy = {.dispatch = number, .source = from->buffer, .target = to->buffer};
        copy.region =
            (VkBufferCopy){.srcOffset = from->offset, .dstOffset = to->offset, .size = run_bytes};
        for (uint32_t i = 0; i < walked; i++) {
            copy.region.srcOffset += (uint64_t)(index[i] * from->layout.strides[i]);
            copy.region.dstOffset += (uint64_t)(index[i] * to->layout.strides[i]);
        }
        WEIR_TRY(add_copy(work, &copy));
        uint32_t level = walked;
        while (level > 0 && ++index[level - 1] == steps_of(&from->layout, level - 1)) {
            index[--level] = 0;
        }
        if (level == 0) {
            return WEIR_OK;
        }
    }
}

// A fill by words where place, length and pattern allow; else bytes that were laid out before.
static weir_status encode_fill(vulkan_work* work, uint32_t number) {
    const dispatch_fill* fill = work->dispatches[number].constants;
    const weir_view* view = &work->dispatches[number].views[0];
    const uint64_t byte_count = weir_view_byte_length(view);
    copy_side from;
    copy_side to;
    WEIR_TRY(find_side(view, &to));
    if (weir_view_is_contiguous(view) && fill->byte_count <= WORD && to.offset % WORD == 0 &&
        byte_count % WORD == 0) {
        work_copy copy = {.dispatch = number, .target = to.buffer, .fills = true};
        uint8_t bytes[WORD];
        for (uint32_t i = 0; i < WORD; i++) {
            bytes[i] = fill->bytes[i % fill->byte_count];
        }
        memcpy(&copy.word, bytes, sizeof copy.word);
        copy.region = (VkBufferCopy){.dstOffset = to.offset, .size = byte_count};
        return add_copy(work, &copy);
    }
    WEIR_TRY(stage_side(work, view, &from));
    for (uint64_t i = 0; i < byte_count; i++) {
        work->staged.items[from.offset + i] = fill->bytes[i % fill->byte_count];
    }
    return add_runs(work, number, &from, &to);
}

static weir_status encode_transfer(vulkan_work* work, uint32_t number, bool download) {
    const dispatch_transfer* transfer = work->dispatches[number].constants;
    const weir_view* view = &work->dispatches[number].views[0];
    copy_side host;
    copy_side device;
    WEIR_TRY(stage_side(work, view, &host));
    WEIR_TRY(find_side(view, &device));
    WEIR_TRY(
        array_reserve(&work->device->base.allocator, &work->transfers, work->transfers.count + 1));
    work->transfers.items[work->transfers.count++] =
        (work_transfer){.host = transfer->host,
                        .staging_offset = host.offset,
                        .byte_count = transfer->byte_length,
                        .download = download};
    return download ? add_runs(work, number, &device, &host)
                    : add_runs(work, number, &host, &device);
}

static weir_status encode_copy(vulkan_work* work, uint32_t number) {
    copy_side from;
    copy_side to;
    WEIR_TRY(find_side(&work->dispatches[number].views[0], &from));
    WEIR_TRY(find_side(&work->dispatches[number].views[1], &to));
    return add_runs(work, number, &from, &to);
}

weir_status vulkan_transfer_encode(vulkan_work* work, uint32_t dispatch) {
    if (weir_view_byte_length(&work->dispatches[dispatch].views[0]) == 0) {
        return WEIR_OK;
    }
    switch (work->dispatches[dispatch].kind) {
    case DEVICE_COPY:
        return encode_copy(work, dispatch);
    case DEVICE_FILL:
        return encode_fill(work, dispatch);
    case DEVICE_UPLOAD:
        return encode_transfer(work, dispatch, false);
    case DEVICE_DOWNLOAD:
        return encode_transfer(work, dispatch, true);
    case DEVICE_KERNEL:
    case DEVICE_NARROW:
        break;
    }
    return WEIR_FAIL(WEIR_INTERNAL, "%s is no transfer", work->dispatches[dispatch].name);
}
