// BufferRange: one region of memory that a dispatch reads or writes.
#include "conformance.h"

static bool meet(const weir_view* a, const weir_view* b) {
    bool there = false;
    bool back = false;
    assert_ok(weir_view_overlaps(a, b, &there));
    assert_ok(weir_view_overlaps(b, a, &back));
    const weir_range left = weir_view_range(a);
    const weir_range right = weir_view_range(b);
    assert_int_equal(there, back);
    assert_int_equal(there, weir_range_overlaps(&left, &right));
    assert_int_equal(there, weir_range_overlaps(&right, &left));
    return there;
}

// Memory, offset, end and kind; two storages are two memories.
static void buffer_range_fields(void** state) {
    const conformance* c = *state;
    const weir_view view = first_floats(c, 16, 8);
    const weir_view all = first_floats(c, 0, FLOATS);
    const weir_access access = weir_access_from_view(&view, WEIR_ACCESS_READ_WRITE);
    const weir_range whole = weir_view_range(&all);
    weir_storage* other = allocate_zeros(c->device, 64);
    const weir_view elsewhere = floats_of(other, 0, 16);
    assert_int_equal(access.kind, WEIR_ACCESS_READ_WRITE);
    assert_int_not_equal(access.range.memory_id, 0);
    assert_int_equal(access.range.memory_id, whole.memory_id);
    assert_int_equal(access.range.byte_offset - whole.byte_offset, 64);
    assert_int_equal(access.range.byte_length, 32);
    assert_int_equal(weir_range_end(&access.range), access.range.byte_offset + 32);
    assert_false(meet(&view, &elsewhere));
    weir_storage_release(other);
}

// Identity is the memory: two handles on the same bytes conflict where they share one.
static void buffer_range_two_handles_on_the_same_bytes(void** state) {
    const conformance* c = *state;
    static _Alignas(4096) float numbers[2048];
    weir_storage* left = try_wrap(c, numbers, sizeof numbers, false, NULL);
    if (!left) {
        skip_because(weir_last_error());
    }
    weir_storage* right = try_wrap(c, numbers + 1024, sizeof numbers / 2, false, NULL);
    assert_non_null(right);
    const weir_view below = floats_of(left, 0, 1024);
    const weir_view across = floats_of(left, 4092, 2);
    const weir_view above = floats_of(right, 0, 1024);
    assert_false(meet(&below, &above));
    assert_true(meet(&across, &above));
    assert_ok(fill_with(c->session, &across, 1.0f));
    assert_ok(fill_with(c->session, &above, 2.0f));
    assert_ok(weir_session_finish(c->session));
    assert_int_equal(weir_session_counters(c->session)->waits, 1);
    assert_counts(c, &above, 2.0f, 0.0f);
    weir_storage_release(left);
    weir_storage_release(right);
}

// The range ends where the slice ends; slices of one parent have its identity.
static void buffer_range_from_buffer(void** state) {
    const conformance* c = *state;
    weir_view first;
    weir_view second;
    assert_ok(weir_view_slice(&c->floats, 0, 8, &first));
    assert_ok(weir_view_slice(&c->floats, 32, 8, &second));
    const weir_range a = weir_view_range(&first);
    const weir_range b = weir_view_range(&second);
    assert_int_equal(a.memory_id, b.memory_id);
    assert_int_equal(weir_range_end(&a), b.byte_offset);
    assert_int_equal(b.byte_length, 32);
    assert_false(meet(&first, &second));
    assert_true(meet(&first, &c->floats));
}

// Columns of a matrix: rows are exact, so that halves side by side do not meet.
static void buffer_range_of_strided_views(void** state) {
    const conformance* c = *state;
    const weir_shape shape = weir_shape_make(2, (const int64_t[]){32, 32});
    weir_view matrix;
    weir_view left;
    weir_view right;
    weir_view middle;
    assert_ok(weir_view_reshape(&c->floats, &shape, &matrix));
    assert_ok(weir_view_narrow(&matrix, 1, 0, 16, &left));
    assert_ok(weir_view_narrow(&matrix, 1, 16, 16, &right));
    assert_ok(weir_view_narrow(&matrix, 1, 15, 2, &middle));
    assert_false(meet(&left, &right));
    assert_true(meet(&left, &middle) && meet(&middle, &right));
    put_count(c, &c->floats, 0.0f);
    assert_ok(fill_with(c->session, &left, -1.0f));
    assert_ok(fill_with(c->session, &right, -2.0f));
    assert_ok(weir_session_finish(c->session));
    assert_int_equal(weir_session_counters(c->session)->waits, 0);
    assert_counts(c, &left, -1.0f, 0.0f);
    assert_counts(c, &right, -2.0f, 0.0f);
}

static uint32_t hazards(const weir_view* a, weir_access_kind a_kind, const weir_view* b,
                        weir_access_kind b_kind) {
    weir_tracker* tracker = NULL;
    weir_verdict verdict;
    const weir_access first = weir_access_from_view(a, a_kind);
    const weir_access second = weir_access_from_view(b, b_kind);
    assert_ok(weir_tracker_create(NULL, WEIR_TRACKER_DAG, &tracker));
    assert_ok(weir_tracker_record(
        tracker, &(weir_tracker_dispatch){.accesses = &first, .access_count = 1, .declared = true},
        &verdict));
    assert_ok(weir_tracker_record(
        tracker, &(weir_tracker_dispatch){.accesses = &second, .access_count = 1, .declared = true},
        &verdict));
    weir_tracker_destroy(tracker);
    return verdict.hazard_count;
}

// Other buffer: no; read and read: no; otherwise exactly where a byte is shared. Half-open and
// symmetric: ranges that touch do not conflict.
static void buffer_range_conflicts_with(void** state) {
    const conformance* c = *state;
    weir_storage* other = allocate_zeros(c->device, 64);
    const weir_view elsewhere = floats_of(other, 0, 8);
    const weir_view a = first_floats(c, 0, 8);
    static const weir_access_kind kinds[] = {WEIR_ACCESS_READ, WEIR_ACCESS_WRITE,
                                             WEIR_ACCESS_READ_WRITE};
    for (int i = 0; i < 9; i++) {
        const weir_access_kind left = kinds[i / 3];
        const weir_access_kind right = kinds[i % 3];
        const bool writes = left != WEIR_ACCESS_READ || right != WEIR_ACCESS_READ;
        for (uint64_t first = 0; first < 10; first++) {
            const weir_view b = first_floats(c, first, 8);
            assert_int_equal(hazards(&a, left, &b, right) > 0, writes && first < 8);
            assert_int_equal(hazards(&b, right, &a, left) > 0, writes && first < 8);
        }
        assert_int_equal(hazards(&a, left, &elsewhere, right), 0);
    }
    weir_storage_release(other);
}

// A session waits for the same reason and for no other.
static void buffer_range_conflicts_in_a_session(void** state) {
    const conformance* c = *state;
    const weir_view first = first_floats(c, 0, 8);
    const weir_view touching = first_floats(c, 8, 8);
    const weir_view across = first_floats(c, 7, 8);
    assert_ok(fill_with(c->session, &first, 1.0f));
    assert_ok(fill_with(c->session, &touching, 2.0f));
    assert_ok(weir_session_finish(c->session));
    assert_int_equal(weir_session_counters(c->session)->waits, 0);
    assert_ok(fill_with(c->session, &first, 3.0f));
    assert_ok(fill_with(c->session, &across, 4.0f));
    assert_ok(weir_session_finish(c->session));
    assert_int_equal(weir_session_counters(c->session)->waits, 1);
    const weir_view kept = first_floats(c, 0, 7);
    assert_counts(c, &kept, 3.0f, 0.0f);
    assert_counts(c, &across, 4.0f, 0.0f);
}

// A plain value with a printed form.
static void buffer_range_copy_and_print(void** state) {
    const conformance* c = *state;
    char text[128];
    char again[128];
    const weir_view view = first_floats(c, 16, 8);
    const weir_range range = weir_view_range(&view);
    const weir_range copy = range;
    weir_range_format(&range, text, sizeof text);
    assert_string_equal(weir_range_format(&copy, again, sizeof again), text);
    assert_true(weir_range_overlaps(&range, &copy));
    assert_true(weir_range_contains(&range, &copy));
    assert_true(strstr(text, ", +32)") || strstr(text, "[64, 96)")); // at an address, or counted
    assert_string_equal(weir_view_describe(&view, text, sizeof text),
                        "zeros: F32 [8] @64 (32 bytes)");
}

int conformance_buffer_range(void) {
    const struct CMUnitTest cases[] = {
        conformance_case(buffer_range_fields),
        conformance_case(buffer_range_two_handles_on_the_same_bytes),
        conformance_case(buffer_range_from_buffer),
        conformance_case(buffer_range_of_strided_views),
        conformance_case(buffer_range_conflicts_with),
        conformance_case(buffer_range_conflicts_in_a_session),
        conformance_case(buffer_range_copy_and_print),
    };
    return cmocka_run_group_tests_name("BufferRange", cases, NULL, NULL);
}
