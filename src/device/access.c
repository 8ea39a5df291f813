#include <weir/access.h>

#include <stdio.h>

#include "device/backend.h"
#include "device/shadow.h"

static weir_status refuse(weir_status status, const weir_view* view, const char* why) {
    char text[512];
    return WEIR_FAIL(status, "%s %s", weir_view_describe(view, text, sizeof text), why);
}

static weir_status count_elements(const weir_view* view, weir_dtype dtype, int64_t* count) {
    const weir_dtype_info* info = weir_dtype_describe(dtype);
    if (dtype == view->dtype) {
        *count = weir_view_element_count(view);
        return WEIR_OK;
    }
    if (view->dtype != WEIR_DTYPE_U8 || info->block_bytes == 0) {
        char why[64];
        snprintf(why, sizeof why, "is accessed as %s", info->name);
        return refuse(WEIR_INVALID_ARGUMENT, view, why);
    }
    const uint64_t byte_length = weir_view_byte_length(view);
    if (byte_length % info->block_bytes != 0) {
        char why[96];
        snprintf(why, sizeof why, "has no whole elements of %s, %u bytes", info->name,
                 info->block_bytes);
        return refuse(WEIR_INVALID_ARGUMENT, view, why);
    }
    *count = (int64_t)(byte_length / info->block_bytes) * info->block_elements;
    return WEIR_OK;
}

static weir_status find_elements(const weir_view* view, weir_dtype dtype, void** elements,
                                 int64_t* count) {
    if (!view->storage) {
        return refuse(WEIR_INVALID_ARGUMENT, view, "cannot be accessed");
    }
    WEIR_TRY(weir_view_check_memory(view));
    WEIR_TRY(count_elements(view, dtype, count));
    if (!weir_view_is_contiguous(view)) {
        return refuse(WEIR_INVALID_ARGUMENT, view, "is not contiguous");
    }
    WEIR_TRY(weir_state_check_bytes(view->storage, view->byte_offset,
                                    view->byte_offset + weir_view_byte_span(view)));
    if (!atomic_load(&view->storage->host)) {
        WEIR_TRY(weir_storage_touch(view->storage));
    }
    *elements = weir_view_contents(view);
    if (!*elements) {
        return refuse(WEIR_UNSUPPORTED, view, "is out of reach of the host");
    }
    const uint32_t alignment = weir_dtype_describe(dtype)->alignment;
    if (alignment > 1 && (uintptr_t)*elements % alignment != 0) {
        return refuse(WEIR_INVALID_ARGUMENT, view, "is misaligned for the type");
    }
    return WEIR_OK;
}

static weir_status check_idle(const weir_view* view, weir_access_kind kind) {
    bool in_flight = false;
    WEIR_TRY(identity_in_flight(view, kind, &in_flight));
    if (!in_flight) {
        return WEIR_OK;
    }
    return refuse(WEIR_BUSY, view,
                  kind == WEIR_ACCESS_READ ? "is written by a pass in flight"
                                           : "is touched by a pass in flight");
}

weir_status weir_view_read(const weir_view* view, weir_dtype dtype, const void** elements,
                           int64_t* count) {
    void* found = NULL;
    int64_t found_count = 0;
    bool stale = false;
    WEIR_TRY(find_elements(view, dtype, &found, &found_count));
    WEIR_TRY(check_idle(view, WEIR_ACCESS_READ));
    WEIR_TRY(weir_shadow_is_stale(view, &stale));
    if (stale) {
        return refuse(WEIR_BUSY, view, "is a shadow that has to be converted");
    }
    *elements = found;
    *count = found_count;
    return WEIR_OK;
}

weir_status weir_view_write(const weir_view* view, weir_dtype dtype, void** elements,
                            int64_t* count) {
    void* found = NULL;
    int64_t found_count = 0;
    if (view->storage && weir_storage_is_sealed(view->storage)) {
        return refuse(WEIR_INVALID_ARGUMENT, view, "is sealed");
    }
    WEIR_TRY(find_elements(view, dtype, &found, &found_count));
    WEIR_TRY(check_idle(view, WEIR_ACCESS_READ_WRITE));
    WEIR_TRY(weir_shadow_note(view, NULL));
    *elements = found;
    *count = found_count;
    return WEIR_OK;
}
