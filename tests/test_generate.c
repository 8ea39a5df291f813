// Contexts and generation on a tiny model with random weights.
#include "testing.h"

#include <math.h>
#include <weir-llm/generate.h>
#include <weir/target.h>

#include "llama_file.h"
#include "shared_device.h"

// A model on a device with everything that generation takes.
typedef struct fixture {
    char path[64];
    weir_device* device;
    weir_model* model;
    weir_tokenizer* tokenizer;
    weir_sampler* sampler;
    weir_context* context;
} fixture;

static fixture setup(const llama_change* change, const weir_context_options* options) {
    fixture f = {0};
    size_t byte_size = 0;
    uint8_t* bytes = tiny_llama(change, &byte_size);
    write_file(f.path, bytes, byte_size);
    free(bytes);
    f.device = open_test_device(NULL, 2, false);
    assert_ok(weir_model_open(NULL, f.device, f.path, NULL, &f.model));
    assert_ok(weir_tokenizer_create(NULL, weir_model_gguf(f.model), &f.tokenizer));
    assert_ok(weir_sampler_create(NULL, &(weir_sampler_options){0}, TINY_VOCABULARY, &f.sampler));
    assert_ok(weir_context_create(NULL, f.model, options, &f.context));
    return f;
}

static void teardown(fixture* f) {
    weir_context_destroy(f->context);
    weir_sampler_destroy(f->sampler);
    weir_tokenizer_destroy(f->tokenizer);
    weir_model_destroy(f->model);
    close_test_device(f->device);
    remove_file(f->path);
}

static void assert_close(const float* a, const float* b, size_t count) {
    for (size_t i = 0; i < count; i++) {
        assert_true(fabsf(a[i] - b[i]) <= 1e-4f);
    }
}

static void defaults_follow_the_model(void** state) {
    (void)state;
    fixture f = setup(NULL, NULL);
    assert_int_equal(weir_context_length(f.context), TINY_CONTEXT);
    assert_int_equal(weir_context_rows(f.context), TINY_CONTEXT);
    assert_int_equal(weir_context_position(f.context), 0);
    assert_null(weir_context_logits(f.context, 0));
    assert_ptr_equal(weir_context_model(f.context), f.model);
    assert_null(weir_context_schedule(f.context, WEIR_PHASE_COUNT));
    assert_null(weir_context_counters(f.context, WEIR_PHASE_COUNT));
    weir_context* longer = NULL;
    const weir_context_options too_long = {.context_length = TINY_CONTEXT + 1};
    assert_status(weir_context_create(NULL, f.model, &too_long, &longer), WEIR_OUT_OF_RANGE);
    assert_message_has("the model has");
    assert_null(longer);
    teardown(&f);
}

static void contexts_take_plans_by_the_names_of_their_phases(void** state) {
    (void)state;
    const uint32_t ids[5] = {1, 4, 7, 3, 11};
    fixture f = setup(NULL, NULL);
    weir_plan_file* plans = NULL;
    weir_context* planned = NULL;
    assert_null(weir_phase_name(WEIR_PHASE_COUNT));
    assert_ok(weir_plan_file_create(NULL, &plans));
    const weir_context_options options = {.plans = plans};
    for (int phase = 0; phase < WEIR_PHASE_COUNT; phase++) {
        const char* name = weir_phase_name((weir_phase)phase);
        assert_status(weir_context_create(NULL, f.model, &options, &planned), WEIR_NOT_FOUND);
        assert_message_has(name);
        assert_null(planned);
        assert_ok(
            weir_plan_file_add(plans, name, weir_context_schedule(f.context, (weir_phase)phase)));
    }
    assert_ok(weir_context_create(NULL, f.model, &options, &planned));
    weir_plan_file_destroy(plans); // not needed any more
    assert_ok(weir_context_feed(f.context, ids, 5, WEIR_OUTPUT_LAST));
    assert_ok(weir_context_feed(planned, ids, 5, WEIR_OUTPUT_LAST));
    assert_memory_equal(weir_context_logits(f.context, 0), weir_context_logits(planned, 0),
                        TINY_VOCABULARY * sizeof(float));
    weir_context_destroy(planned);
    teardown(&f);
}

static void chunks_and_single_rows_give_the_same_logits(void** state) {
    (void)state;
    const uint32_t ids[11] = {1, 4, 7, 3, 11, 5, 6, 8, 10, 9, 4};
    fixture whole = setup(NULL, &(weir_context_options){.output_all = true});
    assert_ok(weir_context_feed(whole.context, ids, 11, WEIR_OUTPUT_ALL));
    const uint32_t rows[] = {1, 2, 3, 10};
    for (size_t i = 0; i < 4; i++) {
        fixture parts = setup(NULL, &(weir_context_options){.prefill_rows = rows[i]});
        assert_ok(weir_context_feed(parts.context, ids, 11, WEIR_OUTPUT_LAST));
        assert_int_equal(weir_context_position(parts.context), 11);
        assert_close(weir_context_logits(parts.context, 0), weir_context_logits(whole.context, 10),
                     TINY_VOCABULARY);
        assert_null(weir_context_logits(parts.context, 1));
        teardown(&parts);
    }
    for (uint32_t i = 0; i < 11; i++) {
        assert_non_null(weir_context_logits(whole.context, i));
    }
    assert_null(weir_context_logits(whole.context, 11));
    teardown(&whole);
}

static void rewinding_forgets_the_tail(void** state) {
    (void)state;
    const uint32_t ids[6] = {1, 4, 7, 3, 11, 5};
    float first[TINY_VOCABULARY];
    fixture f = setup(NULL, NULL);
    assert_ok(weir_context_feed(f.context, ids, 6, WEIR_OUTPUT_LAST));
    memcpy(first, weir_context_logits(f.context, 0), sizeof first);
    assert_ok(weir_context_feed(f.context, (uint32_t[]){8, 8}, 2, WEIR_OUTPUT_NONE));
    assert_null(weir_context_logits(f.context, 0));
    assert_status(weir_context_rewind(f.context, 9), WEIR_OUT_OF_RANGE);
    assert_ok(weir_context_rewind(f.context, 3));
    assert_ok(weir_context_feed(f.context, ids + 3, 3, WEIR_OUTPUT_LAST));
    assert_close(weir_context_logits(f.context, 0), first, TINY_VOCABULARY);
    assert_ok(weir_context_rewind(f.context, 0));
    assert_ok(weir_context_feed(f.context, ids, 6, WEIR_OUTPUT_LAST));
    assert_memory_equal(weir_context_logits(f.context, 0), first, sizeof first);
    teardown(&f);
}

static void the_caches_grow_with_the_text(void** state) {
    (void)state;
    if (test_device()) {
        print_message("skipped: %s takes the memory of its caches at once\n", test_device());
        skip();
    }
    const uint32_t ids[4] = {1, 4, 7, 3};
    fixture f = setup(NULL, NULL);
    const weir_state* cache = weir_context_cache(f.context);
    assert_int_equal(weir_state_committed_bytes(cache), 0);
    assert_ok(weir_context_feed(f.context, ids, 4, WEIR_OUTPUT_NONE));
    assert_int_equal(weir_state_row_count(cache), 4);
    assert_true(weir_state_committed_bytes(cache) > 0);
    assert_true(weir_state_committed_bytes(cache) <= weir_state_reserved_bytes(cache));
    assert_ok(weir_context_feed(f.context, ids, 1, WEIR_OUTPUT_NONE));
    assert_int_equal(weir_state_row_count(cache), 5);
    assert_ok(weir_context_rewind(f.context, 2));
    assert_int_equal(weir_state_row_count(cache), 2);
    assert_ok(weir_context_rewind(f.context, 0));
    assert_int_equal(weir_state_committed_bytes(cache), 0);
    teardown(&f);
}

static void wrong_feeds_change_nothing(void** state) {
    (void)state;
    uint32_t ids[TINY_CONTEXT + 1] = {1, 4, 7};
    fixture f = setup(NULL, &(weir_context_options){.context_length = 10, .prefill_rows = 4});
    assert_ok(weir_context_feed(f.context, ids, 3, WEIR_OUTPUT_LAST));
    assert_status(weir_context_feed(f.context, ids, 0, WEIR_OUTPUT_LAST), WEIR_INVALID_ARGUMENT);
    assert_status(weir_context_feed(f.context, ids, 1, (weir_output)3), WEIR_INVALID_ARGUMENT);
    assert_status(weir_context_feed(f.context, ids, 1, (weir_output)-1), WEIR_INVALID_ARGUMENT);
    assert_message_has("output -1, expected NONE (0)");
    assert_status(weir_context_feed(f.context, ids, 8, WEIR_OUTPUT_LAST), WEIR_OUT_OF_RANGE);
    assert_message_has("holds 10");
    assert_status(weir_context_feed(f.context, ids, 3, WEIR_OUTPUT_ALL), WEIR_INVALID_ARGUMENT);
    ids[1] = TINY_VOCABULARY;
    assert_status(weir_context_feed(f.context, ids, 3, WEIR_OUTPUT_LAST), WEIR_OUT_OF_RANGE);
    assert_message_has("token 1 is 12");
    assert_int_equal(weir_context_position(f.context), 3);
    assert_null(weir_context_logits(f.context, 0));
    ids[1] = 4;
    assert_ok(weir_context_feed(f.context, ids, 7, WEIR_OUTPUT_LAST));
    assert_status(weir_context_feed(f.context, ids, 1, WEIR_OUTPUT_LAST), WEIR_OUT_OF_RANGE);
    teardown(&f);

    f = setup(NULL, &(weir_context_options){.prefill_rows = 4, .output_all = true});
    assert_status(weir_context_feed(f.context, ids, 5, WEIR_OUTPUT_ALL), WEIR_OUT_OF_RANGE);
    assert_ok(weir_context_feed(f.context, ids, 4, WEIR_OUTPUT_ALL));
    teardown(&f);
}

static void both_programs_share_one_arena_and_one_cache(void** state) {
    (void)state;
    fixture f = setup(NULL, NULL);
    const weir_schedule_report* prefill =
        weir_schedule_report_of(weir_context_schedule(f.context, WEIR_PHASE_PREFILL));
    const weir_schedule_report* decode =
        weir_schedule_report_of(weir_context_schedule(f.context, WEIR_PHASE_DECODE));
    assert_true(decode->arena_bytes < prefill->arena_bytes);
    assert_int_equal(prefill->state_bytes, decode->state_bytes);
    const weir_dtype_info* info = weir_dtype_describe(weir_context_kv_dtype(f.context));
    assert_int_equal(info->block_elements, 1);
    assert_int_equal(prefill->state_bytes, 2 * TINY_BLOCKS * TINY_CONTEXT * 16 * info->block_bytes);
    assert_int_equal(prefill->residual_edges, 0);
    assert_int_equal(decode->residual_edges, 0);
    teardown(&f);
}

static void each_pass_is_one_submit_and_one_wait(void** state) {
    (void)state;
    const uint32_t ids[9] = {1, 4, 7, 3, 11, 5, 6, 8, 10};
    fixture f = setup(NULL, &(weir_context_options){.prefill_rows = 4});
    const weir_generate_options options = {.max_tokens = 20, .ignore_end = true};
    weir_generate_stats stats;
    assert_ok(weir_generate(f.context, f.tokenizer, f.sampler, ids, 9, &options, &stats));
    assert_int_equal(stats.end, WEIR_END_LIMIT);
    assert_int_equal(stats.prompt_tokens, 9);
    assert_int_equal(stats.generated_tokens, 20);
    assert_int_equal(stats.decode_passes, 19);
    const weir_counters* prefill = weir_context_counters(f.context, WEIR_PHASE_PREFILL);
    const weir_counters* decode = weir_context_counters(f.context, WEIR_PHASE_DECODE);
    assert_int_equal(prefill->submits, 2); // 4 + 4; the ninth token is a single row
    assert_int_equal(prefill->host_waits, 2);
    assert_int_equal(decode->submits, 1 + 19);
    assert_int_equal(decode->host_waits, 1 + 19);
    const weir_schedule_report* report =
        weir_schedule_report_of(weir_context_schedule(f.context, WEIR_PHASE_DECODE));
    assert_int_equal(decode->dispatches, 20ull * report->dispatches);
    assert_int_equal(decode->waits, 20ull * report->waits);
    teardown(&f);
}

typedef struct listener {
    uint32_t ids[128];
    uint32_t count;
    uint32_t limit;              // tokens to take; 0 = all
    volatile sig_atomic_t* stop; // set when the limit is reached, instead of returning false
} listener;

static bool listen_to(void* context, uint32_t id, const char* bytes, size_t length) {
    listener* l = context;
    assert_true(bytes || length == 0);
    assert_true(l->count < sizeof l->ids / sizeof *l->ids);
    l->ids[l->count++] = id;
    if (l->limit == 0 || l->count < l->limit) {
        return true;
    }
    if (l->stop) {
        *l->stop = 1;
    }
    return l->stop != NULL;
}

static weir_generate_stats run(fixture* f, const weir_generate_options* options) {
    const uint32_t bos = 1;
    weir_generate_stats stats;
    assert_ok(weir_context_rewind(f->context, 0));
    assert_ok(weir_generate(f->context, f->tokenizer, f->sampler, &bos, 1, options, &stats));
    return stats;
}

static void generation_ends_for_the_right_reason(void** state) {
    (void)state;
    fixture f = setup(NULL, NULL);
    listener all = {0};
    weir_generate_options options = {.ignore_end = true, .emit = listen_to, .context = &all};
    weir_generate_stats stats = run(&f, &options);
    assert_int_equal(stats.end, WEIR_END_CONTEXT);
    assert_int_equal(stats.generated_tokens, TINY_CONTEXT); // the last one has no place any more
    assert_int_equal(all.count, TINY_CONTEXT);

    listener some = {.limit = 5};
    options.context = &some;
    stats = run(&f, &options);
    assert_int_equal(stats.end, WEIR_END_CALLER);
    assert_int_equal(stats.generated_tokens, 5);
    assert_int_equal(stats.decode_passes, 4);
    assert_memory_equal(some.ids, all.ids, 5 * sizeof *some.ids);

    volatile sig_atomic_t stop = 0;
    listener stopped = {.limit = 7, .stop = &stop};
    options.context = &stopped;
    options.stop = &stop;
    stats = run(&f, &options);
    assert_int_equal(stats.end, WEIR_END_STOP);
    assert_int_equal(stats.generated_tokens, 7);
    assert_int_equal(stats.decode_passes, 7); // the pass under way ends, no other begins

    stopped.count = 0;
    stats = run(&f, &options); // stop is set already
    assert_int_equal(stats.end, WEIR_END_STOP);
    assert_int_equal(stats.prompt_tokens, 0);
    assert_int_equal(stopped.count, 0);
    teardown(&f);
}

static void end_token_ends_the_text_unless_ignored(void** state) {
    (void)state;
    fixture f = setup(NULL, NULL);
    listener heard = {0};
    weir_generate_options options = {
        .max_tokens = 1, .ignore_end = true, .emit = listen_to, .context = &heard};
    run(&f, &options);
    teardown(&f);

    const llama_change change = {
        .name = "tokenizer.ggml.eos_token_id", .kind = CHANGE_U32, .number = heard.ids[0]};
    f = setup(&change, NULL);
    heard.count = 0;
    options.max_tokens = 3;
    weir_generate_stats stats = run(&f, &options);
    assert_int_equal(stats.end, WEIR_END_LIMIT);
    assert_int_equal(stats.generated_tokens, 3);
    options.ignore_end = false;
    heard.count = 0;
    stats = run(&f, &options);
    assert_int_equal(stats.end, WEIR_END_TOKEN);
    assert_int_equal(stats.generated_tokens, 0);
    assert_int_equal(heard.count, 0);
    teardown(&f);
}

static void wrong_prompts_are_refused(void** state) {
    (void)state;
    const uint32_t ids[5] = {1, 4, 4, 4, 4};
    fixture f = setup(NULL, &(weir_context_options){.context_length = 4});
    weir_generate_stats stats;
    assert_status(weir_generate(f.context, f.tokenizer, f.sampler, ids, 0, NULL, &stats),
                  WEIR_INVALID_ARGUMENT);
    assert_status(weir_generate(f.context, f.tokenizer, f.sampler, ids, 5, NULL, &stats),
                  WEIR_OUT_OF_RANGE);
    assert_message_has("5 tokens");
    assert_int_equal(stats.prompt_tokens, 0);
    teardown(&f);
}

static void logits_that_are_no_numbers_end_generation(void** state) {
    (void)state;
    const llama_change change = {.name = "output_norm.weight", .kind = CHANGE_F32, .real = NAN};
    fixture f = setup(&change, NULL);
    const uint32_t bos = 1;
    weir_generate_stats stats;
    assert_status(weir_generate(f.context, f.tokenizer, f.sampler, &bos, 1, NULL, &stats),
                  WEIR_OUT_OF_RANGE);
    assert_message_has("NaN");
    assert_int_equal(stats.prompt_tokens, 1);
    assert_int_equal(stats.generated_tokens, 0);
    teardown(&f);
}

// Rows of 32 MXFP4 weights have 17 bytes, which is no whole number of words: Vulkan has no kernel
// for them, and says so before anything is planned. Types that it has kernels for are taken.
static void types_without_a_kernel_are_refused_when_a_model_is_opened(void** state) {
    (void)state;
    static const struct {
        uint32_t gguf_type;
        bool everywhere;
    } types[] = {{3, true}, {7, true}, {39, false}}; // Q4_1, Q5_1, MXFP4
    weir_device* device = open_test_device(NULL, 0, false);
    const bool is_vulkan = strcmp(weir_device_target(device)->name, "vulkan") == 0;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        const llama_change change = {
            .name = "blk.1.ffn_up.weight", .kind = CHANGE_TYPE, .number = types[i].gguf_type};
        size_t byte_size = 0;
        char path[64];
        uint8_t* bytes = tiny_llama(&change, &byte_size);
        write_file(path, bytes, byte_size);
        free(bytes);
        weir_model* model = NULL;
        const weir_status status = weir_model_open(NULL, device, path, NULL, &model);
        if (is_vulkan && !types[i].everywhere) {
            assert_int_equal(status, WEIR_UNSUPPORTED);
            assert_message_has("model.gguf: tensor blk.1.ffn_up.weight has type MXFP4");
            assert_message_has("for which vulkan has no kernel");
            assert_null(model);
        } else {
            assert_ok(status);
        }
        weir_model_destroy(model);
        remove_file(path);
    }
    close_test_device(device);
}

// Of a larger vocabulary it would read past the logits.
static void a_sampler_of_another_vocabulary_is_refused(void** state) {
    (void)state;
    fixture f = setup(NULL, NULL);
    const uint32_t bos = 1;
    const uint32_t sizes[] = {TINY_VOCABULARY - 1, TINY_VOCABULARY + 1};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        weir_sampler* sampler = NULL;
        assert_ok(weir_sampler_create(NULL, NULL, sizes[i], &sampler));
        assert_int_equal(weir_sampler_size(sampler), sizes[i]);
        assert_status(weir_generate(f.context, f.tokenizer, sampler, &bos, 1, NULL, NULL),
                      WEIR_INVALID_ARGUMENT);
        assert_message_has("the sampler is made for");
        weir_sampler_destroy(sampler);
    }
    assert_int_equal(weir_context_position(f.context), 0);
    teardown(&f);
}

// What generation draws behind a prompt is what a sampler draws that was told of the prompt.
static void the_sampler_remembers_the_prompt(void** state) {
    (void)state;
    fixture f = setup(NULL, NULL);
    const weir_sampler_options options = {.repetition_penalty = 100.0f};
    weir_sampler* told = NULL;
    assert_ok(weir_sampler_create(NULL, &options, TINY_VOCABULARY, &told));
    int differing = 0;
    for (uint32_t last = 0; last < TINY_VOCABULARY; last++) {
        const uint32_t prompt[] = {1, last};
        uint32_t expected = 0;
        uint32_t untold = 0;
        assert_ok(weir_context_rewind(f.context, 0));
        assert_ok(weir_context_feed(f.context, prompt, 2, WEIR_OUTPUT_LAST));
        weir_sampler_reset(told, 0);
        assert_ok(weir_sampler_next(told, weir_context_logits(f.context, 0), &untold));
        weir_sampler_reset(told, 0);
        assert_ok(weir_sampler_accept(told, prompt, 2));
        assert_ok(weir_sampler_next(told, weir_context_logits(f.context, 0), &expected));
        differing += expected != untold;

        listener heard = {0};
        const weir_generate_options one = {
            .max_tokens = 1, .ignore_end = true, .emit = listen_to, .context = &heard};
        weir_sampler_reset(told, 0);
        assert_ok(weir_context_rewind(f.context, 0));
        assert_ok(weir_generate(f.context, f.tokenizer, told, prompt, 2, &one, NULL));
        assert_int_equal(heard.ids[0], expected);
    }
    assert_true(differing > 0);
    weir_sampler_destroy(told);
    teardown(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_sampler_remembers_the_prompt),
        cmocka_unit_test(a_sampler_of_another_vocabulary_is_refused),
        cmocka_unit_test(types_without_a_kernel_are_refused_when_a_model_is_opened),
        cmocka_unit_test(defaults_follow_the_model),
        cmocka_unit_test(contexts_take_plans_by_the_names_of_their_phases),
        cmocka_unit_test(chunks_and_single_rows_give_the_same_logits),
        cmocka_unit_test(rewinding_forgets_the_tail),
        cmocka_unit_test(the_caches_grow_with_the_text),
        cmocka_unit_test(wrong_feeds_change_nothing),
        cmocka_unit_test(both_programs_share_one_arena_and_one_cache),
        cmocka_unit_test(each_pass_is_one_submit_and_one_wait),
        cmocka_unit_test(generation_ends_for_the_right_reason),
        cmocka_unit_test(end_token_ends_the_text_unless_ignored),
        cmocka_unit_test(wrong_prompts_are_refused),
        cmocka_unit_test(logits_that_are_no_numbers_end_generation),
    };
    return cmocka_run_group_tests(tests, NULL, close_shared_devices);
}
