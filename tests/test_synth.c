// weir synth, and what the program does with weights of every type.
#include "cli_fixture.h"

#include <math.h>
#include <weir/dtype.h>

// The mean negative log-likelihood of a few tokens under a model.
static double nll_on(const char* device) {
    char command[128];
    snprintf(command, sizeof command, "eval s.gguf --ids ids --json --device %s", device);
    assert_int_equal(weir(command), 0);
    double nll = 0.0;
    assert_int_equal(sscanf(cli.output, "{\"nll\": %lf", &nll), 1);
    return nll;
}

// Weights of a sensible size give logits of one, whatever their type: the likelihood is about that
// of chance among 300 pieces. Kernels that round x to 8 bits are near those that do not.
static void synthetic_models_of_every_type_are_evaluated_alike_by_all_kernels(void** state) {
    (void)state;
    static const char ids[] = "1 17 259 265 299 280 5 270 271 272 273 290";
    write_named("ids", ids, sizeof ids - 1);
    for (unsigned dtype = 1; dtype < WEIR_DTYPE_COUNT; dtype++) {
        if (!weir_dtype_is_decodable((weir_dtype)dtype)) {
            continue;
        }
        char command[256];
        snprintf(command, sizeof command,
                 "synth s.gguf --blocks 2 --embedding 256 --heads 4 --kv-heads 2 "
                 "--feed-forward 512 --vocabulary 300 --context 32 --type %s",
                 weir_dtype_describe((weir_dtype)dtype)->name);
        assert_int_equal(weir(command), 0);
        const double plain = nll_on("cpu:plain");
        assert_true(fabs(plain - log(300.0)) < 0.5);
        assert_true(fabs(plain - nll_on("cpu")) < 0.01);
    }
}

// Finds the type in the description of a matrix: length and name, rank, two dims, type.
static char* find_dtype(char* bytes, size_t byte_size, const char* name) {
    char entry[64];
    const uint64_t length = strlen(name);
    const size_t head = sizeof length + length;
    memcpy(entry, &length, sizeof length);
    memcpy(entry + sizeof length, name, length);
    for (size_t i = 0; i + head + 24 < byte_size; i++) {
        if (memcmp(bytes + i, entry, head) == 0) {
            return bytes + i + head + sizeof(uint32_t) + 2 * sizeof(uint64_t);
        }
    }
    fail_msg("no tensor %s", name);
    return NULL;
}

static void types_that_cannot_be_decoded_are_refused_by_name(void** state) {
    (void)state;
#define DTYPE_ID(name, elements, bytes, alignment, gguf) [WEIR_DTYPE_##name] = (gguf),
    static const int ids[] = {WEIR_DTYPE_LIST(DTYPE_ID)};
#undef DTYPE_ID
    assert_int_equal(weir("synth f.gguf --blocks 1 --embedding 256 --heads 4 --feed-forward 256 "
                          "--vocabulary 300 --context 32 --type F32"),
                     0);
    char path[128];
    size_t byte_size = 0;
    snprintf(path, sizeof path, "%s/f.gguf", cli.folder);
    char* bytes = read_whole_file(path, false, &byte_size);
    // The last matrix of the file, with room behind it for elements of eight bytes.
    char* longer = calloc(1, byte_size + 4 * 300 * 256);
    assert_non_null(longer);
    memcpy(longer, bytes, byte_size);
    free(bytes);
    bytes = longer;
    char* type = find_dtype(bytes, byte_size, "output.weight");
    uint32_t refused = 0;
    for (unsigned dtype = 0; dtype < WEIR_DTYPE_COUNT; dtype++) {
        // 31: a number that the format has given up
        const uint32_t id = dtype == 0 ? 31 : (uint32_t)ids[dtype];
        if (ids[dtype] >= 0 && !weir_dtype_is_decodable((weir_dtype)dtype)) {
            memcpy(type, &id, sizeof id);
            write_named("g.gguf", bytes, byte_size + 4 * 300 * 256);
            assert_int_equal(weir("run g.gguf -p ab -n 1"), 1);
            assert_has(cli.errors, "output.weight");
            assert_has(cli.errors, dtype == 0 ? "found 31" : weir_dtype_describe(dtype)->name);
            refused++;
        }
    }
    free(bytes);
    assert_int_equal(refused, 20); // 35 types that GGUF numbers, 16 of which decode, and number 31
}

static void synth_writes_models_that_run(void** state) {
    (void)state;
    static const char shape[] = "--blocks 1 --embedding 256 --heads 4 --kv-heads 2 "
                                "--feed-forward 256 --vocabulary 300 --context 32";
    static const char* const types[] = {"F32",  "F16",    "BF16",   "Q8_0", "Q4_0", "Q4_1",
                                        "Q5_0", "Q5_1",   "Q2_K",   "Q3_K", "Q4_K", "Q5_K",
                                        "Q6_K", "IQ4_NL", "IQ4_XS", "MXFP4"};
    char command[512];
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        snprintf(command, sizeof command, "synth s.gguf %s --type %s", shape, types[i]);
        assert_int_equal(weir(command), 0);
        assert_int_equal(weir("info s.gguf --tensors"), 0);
        assert_has(cli.output, types[i]);
        // Weights of a sensible size: the logits are finite, or sampling would fail.
        assert_int_equal(weir("run s.gguf -p ab -n 3 --temp 0 --json"), 0);
    }
    snprintf(command, sizeof command, "synth t.gguf %s --type MXFP4 && cmp s.gguf t.gguf", shape);
    assert_int_equal(weir(command), 0);
    snprintf(command, sizeof command, "synth t.gguf %s --seed 2 --tied", shape);
    assert_int_equal(weir(command), 0);
    assert_int_equal(weir("run t.gguf -p ab -n 3 --temp 0"), 0);
}

static void synth_writes_sets_that_are_one_model(void** state) {
    (void)state;
    static const char shape[] = "--blocks 2 --embedding 64 --heads 4 --kv-heads 2 "
                                "--feed-forward 64 --vocabulary 300 --context 32 --type F16";
    static char expected[OUTPUT_CAPACITY];
    char command[512];
    snprintf(command, sizeof command, "synth w.gguf %s", shape);
    assert_int_equal(weir(command), 0);
    snprintf(command, sizeof command, "synth w.gguf %s --split 3", shape);
    assert_int_equal(weir(command), 0);
    assert_int_equal(weir("run w.gguf -p ab -n 8 --ignore-end"), 0);
    strcpy(expected, cli.output);
    assert_int_equal(weir("run w-00001-of-00003.gguf -p ab -n 8 --ignore-end"), 0);
    assert_string_equal(cli.output, expected);
    assert_int_equal(weir("info w-00003-of-00003.gguf --tensors"), 0);
    assert_has(cli.output, "in 3 parts");
    assert_has(cli.output, "part 3");
    assert_int_equal(weir("info w-00002-of-00003.gguf --tensors --json"), 0);
    assert_has(cli.output, "\"parts\": 3");
    assert_int_equal(weir("synth w.gguf --split 0"), 1);
    assert_has(cli.errors, "a set of 0 files; expected 1 to ");
    assert_int_equal(weir("synth w.gguf --blocks 1 --split 999"), 1);
    assert_int_equal(weir("--version; rm w-00002-of-00003.gguf"), 0);
    assert_int_equal(weir("run w-00001-of-00003.gguf"), 1);
    assert_has(cli.errors, "w-00002-of-00003.gguf: cannot open");
    assert_one_line(cli.errors);
}

static void a_set_that_cannot_be_finished_leaves_nothing(void** state) {
    (void)state;
    static const char command[] = "synth h.gguf --blocks 1 --embedding 64 --heads 4 --feed-forward "
                                  "64 --vocabulary 300 --context 32 --split 3";
    assert_int_equal(weir("--version; mkdir h-00003-of-00003.gguf"), 0);
    assert_int_equal(weir(command), 1);
    assert_has(cli.errors, "h-00003-of-00003.gguf: cannot open");
    assert_one_line(cli.errors);
    assert_int_equal(weir("--version; test ! -e h-00001-of-00003.gguf"), 0);
    assert_int_equal(weir("--version; test ! -e h-00002-of-00003.gguf"), 0);
    assert_int_equal(weir("--version; rmdir h-00003-of-00003.gguf"), 0);
    assert_int_equal(weir(command), 0);
    assert_int_equal(weir("--version; test -e h-00001-of-00003.gguf"), 0);
}

// What cannot be finished has overwritten parts of the set before: the rest of that is no model.
static void a_set_over_another_leaves_nothing_of_either(void** state) {
    (void)state;
    static const char command[] = "synth o.gguf --blocks 1 --embedding 64 --heads 4 --feed-forward "
                                  "64 --vocabulary 300 --context 32 --split 3";
    assert_int_equal(weir(command), 0);
    assert_int_equal(weir("--version; rm o-00002-of-00003.gguf; mkdir o-00002-of-00003.gguf"), 0);
    assert_int_equal(weir(command), 1);
    assert_has(cli.errors, "o-00002-of-00003.gguf: cannot open");
    assert_int_equal(weir("--version; test ! -e o-00001-of-00003.gguf"), 0);
    assert_int_equal(weir("--version; test ! -e o-00003-of-00003.gguf"), 0);
    assert_int_equal(weir("--version; rmdir o-00002-of-00003.gguf"), 0);
    assert_int_equal(weir(command), 0);
    assert_int_equal(weir("--version; rm o-00001-of-00003.gguf; mkdir o-00001-of-00003.gguf"), 0);
    assert_int_equal(weir(command), 1); // before anything is overwritten
    assert_int_equal(weir("--version; test -e o-00003-of-00003.gguf"), 0);
}

static void synth_says_which_file_cannot_be_written_and_keeps_devices(void** state) {
    (void)state;
    static const char shape[] =
        "--blocks 1 --embedding 64 --heads 4 --feed-forward 64 --vocabulary 300";
    char command[256];
    assert_int_equal(weir("--version; ln -s /dev/full full.gguf"), 0);
    snprintf(command, sizeof command, "synth full.gguf %s", shape);
    assert_int_equal(weir(command), 1);
    assert_has(cli.errors, "weir: full.gguf: cannot write: No space left");
    assert_one_line(cli.errors);
    assert_int_equal(weir("--version; test -L full.gguf"), 0);
}

static void synth_refuses_what_makes_no_model(void** state) {
    (void)state;
    assert_int_equal(weir("synth no.gguf --preset 7t"), 1);
    assert_has(cli.errors, "no preset \"7t\"; there are: 110m, 1b");
    assert_int_equal(weir("synth no.gguf --type Q9"), 1);
    assert_has(cli.errors, "no weights of type \"Q9\"");
    assert_int_equal(weir("synth no.gguf --heads 7"), 1);
    assert_has(cli.errors, "not divisible by 7 heads");
    assert_int_equal(weir("synth no.gguf --type Q4_K --embedding 128 --heads 4 --blocks 1"), 1);
    assert_has(cli.errors, "token_embd.weight");
    assert_int_equal(weir("synth no.gguf --vocabulary 10"), 1);
    assert_int_equal(weir("synth /nowhere/no.gguf --blocks 1"), 1);
    assert_has(cli.errors, "/nowhere/no.gguf: cannot open");
    assert_int_equal(weir("info no.gguf"), 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(synth_writes_models_that_run),
        cmocka_unit_test(synth_refuses_what_makes_no_model),
        cmocka_unit_test(synth_writes_sets_that_are_one_model),
        cmocka_unit_test(a_set_that_cannot_be_finished_leaves_nothing),
        cmocka_unit_test(a_set_over_another_leaves_nothing_of_either),
        cmocka_unit_test(synth_says_which_file_cannot_be_written_and_keeps_devices),
        cmocka_unit_test(synthetic_models_of_every_type_are_evaluated_alike_by_all_kernels),
        cmocka_unit_test(types_that_cannot_be_decoded_are_refused_by_name),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
