// DLPack: memory shared with NumPy, PyTorch and others, without a copy.
//
// The structures are those of DLPack 1.x (github.com/dmlc/dlpack) under names of our own, equal in
// layout: pointers to them are what goes into and comes out of a Python capsule, or a cast of the
// pointers of <dlpack/dlpack.h>, which may be included beside this header.
//
//     weir                         DLPack                       name of its capsule
//     weir_dl_versioned            DLManagedTensorVersioned     "dltensor_versioned"
//     weir_dl_managed              DLManagedTensor (before 1.0) "dltensor"
//
// Whoever holds a managed tensor calls its deleter, once. Exporting gives the tensor to the caller;
// importing takes it over when it succeeds, and only then.
//
//     weir_dlpack_export(&view, &tensor);           // retains the storage
//     ... tensor->deleter(tensor), by whoever got it ...
//
//     weir_dlpack_import(device, tensor, &view);    // the storage calls the deleter at its end
//     ... weir_view_release(&view) ...
//
// Dtypes: F32 F16 BF16 F64 I8 I16 I32 I64 U8 U16 U32 U64 BOOL. Block types have none in DLPack; a
// view of them is exported as its bytes, U8 with the last dimension in bytes. Only memory that the
// host can reach is shared. No check against work in flight is made: wait for what writes the bytes
// before another library reads them, and so on.
#ifndef WEIR_DLPACK_H
#define WEIR_DLPACK_H

#include <weir/storage.h>

WEIR_C_BEGIN

#define WEIR_DL_MAJOR_VERSION 1 // of what is exported and imported; minor versions all agree
#define WEIR_DL_MINOR_VERSION 1

#define WEIR_DL_DEVICE_CPU 1 // memory of the host; others are refused

#define WEIR_DL_INT 0
#define WEIR_DL_UINT 1
#define WEIR_DL_FLOAT 2
#define WEIR_DL_BFLOAT 4
#define WEIR_DL_BOOL 6

#define WEIR_DL_READ_ONLY 1u // flag: the consumer must not write
#define WEIR_DL_IS_COPIED 2u // flag: nobody else sees the bytes; of no consequence here

typedef struct weir_dl_version {
    uint32_t major; // another layout
    uint32_t minor; // the same layout, more codes
} weir_dl_version;

typedef struct weir_dl_device {
    int32_t device_type;
    int32_t device_id;
} weir_dl_device;

typedef struct weir_dl_dtype {
    uint8_t code;
    uint8_t bits;
    uint16_t lanes; // 1, but for vectors
} weir_dl_dtype;

typedef struct weir_dl_tensor {
    void* data; // NULL for a tensor without elements
    weir_dl_device device;
    int32_t ndim;
    weir_dl_dtype dtype;
    int64_t* shape;       // [ndim]
    int64_t* strides;     // [ndim], in elements; NULL (before DLPack 1.2): contiguous
    uint64_t byte_offset; // from data to the first element
} weir_dl_tensor;

typedef struct weir_dl_managed {
    weir_dl_tensor dl_tensor;
    void* manager_ctx;
    void (*deleter)(struct weir_dl_managed* self); // NULL: nothing to do
} weir_dl_managed;

typedef struct weir_dl_versioned {
    weir_dl_version version;
    void* manager_ctx;
    void (*deleter)(struct weir_dl_versioned* self); // NULL: nothing to do
    uint64_t flags;
    weir_dl_tensor dl_tensor;
} weir_dl_versioned;

// Exports a view as a tensor of DLPack 1.x. Memory that is sealed at this time is flagged
// read-only; what consumers make of the flag is up to them.
//
// Shapes:    as the view; block types [.., k] become U8 [.., bytes of k elements].
// Ownership: the caller calls `deleter`, once. Until then the tensor retains the storage, and the
//            device must hold. The view itself may go.
// Errors:    WEIR_UNSUPPORTED the host cannot reach the memory, or a stride is not whole elements;
//            WEIR_INVALID_ARGUMENT no storage, or a view filled in by hand that is not sound;
//            WEIR_OUT_OF_RANGE it passes the end of its storage; WEIR_OUT_OF_MEMORY.
// Threads:   thread-safe, the deleter as well.
WEIR_API WEIR_MUST_USE weir_status weir_dlpack_export(const weir_view* view,
                                                      weir_dl_versioned** tensor);

// Exports a view for consumers older than DLPack 1.0.
//
// Ownership: as weir_dlpack_export.
// Errors:    as weir_dlpack_export; WEIR_UNSUPPORTED the storage is sealed, which this form cannot
//            say.
// Threads:   thread-safe, the deleter as well.
WEIR_API WEIR_MUST_USE weir_status weir_dlpack_export_legacy(const weir_view* view,
                                                             weir_dl_managed** tensor);

// Wraps the memory of a tensor of DLPack 1.x. The storage covers the bytes from the first element
// to the last; read-only tensors give a sealed one. Strides of dimensions of 0 or 1, which address
// nothing, are replaced by contiguous ones.
//
// Ownership: on success the view holds one reference (weir_view_release), and the storage calls
//            `deleter` when the last one and all work on it are gone. On failure the tensor still
//            is the caller's, who calls the deleter.
// Errors:    WEIR_UNSUPPORTED another major version (nothing but the deleter is read then), a
//            device other than the CPU, a dtype or lanes without a counterpart, a rank over
//            WEIR_RANK_MAX, negative strides; WEIR_INVALID_ARGUMENT NULL tensor, shape or data, a
//            negative rank or dimension, data not aligned for the dtype; WEIR_OUT_OF_RANGE elements
//            or bytes pass 63 bits or the address space; as weir_storage_wrap.
// Threads:   thread-safe; `deleter` runs in the thread that drops the last reference.
WEIR_API WEIR_MUST_USE weir_status weir_dlpack_import(weir_device* device,
                                                      weir_dl_versioned* tensor, weir_view* view);

// Wraps the memory of a tensor from a producer older than DLPack 1.0; never sealed.
//
// Ownership: as weir_dlpack_import.
// Errors:    as weir_dlpack_import.
// Threads:   as weir_dlpack_import.
WEIR_API WEIR_MUST_USE weir_status weir_dlpack_import_legacy(weir_device* device,
                                                             weir_dl_managed* tensor,
                                                             weir_view* view);

WEIR_C_END

#endif
