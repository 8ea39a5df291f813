#include "testing.h"

#include <math.h>
#include <weir/gguf.h>

#include "base/file_map.h"

typedef struct model {
    file_map map;
    weir_gguf* gguf;
} model;

// Skips the test when the file is not here.
static model open_model(const char* name) {
    char part[128];
    char path[512];
    model opened = {0};
    snprintf(part, sizeof part, "stories260K/stories260K-%s.gguf", name);
    if (!shared_data_path(part, path, sizeof path)) {
        print_message("skipped: %s is not here\n", path);
        skip();
    }
    assert_ok(file_map_open(path, 0, 0, &opened.map));
    assert_ok(weir_gguf_parse(NULL, opened.map.bytes, opened.map.byte_size, path, &opened.gguf));
    return opened;
}

static void close_model(model* opened) {
    weir_gguf_destroy(opened->gguf);
    file_map_close(&opened->map);
}

static float* decode(const model* opened, const weir_gguf_tensor* tensor) {
    int64_t count = 0;
    assert_ok(weir_shape_check(&tensor->shape, &count));
    float* numbers = malloc((size_t)count * sizeof *numbers);
    assert_non_null(numbers);
    assert_ok(
        weir_dtype_to_f32(tensor->dtype, opened->map.bytes + tensor->byte_offset, count, numbers));
    return numbers;
}

// Returns the relative RMS distance of matrix `tensor` from the exact one. It may be padded: then
// its first rows and columns are compared, and the rest must be zero.
static double distance(const float* tensor, const weir_shape* shape, const float* exact,
                       const weir_shape* exact_shape) {
    double error = 0;
    double norm = 0;
    for (int64_t row = 0; row < shape->dims[0]; row++) {
        for (int64_t column = 0; column < shape->dims[1]; column++) {
            const bool is_padding = row >= exact_shape->dims[0] || column >= exact_shape->dims[1];
            const double wanted =
                is_padding ? 0.0 : (double)exact[row * exact_shape->dims[1] + column];
            const double off = (double)tensor[row * shape->dims[1] + column] - wanted;
            error += off * off;
            norm += wanted * wanted;
        }
    }
    return sqrt(error / norm);
}

// Compares all matrices of a file with those of the F32 file; returns how many have `dtype`.
static int compare_model(const char* name, weir_dtype dtype, double tolerance) {
    model exact = open_model("f32");
    model coarse = open_model(name);
    uint64_t count = 0;
    int of_dtype = 0;
    const weir_gguf_tensor* tensors = weir_gguf_tensors(coarse.gguf, &count);
    for (uint64_t i = 0; i < count; i++) {
        char tensor_name[128];
        weir_text_escape(tensors[i].name, tensor_name, sizeof tensor_name);
        const weir_gguf_tensor* twin = weir_gguf_find_tensor(exact.gguf, tensor_name);
        assert_non_null(twin);
        if (tensors[i].shape.rank != 2) {
            continue;
        }
        float* numbers = decode(&coarse, &tensors[i]);
        float* wanted = decode(&exact, twin);
        const double off = distance(numbers, &tensors[i].shape, wanted, &twin->shape);
        free(numbers);
        free(wanted);
        of_dtype += tensors[i].dtype == dtype ? 1 : 0;
        if (!(off <= tolerance)) {
            fail_msg("%s: %s is off by %g, expected at most %g", name, tensor_name, off, tolerance);
        }
    }
    close_model(&coarse);
    close_model(&exact);
    return of_dtype;
}

static void quantised_weights_decode_close_to_the_exact_ones(void** state) {
    (void)state;
    assert_true(compare_model("f32", WEIR_DTYPE_F32, 0.0) > 0);
    assert_true(compare_model("ff192-f32", WEIR_DTYPE_F32, 0.0) > 0);
    assert_true(compare_model("f16", WEIR_DTYPE_F16, 0.0005) > 0);
    assert_true(compare_model("bf16", WEIR_DTYPE_BF16, 0.004) > 0);
    assert_true(compare_model("q8_0", WEIR_DTYPE_Q8_0, 0.007) > 0);
    assert_true(compare_model("ff192-q8_0", WEIR_DTYPE_Q8_0, 0.007) > 0);
    assert_true(compare_model("ff192-q5_0", WEIR_DTYPE_Q5_0, 0.055) > 0);
    assert_true(compare_model("ff192-q4_0", WEIR_DTYPE_Q4_0, 0.11) > 0);
    assert_true(compare_model("pad256-q4_k_m", WEIR_DTYPE_Q4_K, 0.09) > 0);
    assert_true(compare_model("pad256-q5_k_m", WEIR_DTYPE_Q5_K, 0.045) > 0);
    assert_true(compare_model("pad256-q6_k", WEIR_DTYPE_Q6_K, 0.022) > 0);
}

static void a_real_model_gives_its_parameters(void** state) {
    (void)state;
    model opened = open_model("q8_0");
    uint64_t number = 0;
    double epsilon = 0;
    weir_text text = {0};
    const weir_gguf_value* tokens = NULL;
    assert_ok(weir_gguf_get_string(opened.gguf, "general.architecture", &text));
    assert_int_equal(text.length, 5);
    assert_memory_equal(text.bytes, "llama", 5);
    assert_ok(weir_gguf_get_u64(opened.gguf, "llama.block_count", &number));
    assert_int_equal(number, 5);
    assert_ok(weir_gguf_get_f64(opened.gguf, "llama.attention.layer_norm_rms_epsilon", &epsilon));
    assert_true(epsilon == (double)1e-5f);
    assert_ok(weir_gguf_get_array(opened.gguf, "tokenizer.ggml.tokens", WEIR_GGUF_STRING, &tokens));
    assert_int_equal(tokens->count, 512);
    const weir_gguf_tensor* embedding = weir_gguf_find_tensor(opened.gguf, "token_embd.weight");
    const weir_shape shape = weir_shape_make(2, (int64_t[]){512, 64});
    assert_non_null(embedding);
    assert_true(weir_shape_equal(&embedding->shape, &shape));
    assert_int_equal(embedding->byte_size, 512 * 68);
    close_model(&opened);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quantised_weights_decode_close_to_the_exact_ones),
        cmocka_unit_test(a_real_model_gives_its_parameters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
