#include <weir/dlpack.h>

#include <assert.h>

#include "base/checked.h"
#include "device/backend.h"
#include "tensor/view_check.h"

// The ABI of DLPack 1.x, on machines of 64 bits.
#define IS_LAID_OUT(condition) static_assert(sizeof(void*) != 8 || (condition), "layout of DLPack")
IS_LAID_OUT(sizeof(weir_dl_tensor) == 48 && offsetof(weir_dl_tensor, device) == 8);
IS_LAID_OUT(offsetof(weir_dl_tensor, ndim) == 16 && offsetof(weir_dl_tensor, dtype) == 20);
IS_LAID_OUT(offsetof(weir_dl_tensor, shape) == 24 && offsetof(weir_dl_tensor, strides) == 32);
IS_LAID_OUT(sizeof(weir_dl_managed) == 64 && offsetof(weir_dl_managed, deleter) == 56);
IS_LAID_OUT(sizeof(weir_dl_versioned) == 80 && offsetof(weir_dl_versioned, manager_ctx) == 8);
IS_LAID_OUT(offsetof(weir_dl_versioned, deleter) == 16 && offsetof(weir_dl_versioned, flags) == 24);
IS_LAID_OUT(offsetof(weir_dl_versioned, dl_tensor) == 32);

// All plain types, with the codes of the specification.
static const struct {
    weir_dtype dtype;
    weir_dl_dtype dl;
} dtypes[] = {
    {WEIR_DTYPE_F32, {WEIR_DL_FLOAT, 32, 1}},   {WEIR_DTYPE_F16, {WEIR_DL_FLOAT, 16, 1}},
    {WEIR_DTYPE_BF16, {WEIR_DL_BFLOAT, 16, 1}}, {WEIR_DTYPE_F64, {WEIR_DL_FLOAT, 64, 1}},
    {WEIR_DTYPE_I8, {WEIR_DL_INT, 8, 1}},       {WEIR_DTYPE_I16, {WEIR_DL_INT, 16, 1}},
    {WEIR_DTYPE_I32, {WEIR_DL_INT, 32, 1}},     {WEIR_DTYPE_I64, {WEIR_DL_INT, 64, 1}},
    {WEIR_DTYPE_U8, {WEIR_DL_UINT, 8, 1}},      {WEIR_DTYPE_U16, {WEIR_DL_UINT, 16, 1}},
    {WEIR_DTYPE_U32, {WEIR_DL_UINT, 32, 1}},    {WEIR_DTYPE_U64, {WEIR_DL_UINT, 64, 1}},
    {WEIR_DTYPE_BOOL, {WEIR_DL_BOOL, 8, 1}},
};

// A tensor that was exported, and what it needs until its deleter is called.
typedef struct dlpack_export {
    union {
        weir_dl_versioned versioned;
        weir_dl_managed legacy;
    } managed;
    weir_allocator allocator;
    weir_storage* storage; // retained
    int64_t shape[WEIR_RANK_MAX];
    int64_t strides[WEIR_RANK_MAX];
} dlpack_export;

// The storage last: with the last one gone the device, and its allocator, may be closed.
static void delete_export(dlpack_export* export) {
    weir_storage* storage = export->storage;
    const weir_allocator allocator = export->allocator;
    object_free(&allocator, export);
    weir_storage_release(storage);
}

static void delete_versioned(weir_dl_versioned* self) {
    if (self) {
        delete_export(self->manager_ctx);
    }
}

static void delete_legacy(weir_dl_managed* self) {
    if (self) {
        delete_export(self->manager_ctx);
    }
}

// Block types fall back to bytes.
static weir_dl_dtype dl_dtype_of(weir_dtype dtype) {
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++) {
        if (dtypes[i].dtype == dtype) {
            return dtypes[i].dl;
        }
    }
    return (weir_dl_dtype){WEIR_DL_UINT, 8, 1};
}

static weir_status check_exportable(const weir_view* view) {
    if (!view->storage) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "export of a view without storage");
    }
    WEIR_TRY(weir_view_check(view));
    WEIR_TRY(weir_view_check_memory(view));
    if (weir_view_element_count(view) > 0 && !weir_view_contents(view)) {
        return WEIR_FAIL(WEIR_UNSUPPORTED, "export of memory that the host cannot reach");
    }
    return WEIR_OK;
}

// Fills shape and strides in elements; for block types an element is a byte. Strides of dimensions
// of 0 and 1 address nothing and may be rounded.
static weir_status describe_layout(const weir_view* view, int64_t* shape, int64_t* strides) {
    const weir_dtype_info* info = weir_dtype_describe(view->dtype);
    const bool is_block = info->block_elements > 1;
    const int64_t element_bytes = is_block ? 1 : info->block_bytes;
    for (uint32_t i = 0; i < view->shape.rank; i++) {
        shape[i] = view->shape.dims[i];
        strides[i] = view->strides[i] / element_bytes;
        if (shape[i] > 1 && view->strides[i] % element_bytes != 0) {
            return WEIR_FAIL(WEIR_UNSUPPORTED,
                             "stride %u of %lld bytes is not whole elements of %s, as DLPack needs",
                             i, (long long)view->strides[i], info->name);
        }
    }
    if (is_block) { // its last dimension exists and is in whole blocks
        const uint32_t last = view->shape.rank - 1;
        strides[last] = 1;
        if (!mul_i64(shape[last] / info->block_elements, info->block_bytes, &shape[last])) {
            return WEIR_FAIL(WEIR_OUT_OF_RANGE, "rows of %lld elements of %s pass 2^63 bytes",
                             (long long)view->shape.dims[last], info->name);
        }
    }
    return WEIR_OK;
}

static weir_status new_export(const weir_view* view, dlpack_export** export,
                              weir_dl_tensor* tensor) {
    WEIR_TRY(check_exportable(view));
    const weir_allocator allocator = view->storage->device->allocator;
    dlpack_export* made = NULL;
    WEIR_TRY(object_new(&allocator, &made));
    const weir_status status = describe_layout(view, made->shape, made->strides);
    if (status != WEIR_OK) {
        object_free(&allocator, made);
        return status;
    }
    made->allocator = allocator;
    made->storage = view->storage;
    weir_view_retain(view);
    // Many importers take the offset for 0, so it is part of the pointer.
    *tensor = (weir_dl_tensor){
        .data = weir_view_element_count(view) > 0 ? weir_view_contents(view) : NULL,
        .device = {.device_type = WEIR_DL_DEVICE_CPU},
        .ndim = (int32_t)view->shape.rank,
        .dtype = dl_dtype_of(view->dtype),
        .shape = made->shape,
        .strides = made->strides,
    };
    *export = made;
    return WEIR_OK;
}

weir_status weir_dlpack_export(const weir_view* view, weir_dl_versioned** tensor) {
    dlpack_export* export = NULL;
    weir_dl_tensor described;
    WEIR_TRY(new_export(view, &export, &described));
    export->managed.versioned = (weir_dl_versioned){
        .version = {.major = WEIR_DL_MAJOR_VERSION, .minor = WEIR_DL_MINOR_VERSION},
        .manager_ctx = export,
        .deleter = delete_versioned,
        .flags = weir_storage_is_sealed(view->storage) ? WEIR_DL_READ_ONLY : 0,
        .dl_tensor = described,
    };
    *tensor = &export->managed.versioned;
    return WEIR_OK;
}

weir_status weir_dlpack_export_legacy(const weir_view* view, weir_dl_managed** tensor) {
    if (view->storage && weir_storage_is_sealed(view->storage)) {
        return WEIR_FAIL(WEIR_UNSUPPORTED,
                         "sealed memory needs DLPack 1.0, older tensors cannot be read-only");
    }
    dlpack_export* export = NULL;
    weir_dl_tensor described;
    WEIR_TRY(new_export(view, &export, &described));
    export->managed.legacy =
        (weir_dl_managed){.dl_tensor = described, .manager_ctx = export, .deleter = delete_legacy};
    *tensor = &export->managed.legacy;
    return WEIR_OK;
}

static weir_status find_dtype(weir_dl_dtype dl, weir_dtype* dtype) {
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++) {
        if (dtypes[i].dl.code == dl.code && dtypes[i].dl.bits == dl.bits && dl.lanes == 1) {
            *dtype = dtypes[i].dtype;
            return WEIR_OK;
        }
    }
    return WEIR_FAIL(WEIR_UNSUPPORTED, "no dtype for the DLPack type of code %u, %u bits, %u lanes",
                     dl.code, dl.bits, dl.lanes);
}

static weir_status check_header(const weir_dl_tensor* tensor) {
    if (tensor->device.device_type != WEIR_DL_DEVICE_CPU) {
        return WEIR_FAIL(WEIR_UNSUPPORTED, "a DLPack tensor on device type %d, expected the CPU, 1",
                         tensor->device.device_type);
    }
    if (tensor->ndim < 0) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "a DLPack tensor of rank %d", tensor->ndim);
    }
    if (tensor->ndim > WEIR_RANK_MAX) {
        return WEIR_FAIL(WEIR_UNSUPPORTED, "a DLPack tensor of rank %d, expected at most %d",
                         tensor->ndim, WEIR_RANK_MAX);
    }
    if (tensor->ndim > 0 && !tensor->shape) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "a DLPack tensor of rank %d without a shape",
                         tensor->ndim);
    }
    return WEIR_OK;
}

// Replaces the contiguous strides of `view` where those of the tensor count: producers may leave
// anything in those of dimensions of 1, such as NumPy after a[::-1].
static weir_status take_strides(const weir_dl_tensor* tensor, weir_view* view) {
    const int64_t element_bytes = weir_dtype_describe(view->dtype)->block_bytes;
    for (uint32_t i = 0; i < view->shape.rank; i++) {
        if (view->shape.dims[i] <= 1) {
            continue;
        }
        if (tensor->strides[i] < 0) {
            return WEIR_FAIL(WEIR_UNSUPPORTED, "stride %u of a DLPack tensor is %lld, below 0", i,
                             (long long)tensor->strides[i]);
        }
        if (!mul_i64(tensor->strides[i], element_bytes, &view->strides[i])) {
            return WEIR_FAIL(WEIR_OUT_OF_RANGE,
                             "stride %u of a DLPack tensor, %lld elements, passes 2^63 bytes", i,
                             (long long)tensor->strides[i]);
        }
    }
    return WEIR_OK;
}

// Finds the address of the first element. A tensor without elements has none, whatever its data
// says, and wraps no bytes.
static weir_status locate(const weir_dl_tensor* tensor, const weir_view* view, void** pointer) {
    const uint64_t span = weir_view_byte_span(view);
    if (span == 0) {
        *pointer = NULL;
        return WEIR_OK;
    }
    if (!tensor->data) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "a DLPack tensor of %llu bytes without data",
                         (unsigned long long)span);
    }
    uint64_t address = 0;
    uint64_t end = 0;
    if (!add_u64((uintptr_t)tensor->data, tensor->byte_offset, &address) ||
        !add_u64(address, span, &end) || end > UINTPTR_MAX) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE,
                         "a DLPack tensor of %llu bytes at %p + %llu passes the address space",
                         (unsigned long long)span, tensor->data,
                         (unsigned long long)tensor->byte_offset);
    }
    const weir_dtype_info* info = weir_dtype_describe(view->dtype);
    if (address % info->alignment != 0) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                         "a DLPack tensor at %p + %llu is not aligned to the %u bytes of %s",
                         tensor->data, (unsigned long long)tensor->byte_offset, info->alignment,
                         info->name);
    }
    *pointer = (void*)(uintptr_t)address;
    return WEIR_OK;
}

// Everything is checked before the wrap, which takes the tensor over and is followed by nothing
// that could fail.
static weir_status import_tensor(weir_device* device, const weir_dl_tensor* tensor, bool sealed,
                                 weir_storage_release_fn release, void* managed, weir_view* view) {
    weir_dtype dtype = WEIR_DTYPE_NONE;
    WEIR_TRY(check_header(tensor));
    WEIR_TRY(find_dtype(tensor->dtype, &dtype));
    const weir_shape shape = weir_shape_make((uint32_t)tensor->ndim, tensor->shape);
    weir_view made;
    WEIR_TRY(weir_view_layout(dtype, &shape, &made));
    if (tensor->strides && weir_view_element_count(&made) > 0) {
        WEIR_TRY(take_strides(tensor, &made));
    }
    WEIR_TRY(weir_view_check(&made));
    weir_storage_wrap_desc desc = {.byte_size = weir_view_byte_span(&made),
                                   .sealed = sealed,
                                   .release = release,
                                   .context = managed,
                                   .name = "dlpack"};
    WEIR_TRY(locate(tensor, &made, &desc.pointer));
    WEIR_TRY(weir_storage_wrap(device, &desc, &made.storage));
    *view = made;
    return WEIR_OK;
}

static void release_versioned(void* context, void* pointer) {
    weir_dl_versioned* tensor = context;
    (void)pointer;
    if (tensor->deleter) {
        tensor->deleter(tensor);
    }
}

static void release_legacy(void* context, void* pointer) {
    weir_dl_managed* tensor = context;
    (void)pointer;
    if (tensor->deleter) {
        tensor->deleter(tensor);
    }
}

weir_status weir_dlpack_import(weir_device* device, weir_dl_versioned* tensor, weir_view* view) {
    if (!tensor) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "no DLPack tensor to import");
    }
    // Other versions keep the places of version, context and deleter only.
    if (tensor->version.major != WEIR_DL_MAJOR_VERSION) {
        return WEIR_FAIL(WEIR_UNSUPPORTED, "a tensor of DLPack %u.%u, expected %d.x",
                         tensor->version.major, tensor->version.minor, WEIR_DL_MAJOR_VERSION);
    }
    const bool sealed = (tensor->flags & WEIR_DL_READ_ONLY) != 0;
    return import_tensor(device, &tensor->dl_tensor, sealed, release_versioned, tensor, view);
}

weir_status weir_dlpack_import_legacy(weir_device* device, weir_dl_managed* tensor,
                                      weir_view* view) {
    if (!tensor) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "no DLPack tensor to import");
    }
    return import_tensor(device, &tensor->dl_tensor, false, release_legacy, tensor, view);
}
