// The program `weir` as its users meet it: output, messages, exit codes. What it plans and checks
// is in test_cli_plan.c.
#include "cli_fixture.h"

#include <math.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void help_is_printed_on_request(void** state) {
    (void)state;
    const char* calls[] = {"--help",          "-h",          "run --help",  "eval --help",
                           "tokenize --help", "info -h",     "plan --help", "check --help",
                           "devices --help",  "bench --help"};
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        assert_int_equal(weir(calls[i]), 0);
        assert_has(cli.output, "usage: weir");
        assert_string_equal(cli.errors, "");
    }
    assert_int_equal(weir("--version"), 0);
    assert_string_equal(cli.output, "weir 0.1.0\n");
}

static void devices_are_listed_with_what_they_can_do(void** state) {
    (void)state;
    // Drivers leave memory behind when they are unloaded, which is not the program's to release.
    test_setting options = test_setting_begin("ASAN_OPTIONS", "detect_leaks=0");
    assert_int_equal(weir("devices"), 0);
    assert_has(cli.output, "cpu        ");
    assert_has(cli.output, "cpu:plain  ");
    assert_has(cli.output, "shared with the host");
    assert_has(cli.output, "vulkan");
    assert_int_equal(weir("devices --json"), 0);
    assert_has(cli.output, "\"name\": \"cpu\"");
    assert_one_line(cli.output);
    assert_int_equal(weir("devices extra"), 64);
    assert_has(cli.errors, "unexpected argument 'extra'");
    test_setting drivers = test_setting_begin("VK_DRIVER_FILES", "/nowhere");
    assert_int_equal(weir("devices"), 0);
    assert_has(cli.output, "vulkan     ");
    test_setting_end(&drivers);
    test_setting_end(&options);
}

static void wrong_usage_exits_with_64(void** state) {
    (void)state;
    static const struct {
        const char* arguments;
        const char* part;
    } cases[] = {
        {"frobnicate", "unknown command 'frobnicate'"},
        {"run", "no model file"},
        {"run a b", "more than one model"},
        {"run $M --frobnicate", "--frobnicate"},
        {"run $M -x", "'-x'"},
        {"run $M -xp a", "'-x'"},
        {"run $M --json=5", "'--json=5'"},
        {"run $M -n", "needs a value"},
        {"run $M -n many", "'many'"},
        {"run $M -n -5", "'-5'"},
        {"run $M -n 4294967296", "range"},
        {"run $M --temp warm", "'warm'"},
        {"run $M --temp nan", "'nan'"},
        {"run $M --temp -1", "--temp"},
        {"run $M --temp 1 --top-p 1.5", "--top-p"},
        {"run $M --temp 1 --min-p 2", "--min-p"},
        {"run $M --repeat-penalty 0", "--repeat-penalty"},
        {"run $M --stop ''", "--stop"},
        {"run $M -p x --ids y", "exclude"},
        {"run $M --trace-passes 0", "--trace-passes"},
        {"eval $M", "--ids"},
        {"plan $M --why 1", "two values"},
        {"plan --why 1 2", "no model file"},
        {"plan $M --pass both", "--pass"},
        {"plan $M --order short", "--order: expected"},
        {"plan $M --tradeoff --arena 4096", "--tradeoff shows all orders"},
        {"plan $M --tradeoff --why 1 2", "--why is about one"},
        {"plan $M --tradeoff --diff a.plan", "--diff is about one"},
        {"plan $M --plan a.plan --order bytes", "--order: the plans"},
        {"check $M --order short", "--order: expected"},
        {"check $M --plan a.plan --arena 4096", "--arena: the plans"},
        {"plan $M --json --diff a.plan", "exclude"},
        {"plan $M --verify", "--verify is not for models"},
        {"check", "no model file"},
        {"tokenize $M -p x --file y", "exclude"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(weir(cases[i].arguments), 64);
        assert_has(cli.errors, cases[i].part);
        assert_one_line(cli.errors);
        assert_string_equal(cli.output, "");
    }
    assert_int_equal(weir(""), 64);
    assert_has(cli.errors, "usage: weir");
}

static void errors_are_one_line_and_exit_with_1(void** state) {
    (void)state;
    static const struct {
        const char* arguments;
        const char* parts[2];
    } cases[] = {
        {"run none.gguf", {"none.gguf", "cannot open"}},
        {"info empty.gguf", {"empty.gguf", "the file has 0"}},
        {"info fifo", {"fifo", "not a regular file"}},
        {"info .", {".", "not a regular file"}},
        {"info \"$(printf 'two\\nlines\\033')\"", {"two?lines?", "cannot open"}},
        {"run short.gguf", {"short.gguf", ""}},
        {"plan text.gguf", {"text.gguf", ""}},
        {"tokenize text.gguf -p x", {"text.gguf", ""}},
        {"eval $M --ids none.txt", {"none.txt", "cannot open"}},
        {"eval $M --ids bad.txt", {"bad.txt", "byte 4: \"x3\""}},
        {"eval $M --ids high.txt", {"high.txt", "byte 2: token id 12"}},
        {"eval $M --ids empty.txt", {"empty.txt", "no token ids"}},
        {"eval $M --ids .", {".", "cannot read"}},
        {"eval $M --ids long.txt", {"long.txt", "65 token ids"}},
        {"eval $M --ids good.txt --logits /no/such/file", {"/no/such/file", "cannot open"}},
        {"run $M --ids high.txt", {"high.txt", "byte 2"}},
        {"run nan.gguf -n 2", {"nan.gguf", "NaN"}},
        {"run $M -p aaaaaaa --context 4", {"the context has room for 4", ""}},
        {"plan $M --context 65", {"context", "65"}},
        {"plan $M --device abacus", {"abacus", "cpu"}},
        {"plan $M --why nobody 3", {"nobody", "no dispatch and no value"}},
        {"plan $M --why 3 9999", {"9999", "no dispatch"}},
        {"plan $M --why 3 3", {"both", "3"}},
        {"plan $M --why 3 logits", {"two dispatches or two values", ""}},
        {"plan $M --schedule-json /no/such/file", {"/no/such/file", "cannot open"}},
        {"run $M -n 1 --trace /no/such/file", {"/no/such/file", "cannot open"}},
        {"check none.gguf", {"none.gguf", "cannot open"}},
        {"check $M --context 65", {"context", "65"}},
        {"check $M --ids high.txt", {"high.txt", "byte 2"}},
        {"check $M --ids good.txt --context 3", {"4 token ids", "room for 3"}},
        {"tokenize $M --file none.txt", {"none.txt", "cannot open"}},
    };
    char ids[65 * 2];
    for (size_t i = 0; i < 65; i++) {
        memcpy(ids + 2 * i, "1 ", 2);
    }
    write_named("long.txt", ids, sizeof ids);
    char fifo[128];
    snprintf(fifo, sizeof fifo, "%s/fifo", cli.folder);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    write_named("good.txt", "1 4\n5\t7\n", 8);
    write_named("bad.txt", "1 2 x3", 6);
    write_named("high.txt", "1 12", 4);
    write_named("empty.txt", " \n", 2);
    write_changed("nan.gguf",
                  (llama_change){.name = "output_norm.weight", .kind = CHANGE_F32, .real = NAN});
    write_named("empty.gguf", "", 0);
    write_named("short.gguf", "GGUF\3\0\0\0\1", 9);
    write_named("text.gguf", "once upon a time there was a file\n", 34);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (weir(cases[i].arguments) != 1) {
            fail_msg("weir %s does not exit with 1: %s", cases[i].arguments, cli.errors);
        }
        assert_has(cli.errors, "weir: ");
        assert_has(cli.errors, cases[i].parts[0]);
        assert_has(cli.errors, cases[i].parts[1]);
        assert_one_line(cli.errors);
        assert_string_equal(cli.output, "");
    }
}

static void run_is_reproducible(void** state) {
    (void)state;
    static char first[OUTPUT_CAPACITY];
    const char* options[] = {"", "--temp 1 --seed 5", "--temp 0.7 --top-p 0.5",
                             "--temp 2 --top-k 5 --min-p 0.01 --repeat-penalty 1.3"};
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        char arguments[128];
        snprintf(arguments, sizeof arguments, "run $M -p ab -n 20 --ignore-end %s", options[i]);
        assert_int_equal(weir(arguments), 0);
        assert_true(strncmp(cli.output, "ab", 2) == 0);
        assert_string_equal(cli.errors, "");
        strcpy(first, cli.output);
        strcat(arguments, " --threads 3");
        assert_int_equal(weir(arguments), 0);
        assert_string_equal(cli.output, first);
    }
}

// The text is that of a run without --stop, up to there; ids go up to the token that completed it.
static void run_ends_before_a_stop_text(void** state) {
    (void)state;
    static char whole[OUTPUT_CAPACITY];
    assert_int_equal(weir("run $M -p ab -n 20 --ignore-end --temp 2 --seed 3"), 0);
    strcpy(whole, cli.output);
    char arguments[128];
    const char stop[] = {whole[8], whole[9], '\0'};
    snprintf(arguments, sizeof arguments,
             "run $M -p ab -n 20 --ignore-end --temp 2 --seed 3 --stats --stop '%s'", stop);
    char* found = strstr(whole + 2, stop); // the prompt does not count
    assert_non_null(found);
    strcpy(found, "\n");
    assert_int_equal(weir(arguments), 0);
    assert_string_equal(cli.output, whole);
    assert_has(cli.errors, "ended by: stop text");
}

static void run_prints_one_json_object(void** state) {
    (void)state;
    assert_int_equal(weir("run $M -p a -n 3 --ignore-end --json --stats"), 0);
    assert_one_line(cli.output);
    assert_has(cli.output, "{\"prompt_ids\": [1, ");
    assert_has(cli.output, "\"ids\": [");
    assert_has(cli.output, "\"text\": \"a");
    assert_has(cli.output, "\"generated_tokens\": 3");
    assert_has(cli.output, "\"end\": \"limit\"");
    assert_has(cli.errors, "a token");
    write_named("good.txt", "1 4", 3);
    assert_int_equal(weir("run $M --ids good.txt -n 1 --ignore-end --json"), 0);
    assert_has(cli.output, "{\"prompt_ids\": [1, 4]");
}

// Starts a run that would take minutes and returns the end of a pipe that its text comes from.
static int start_endless_run(pid_t* child) {
    write_changed(
        "endless.gguf",
        (llama_change){.name = "llama.context_length", .kind = CHANGE_U32, .number = 1u << 20});
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    *child = fork();
    assert_true(*child >= 0);
    if (*child == 0) {
        if (chdir(cli.folder) == 0 && dup2(ends[1], 1) == 1 && freopen("err", "w", stderr)) {
            close(ends[0]);
            close(ends[1]);
            execl(cli.program, "weir", "run", "endless.gguf", "-p", "a", "-n", "0", "--ignore-end",
                  "--context", "1000000", "--stats", (char*)NULL);
        }
        _exit(127);
    }
    close(ends[1]);
    return ends[0];
}

static void interrupt_ends_a_run_with_what_was_done(void** state) {
    (void)state;
    pid_t child = 0;
    const int text = start_endless_run(&child);
    char bytes[4096];
    char last = '\0';
    // The first bytes come when the handler is set.
    ssize_t length = read(text, bytes, 1);
    assert_int_equal(length, 1);
    assert_int_equal(kill(child, SIGINT), 0);
    while ((length = read(text, bytes, sizeof bytes)) > 0) {
        last = bytes[length - 1];
    }
    close(text);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 130);
    assert_int_equal(last, '\n');
    read_named("err", cli.errors, sizeof cli.errors);
    assert_has(cli.errors, "ended by: stopped");
}

static void eval_scores_and_writes_logits(void** state) {
    (void)state;
    write_named("good.txt", "1 4\n5\t7\n", 8);
    assert_int_equal(weir("eval $M --ids good.txt --json --logits logits.f32"), 0);
    double nll = 0.0;
    unsigned count = 0;
    assert_int_equal(sscanf(cli.output, "{\"nll\": %lf, \"count\": %u}", &nll, &count), 2);
    assert_int_equal(count, 3);
    static float logits[5 * TINY_VOCABULARY];
    char path[128];
    snprintf(path, sizeof path, "%s/logits.f32", cli.folder);
    FILE* file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fread(logits, sizeof *logits, 5 * TINY_VOCABULARY, file), 4 * TINY_VOCABULARY);
    fclose(file);
    const uint32_t targets[3] = {4, 5, 7};
    double sum = 0.0;
    for (size_t row = 0; row < 3; row++) {
        double total = 0.0;
        for (size_t i = 0; i < TINY_VOCABULARY; i++) {
            total += exp((double)logits[row * TINY_VOCABULARY + i]);
        }
        sum += log(total) - (double)logits[row * TINY_VOCABULARY + targets[row]];
    }
    assert_true(fabs(sum / 3.0 - nll) < 1e-6);

    assert_int_equal(weir("eval $M --ids good.txt"), 0);
    assert_has(cli.output, "over 3 tokens");
    write_named("good.txt", "1", 1);
    assert_int_equal(weir("eval $M --ids good.txt --json"), 0);
    assert_string_equal(cli.output, "{\"nll\": null, \"count\": 0}\n");
}

static void tokenize_takes_text_from_three_places(void** state) {
    (void)state;
    static char first[OUTPUT_CAPACITY];
    write_named("text.txt", "abc", 3);
    assert_int_equal(weir("tokenize $M -p abc"), 0);
    strcpy(first, cli.output);
    assert_has(first, "4 5 6\n");
    assert_true(strncmp(first, "1 ", 2) == 0);
    assert_int_equal(weir("tokenize $M --file text.txt"), 0);
    assert_string_equal(cli.output, first);
    assert_int_equal(weir("tokenize $M <text.txt"), 0);
    assert_string_equal(cli.output, first);
    assert_int_equal(weir("tokenize $M --no-bos -p abc"), 0);
    assert_string_equal(cli.output, first + 2);
    assert_int_equal(weir("tokenize $M -p abc --json"), 0);
    assert_has(cli.output, "\"pieces\": [");
    assert_has(cli.output, "\"c\"]}");
}

static void info_describes_the_file(void** state) {
    (void)state;
    assert_int_equal(weir("info $M"), 0);
    assert_has(cli.output, "embedding     32\n");
    assert_has(cli.output, "copied        0 bytes\n");
    assert_has(cli.output, "F32           20 tensors, ");
    assert_null(strstr(cli.output, "blk.1.ffn_up.weight"));
    assert_int_equal(weir("info $M --tensors"), 0);
    assert_has(cli.output, "blk.1.ffn_up.weight");
    assert_int_equal(weir("info $M --tensors --json"), 0);
    assert_one_line(cli.output);
    assert_has(cli.output, "\"heads\": 4");
    assert_has(cli.output,
               "{\"name\": \"blk.1.ffn_up.weight\", \"type\": \"F32\", \"shape\": [64, 32]");
}

static void json_replaces_what_is_no_utf8(void** state) {
    (void)state;
    size_t byte_size = 0;
    uint8_t* bytes = tiny_llama(NULL, &byte_size);
    write_named("\"\x80\xc3\xa9\xed\xa0\x80\x01.gguf", bytes, byte_size);
    free(bytes);
    assert_int_equal(weir("info --json \"$(printf '\"\\200\\303\\251\\355\\240\\200\\001.gguf')\""),
                     0);
    assert_has(cli.output, "{\"file\": \"\\\"\\ufffd\xc3\xa9\\ufffd\\ufffd\\ufffd\\u0001.gguf\"");
}

static void text_that_cannot_be_written_is_an_error(void** state) {
    (void)state;
    const char* calls[] = {"run $M -n 2", "info $M", "plan $M", "tokenize $M -p a", "--version"};
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        char command[1024];
        snprintf(command, sizeof command, "M='%s' && '%s' %s >/dev/full 2>/dev/null", cli.model,
                 cli.program, calls[i]);
        const int status = system(command);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 1);
    }
}

// The command goes on reading pages that are gone: the pass ends with a message, not the process.
static void a_model_cut_short_in_use_is_an_error(void** state) {
    (void)state;
    assert_int_equal(weir("synth cut.gguf --blocks 2 --embedding 256 --heads 4 --kv-heads 1 "
                          "--feed-forward 256 --vocabulary 300 --context 200000"),
                     0);
    // Far more tokens than there is time for. What follows the mark is no longer redirected.
    char run[1024];
    snprintf(run, sizeof run,
             "--version >version; "
             "'%s' run cut.gguf --context 200000 -n 0 --ignore-end >out 2>err & p=$!; "
             "for i in $(seq 2000); do [ -s out ] && break; sleep 0.01; done; "
             "truncate -s 4096 cut.gguf; wait $p; exit $? #",
             cli.program);
    assert_int_equal(weir(run), 1);
    assert_has(cli.errors, "cut.gguf");
    assert_has(cli.errors, "are lost");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(help_is_printed_on_request),
        cmocka_unit_test(a_model_cut_short_in_use_is_an_error),
        cmocka_unit_test(devices_are_listed_with_what_they_can_do),
        cmocka_unit_test(wrong_usage_exits_with_64),
        cmocka_unit_test(errors_are_one_line_and_exit_with_1),
        cmocka_unit_test(run_is_reproducible),
        cmocka_unit_test(run_ends_before_a_stop_text),
        cmocka_unit_test(run_prints_one_json_object),
        cmocka_unit_test(interrupt_ends_a_run_with_what_was_done),
        cmocka_unit_test(eval_scores_and_writes_logits),
        cmocka_unit_test(tokenize_takes_text_from_three_places),
        cmocka_unit_test(info_describes_the_file),
        cmocka_unit_test(json_replaces_what_is_no_utf8),
        cmocka_unit_test(text_that_cannot_be_written_is_an_error),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
