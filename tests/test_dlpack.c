// DLPack: what is exported, what is taken in, what is refused, and who calls the deleter when.
#include "testing.h"

#include <weir/weir.h>

#include "testing_allocator.h"

static weir_device* new_device(bool manual, test_allocator* counter) {
    weir_device_desc desc = {.name = "null", .manual_completion = manual};
    if (counter) {
        desc.allocator = test_allocator_of(counter);
    }
    weir_device* device = NULL;
    assert_ok(weir_device_create(&desc, &device));
    return device;
}

static int open_null(void** state) {
    *state = new_device(false, NULL);
    return 0;
}

static int close_device(void** state) {
    weir_device_destroy(*state);
    return 0;
}

static void count_release(void* context, void* pointer) {
    (void)pointer;
    ++*(int*)context;
}

// A storage of `byte_size` bytes of the test, which counts its end in `released`.
static weir_storage* wrap(weir_device* device, void* bytes, uint64_t byte_size, bool sealed,
                          int* released) {
    const weir_storage_wrap_desc desc = {.pointer = bytes,
                                         .byte_size = byte_size,
                                         .sealed = sealed,
                                         .release = count_release,
                                         .context = released};
    weir_storage* storage = NULL;
    assert_ok(weir_storage_wrap(device, &desc, &storage));
    return storage;
}

static weir_view view_of(weir_storage* storage, uint64_t byte_offset, weir_dtype dtype,
                         uint32_t rank, const int64_t* dims) {
    const weir_shape shape = weir_shape_make(rank, dims);
    weir_view view;
    assert_ok(weir_view_make(storage, byte_offset, dtype, &shape, &view));
    return view;
}

typedef struct dtype_case {
    weir_dtype dtype;
    weir_dl_dtype dl;
} dtype_case;

// Codes and bits as the specification lists them.
static const dtype_case dtype_cases[] = {
    {WEIR_DTYPE_F32, {2, 32, 1}}, {WEIR_DTYPE_F16, {2, 16, 1}}, {WEIR_DTYPE_BF16, {4, 16, 1}},
    {WEIR_DTYPE_F64, {2, 64, 1}}, {WEIR_DTYPE_I8, {0, 8, 1}},   {WEIR_DTYPE_I16, {0, 16, 1}},
    {WEIR_DTYPE_I32, {0, 32, 1}}, {WEIR_DTYPE_I64, {0, 64, 1}}, {WEIR_DTYPE_U8, {1, 8, 1}},
    {WEIR_DTYPE_U16, {1, 16, 1}}, {WEIR_DTYPE_U32, {1, 32, 1}}, {WEIR_DTYPE_U64, {1, 64, 1}},
    {WEIR_DTYPE_BOOL, {6, 8, 1}},
};
#define DTYPE_CASES (sizeof dtype_cases / sizeof dtype_cases[0])

static void an_export_describes_the_bytes_of_the_view(void** state) {
    _Alignas(64) uint8_t bytes[256];
    for (size_t i = 0; i < DTYPE_CASES; i++) {
        int released = 0;
        weir_storage* storage = wrap(*state, bytes, sizeof bytes, false, &released);
        const weir_view view = view_of(storage, 64, dtype_cases[i].dtype, 3, (int64_t[]){2, 3, 4});
        weir_dl_versioned* tensor = NULL;
        assert_ok(weir_dlpack_export(&view, &tensor));
        assert_int_equal(tensor->version.major, 1);
        assert_int_equal(tensor->flags, 0);
        assert_ptr_equal((uint8_t*)tensor->dl_tensor.data + tensor->dl_tensor.byte_offset,
                         bytes + 64);
        assert_int_equal(tensor->dl_tensor.byte_offset, 0);
        assert_int_equal(tensor->dl_tensor.device.device_type, WEIR_DL_DEVICE_CPU);
        assert_int_equal(tensor->dl_tensor.device.device_id, 0);
        assert_memory_equal(&tensor->dl_tensor.dtype, &dtype_cases[i].dl, sizeof(weir_dl_dtype));
        assert_int_equal(tensor->dl_tensor.ndim, 3);
        assert_memory_equal(tensor->dl_tensor.shape, ((int64_t[]){2, 3, 4}), 24);
        assert_memory_equal(tensor->dl_tensor.strides, ((int64_t[]){12, 4, 1}), 24);
        weir_storage_release(storage);
        assert_int_equal(released, 0); // the tensor holds it
        tensor->deleter(tensor);
        assert_int_equal(released, 1);
    }
}

static void a_legacy_export_says_the_same(void** state) {
    float floats[12];
    int released = 0;
    weir_storage* storage = wrap(*state, floats, sizeof floats, false, &released);
    const weir_view view = view_of(storage, 8, WEIR_DTYPE_F32, 2, (int64_t[]){2, 5});
    weir_dl_managed* tensor = NULL;
    assert_ok(weir_dlpack_export_legacy(&view, &tensor));
    assert_ptr_equal(tensor->dl_tensor.data, floats + 2);
    assert_int_equal(tensor->dl_tensor.ndim, 2);
    assert_memory_equal(tensor->dl_tensor.strides, ((int64_t[]){5, 1}), 16);
    weir_storage_release(storage);
    assert_int_equal(released, 0);
    tensor->deleter(tensor);
    assert_int_equal(released, 1);
}

static void sealed_memory_is_exported_read_only_or_not_at_all(void** state) {
    float floats[4] = {0};
    int released = 0;
    weir_storage* storage = wrap(*state, floats, sizeof floats, true, &released);
    const weir_view view = view_of(storage, 0, WEIR_DTYPE_F32, 1, (int64_t[]){4});
    weir_dl_versioned* tensor = NULL;
    weir_dl_managed* legacy = NULL;
    assert_ok(weir_dlpack_export(&view, &tensor));
    assert_int_equal(tensor->flags, WEIR_DL_READ_ONLY);
    assert_status(weir_dlpack_export_legacy(&view, &legacy), WEIR_UNSUPPORTED);
    assert_message_has("read-only");
    assert_null(legacy);
    tensor->deleter(tensor);
    weir_storage_release(storage);
    assert_int_equal(released, 1);
}

static void strides_are_exported_in_elements(void** state) {
    int16_t numbers[4 * 6];
    int released = 0;
    weir_storage* storage = wrap(*state, numbers, sizeof numbers, false, &released);
    const weir_view whole = view_of(storage, 0, WEIR_DTYPE_I16, 2, (int64_t[]){4, 6});
    weir_view part;
    assert_ok(weir_view_narrow(&whole, 1, 2, 3, &part));
    assert_ok(weir_view_permute(&part, (uint32_t[]){1, 0}, &part));
    weir_dl_versioned* tensor = NULL;
    assert_ok(weir_dlpack_export(&part, &tensor));
    assert_ptr_equal(tensor->dl_tensor.data, numbers + 2);
    assert_memory_equal(tensor->dl_tensor.shape, ((int64_t[]){3, 4}), 16);
    assert_memory_equal(tensor->dl_tensor.strides, ((int64_t[]){1, 6}), 16);
    tensor->deleter(tensor);
    weir_storage_release(storage);
}

static void block_types_are_exported_as_bytes(void** state) {
    uint8_t bytes[3 * 4 * 18];
    int released = 0;
    weir_storage* storage = wrap(*state, bytes, sizeof bytes, false, &released);
    const weir_view whole = view_of(storage, 0, WEIR_DTYPE_Q4_0, 2, (int64_t[]){3, 128});
    weir_view part;
    assert_ok(weir_view_narrow(&whole, 1, 32, 64, &part)); // two blocks of each row
    weir_dl_versioned* tensor = NULL;
    assert_ok(weir_dlpack_export(&part, &tensor));
    assert_memory_equal(&tensor->dl_tensor.dtype, (&(weir_dl_dtype){1, 8, 1}), 4);
    assert_ptr_equal(tensor->dl_tensor.data, bytes + 18);
    assert_memory_equal(tensor->dl_tensor.shape, ((int64_t[]){3, 36}), 16);
    assert_memory_equal(tensor->dl_tensor.strides, ((int64_t[]){72, 1}), 16);
    tensor->deleter(tensor);
    weir_storage_release(storage);
}

static void scalars_and_empty_views_are_exported(void** state) {
    double number = 1;
    int released = 0;
    weir_storage* storage = wrap(*state, &number, sizeof number, false, &released);
    const weir_view scalar = view_of(storage, 0, WEIR_DTYPE_F64, 0, NULL);
    const weir_view empty = view_of(storage, 8, WEIR_DTYPE_F64, 2, (int64_t[]){0, 7});
    weir_dl_versioned* tensor = NULL;
    assert_ok(weir_dlpack_export(&scalar, &tensor));
    assert_int_equal(tensor->dl_tensor.ndim, 0);
    assert_ptr_equal(tensor->dl_tensor.data, &number);
    tensor->deleter(tensor);
    assert_ok(weir_dlpack_export(&empty, &tensor));
    assert_null(tensor->dl_tensor.data); // as the specification asks
    assert_memory_equal(tensor->dl_tensor.shape, ((int64_t[]){0, 7}), 16);
    tensor->deleter(tensor);
    weir_storage_release(storage);
    assert_int_equal(released, 1);
}

static void views_that_are_not_sound_are_not_exported(void** state) {
    float floats[8];
    int released = 0;
    weir_storage* storage = wrap(*state, floats, sizeof floats, false, &released);
    const weir_view good = view_of(storage, 0, WEIR_DTYPE_F32, 2, (int64_t[]){2, 2});
    weir_view no_storage = good;
    no_storage.storage = NULL;
    weir_view too_long = good;
    too_long.byte_offset = 20;
    weir_view uneven = good;
    uneven.strides[0] = 10;
    weir_view negative = good;
    negative.strides[0] = -8;
    weir_view misaligned = good;
    misaligned.byte_offset = 2;
    const struct {
        const weir_view* view;
        weir_status status;
    } cases[] = {{&no_storage, WEIR_INVALID_ARGUMENT},
                 {&too_long, WEIR_OUT_OF_RANGE},
                 {&uneven, WEIR_UNSUPPORTED},
                 {&negative, WEIR_INVALID_ARGUMENT},
                 {&misaligned, WEIR_INVALID_ARGUMENT}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        weir_dl_versioned* tensor = NULL;
        weir_dl_managed* legacy = NULL;
        assert_status(weir_dlpack_export(cases[i].view, &tensor), cases[i].status);
        assert_status(weir_dlpack_export_legacy(cases[i].view, &legacy), cases[i].status);
        assert_null(tensor);
        assert_null(legacy);
    }
    weir_storage_release(storage);
    assert_int_equal(released, 1);
}

// A tensor of somebody else, with a deleter that counts.
typedef struct foreign {
    weir_dl_versioned versioned;
    weir_dl_managed legacy;
    int64_t shape[9];
    int64_t strides[9];
    int deleted;
} foreign;

static void delete_versioned(weir_dl_versioned* self) {
    ((foreign*)self->manager_ctx)->deleted++;
}

static void delete_legacy(weir_dl_managed* self) {
    ((foreign*)self->manager_ctx)->deleted++;
}

// Fills both forms with a contiguous F32 tensor without strides; `f` must not move.
static void make_foreign(foreign* f, void* data, int32_t rank, const int64_t* dims) {
    *f = (foreign){.deleted = 0};
    for (int32_t i = 0; i < rank; i++) {
        f->shape[i] = dims[i];
    }
    f->versioned = (weir_dl_versioned){
        .version = {1, 3},
        .manager_ctx = f,
        .deleter = delete_versioned,
        .dl_tensor = {.data = data,
                      .device = {.device_type = WEIR_DL_DEVICE_CPU},
                      .ndim = rank,
                      .dtype = {WEIR_DL_FLOAT, 32, 1},
                      .shape = f->shape},
    };
    f->legacy = (weir_dl_managed){
        .dl_tensor = f->versioned.dl_tensor, .manager_ctx = f, .deleter = delete_legacy};
}

static void set_strides(foreign* f, const int64_t* strides) {
    memcpy(f->strides, strides, (size_t)f->versioned.dl_tensor.ndim * sizeof *strides);
    f->versioned.dl_tensor.strides = f->legacy.dl_tensor.strides = f->strides;
}

// Imports the versioned form for even `form`, the legacy one for odd.
static weir_status import_form(weir_device* device, foreign* f, int form, weir_view* view) {
    return form % 2 == 0 ? weir_dlpack_import(device, &f->versioned, view)
                         : weir_dlpack_import_legacy(device, &f->legacy, view);
}

static void an_import_shares_the_bytes_and_deletes_once(void** state) {
    float floats[6] = {0, 1, 2, 3, 4, 5};
    for (int form = 0; form < 2; form++) {
        foreign f;
        weir_view view;
        make_foreign(&f, floats, 2, (int64_t[]){2, 3});
        assert_ok(import_form(*state, &f, form, &view));
        assert_ptr_equal(weir_view_contents(&view), floats);
        assert_int_equal(view.dtype, WEIR_DTYPE_F32);
        assert_true(weir_view_is_contiguous(&view));
        assert_int_equal(view.shape.rank, 2);
        assert_int_equal(view.shape.dims[1], 3);
        assert_int_equal(weir_storage_byte_size(view.storage), sizeof floats);
        assert_false(weir_storage_is_sealed(view.storage));
        weir_view_retain(&view);
        weir_view_release(&view);
        assert_int_equal(f.deleted, 0);
        weir_view_release(&view);
        assert_int_equal(f.deleted, 1);
    }
}

static void every_dtype_is_imported_as_itself(void** state) {
    _Alignas(8) uint8_t bytes[24] = {0};
    for (size_t i = 0; i < DTYPE_CASES; i++) {
        foreign f;
        weir_view view;
        make_foreign(&f, bytes, 1, (int64_t[]){3});
        f.versioned.dl_tensor.dtype = dtype_cases[i].dl;
        assert_ok(weir_dlpack_import(*state, &f.versioned, &view));
        assert_int_equal(view.dtype, dtype_cases[i].dtype);
        assert_int_equal(weir_storage_byte_size(view.storage), 3u * dtype_cases[i].dl.bits / 8);
        weir_view_release(&view);
        assert_int_equal(f.deleted, 1);
    }
}

static void read_only_tensors_are_sealed(void** state) {
    float floats[2] = {0};
    foreign f;
    weir_view view;
    make_foreign(&f, floats, 1, (int64_t[]){2});
    f.versioned.flags = WEIR_DL_READ_ONLY | WEIR_DL_IS_COPIED | 1u << 31;
    assert_ok(weir_dlpack_import(*state, &f.versioned, &view));
    assert_true(weir_storage_is_sealed(view.storage));
    weir_view_release(&view);
    make_foreign(&f, floats, 1, (int64_t[]){2});
    f.versioned.flags = WEIR_DL_IS_COPIED;
    assert_ok(weir_dlpack_import(*state, &f.versioned, &view));
    assert_false(weir_storage_is_sealed(view.storage));
    weir_view_release(&view);
}

static void strides_and_byte_offset_are_honoured(void** state) {
    float floats[2 + 4 * 6];
    for (int form = 0; form < 2; form++) {
        foreign f;
        weir_view view;
        make_foreign(&f, floats, 2, (int64_t[]){3, 4}); // columns 2..4 of 4 x 6, transposed
        set_strides(&f, (int64_t[]){1, 6});
        f.versioned.dl_tensor.byte_offset = f.legacy.dl_tensor.byte_offset = 16;
        assert_ok(import_form(*state, &f, form, &view));
        assert_ptr_equal(weir_view_contents(&view), floats + 4);
        assert_int_equal(view.strides[0], 4);
        assert_int_equal(view.strides[1], 24);
        assert_int_equal(weir_storage_byte_size(view.storage), (3 * 6 + 2 + 1) * sizeof(float));
        const weir_range range = weir_view_range(&view);
        assert_true(range.byte_offset == (uintptr_t)(floats + 4));
        weir_view_release(&view);
    }
}

static void a_broadcast_of_stride_zero_is_imported(void** state) {
    float number = 1;
    foreign f;
    weir_view view;
    make_foreign(&f, &number, 2, (int64_t[]){100, 100});
    set_strides(&f, (int64_t[]){0, 0});
    assert_ok(weir_dlpack_import(*state, &f.versioned, &view));
    assert_int_equal(weir_storage_byte_size(view.storage), sizeof number);
    weir_view_release(&view);
}

static void strides_that_address_nothing_do_not_matter(void** state) {
    float floats[4] = {0};
    foreign f;
    weir_view view;
    make_foreign(&f, floats, 3, (int64_t[]){1, 4, 1});
    set_strides(&f, (int64_t[]){INT64_MIN, 1, -1});
    assert_ok(weir_dlpack_import(*state, &f.versioned, &view));
    assert_true(weir_view_is_contiguous(&view));
    weir_view_release(&view);
    make_foreign(&f, floats, 2, (int64_t[]){0, 4});
    set_strides(&f, (int64_t[]){-4, -1});
    assert_ok(weir_dlpack_import(*state, &f.versioned, &view));
    assert_int_equal(weir_view_element_count(&view), 0);
    weir_view_release(&view);
}

static void scalars_and_empty_tensors_are_imported(void** state) {
    float number = 1;
    for (int form = 0; form < 2; form++) {
        foreign f;
        weir_view view;
        make_foreign(&f, &number, 0, NULL);
        f.versioned.dl_tensor.shape = f.legacy.dl_tensor.shape = NULL;
        assert_ok(import_form(*state, &f, form, &view));
        assert_int_equal(weir_view_element_count(&view), 1);
        assert_int_equal(weir_storage_byte_size(view.storage), sizeof number);
        weir_view_release(&view);
        assert_int_equal(f.deleted, 1);
        void* const nowhere[] = {NULL, (uint8_t*)&number + 1};
        for (int i = 0; i < 2; i++) {
            make_foreign(&f, nowhere[i], 2, (int64_t[]){3, 0});
            assert_ok(import_form(*state, &f, form, &view));
            assert_int_equal(weir_view_element_count(&view), 0);
            assert_int_equal(weir_storage_byte_size(view.storage), 0);
            weir_view_release(&view);
            assert_int_equal(f.deleted, 1);
        }
    }
}

static void a_tensor_without_deleter_is_imported(void** state) {
    float floats[2] = {0};
    for (int form = 0; form < 2; form++) {
        foreign f;
        weir_view view;
        make_foreign(&f, floats, 1, (int64_t[]){2});
        f.versioned.deleter = NULL;
        f.legacy.deleter = NULL;
        assert_ok(import_form(*state, &f, form, &view));
        weir_view_release(&view);
    }
}

// Each case changes one thing of a good tensor [2, 3] with strides.
typedef struct bad_tensor {
    const char* what; // must be in the message
    weir_status status;
    void (*spoil)(weir_dl_tensor* tensor);
} bad_tensor;

static void on_cuda(weir_dl_tensor* t) {
    t->device.device_type = 2;
}
static void with_lanes(weir_dl_tensor* t) {
    t->dtype.lanes = 4;
}
static void with_no_lanes(weir_dl_tensor* t) {
    t->dtype.lanes = 0;
}
static void of_complex(weir_dl_tensor* t) {
    t->dtype = (weir_dl_dtype){5, 64, 1};
}
static void of_8_bit_floats(weir_dl_tensor* t) {
    t->dtype = (weir_dl_dtype){WEIR_DL_FLOAT, 8, 1};
}
static void of_1_bit_bools(weir_dl_tensor* t) {
    t->dtype = (weir_dl_dtype){WEIR_DL_BOOL, 1, 1};
}
static void of_rank_9(weir_dl_tensor* t) {
    t->ndim = 9;
}
static void of_rank_below_0(weir_dl_tensor* t) {
    t->ndim = -1;
}
static void without_shape(weir_dl_tensor* t) {
    t->shape = NULL;
}
static void of_negative_dim(weir_dl_tensor* t) {
    t->shape[1] = -3;
}
static void of_negative_stride(weir_dl_tensor* t) {
    t->strides[0] = -3;
}
static void of_huge_stride(weir_dl_tensor* t) {
    t->strides[0] = INT64_MAX / 2;
}
static void of_huge_span(weir_dl_tensor* t) {
    t->shape[0] = 1 << 20;
    t->strides[0] = 1ll << 42;
}
static void of_huge_count(weir_dl_tensor* t) {
    t->shape[0] = t->shape[1] = 1ll << 32;
}
static void of_huge_bytes(weir_dl_tensor* t) {
    t->shape[0] = t->shape[1] = 1ll << 31;
    t->strides = NULL;
}
static void without_data(weir_dl_tensor* t) {
    t->data = NULL;
}
static void misaligned(weir_dl_tensor* t) {
    t->byte_offset = 2;
}
static void past_the_address_space(weir_dl_tensor* t) {
    t->byte_offset = UINT64_MAX - 3;
}
static void ending_past_the_address_space(weir_dl_tensor* t) {
    t->byte_offset = UINT64_MAX - (uintptr_t)t->data - 7;
}

static const bad_tensor bad_tensors[] = {
    {"device type 2", WEIR_UNSUPPORTED, on_cuda},
    {"4 lanes", WEIR_UNSUPPORTED, with_lanes},
    {"0 lanes", WEIR_UNSUPPORTED, with_no_lanes},
    {"code 5", WEIR_UNSUPPORTED, of_complex},
    {"8 bits", WEIR_UNSUPPORTED, of_8_bit_floats},
    {"1 bits", WEIR_UNSUPPORTED, of_1_bit_bools},
    {"rank 9", WEIR_UNSUPPORTED, of_rank_9},
    {"rank -1", WEIR_INVALID_ARGUMENT, of_rank_below_0},
    {"without a shape", WEIR_INVALID_ARGUMENT, without_shape},
    {"negative", WEIR_INVALID_ARGUMENT, of_negative_dim},
    {"stride 0 of a DLPack tensor is -3", WEIR_UNSUPPORTED, of_negative_stride},
    {"stride 0", WEIR_OUT_OF_RANGE, of_huge_stride},
    {"63 bits", WEIR_OUT_OF_RANGE, of_huge_span},
    {"elements", WEIR_OUT_OF_RANGE, of_huge_count},
    {"63 bits", WEIR_OUT_OF_RANGE, of_huge_bytes},
    {"without data", WEIR_INVALID_ARGUMENT, without_data},
    {"not aligned", WEIR_INVALID_ARGUMENT, misaligned},
    {"address space", WEIR_OUT_OF_RANGE, past_the_address_space},
    {"address space", WEIR_OUT_OF_RANGE, ending_past_the_address_space},
};

static void what_cannot_be_imported_stays_with_the_caller(void** state) {
    float floats[8] = {0};
    for (size_t i = 0; i < 2 * sizeof bad_tensors / sizeof bad_tensors[0]; i++) {
        const bad_tensor* bad = &bad_tensors[i / 2];
        foreign f;
        weir_view view = {.byte_offset = 77};
        make_foreign(&f, floats, 2, (int64_t[]){2, 3});
        set_strides(&f, (int64_t[]){3, 1});
        bad->spoil(i % 2 == 0 ? &f.versioned.dl_tensor : &f.legacy.dl_tensor);
        const weir_status status = import_form(*state, &f, (int)(i % 2), &view);
        if (status != bad->status) {
            fail_msg("case %zu: '%s' (%s)", i / 2, weir_status_text(status), weir_last_error());
        }
        assert_message_has(bad->what);
        assert_int_equal(f.deleted, 0);
        assert_null(view.storage);
        assert_int_equal(view.byte_offset, 77);
    }
    weir_view view;
    assert_status(weir_dlpack_import(*state, NULL, &view), WEIR_INVALID_ARGUMENT);
    assert_status(weir_dlpack_import_legacy(*state, NULL, &view), WEIR_INVALID_ARGUMENT);
}

static void other_major_versions_are_refused_unread(void** state) {
    weir_view view;
    foreign f;
    make_foreign(&f, NULL, 1, (int64_t[]){2});
    f.versioned.dl_tensor.shape = (int64_t*)(uintptr_t)8; // would fault
    for (uint32_t major = 0; major <= 2; major += 2) {
        f.versioned.version = (weir_dl_version){major, 0};
        assert_status(weir_dlpack_import(*state, &f.versioned, &view), WEIR_UNSUPPORTED);
        assert_message_has("expected 1.x");
        assert_int_equal(f.deleted, 0);
    }
}

static void a_wrap_that_fails_leaves_the_tensor_to_the_caller(void** state) {
    float floats[2] = {0};
    for (int form = 0; form < 2; form++) {
        foreign f;
        weir_view view = {0};
        make_foreign(&f, floats, 1, (int64_t[]){2});
        weir_null_fail(*state, 0, WEIR_UNSUPPORTED);
        assert_status(import_form(*state, &f, form, &view), WEIR_UNSUPPORTED);
        assert_null(view.storage);
        assert_int_equal(f.deleted, 0);
        assert_ok(import_form(*state, &f, form, &view)); // the same tensor, again
        weir_view_release(&view);
        assert_int_equal(f.deleted, 1);
    }
}

static weir_status nothing(const weir_kernel_call* call) {
    (void)call;
    return WEIR_OK;
}

static void the_deleter_waits_for_work_in_flight(void** state) {
    (void)state;
    weir_device* device = new_device(true, NULL);
    float floats[2] = {0};
    foreign f;
    weir_operand operand = {.kind = WEIR_ACCESS_WRITE};
    make_foreign(&f, floats, 1, (int64_t[]){2});
    assert_ok(weir_dlpack_import(device, &f.versioned, &operand.view));
    weir_session* session = NULL;
    weir_ticket ticket;
    assert_ok(weir_session_create(device, &session));
    const weir_dispatch_desc desc = {.kernel = nothing, .operands = &operand, .operand_count = 1};
    assert_ok(weir_session_dispatch(session, &desc, NULL));
    assert_ok(weir_session_commit(session, &ticket));
    weir_session_destroy(session);
    weir_view_release(&operand.view);
    assert_int_equal(f.deleted, 0);
    assert_int_equal(weir_null_complete(device, 1, WEIR_OK), 1);
    assert_ok(weir_ticket_wait(ticket, WEIR_WAIT_FOREVER));
    assert_int_equal(f.deleted, 1);
    weir_device_destroy(device);
}

static void an_export_can_be_imported_again(void** state) {
    float floats[12];
    int released = 0;
    weir_storage* storage = wrap(*state, floats, sizeof floats, false, &released);
    const weir_view view = view_of(storage, 16, WEIR_DTYPE_F32, 2, (int64_t[]){2, 4});
    weir_dl_versioned* tensor = NULL;
    weir_view again;
    assert_ok(weir_dlpack_export(&view, &tensor));
    assert_ok(weir_dlpack_import(*state, tensor, &again));
    assert_ptr_equal(weir_view_contents(&again), floats + 4);
    const weir_range a = weir_view_range(&view);
    const weir_range b = weir_view_range(&again);
    assert_true(weir_range_overlaps(&a, &b)); // two storages, the same memory
    weir_storage_release(storage);
    assert_int_equal(released, 0);
    weir_view_release(&again);
    assert_int_equal(released, 1);
}

static void each_failing_allocation_leaves_things_as_they_were(void** state) {
    (void)state;
    test_allocator counter = {.fail_at = SIZE_MAX};
    weir_device* device = new_device(false, &counter);
    float floats[4] = {0};
    int released = 0;
    weir_storage* storage = wrap(device, floats, sizeof floats, false, &released);
    const weir_view view = view_of(storage, 0, WEIR_DTYPE_F32, 1, (int64_t[]){4});
    const size_t blocks = atomic_load(&counter.live_blocks);
    for (int form = 0; form < 2; form++) {
        foreign f;
        weir_view imported;
        weir_dl_versioned* tensor = NULL;
        weir_dl_managed* legacy = NULL;
        make_foreign(&f, floats, 1, (int64_t[]){4});
        counter.fail_at = atomic_load(&counter.calls);
        assert_status(form == 0 ? weir_dlpack_export(&view, &tensor)
                                : weir_dlpack_export_legacy(&view, &legacy),
                      WEIR_OUT_OF_MEMORY);
        weir_status status = WEIR_OUT_OF_MEMORY;
        uint32_t failures = 0;
        for (; status != WEIR_OK; failures++) {
            counter.fail_at = atomic_load(&counter.calls) + failures;
            status = import_form(device, &f, form, &imported);
            assert_true(status == WEIR_OK || status == WEIR_OUT_OF_MEMORY);
            assert_true(status == WEIR_OK || atomic_load(&counter.live_blocks) == blocks);
            assert_int_equal(f.deleted, 0);
        }
        assert_true(failures > 1);
        counter.fail_at = SIZE_MAX;
        weir_view_release(&imported);
        assert_int_equal(f.deleted, 1);
    }
    weir_storage_release(storage);
    assert_int_equal(released, 1);
    weir_device_destroy(device);
    assert_int_equal(atomic_load(&counter.live_blocks), 0);
}

#define on_null(test) cmocka_unit_test_setup_teardown(test, open_null, close_device)

int main(void) {
    const struct CMUnitTest tests[] = {
        on_null(an_export_describes_the_bytes_of_the_view),
        on_null(a_legacy_export_says_the_same),
        on_null(sealed_memory_is_exported_read_only_or_not_at_all),
        on_null(strides_are_exported_in_elements),
        on_null(block_types_are_exported_as_bytes),
        on_null(scalars_and_empty_views_are_exported),
        on_null(views_that_are_not_sound_are_not_exported),
        on_null(an_import_shares_the_bytes_and_deletes_once),
        on_null(every_dtype_is_imported_as_itself),
        on_null(read_only_tensors_are_sealed),
        on_null(strides_and_byte_offset_are_honoured),
        on_null(a_broadcast_of_stride_zero_is_imported),
        on_null(strides_that_address_nothing_do_not_matter),
        on_null(scalars_and_empty_tensors_are_imported),
        on_null(a_tensor_without_deleter_is_imported),
        on_null(what_cannot_be_imported_stays_with_the_caller),
        on_null(other_major_versions_are_refused_unread),
        on_null(a_wrap_that_fails_leaves_the_tensor_to_the_caller),
        cmocka_unit_test(the_deleter_waits_for_work_in_flight),
        on_null(an_export_can_be_imported_again),
        cmocka_unit_test(each_failing_allocation_leaves_things_as_they_were),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
