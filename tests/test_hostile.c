// Malformed and odd model files, loaded and run as every user does: each gets its verdict, none
// takes more memory than it may, and messages are fit to print. docs/formats.md has the policy.
#include "hostile_testing.h"

#include <math.h>

// What the corpus says, and what is decided here where it leaves a choice.
typedef enum verdict {
    ACCEPT = 0, // loads and runs
    RUN = 1,    // may load; a run ends, with tokens or an error
    REFUSE = 2, // is no model
    REJECT = 3, // is not even a container
} verdict;

static weir_status parse(const uint8_t* bytes, size_t byte_size) {
    weir_gguf* gguf = NULL;
    const weir_status status = weir_gguf_parse(NULL, bytes, byte_size, "parsed", &gguf);
    weir_gguf_destroy(gguf);
    return status;
}

static bool is_as_expected(verdict expected, weir_status parsed, weir_status loaded,
                           weir_status ran) {
    switch (expected) {
    case ACCEPT:
        return parsed == WEIR_OK && loaded == WEIR_OK && ran == WEIR_OK;
    case RUN:
        return parsed == WEIR_OK && (ran == WEIR_OK || ran == WEIR_OUT_OF_RANGE);
    case REFUSE:
        return loaded != WEIR_OK;
    case REJECT:
        return parsed != WEIR_OK && loaded != WEIR_OK;
    }
    return false;
}

static bool try_file(const char* name, const char* path, verdict expected) {
    size_t byte_size = 0;
    uint8_t* bytes = (uint8_t*)read_whole_file(path, false, &byte_size);
    const weir_status parsed = parse(bytes, byte_size);
    free(bytes);
    weir_status ran = WEIR_OK;
    const weir_status loaded = judge(path, byte_size, &ran);
    if (is_as_expected(expected, parsed, loaded, ran)) {
        return true;
    }
    print_message("%s: expected verdict %d; parsed: %s, loaded: %s, ran: %s (%s)\n", name, expected,
                  weir_status_text(parsed), weir_status_text(loaded), weir_status_text(ran),
                  weir_last_error());
    return false;
}

// Overwrites `width` bytes at `offset` from the end of the first `anchor`, or from the beginning.
typedef struct patch {
    const char* anchor;
    int offset;
    int width; // 0: none
    uint64_t value;
} patch;

typedef struct hostile_case {
    const char* name;
    const char* says; // part of the message; NULL where there is none
    verdict expected;
    llama_change change;
    patch patches[2];
    const char* cut; // the file ends before this, of which the first is meant
    int resize;      // bytes added at the end, or taken away
} hostile_case;

static uint8_t* find_bytes(uint8_t* bytes, size_t byte_size, const char* anchor) {
    const size_t length = strlen(anchor);
    for (size_t i = 0; i + length <= byte_size; i++) {
        if (memcmp(bytes + i, anchor, length) == 0) {
            return bytes + i;
        }
    }
    fail_msg("there is no %s", anchor);
    return NULL;
}

static uint8_t* make_case(const hostile_case* made, size_t* byte_size) {
    uint8_t* bytes = tiny_llama(made->change.name ? &made->change : NULL, byte_size);
    for (int i = 0; i < 2; i++) {
        const patch* p = &made->patches[i];
        uint8_t* at =
            p->anchor ? find_bytes(bytes, *byte_size, p->anchor) + strlen(p->anchor) : bytes;
        for (int k = 0; k < p->width; k++) {
            at[p->offset + k] = (uint8_t)(p->value >> (8 * k));
        }
    }
    if (made->cut) {
        *byte_size = (size_t)(find_bytes(bytes, *byte_size, made->cut) - bytes);
    }
    uint8_t* resized = calloc(1, *byte_size + 4096);
    assert_non_null(resized);
    memcpy(resized, bytes, *byte_size);
    free(bytes);
    *byte_size = (size_t)((int64_t)*byte_size + made->resize);
    return resized;
}

// A pair of `length` bytes, given as a literal with its length, type and value in it.
#define RAW(literal)                                                                               \
    { "raw", CHANGE_RAW, sizeof(literal) - 1, 1.0f, (literal) }
#define KEY(name, type) name type "\0\0\0"
#define U32(key, number)                                                                           \
    { key, CHANGE_U32, (number), 0, 0 }
#define F32(key, number)                                                                           \
    { key, CHANGE_F32, 0, (number), 0 }
#define ALIGNMENT "\x11\0\0\0\0\0\0\0general.alignment"
#define ATTN_Q "blk.0.attn_q.weight" // [32, 32]: rank, dims, type, offset follow at
enum { RANK = 0, DIM_0 = 4, DIM_1 = 12, TYPE = 20, OFFSET = 24 };

static const char long_token[] = // 500 bytes and more, of which every two could merge
    "abababababababababababababababababababababababababababababababababababababababababababababab"
    "abababababababababababababababababababababababababababababababababababababababababababababab"
    "abababababababababababababababababababababababababababababababababababababababababababababab"
    "abababababababababababababababababababababababababababababababababababababababababababababab"
    "abababababababababababababababababababababababababababababababababababababababababababababab"
    "abababababababababababababababababababababababababababababababababababababababababababababab";

// The cases of the shared corpus, made from the tiny model; the names are those of its files.
static const hostile_case cases[] = {
    {.name = "ok_base", .expected = ACCEPT},
    {.name = "h03_magic",
     .says = "magic: found \"GGUX\"",
     .expected = REJECT,
     .patches = {{NULL, 3, 1, 'X'}}},
    {.name = "h07_version_future",
     .says = "version: found 4294967295",
     .expected = REJECT,
     .patches = {{NULL, 4, 4, UINT32_MAX}}},
    {.name = "h08_big_endian",
     .says = "byte order: found a big-endian file of version 3",
     .expected = REJECT,
     .patches = {{NULL, 4, 4, 0x03000000}}},
    {.name = "h10_ntensors_max",
     .says = "tensor count: found 18446744073709551615",
     .expected = REJECT,
     .patches = {{NULL, 8, 8, UINT64_MAX}}},
    {.name = "h11_ntensors_i64max",
     .says = "tensor count: found 9223372036854775807",
     .expected = REJECT,
     .patches = {{NULL, 8, 8, INT64_MAX}}},
    {.name = "h14_ntensors_plus1",
     .says = "name: found length 0",
     .expected = REJECT,
     .patches = {{NULL, 8, 8, 21}}},
    {.name = "h20_nkv_max",
     .says = "key/value count: found 18446744073709551615",
     .expected = REJECT,
     .patches = {{NULL, 16, 8, UINT64_MAX}}},
    {.name = "h22_nkv_mul_wrap",
     .says = "key/value count: found 1152921504606846977",
     .expected = REJECT,
     .patches = {{NULL, 16, 8, (1ull << 60) + 1}}},
    {.name = "h23_nkv_dos_2p32",
     .says = "key/value count: found 4294967296",
     .expected = REJECT,
     .patches = {{NULL, 16, 8, 1ull << 32}}},
    {.name = "h30_zero_zero",
     .says = "key \"general.architecture\" is missing",
     .expected = REFUSE,
     .patches = {{NULL, 8, 8, 0}, {NULL, 16, 8, 0}},
     .cut = "\x14\0\0\0\0\0\0\0general.architecture"},
    {.name = "k03_key_past_eof",
     .says = "key: found length 1048576",
     .expected = REJECT,
     .patches = {{"llama.block_count", -25, 8, 1u << 20}}},
    {.name = "k04_key_empty",
     .says = "key: found length 0",
     .expected = REJECT,
     .change = RAW("\0\0\0\0\0\0\0\0" KEY("", "\4") "\1\0\0\0")},
    {.name = "k07_key_bad_utf8",
     .says = "key: found \"\\xff\\xfe\"",
     .expected = REJECT,
     .change = RAW("\2\0\0\0\0\0\0\0" KEY("\xff\xfe", "\4") "\1\0\0\0")},
    {.name = "k09_dup_alignment",
     .says = "key \"general.alignment\": name: found it twice",
     .expected = REJECT,
     .change = {"raw", CHANGE_RAW, 2 * 33, 2.0f,
                KEY(ALIGNMENT, "\4") "\x20\0\0\0" KEY(ALIGNMENT, "\4") "\x40\0\0\0"}},
    {.name = "k10_type_13",
     .says = "key \"x\": value type: found 13",
     .expected = REJECT,
     .change = RAW("\1\0\0\0\0\0\0\0" KEY("x", "\xd") "\1\0\0\0")},
    {.name = "k13_str_max",
     .says = "key \"tokenizer.ggml.model\": string: found length 18446744073709551615",
     .expected = REJECT,
     .patches = {{"tokenizer.ggml.model", 4, 8, UINT64_MAX}}},
    {.name = "k16_arr_nested",
     .says = "key \"x\": array element type: found an array of arrays",
     .expected = REJECT,
     .change = RAW("\1\0\0\0\0\0\0\0" KEY("x", "\x9") "\x9\0\0\0\1\0\0\0\0\0\0\0"
                                                      "\4\0\0\0\0\0\0\0\0\0\0\0")},
    {.name = "k19_arr_n_max",
     .says = "key \"x\": array length: found 18446744073709551615",
     .expected = REJECT,
     .change = RAW("\1\0\0\0\0\0\0\0" KEY("x", "\x9") "\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff")},
    {.name = "k20_arr_n_wrap",
     .says = "key \"x\": array length: found 2305843009213693953",
     .expected = REJECT,
     .change = RAW("\1\0\0\0\0\0\0\0" KEY("x", "\x9") "\xa\0\0\0\1\0\0\0\0\0\0\x20")},
    {.name = "k22_arr_str_past",
     .says = "key \"x\": string: found length 16777216",
     .expected = REJECT,
     .change = RAW("\1\0\0\0\0\0\0\0" KEY("x", "\x9") "\x8\0\0\0\2\0\0\0\0\0\0\0"
                                                      "\1\0\0\0\0\0\0\0a\0\0\0\1\0\0\0\0")},
    {.name = "k23_arr_empty",
     .expected = ACCEPT,
     .change = RAW("\1\0\0\0\0\0\0\0" KEY("x", "\x9") "\5\0\0\0\0\0\0\0\0\0\0\0")},
    {.name = "k24_arr_n_2p31",
     .says = "key \"x\": array length: found 2147483648",
     .expected = REJECT,
     .change = RAW("\1\0\0\0\0\0\0\0" KEY("x", "\x9") "\4\0\0\0\0\0\0\x80\0\0\0\0")},
    {.name = "k25_cut_in_kv",
     .says = "tensor count and key/value count: found 20 and 18, which take at least 912 bytes",
     .expected = REJECT,
     .cut = "tokenizer.ggml.scores"},
    {.name = "k26_cut_after_kv",
     .says = "tensor count and key/value count: found 20 and 18, which take at least 912 bytes",
     .expected = REJECT,
     .cut = "\x11\0\0\0\0\0\0\0token_embd"},
    {.name = "a_align_3",
     .says = "key \"general.alignment\": value: found 3",
     .expected = REJECT,
     .change = U32("general.alignment", 3)},
    {.name = "a_align_12",
     .says = "key \"general.alignment\": value: found 12",
     .expected = REJECT,
     .change = U32("general.alignment", 12)},
    {.name = "a_align_2p31",
     .says = "key \"general.alignment\": value: found 2147483648",
     .expected = REJECT,
     .change = U32("general.alignment", 1u << 31)},
    {.name = "a_align_max",
     .says = "key \"general.alignment\": value: found 4294967295",
     .expected = REJECT,
     .change = U32("general.alignment", UINT32_MAX)},
    {.name = "a_align_i32",
     .says = "key \"general.alignment\": value type: found i32",
     .expected = REJECT,
     .change = RAW(KEY(ALIGNMENT, "\5") "\x20\0\0\0")},
    {.name = "a_align_8_ok", .expected = ACCEPT, .change = U32("general.alignment", 8)},
    {.name = "a_align_1",
     .says = "key \"general.alignment\": value: found 1",
     .expected = REJECT,
     .change = U32("general.alignment", 1)},
    {.name = "a_align_4096_mismatch",
     .says = "tensor \"output_norm.weight\": offset: found 1536",
     .expected = REJECT,
     .change = U32("general.alignment", 4096)},
    {.name = "t01_name_len_max",
     .says = "name: found length 18446744073709551615",
     .expected = REJECT,
     .patches = {{"token_embd.weight", -25, 8, UINT64_MAX}}},
    {.name = "t05_dup_name",
     .says = "tensor \"blk.0.attn_k.weight\": name: found it twice",
     .expected = REJECT,
     .patches = {{"blk.0.attn_v.weight", -8, 1, 'k'}}},
    {.name = "t07_ndims_5",
     .says = "tensor \"blk.0.attn_q.weight\": dimension count: found 5",
     .expected = REJECT,
     .patches = {{ATTN_Q, RANK, 4, 5}}},
    {.name = "t08_ndims_max",
     .says = "tensor \"blk.0.attn_q.weight\": dimension count: found 4294967295",
     .expected = REJECT,
     .patches = {{ATTN_Q, RANK, 4, UINT32_MAX}}},
    {.name = "t09_dim_0",
     .says = "tensor \"blk.0.attn_q.weight\": dimension: found 0",
     .expected = REJECT,
     .patches = {{ATTN_Q, DIM_0, 8, 0}}},
    {.name = "t10_dim_neg",
     .says = "tensor \"blk.0.attn_q.weight\": dimension: found 9223372036854775808",
     .expected = REJECT,
     .patches = {{ATTN_Q, DIM_1, 8, 1ull << 63}}},
    {.name = "t11_prod_2p64",
     .says = "tensor \"blk.0.attn_q.weight\": dimension: found 4294967296",
     .expected = REJECT,
     .patches = {{ATTN_Q, DIM_0, 8, 1ull << 32}, {ATTN_Q, DIM_1, 8, 1ull << 32}}},
    {.name = "t13_i64max_2",
     .says = "tensor \"blk.0.attn_q.weight\": dimension: found 2",
     .expected = REJECT,
     .patches = {{ATTN_Q, DIM_0, 8, INT64_MAX}, {ATTN_Q, DIM_1, 8, 2}}},
    {.name = "t14_pad_wrap",
     .says = "tensor \"blk.0.attn_q.weight\": offset: found 1792",
     .expected = REJECT,
     .patches = {{ATTN_Q, DIM_0, 8, 4611686018427387903}, {ATTN_Q, DIM_1, 8, 1}}},
    {.name = "t15_2p42",
     .says = "tensor \"blk.0.attn_q.weight\": offset: found 1792",
     .expected = REJECT,
     .patches = {{ATTN_Q, DIM_1, 8, (1ull << 42) + 1}}},
    {.name = "t19_type_4",
     .says = "tensor \"blk.0.attn_q.weight\": type: found 4",
     .expected = REJECT,
     .patches = {{ATTN_Q, TYPE, 4, 4}}},
    {.name = "t20_type_5",
     .says = "tensor \"blk.0.attn_q.weight\": type: found 5",
     .expected = REJECT,
     .patches = {{ATTN_Q, TYPE, 4, 5}}},
    {.name = "t21_type_31",
     .says = "tensor \"blk.0.attn_q.weight\": type: found 31",
     .expected = REJECT,
     .patches = {{ATTN_Q, TYPE, 4, 31}}},
    {.name = "t22_type_neg",
     .says = "tensor \"blk.0.attn_q.weight\": type: found 4294967295",
     .expected = REJECT,
     .patches = {{ATTN_Q, TYPE, 4, UINT32_MAX}}},
    {.name = "t24_type_25_i16",
     .says = "tensor blk.0.attn_q.weight has type I16, which cannot be used there",
     .expected = REFUSE,
     .patches = {{ATTN_Q, TYPE, 4, 25}}},
    {.name = "t25_q8_row",
     .says = "tensor \"blk.0.attn_q.weight\": type: found Q8_0 with rows of 20",
     .expected = REJECT,
     .patches = {{ATTN_Q, TYPE, 4, 8}, {ATTN_Q, DIM_0, 8, 20}}},
    {.name = "t26_q4k_row",
     .says = "tensor \"blk.0.attn_q.weight\": type: found Q4_K with rows of 32",
     .expected = REJECT,
     .patches = {{ATTN_Q, TYPE, 4, 12}}},
    {.name = "t28_off_past_eof",
     .says = "tensor \"blk.0.attn_q.weight\": offset: found 1099511627776",
     .expected = REJECT,
     .patches = {{ATTN_Q, OFFSET, 8, 1ull << 40}}},
    {.name = "t29_off_wrap",
     .says = "tensor \"blk.0.attn_q.weight\": offset: found 18446744073709551584",
     .expected = REJECT,
     .patches = {{ATTN_Q, OFFSET, 8, UINT64_MAX - 31}}},
    {.name = "t32_overlap",
     .says = "tensor \"blk.0.attn_q.weight\": data: found the bytes of tensor "
             "\"token_embd.weight\" there",
     .expected = REJECT,
     .patches = {{ATTN_Q, OFFSET, 8, 0}}},
    {.name = "t36_cut_info",
     .says = "name: found length 21",
     .expected = REJECT,
     .cut = "blk.1.ffn_down.weight"},
    {.name = "t37_trailing", .expected = ACCEPT, .resize = 1000},
    {.name = "t3x_one_byte_short",
     .says = "tensor \"blk.1.ffn_down.weight\": offset: found 67712",
     .expected = REJECT,
     .resize = -1},
    {.name = "m02_arch_unknown",
     .says = "general.architecture is \"foo\"",
     .expected = REFUSE,
     .change = {"general.architecture", CHANGE_TEXT, 0, 0, "foo"}},
    {.name = "m03_arch_u32",
     .says = "key \"general.architecture\": found u32",
     .expected = REFUSE,
     .change = U32("general.architecture", 1)},
    {.name = "m04_blocks_0",
     .says = "llama.block_count is 0",
     .expected = REFUSE,
     .change = U32("llama.block_count", 0)},
    {.name = "m05_blocks_1",
     .says = "tensor blk.1.attn_norm.weight: no block of this architecture and number uses it",
     .expected = REFUSE,
     .change = U32("llama.block_count", 1)},
    {.name = "m06_blocks_3",
     .says = "tensor blk.2.attn_norm.weight is missing",
     .expected = REFUSE,
     .change = U32("llama.block_count", 3)},
    {.name = "m07_blocks_max",
     .says = "llama.block_count is 4294967295",
     .expected = REFUSE,
     .change = U32("llama.block_count", UINT32_MAX)},
    {.name = "m08_heads_0",
     .says = "llama.attention.head_count is 0",
     .expected = REFUSE,
     .change = U32("llama.attention.head_count", 0)},
    {.name = "m09_kvheads_0",
     .says = "llama.attention.head_count_kv is 0",
     .expected = REFUSE,
     .change = U32("llama.attention.head_count_kv", 0)},
    {.name = "m12_kvheads_8",
     .says = "llama.attention.head_count_kv is 8",
     .expected = REFUSE,
     .change = U32("llama.attention.head_count_kv", 8)},
    {.name = "m13_embd_0",
     .says = "llama.embedding_length is 0",
     .expected = REFUSE,
     .change = U32("llama.embedding_length", 0)},
    {.name = "m15_embd_max",
     .says = "llama.attention.head_count is 4",
     .expected = REFUSE,
     .change = U32("llama.embedding_length", UINT32_MAX)},
    {.name = "m16_ff_63",
     .says = "tensor blk.0.ffn_gate.weight has shape [64, 32]",
     .expected = REFUSE,
     .change = U32("llama.feed_forward_length", 63)},
    {.name = "m18_ctx_0",
     .says = "llama.context_length is 0",
     .expected = REFUSE,
     .change = U32("llama.context_length", 0)},
    {.name = "m19_ctx_max",
     .says = "llama.context_length is 4294967295",
     .expected = REFUSE,
     .change = U32("llama.context_length", UINT32_MAX)},
    {.name = "m20_rope_dim_64",
     .says = "llama.rope.dimension_count is 64",
     .expected = REFUSE,
     .change = U32("llama.rope.dimension_count", 64)},
    {.name = "m23_eps_nan",
     .says = "llama.attention.layer_norm_rms_epsilon is nan",
     .expected = REFUSE,
     .change = F32("llama.attention.layer_norm_rms_epsilon", NAN)},
    {.name = "m24_eps_neg",
     .says = "llama.attention.layer_norm_rms_epsilon is -1",
     .expected = REFUSE,
     .change = F32("llama.attention.layer_norm_rms_epsilon", -1.0f)},
    {.name = "m25_eps_missing",
     .says = "key \"llama.attention.layer_norm_rms_epsilon\" is missing",
     .expected = REFUSE,
     .change = {"llama.attention.layer_norm_rms_epsilon", CHANGE_OMIT, 0, 0, 0}},
    {.name = "m26_freq_0",
     .says = "llama.rope.freq_base is 0",
     .expected = REFUSE,
     .change = F32("llama.rope.freq_base", 0.0f)},
    {.name = "m27_freq_nan",
     .says = "llama.rope.freq_base is nan",
     .expected = REFUSE,
     .change = F32("llama.rope.freq_base", NAN)},
    {.name = "m28_missing_tensor",
     .says = "tensor blk.0.ffn_down.weight is missing",
     .expected = REFUSE,
     .change = {"blk.0.ffn_down.weight", CHANGE_OMIT, 0, 0, 0}},
    {.name = "m30_blocks_string",
     .says = "key \"llama.block_count\": found string",
     .expected = REFUSE,
     .change = {"llama.block_count", CHANGE_TEXT, 0, 0, "1"}},
    {.name = "m31_blocks_f32",
     .says = "key \"llama.block_count\": found f32",
     .expected = REFUSE,
     .change = F32("llama.block_count", 2.0f)},
    {.name = "m32_heads_arr2",
     .says = "key \"llama.attention.head_count\": found array of u32",
     .expected = REFUSE,
     .change = {"llama.attention.head_count", CHANGE_ARRAY, 2, 0, 0}},
    {.name = "m33_norm_2d",
     .says = "tensor blk.0.attn_norm.weight has shape [1, 32]",
     .expected = REFUSE,
     .change = {"blk.0.attn_norm.weight", CHANGE_RANK_2, 0, 0, 0}},
    {.name = "m35_no_embd",
     .says = "tensor token_embd.weight is missing",
     .expected = REFUSE,
     .change = {"token_embd.weight", CHANGE_OMIT, 0, 0, 0}},
    {.name = "m36_extra_tensor",
     .says = "tensor blk.9.junk.weight: no block of this architecture and number uses it",
     .expected = REFUSE,
     .change = {"blk.9.junk.weight", CHANGE_EXTRA, 0, 0, 0}},
    {.name = "m37_escape_in_name",
     .says =
         "tensor blk.9.\\x1b[31m\\\"\\x0a.weight: no block of this architecture and number uses it",
     .expected = REFUSE,
     .change = {"blk.9.\x1b[31m\"\n.weight", CHANGE_EXTRA, 0, 0, 0}},
    {.name = "m38_escape_in_value",
     .says = "general.architecture is \"\\x1b]0;x\\x07\\xc2\\x9b\"",
     .expected = REFUSE,
     .change = {"general.architecture", CHANGE_TEXT, 0, 0, "\x1b]0;x\a\xc2\x9b"}},
    {.name = "r01_nan_weights",
     .says = "the logit of token 0 is NaN",
     .expected = RUN,
     .change = F32("token_embd.weight", NAN)},
    {.name = "r02_inf_weight",
     .says = "the logit of token 0 is NaN",
     .expected = RUN,
     .change = F32("blk.1.ffn_up.weight", INFINITY)},
    {.name = "r03_q8_scale_nan",
     .says = "the logit of token 0 is NaN",
     .expected = RUN,
     .change = F32("blk.0.attn_q.weight", NAN),
     .patches = {{ATTN_Q, TYPE, 4, 8}}},
    {.name = "v01_no_tokens",
     .says = "key tokenizer.ggml.tokens is missing",
     .expected = REFUSE,
     .change = {"tokenizer.ggml.tokens", CHANGE_OMIT, 0, 0, 0}},
    {.name = "v02_tokens_u32",
     .says = "tokenizer.ggml.tokens has 8 items",
     .expected = REFUSE,
     .change = {"tokenizer.ggml.tokens", CHANGE_ARRAY, 8, 0, 0}},
    {.name = "v03_scores_short",
     .says = "tokenizer.ggml.scores has 5 elements",
     .expected = REFUSE,
     .change = {"tokenizer.ggml.scores", CHANGE_COUNT, 5, 0, 0}},
    {.name = "v05_types_short",
     .says = "tokenizer.ggml.token_type has 5 elements",
     .expected = REFUSE,
     .change = {"tokenizer.ggml.token_type", CHANGE_COUNT, 5, 0, 0}},
    {.name = "v06_types_u32",
     .says = "key \"tokenizer.ggml.token_type\": found array of u32",
     .expected = REFUSE,
     .change = {"tokenizer.ggml.token_type", CHANGE_ARRAY, 8, 0, 0}},
    {.name = "v07_bos_n",
     .says = "tokenizer.ggml.bos_token_id is 12; the vocabulary has 12 tokens",
     .expected = REFUSE,
     .change = U32("tokenizer.ggml.bos_token_id", 12)},
    {.name = "v08_eos_max",
     .says = "tokenizer.ggml.eos_token_id is 4294967295; the vocabulary has 12 tokens",
     .expected = REFUSE,
     .change = U32("tokenizer.ggml.eos_token_id", UINT32_MAX)},
    {.name = "v11_byte_minus1",
     .says = "tokenizer.ggml.tokens: token 5 has the type byte but is \"<0x-1>\"",
     .expected = REFUSE,
     .change = {"token", CHANGE_TOKEN, 5, 6.0f, "<0x-1>"}},
    {.name = "v12_byte_gg",
     .says = "tokenizer.ggml.tokens: token 5 has the type byte but is \"<0xGG>\"",
     .expected = REFUSE,
     .change = {"token", CHANGE_TOKEN, 5, 6.0f, "<0xGG>"}},
    {.name = "v13_byte_short",
     .says = "tokenizer.ggml.tokens: token 5 has the type byte but is \"<0x\"",
     .expected = REFUSE,
     .change = {"token", CHANGE_TOKEN, 5, 6.0f, "<0x"}},
    {.name = "v15_empty_token", .expected = ACCEPT, .change = {"token", CHANGE_TOKEN, 5, 1.0f, ""}},
    {.name = "v16_long_token",
     .expected = ACCEPT,
     .change = {"token", CHANGE_TOKEN, 5, 1.0f, long_token}},
    {.name = "v18_bpe_no_merges",
     .says = "tokenizer.ggml.model is \"gpt2\"",
     .expected = REFUSE,
     .change = {"tokenizer.ggml.model", CHANGE_TEXT, 0, 0, "gpt2"}},
    {.name = "v22_scores_nan", .expected = ACCEPT, .change = F32("tokenizer.ggml.scores", NAN)},
    {.name = "v24_vocab_size_99",
     .says = "tokenizer.ggml.tokens has 12 items",
     .expected = REFUSE,
     .change = U32("llama.vocab_size", 99)},
    {.name = "v25_type_99", .expected = ACCEPT, .change = {"token", CHANGE_TOKEN, 5, 99.0f, "b"}},
    {.name = "v27_template",
     .expected = ACCEPT,
     .change = {"tokenizer.chat_template", CHANGE_TEXT, 0, 0,
                "{% for x in ().__class__.__base__.__subclasses__() %}{{ x }}{% endfor %}"}},
    {.name = "s02_split_no",
     .says = "key \"split.no\": found 7",
     .expected = REFUSE,
     .change = U32("split.no", 7)},
    {.name = "s03_split_count",
     .says = "key \"split.no\" is missing",
     .expected = REFUSE,
     .change = U32("split.count", 2)},
};

static void files_made_here_get_their_verdicts(void** state) {
    (void)state;
    int wrong = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t byte_size = 0;
        char path[64];
        uint8_t* bytes = make_case(&cases[i], &byte_size);
        write_file(path, bytes, byte_size);
        free(bytes);
        wrong += try_file(cases[i].name, path, cases[i].expected) ? 0 : 1;
        if (cases[i].says) {
            assert_message_has(cases[i].says); // refused, and for this reason
        }
        remove_file(path);
    }
    assert_int_equal(wrong, 0);
}

// Keys longer than the format allows, and arrays that nest deeper than any stack.
static void keys_and_nesting_without_end_are_rejected(void** state) {
    (void)state;
    for (int nested = 0; nested < 2; nested++) {
        gguf_builder builder = {0};
        const size_t length = 70000;
        char* key = malloc(length + 1);
        assert_non_null(key);
        memset(key, 'k', length);
        key[nested ? 1 : length] = '\0';
        gguf_begin_value(&builder, key, nested ? WEIR_GGUF_ARRAY : WEIR_GGUF_U8);
        for (int i = 0; nested && i < 20000; i++) {
            gguf_append_u32(&builder.values, WEIR_GGUF_ARRAY);
            gguf_append_u64(&builder.values, 1);
        }
        gguf_append(&builder.values, "\0", 1);
        free(key);
        size_t byte_size = 0;
        char path[64];
        uint8_t* bytes = gguf_builder_finish(&builder, &byte_size);
        write_file(path, bytes, byte_size);
        free(bytes);
        assert_true(try_file(nested ? "k17_arr_deep" : "k05_key_70000", path, REJECT));
        remove_file(path);
    }
}

static void big_endian_files_are_refused_by_name(void** state) {
    (void)state;
    size_t byte_size = 0;
    uint8_t* bytes = tiny_llama(NULL, &byte_size);
    const uint32_t swapped = 0x03000000;
    memcpy(bytes + 4, &swapped, sizeof swapped);
    assert_int_equal(parse(bytes, byte_size), WEIR_UNSUPPORTED);
    assert_message_has("byte order: found a big-endian file of version 3, expected little-endian");
    free(bytes);
}

// What is decided where the corpus leaves a choice.
static verdict decide(const char* name, const char* word) {
    static const struct {
        const char* name;
        verdict decided;
    } policies[] = {
        {"a_align_1.gguf", REJECT},         {"a_align_i32.gguf", REJECT},
        {"k07_key_bad_utf8.gguf", REJECT},  {"k16_arr_nested.gguf", REJECT},
        {"m36_extra_tensor.gguf", REFUSE},  {"s02_split_no.gguf", REFUSE},
        {"v20_merge_unknown.gguf", REFUSE}, {"v24_vocab_size_99.gguf", REFUSE},
        {"v25_type_99.gguf", ACCEPT},       {"v27_template.gguf", ACCEPT},
    };
    for (size_t i = 0; i < sizeof policies / sizeof *policies; i++) {
        if (strcmp(policies[i].name, name) == 0) {
            assert_string_equal(word, "policy");
            return policies[i].decided;
        }
    }
    assert_string_not_equal(word, "policy");
    return strcmp(word, "accept") == 0  ? ACCEPT
           : strcmp(word, "run") == 0   ? RUN
           : strcmp(word, "model") == 0 ? REFUSE
                                        : REJECT;
}

// Unpacks an archive of the shared data into a fresh folder; false, with the reason, without it.
static bool unpack(const char* name, char folder[64]) {
    char archive[512];
    char command[1200];
    if (!shared_data_path(name, archive, sizeof archive)) {
        print_message("skipped: shared data %s is not here\n", name);
        return false;
    }
    strcpy(folder, "/tmp/weir-hostile-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(command, sizeof command, "tar xJf '%s' -C '%s'", archive, folder);
    if (system(command) != 0) {
        print_message("skipped: tar cannot unpack %s\n", archive);
        return false;
    }
    return true;
}

static void the_shared_corpus_gets_its_verdicts(void** state) {
    (void)state;
    char folder[64];
    char path[256];
    char line[1024];
    if (!unpack("hostile.tar.xz", folder)) {
        skip();
    }
    snprintf(path, sizeof path, "%s/hostile/MANIFEST.tsv", folder);
    FILE* manifest = fopen(path, "r");
    assert_non_null(manifest);
    int files = 0;
    int wrong = 0;
    assert_non_null(fgets(line, sizeof line, manifest)); // the heads of the columns
    while (fgets(line, sizeof line, manifest)) {
        char name[128];
        char word[32];
        assert_int_equal(sscanf(line, "%127s %*s %31s", name, word), 2);
        snprintf(path, sizeof path, "%s/hostile/%s", folder, name);
        wrong += try_file(name, path, decide(name, word)) ? 0 : 1;
        files++;
    }
    fclose(manifest);
    snprintf(line, sizeof line, "rm -r '%s'", folder);
    assert_int_equal(system(line), 0);
    assert_int_equal(wrong, 0);
    assert_true(files >= 100);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_made_here_get_their_verdicts),
        cmocka_unit_test(keys_and_nesting_without_end_are_rejected),
        cmocka_unit_test(big_endian_files_are_refused_by_name),
        cmocka_unit_test(the_shared_corpus_gets_its_verdicts),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
