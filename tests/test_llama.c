// The architecture "llama": what a file must hold, and the graph of a pass.
#include "testing.h"

#include <math.h>
#include <weir-llm/context.h>
#include <weir-llm/tokenizer.h>

#include "llama_file.h"

static const weir_llama_params seven_billion = {.blocks = 32,
                                                .embedding = 4096,
                                                .feed_forward = 11008,
                                                .heads = 32,
                                                .kv_heads = 32,
                                                .head_dim = 128,
                                                .rotated = 128,
                                                .vocabulary = 32000,
                                                .context = 4096,
                                                .epsilon = 1e-5f,
                                                .rope_base = 10000.0f,
                                                .rope_scale = 1.0f};

static weir_status read_params(const llama_change* change, weir_llama_params* params) {
    size_t byte_size = 0;
    uint8_t* bytes = tiny_llama(change, &byte_size);
    weir_gguf* gguf = NULL;
    assert_ok(weir_gguf_parse(NULL, bytes, byte_size, "tiny.gguf", &gguf));
    const weir_status status = weir_llama_params_read(gguf, params);
    weir_gguf_destroy(gguf);
    free(bytes);
    return status;
}

static void params_are_read_as_the_file_says(void** state) {
    (void)state;
    weir_llama_params params;
    assert_ok(read_params(NULL, &params));
    assert_int_equal(params.blocks, 2);
    assert_int_equal(params.embedding, 32);
    assert_int_equal(params.feed_forward, 64);
    assert_int_equal(params.heads, 4);
    assert_int_equal(params.kv_heads, 2);
    assert_int_equal(params.head_dim, 8);
    assert_int_equal(params.rotated, 8);
    assert_int_equal(params.vocabulary, 12);
    assert_int_equal(params.context, 64);
    assert_true(params.epsilon == 1e-5f);
    assert_true(params.rope_base == 10000.0f);
    assert_true(params.rope_scale == 1.0f);
    assert_true(params.tied_output);
    assert_false(params.rope_factors);
}

static void absent_keys_have_their_defaults(void** state) {
    (void)state;
    weir_llama_params params;
    const char* keys[] = {"llama.attention.head_count_kv", "llama.rope.dimension_count",
                          "llama.rope.freq_base", "llama.vocab_size"};
    for (size_t i = 0; i < 4; i++) {
        const llama_change change = {.name = keys[i], .kind = CHANGE_OMIT};
        assert_ok(read_params(&change, &params));
        assert_int_equal(params.kv_heads, i == 0 ? 4 : 2);
        assert_int_equal(params.rotated, 8);
        assert_true(params.rope_base == 10000.0f);
        assert_int_equal(params.vocabulary, 12);
    }
}

static void linear_scaling_divides_positions(void** state) {
    (void)state;
    weir_llama_params params;
    const char* keys[] = {"llama.rope.scaling.factor", "llama.rope.scale_linear"};
    for (size_t i = 0; i < 2; i++) {
        const llama_change change = {.name = keys[i], .kind = CHANGE_F32, .real = 4.0f};
        assert_ok(read_params(&change, &params));
        assert_true(params.rope_scale == 0.25f);
    }
    const llama_change none = {
        .name = "llama.rope.scaling.type", .kind = CHANGE_TEXT, .text = "none"};
    assert_ok(read_params(&none, &params));
    assert_true(params.rope_scale == 1.0f);
}

static void key_length_frees_heads_from_the_embedding(void** state) {
    (void)state;
    weir_llama_params params;
    const llama_change change = {
        .name = "llama.attention.key_length", .kind = CHANGE_U32, .number = 10};
    assert_ok(read_params(&change, &params));
    assert_int_equal(params.head_dim, 10);
    assert_int_equal(params.rotated, 8);
}

static void wrong_params_are_refused_by_name(void** state) {
    (void)state;
    static const struct {
        llama_change change;
        weir_status status;
        const char* part; // of the message, besides the file
    } cases[] = {
        {{"general.architecture", CHANGE_TEXT, 0, 0, "foo"}, WEIR_UNSUPPORTED, "\"foo\""},
        {{"general.architecture", CHANGE_U32, 1, 0, 0}, WEIR_BAD_FORMAT, "general.architecture"},
        {{"general.architecture", CHANGE_OMIT, 0, 0, 0}, WEIR_NOT_FOUND, "general.architecture"},
        {{"split.count", CHANGE_U32, 2, 0, 0}, WEIR_BAD_FORMAT, "split.no"},
        {{"split.count", CHANGE_U32, 0, 0, 0}, WEIR_BAD_FORMAT, "split.count"},
        {{"split.count", CHANGE_U32, 65536, 0, 0}, WEIR_BAD_FORMAT, "split.count"},
        {{"split.count", CHANGE_TEXT, 0, 0, "2"}, WEIR_BAD_FORMAT, "split.count"},
        {{"split.no", CHANGE_U32, 7, 0, 0}, WEIR_BAD_FORMAT, "split.no"},
        {{"split.tensors.count", CHANGE_U32, 7, 0, 0}, WEIR_BAD_FORMAT, "split.tensors.count"},
        {{"llama.expert_count", CHANGE_U32, 8, 0, 0}, WEIR_UNSUPPORTED, "llama.expert_count"},
        {{"llama.block_count", CHANGE_U32, 0, 0, 0}, WEIR_BAD_FORMAT, "llama.block_count"},
        {{"llama.block_count", CHANGE_U32, 1025, 0, 0}, WEIR_BAD_FORMAT, "llama.block_count"},
        {{"llama.block_count", CHANGE_TEXT, 0, 0, "2"}, WEIR_BAD_FORMAT, "llama.block_count"},
        {{"llama.block_count", CHANGE_F32, 0, 2.0f, 0}, WEIR_BAD_FORMAT, "llama.block_count"},
        {{"llama.block_count", CHANGE_OMIT, 0, 0, 0}, WEIR_NOT_FOUND, "llama.block_count"},
        {{"llama.embedding_length", CHANGE_U32, 0, 0, 0}, WEIR_BAD_FORMAT, "embedding_length"},
        {{"llama.embedding_length", CHANGE_U32, 30, 0, 0}, WEIR_BAD_FORMAT, "head_count"},
        {{"llama.embedding_length", CHANGE_U32, 0xFFFFFFFC, 0, 0},
         WEIR_BAD_FORMAT,
         "embedding_length"},
        {{"llama.feed_forward_length", CHANGE_U32, 0, 0, 0}, WEIR_BAD_FORMAT, "feed_forward"},
        {{"llama.attention.head_count", CHANGE_U32, 0, 0, 0}, WEIR_BAD_FORMAT, "head_count"},
        {{"llama.attention.head_count", CHANGE_ARRAY, 2, 0, 0}, WEIR_BAD_FORMAT, "head_count"},
        {{"llama.attention.head_count_kv", CHANGE_U32, 0, 0, 0}, WEIR_BAD_FORMAT, "head_count_kv"},
        {{"llama.attention.head_count_kv", CHANGE_U32, 8, 0, 0}, WEIR_BAD_FORMAT, "head_count_kv"},
        {{"llama.attention.head_count_kv", CHANGE_U32, 3, 0, 0}, WEIR_BAD_FORMAT, "head_count_kv"},
        {{"llama.attention.key_length", CHANGE_U32, 0, 0, 0}, WEIR_BAD_FORMAT, "key_length"},
        {{"llama.attention.key_length", CHANGE_U32, 1u << 19, 0, 0}, WEIR_BAD_FORMAT, "product"},
        {{"llama.attention.value_length", CHANGE_U32, 4, 0, 0}, WEIR_UNSUPPORTED, "value_length"},
        {{"llama.context_length", CHANGE_U32, 0, 0, 0}, WEIR_BAD_FORMAT, "context_length"},
        {{"llama.context_length", CHANGE_OMIT, 0, 0, 0}, WEIR_NOT_FOUND, "context_length"},
        {{"llama.rope.dimension_count", CHANGE_U32, 0, 0, 0}, WEIR_BAD_FORMAT, "dimension_count"},
        {{"llama.rope.dimension_count", CHANGE_U32, 7, 0, 0}, WEIR_BAD_FORMAT, "dimension_count"},
        {{"llama.rope.dimension_count", CHANGE_U32, 64, 0, 0}, WEIR_BAD_FORMAT, "dimension_count"},
        {{"llama.vocab_size", CHANGE_U32, 99, 0, 0}, WEIR_BAD_FORMAT, "tokenizer.ggml.tokens"},
        {{"llama.rope.freq_base", CHANGE_F32, 0, 0.0f, 0}, WEIR_BAD_FORMAT, "freq_base"},
        {{"llama.rope.freq_base", CHANGE_F32, 0, NAN, 0}, WEIR_BAD_FORMAT, "freq_base"},
        {{"llama.rope.scaling.factor", CHANGE_F32, 0, 0.0f, 0}, WEIR_BAD_FORMAT, "scaling.factor"},
        {{"llama.rope.scaling.factor", CHANGE_F32, 0, -1.0f, 0}, WEIR_BAD_FORMAT, "scaling.factor"},
        {{"llama.rope.scaling.type", CHANGE_TEXT, 0, 0, "yarn"}, WEIR_UNSUPPORTED, "yarn"},
        {{"llama.attention.layer_norm_rms_epsilon", CHANGE_F32, 0, NAN, 0},
         WEIR_BAD_FORMAT,
         "rms_eps"},
        {{"llama.attention.layer_norm_rms_epsilon", CHANGE_F32, 0, -1.0f, 0},
         WEIR_BAD_FORMAT,
         "rms_eps"},
        {{"llama.attention.layer_norm_rms_epsilon", CHANGE_OMIT, 0, 0, 0},
         WEIR_NOT_FOUND,
         "rms_eps"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        weir_llama_params params = {.blocks = 77};
        assert_status(read_params(&cases[i].change, &params), cases[i].status);
        assert_message_has("tiny.gguf");
        assert_message_has(cases[i].part);
        assert_null(strchr(weir_last_error(), '\n'));
        assert_int_equal(params.blocks, 77);
    }
}

static weir_llama_graph build_seven_billion(uint32_t rows, uint32_t outputs) {
    const weir_llama_graph_desc desc = {.params = &seven_billion,
                                        .context = 2048,
                                        .rows = rows,
                                        .outputs = outputs,
                                        .weight_dtype = WEIR_DTYPE_Q4_K};
    weir_llama_graph pass;
    assert_ok(weir_llama_graph_build(NULL, &desc, &pass));
    return pass;
}

static void graph_follows_the_hyperparameters(void** state) {
    (void)state;
    const weir_llama_graph pass = build_seven_billion(128, 4);
    uint32_t weights = 0;
    uint32_t states = 0;
    uint64_t weight_bytes = 0;
    for (weir_value value = 0; value < weir_graph_value_count(pass.graph); value++) {
        const weir_value_info* info = weir_graph_value_info(pass.graph, value);
        states += info->kind == WEIR_VALUE_STATE;
        weights += info->kind == WEIR_VALUE_WEIGHT;
        if (info->kind == WEIR_VALUE_WEIGHT) {
            weight_bytes += weir_view_byte_length(&info->layout);
        }
    }
    assert_int_equal(weights, 3 + 9 * 32);
    assert_int_equal(states, 2 * 32);
    // 32 blocks of 4 d^2 + 3 d f, two matrices of v d, at 4.5 bits; 65 vectors of F32.
    const uint64_t d = 4096;
    const uint64_t matrices = 32 * (4 * d * d + 3 * d * 11008) + 2 * 32000 * d;
    assert_int_equal(weight_bytes, matrices / 256 * 144 + 65 * d * 4);

    const weir_value_info* logits = weir_graph_value_info(pass.graph, pass.logits);
    assert_true(logits->is_output);
    assert_int_equal(logits->layout.shape.dims[0], 4);
    assert_int_equal(logits->layout.shape.dims[1], 32000);
    assert_int_equal(weir_graph_param_info(pass.graph, pass.position)->upper, 2047);
    assert_int_equal(weir_graph_param_info(pass.graph, pass.rows)->upper, 128);
    assert_int_equal(weir_graph_param_info(pass.graph, pass.outputs)->upper, 4);
    weir_graph_destroy(pass.graph);
}

static int64_t rows_of(const weir_graph* graph, const char* name) {
    for (weir_value value = 0; value < weir_graph_value_count(graph); value++) {
        const weir_value_info* info = weir_graph_value_info(graph, value);
        if (strcmp(info->name, name) == 0) {
            return info->layout.shape.dims[0];
        }
    }
    fail_msg("no value is called %s", name);
    return 0;
}

// What the last block does after its attention, and the logits, is done for the wanted rows alone.
static void only_wanted_rows_pass_the_end_of_the_last_block(void** state) {
    (void)state;
    const weir_llama_graph pass = build_seven_billion(128, 4);
    static const char* const parts[] = {"attn_out", "ffn_in", "ffn_inner", "out"};
    assert_int_equal(rows_of(pass.graph, "blk.31.attn"), 128);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        char name[64];
        snprintf(name, sizeof name, "blk.30.%s", parts[i]);
        assert_int_equal(rows_of(pass.graph, name), 128);
        snprintf(name, sizeof name, "blk.31.%s", parts[i]);
        assert_int_equal(rows_of(pass.graph, name), 4);
    }
    assert_int_equal(rows_of(pass.graph, "output_in"), 4);
    assert_int_equal(rows_of(pass.graph, "logits"), 4);
    weir_graph_destroy(pass.graph);
}

static void tied_output_and_factors_change_the_weights(void** state) {
    (void)state;
    weir_llama_params params = seven_billion;
    params.tied_output = true;
    params.rope_factors = true;
    const weir_llama_graph_desc desc = {.params = &params, .context = 8, .rows = 2, .outputs = 1};
    weir_llama_graph pass;
    assert_ok(weir_llama_graph_build(NULL, &desc, &pass));
    bool factors = false;
    for (weir_value value = 0; value < weir_graph_value_count(pass.graph); value++) {
        const weir_value_info* info = weir_graph_value_info(pass.graph, value);
        assert_string_not_equal(info->name, "output.weight");
        if (strcmp(info->name, "rope_freqs.weight") == 0) {
            factors = true;
            assert_int_equal(info->layout.shape.dims[0], 64);
        }
    }
    assert_true(factors);
    weir_graph_destroy(pass.graph);
}

static void graph_bounds_are_checked(void** state) {
    (void)state;
    static const struct {
        uint32_t context, rows, outputs;
        const char* part;
    } cases[] = {
        {0, 1, 1, "context"}, {4097, 1, 1, "context"}, {8, 0, 1, "rows"},
        {8, 9, 1, "rows"},    {8, 2, 0, "outputs"},    {8, 2, 3, "outputs"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const weir_llama_graph_desc desc = {.params = &seven_billion,
                                            .context = cases[i].context,
                                            .rows = cases[i].rows,
                                            .outputs = cases[i].outputs};
        weir_llama_graph pass;
        assert_status(weir_llama_graph_build(NULL, &desc, &pass), WEIR_OUT_OF_RANGE);
        assert_message_has(cases[i].part);
    }
}

static void blocks_must_divide_the_width(void** state) {
    (void)state;
    weir_llama_params params = seven_billion;
    params.feed_forward = 11009;
    const weir_llama_graph_desc desc = {
        .params = &params, .context = 8, .rows = 1, .outputs = 1, .weight_dtype = WEIR_DTYPE_Q4_K};
    weir_llama_graph pass;
    assert_status(weir_llama_graph_build(NULL, &desc, &pass), WEIR_INVALID_ARGUMENT);
}

static void memory_of_a_pass_is_planned_without_weights(void** state) {
    (void)state;
    const weir_llama_graph pass = build_seven_billion(128, 1);
    weir_target target;
    assert_ok(weir_target_find("cpu", &target));
    weir_schedule* schedule = NULL;
    assert_ok(weir_schedule_create(NULL, pass.graph, &target, NULL, &schedule));
    const weir_schedule_report* report = weir_schedule_report_of(schedule);
    assert_int_equal(report->residual_edges, 0);
    assert_int_equal(report->state_bytes, 2ull * 32 * 2048 * 4096 * 4);
    assert_int_equal(report->output_bytes, 32000 * 4);
    assert_true(report->bound_bytes <= report->arena_bytes);
    // x, its norm and the gated rows of a block are live together: no plan can be smaller, and
    // reuse keeps it near.
    const uint64_t live = 128ull * (2 * 4096 + 11008) * 4;
    assert_true(report->arena_bytes >= live);
    assert_true(report->arena_bytes <= live * 5 / 4);
    assert_true(report->arena_bytes * 20 < report->total_bytes);
    assert_true(report->waits < report->waits_naive);
    weir_schedule_destroy(schedule);
    weir_graph_destroy(pass.graph);
}

// Opens a model and its tokenizer, as every user does.
static weir_status load(weir_device* device, const char* path) {
    weir_model* model = NULL;
    weir_tokenizer* tokenizer = NULL;
    weir_status status = weir_model_open(NULL, device, path, NULL, &model);
    if (status == WEIR_OK) {
        status = weir_tokenizer_create(NULL, weir_model_gguf(model), &tokenizer);
    }
    weir_tokenizer_destroy(tokenizer);
    weir_model_destroy(model);
    return status;
}

static weir_status load_changed(weir_device* device, const llama_change* change) {
    size_t byte_size = 0;
    char path[64];
    uint8_t* bytes = tiny_llama(change, &byte_size);
    write_file(path, bytes, byte_size);
    free(bytes);
    const weir_status status = load(device, path);
    remove_file(path);
    return status;
}

static weir_device* open_cpu(const weir_allocator* allocator) {
    weir_device_desc desc = {.name = "cpu", .thread_count = 2};
    if (allocator) {
        desc.allocator = *allocator;
    }
    weir_device* device = NULL;
    assert_ok(weir_device_create(&desc, &device));
    return device;
}

static void wrong_tensors_are_refused_by_name(void** state) {
    (void)state;
    static const struct {
        llama_change change;
        weir_status status;
    } cases[] = {
        {{"token_embd.weight", CHANGE_OMIT, 0, 0, 0}, WEIR_NOT_FOUND},
        {{"output_norm.weight", CHANGE_OMIT, 0, 0, 0}, WEIR_NOT_FOUND},
        {{"blk.1.ffn_down.weight", CHANGE_OMIT, 0, 0, 0}, WEIR_NOT_FOUND},
        {{"blk.0.attn_norm.weight", CHANGE_RANK_2, 0, 0, 0}, WEIR_BAD_FORMAT},
        {{"blk.0.attn_q.weight", CHANGE_SHAPE, 31, 0, 0}, WEIR_BAD_FORMAT},
        {{"token_embd.weight", CHANGE_SHAPE, 64, 0, 0}, WEIR_BAD_FORMAT},
        {{"blk.1.attn_k.weight", CHANGE_TYPE, 25, 0, 0}, WEIR_UNSUPPORTED},  // I16
        {{"blk.1.attn_k.weight", CHANGE_TYPE, 9, 0, 0}, WEIR_UNSUPPORTED},   // Q8_1
        {{"blk.0.ffn_norm.weight", CHANGE_TYPE, 8, 0, 0}, WEIR_UNSUPPORTED}, // Q8_0
        {{"output.weight", CHANGE_EXTRA, 0, 0, 0}, WEIR_BAD_FORMAT},
        {{"rope_freqs.weight", CHANGE_EXTRA, 0, 0, 0}, WEIR_BAD_FORMAT},
        {{"rope_freqs.weight", CHANGE_EXTRA, 1, 4.0f, 0}, WEIR_UNSUPPORTED}, // F16 [4]
        {{"blk.0.attn_q.bias", CHANGE_EXTRA, 0, 0, 0}, WEIR_UNSUPPORTED},
        {{"output_norm.bias", CHANGE_EXTRA, 0, 0, 0}, WEIR_UNSUPPORTED},
        {{"blk.9.junk.weight", CHANGE_EXTRA, 0, 0, 0}, WEIR_UNSUPPORTED},
        {{"blk.1.attn_q_norm.weight", CHANGE_EXTRA, 0, 0, 0}, WEIR_UNSUPPORTED},
        {{"blk.2.attn_norm.weight", CHANGE_EXTRA, 0, 0, 0}, WEIR_UNSUPPORTED},
        {{"blk.00.attn_norm.weight", CHANGE_EXTRA, 0, 0, 0}, WEIR_UNSUPPORTED},
        {{"blk.4294967296.attn_norm.weight", CHANGE_EXTRA, 0, 0, 0}, WEIR_UNSUPPORTED},
        {{"blk.", CHANGE_EXTRA, 0, 0, 0}, WEIR_UNSUPPORTED},
    };
    weir_device* device = open_cpu(NULL);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_status(load_changed(device, &cases[i].change), cases[i].status);
        assert_message_has("model.gguf");
        assert_message_has(cases[i].change.name);
    }
    weir_device_destroy(device);
}

static void harmless_differences_are_accepted(void** state) {
    (void)state;
    static const llama_change changes[] = {
        {"", CHANGE_NOTHING, 0, 0, 0},
        {"junk.weight", CHANGE_EXTRA, 0, 0, 0},
        {"bl", CHANGE_EXTRA, 0, 0, 0},
        {"blk.1.attn_rot_embd.weight", CHANGE_EXTRA, 0, 0, 0},
        {"rope_freqs.weight", CHANGE_EXTRA, 0, 4.0f, 0},
        {"blk.0.attn_norm.weight", CHANGE_TYPE, 1, 0, 0},  // F16
        {"blk.0.attn_norm.weight", CHANGE_TYPE, 30, 0, 0}, // BF16
        {"blk.1.ffn_up.weight", CHANGE_TYPE, 8, 0, 0},     // Q8_0
        {"blk.1.ffn_up.weight", CHANGE_TYPE, 39, 0, 0},    // MXFP4
        {"split.count", CHANGE_U32, 1, 0, 0},
    };
    weir_device* device = open_cpu(NULL);
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        assert_ok(load_changed(device, &changes[i]));
    }
    weir_device_destroy(device);
}

static void weights_are_views_of_the_mapping(void** state) {
    (void)state;
    size_t byte_size = 0;
    char path[64];
    uint8_t* bytes = tiny_llama(NULL, &byte_size);
    write_file(path, bytes, byte_size);
    weir_device* device = open_cpu(NULL);
    weir_model* model = NULL;
    assert_ok(weir_model_open(NULL, device, path, NULL, &model));
    weir_view view;
    assert_ok(weir_model_weight(model, "blk.1.ffn_down.weight", &view));
    assert_int_equal(view.shape.dims[0], 32);
    assert_int_equal(view.shape.dims[1], 64);
    assert_true(weir_storage_is_sealed(view.storage));
    assert_memory_equal(weir_view_contents(&view), bytes + view.byte_offset, 32 * 64 * 4);
    assert_int_equal(weir_model_mapped_bytes(model), byte_size);
    assert_int_equal(weir_model_copied_bytes(model), 0);
    assert_status(weir_model_weight(model, "no such tensor", &view), WEIR_NOT_FOUND);
    weir_model_destroy(model);
    weir_device_destroy(device);
    remove_file(path);
    free(bytes);
}

static void files_that_are_no_model_are_refused(void** state) {
    (void)state;
    static const struct {
        const char* bytes;
        size_t byte_size;
    } files[] = {{"", 0}, {"G", 1}, {"GGUX\3\0\0\0", 8}, {"a text file\n", 12}};
    weir_device* device = open_cpu(NULL);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[64];
        write_file(path, files[i].bytes, files[i].byte_size);
        assert_int_not_equal(load(device, path), WEIR_OK);
        assert_message_has(path);
        assert_null(strchr(weir_last_error(), '\n'));
        remove_file(path);
    }
    assert_status(load(device, "/no/such/file.gguf"), WEIR_IO);
    assert_message_has("/no/such/file.gguf");
    assert_status(load(device, "/tmp"), WEIR_IO);
    weir_device_destroy(device);
}

static void truncated_models_are_refused(void** state) {
    (void)state;
    size_t byte_size = 0;
    uint8_t* bytes = tiny_llama(NULL, &byte_size);
    weir_device* device = open_cpu(NULL);
    for (size_t length = 1; length < byte_size; length += length < 256 ? 1 : 509) {
        char path[64];
        write_file(path, bytes, length);
        assert_int_not_equal(load(device, path), WEIR_OK);
        assert_message_has(path);
        remove_file(path);
    }
    weir_device_destroy(device);
    free(bytes);
}

// Fails allocation number `left` and counts what is not given back.
typedef struct failing_allocator {
    uint32_t left;
    uint64_t open;
    bool failed;
} failing_allocator;

static void* failing_alloc(void* context, size_t byte_size, size_t alignment) {
    failing_allocator* failing = context;
    if (failing->left-- == 0) {
        failing->failed = true;
        return NULL;
    }
    failing->open++;
    return aligned_alloc(alignment, (byte_size + alignment - 1) / alignment * alignment);
}

static void failing_free(void* context, void* pointer, size_t byte_size, size_t alignment) {
    (void)byte_size;
    (void)alignment;
    ((failing_allocator*)context)->open--;
    free(pointer);
}

static weir_status create_context(const weir_allocator* allocator, weir_device* device,
                                  const char* path) {
    weir_model* model = NULL;
    weir_context* context = NULL;
    const weir_context_options options = {.prefill_rows = 4};
    weir_status status = weir_model_open(allocator, device, path, NULL, &model);
    if (status == WEIR_OK) {
        status = weir_context_create(allocator, model, &options, &context);
    }
    if (status == WEIR_OK) {
        status = weir_context_feed(context, (const uint32_t[]){1, 4, 5}, 3, WEIR_OUTPUT_LAST);
    }
    weir_context_destroy(context);
    weir_model_destroy(model);
    return status;
}

static void each_failing_allocation_is_reported_and_leaks_nothing(void** state) {
    (void)state;
    size_t byte_size = 0;
    char path[64];
    uint8_t* bytes = tiny_llama(NULL, &byte_size);
    write_file(path, bytes, byte_size);
    free(bytes);
    // `mine`: the allocator of model and context fails; else that of the device.
    for (int mine = 0; mine < 2; mine++) {
        bool failed = true;
        uint32_t call = 0;
        for (; failed; call++) {
            failing_allocator failing = {.left = UINT32_MAX};
            const weir_allocator allocator = {&failing, failing_alloc, failing_free};
            weir_device* device = open_cpu(mine ? NULL : &allocator);
            failing.left = call;
            const weir_status status = create_context(mine ? &allocator : NULL, device, path);
            failed = failing.failed;
            failing.left = UINT32_MAX;
            if (failed) {
                assert_true(status == WEIR_OUT_OF_MEMORY || status == WEIR_DEVICE_OUT_OF_MEMORY);
            } else {
                assert_ok(status);
            }
            weir_device_destroy(device);
            assert_int_equal(failing.open, 0);
        }
        assert_true(call > 5);
    }
    remove_file(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(params_are_read_as_the_file_says),
        cmocka_unit_test(absent_keys_have_their_defaults),
        cmocka_unit_test(linear_scaling_divides_positions),
        cmocka_unit_test(key_length_frees_heads_from_the_embedding),
        cmocka_unit_test(wrong_params_are_refused_by_name),
        cmocka_unit_test(graph_follows_the_hyperparameters),
        cmocka_unit_test(only_wanted_rows_pass_the_end_of_the_last_block),
        cmocka_unit_test(tied_output_and_factors_change_the_weights),
        cmocka_unit_test(graph_bounds_are_checked),
        cmocka_unit_test(blocks_must_divide_the_width),
        cmocka_unit_test(memory_of_a_pass_is_planned_without_weights),
        cmocka_unit_test(wrong_tensors_are_refused_by_name),
        cmocka_unit_test(harmless_differences_are_accepted),
        cmocka_unit_test(weights_are_views_of_the_mapping),
        cmocka_unit_test(files_that_are_no_model_are_refused),
        cmocka_unit_test(truncated_models_are_refused),
        cmocka_unit_test(each_failing_allocation_is_reported_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
