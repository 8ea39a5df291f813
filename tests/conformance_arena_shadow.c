// Arena: its f16 shadow, as single values and as the twin of a whole arena.
#include "conformance.h"

static weir_shadow* try_shadow(const weir_view* source) {
    weir_shadow* shadow = NULL;
    const weir_status status = weir_shadow_create(source, &shadow);
    if (status == WEIR_UNSUPPORTED) {
        return NULL;
    }
    assert_ok(status);
    return shadow;
}

static void read_halves(const conformance* c, const weir_view* halves, float* numbers) {
    uint16_t bits[FLOATS] = {0};
    get(c, halves, bits);
    for (int64_t i = 0; i < weir_view_element_count(halves); i++) {
        numbers[i] = weir_f16_to_f32(bits[i]);
    }
}

// Nothing exists unless asked for; then it takes half the bytes.
static void arena_shadow_is_half_or_nothing(void** state) {
    const conformance* c = *state;
    weir_plan* plan = NULL;
    const weir_plan_buffer buffer = {.byte_size = 4096};
    const weir_plan_problem problem = {.buffers = &buffer, .buffer_count = 1, .alignment = 64};
    weir_arena* arena = NULL;
    assert_ok(weir_plan_create(NULL, &problem, &plan));
    assert_ok(weir_arena_create(c->device, plan, &arena));
    assert_int_equal(weir_arena_twin_bytes(arena), 0);
    weir_arena_destroy(arena);
    const weir_arena_desc native = {.plan = plan, .twin = WEIR_TWIN_NATIVE};
    assert_ok(weir_arena_create_with(c->device, &native, &arena));
    const bool has = weir_device_target(c->device)->native_f16;
    assert_int_equal(weir_arena_twin_bytes(arena), has ? weir_arena_byte_size(arena) / 2 : 0);
    weir_arena_destroy(arena);
    weir_plan_destroy(plan);
}

// Off: a weight is read in f32. On: half the bytes, of the values rounded to 11 bits; finite values
// beyond 65504 stay finite, an odd count is padded.
static void arena_shadow_values(void** state) {
    const conformance* c = *state;
    static const float numbers[5] = {1.0f, 1.0f / 3.0f, 70000.0f, -1e30f, 0.1f};
    float back[5];
    weir_view halves;
    const weir_view source = first_floats(c, 0, 5);
    weir_shadow* shadow = try_shadow(&source);
    if (!shadow) {
        skip_because(weir_last_error());
    }
    put(c, &source, numbers);
    weir_shadow_view(shadow, &halves);
    assert_int_equal(halves.dtype, WEIR_DTYPE_F16);
    assert_int_equal(weir_view_byte_length(&halves), 10);
    assert_int_equal(weir_shadow_counted(shadow).byte_size, 12);
    read_halves(c, &halves, back);
    for (int i = 0; c->executes && i < 5; i++) {
        const float limited = numbers[i] > 65504.0f    ? 65504.0f
                              : numbers[i] < -65504.0f ? -65504.0f
                                                       : numbers[i];
        assert_true(back[i] == weir_f16_to_f32(weir_f32_to_f16(limited)));
    }
    assert_int_equal(weir_shadow_counted(shadow).saturated, c->executes ? 2 : 0);
    weir_shadow_destroy(shadow);
}

// Writes of passes and of the host are noticed; what nobody reads is not converted.
static void arena_shadow_is_never_stale(void** state) {
    const conformance* c = *state;
    float back[64];
    weir_view halves;
    const weir_view source = first_floats(c, 0, 64);
    const weir_view beside = first_floats(c, 64, 64);
    weir_shadow* shadow = try_shadow(&source);
    if (!shadow) {
        skip_because(weir_last_error());
    }
    weir_shadow_view(shadow, &halves);
    for (int i = 1; i <= 3; i++) {
        put_count(c, &source, (float)i);
        assert_true(weir_shadow_is_dirty(shadow));
        assert_int_equal(weir_shadow_counted(shadow).conversions, i - 1);
        read_halves(c, &halves, back);
        assert_false(weir_shadow_is_dirty(shadow));
        assert_true(!c->executes || (back[0] == (float)i && back[63] == (float)(i + 63)));
        put_count(c, &beside, 0.0f);
        read_halves(c, &halves, back);
        assert_int_equal(weir_shadow_counted(shadow).conversions, i);
    }
    weir_shadow_destroy(shadow);
}

static void use_twin(const conformance* c, weir_arena* arena, uint32_t node) {
    const weir_shape shape = weir_shape_make(1, (const int64_t[]){32});
    float numbers[32];
    float back[32];
    weir_view halves;
    weir_arena_node place;
    for (int i = 0; i < 32; i++) {
        numbers[i] = (float)(i + 100 * (int)node);
    }
    assert_ok(weir_arena_write(arena, node, WEIR_DTYPE_F32, 0, numbers, 32));
    assert_ok(weir_arena_get(arena, node, &place));
    assert_ok(weir_arena_twin_view(arena, node, &shape, &halves));
    assert_int_equal(halves.byte_offset, place.byte_offset / 2);
    read_halves(c, &halves, back);
    assert_true(!c->executes || memcmp(numbers, back, sizeof back) == 0);
}

// The twin of an arena: an f32 at byte b has its half at byte b / 2, written together with it.
static void arena_shadow_twin_at_half_the_offset(void** state) {
    const conformance* c = *state;
    const weir_plan_buffer buffers[] = {{.byte_size = 256}, {.byte_size = 128}};
    const weir_plan_problem problem = {.buffers = buffers, .buffer_count = 2, .alignment = 64};
    const weir_shape shape = weir_shape_make(1, (const int64_t[]){32});
    weir_plan* plan = NULL;
    weir_arena* arena = NULL;
    weir_view halves;
    assert_ok(weir_plan_create(NULL, &problem, &plan));
    const weir_arena_desc desc = {.plan = plan, .twin = WEIR_TWIN_ALWAYS};
    assert_ok(weir_arena_create_with(c->device, &desc, &arena));
    weir_plan_destroy(plan);
    assert_int_equal(weir_arena_twin_bytes(arena), weir_arena_byte_size(arena) / 2);
    if (weir_arena_twin_view(arena, 0, &shape, &halves) == WEIR_UNSUPPORTED) {
        weir_arena_destroy(arena);
        skip_because(weir_last_error());
    }
    use_twin(c, arena, 0);
    use_twin(c, arena, 1);
    weir_arena_destroy(arena);
}

int conformance_arena_shadow(void) {
    const struct CMUnitTest cases[] = {
        conformance_case(arena_shadow_is_half_or_nothing),
        conformance_case(arena_shadow_values),
        conformance_case(arena_shadow_is_never_stale),
        conformance_case(arena_shadow_twin_at_half_the_offset),
    };
    return cmocka_run_group_tests_name("Arena, f16 shadow", cases, NULL, NULL);
}
