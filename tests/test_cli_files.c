// The program `weir` on files: limits, safetensors, what is shown of strings.
#include "cli_fixture.h"

static void limits_refuse_with_what_is_needed_and_allowed(void** state) {
    (void)state;
    assert_int_equal(weir("info $M"), 0);
    assert_has(cli.output, " bytes at a context of 64, allowed are ");
    assert_has(cli.output, "  caches      8192 bytes"); // 2 blocks, keys and values [64, 16] F16
    assert_int_equal(weir("info $M --context 32 --json --max-memory 16K"), 0);
    assert_has(cli.output, "\"context\": 32, \"weights\": ");
    assert_has(cli.output, "\"allowed\": 16384}");
    assert_int_equal(weir("info $M --max-context 10"), 0);
    assert_has(cli.output, " bytes at a context of 10, ");
    static const struct {
        const char* arguments;
        const char* message;
    } refused[] = {
        {"run $M -p a --max-memory 20K", "allowed are 20480"},
        {"run $M -p a --max-file 4K", "size of the model: found "},
        {"info $M --max-file 1", "allowed are 1"},
        {"run $M -p a --max-vocabulary 11", "found 12 tokens, allowed are 11"},
        {"run $M -p a --context 20 --max-context 10", "20 positions; allowed are 10"},
        {"eval $M --ids ids --max-memory 1", "allowed are 1"},
        {"info $M --max-memory 3K", "memory of the vocabulary: needed are "},
        {"tokenize $M -p a --max-memory 3K", "bytes, allowed are 3072"},
    };
    write_named("ids", "1 4 5\n", 6);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        assert_int_equal(weir(refused[i].arguments), 1);
        assert_has(cli.errors, refused[i].message);
        assert_string_equal(cli.output, "");
        assert_one_line(cli.errors);
    }
    assert_int_equal(weir("run $M -p a -n 2 --max-memory 1T --max-file 1G --max-context 10"), 0);
    static const char* const sizes[] = {"", "K", "1k", "-1", "1.5G", "20000000000T", "1KK"};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char command[128];
        snprintf(command, sizeof command, "run $M --max-memory '%s'", sizes[i]);
        assert_int_equal(weir(command), 64);
        assert_has(cli.errors, "is not a size");
    }
}

// Names from the file hold bytes that a terminal would act on.
static void info_describes_safetensors_files(void** state) {
    (void)state;
    static const char header[] =
        "{\"__metadata__\":{\"by\":\"a\\u001b[31m\\u009b\"},"
        "\"w\\n\":{\"dtype\":\"F16\",\"shape\":[2,3],\"data_offsets\":[0,12]},"
        "\"b\":{\"dtype\":\"F8_E4M3\",\"shape\":[4],\"data_offsets\":[12,16]}}";
    char file[8 + sizeof header - 1 + 16] = {0};
    const uint64_t header_size = sizeof header - 1;
    memcpy(file, &header_size, 8);
    memcpy(file + 8, header, sizeof header - 1);
    write_named("x.safetensors", file, sizeof file);
    write_named("x", file, sizeof file); // told by its content
    assert_int_equal(weir("info x --tensors"), 0);
    assert_has(cli.output, "x (safetensors)\ntensors       2\n");
    assert_has(cli.output, "metadata      \"by\": \"a\\x1b[31m\\xc2\\x9b\"\n");
    assert_has(cli.output, "F16           1 tensors, 12 bytes\n");
    assert_has(cli.output, "  w\\x0a ");
    assert_null(strchr(cli.output, 0x1b));
    assert_int_equal(weir("info x.safetensors --tensors --json"), 0);
    assert_has(cli.output, "\"format\": \"safetensors\"");
    assert_has(cli.output, "{\"key\": \"by\", \"value\": \"a\\u001b[31m");
    assert_has(cli.output, "{\"name\": \"w\\n\", \"type\": \"F16\", \"shape\": [2, 3], ");
    assert_int_equal(weir("info x --context 5"), 64);
    assert_has(cli.errors, "--context and limits are for models");
    assert_int_equal(weir("info x --max-memory 5"), 64);
    write_named("x.safetensors", file, sizeof file - 1);
    assert_int_equal(weir("info x.safetensors"), 1);
    assert_has(cli.errors, "x.safetensors: offset ");
    assert_one_line(cli.errors);
    write_named("x.safetensors", file, 3); // by its name
    assert_int_equal(weir("info x.safetensors"), 1);
    assert_has(cli.errors, "header size");
}

#define SMALL "--blocks 1 --embedding 64 --feed-forward 64 --heads 2 --vocabulary 300"
#define LARGE "--blocks 1 --embedding 256 --heads 2 --vocabulary 4000 --type F32" // for a pipe

// Runs a command whose standard streams are as it says.
static int shell(const char* arguments) {
    char command[1024];
    snprintf(command, sizeof command, "cd '%s' && rm -f err && M='%s' && W='%s' && $W %s",
             cli.folder, cli.model, cli.program, arguments);
    const int status = system(command);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

// Standard output goes on where it is, behind what is in its file.
static void standard_output_by_its_name_is_not_opened_anew(void** state) {
    (void)state;
    write_named("a.csv", "id,lower,upper,size\na,0,2,8\n", 28);
    write_named("log", "old\n", 4);
    assert_int_equal(shell("plan a.csv -o - >placed && cat log placed >both"), 0);
    assert_int_equal(shell("plan a.csv -o /dev/stdout >>log && cmp log both"), 0);
    assert_int_equal(shell("plan $M -o plans >out"), 0);
    assert_int_equal(shell("plan $M -o /dev/stdout >whole && cmp whole plans"), 0);
    assert_int_equal(shell("plan a.csv -o /dev/fd/1 >>log && cat both placed | cmp - log"), 0);
    assert_int_equal(shell("plan a.csv -o log >>log && cat both placed placed | cmp - log"), 0);
    assert_int_equal(shell("--version >out; cp both log"), 0);
    write_named("ids", "1 4 5 6\n", 8);
    assert_int_equal(shell("eval $M --ids ids --logits part >out"), 0);
    assert_int_equal(shell("eval $M --ids ids --logits - >>log && cat both part | cmp - log"), 0);
    assert_int_equal(shell("synth s.gguf " SMALL), 0);
    assert_int_equal(shell("synth - " SMALL " | cmp - s.gguf"), 0);
    assert_int_equal(shell("synth - --split 2 " SMALL " >out 2>err"), 64);
    assert_int_equal(shell("eval $M --ids ids --logits - --json >out 2>err"), 64);
    assert_int_equal(shell("run $M -p a --trace /dev/stdout >out 2>err"), 64);
}

// Files that are opened must not get the numbers of standard streams: what is read would be taken
// for input, what is printed would land in what is written.
static void closed_streams_stay_closed(void** state) {
    (void)state;
    write_named("ids", "1 4 5 6\n", 8);
    assert_int_equal(weir("eval $M --ids ids --logits whole"), 0);
    assert_int_equal(shell("eval $M --ids ids --logits part >&- 2>err"), 1);
    read_named("err", cli.errors, sizeof cli.errors);
    assert_has(cli.errors, "cannot write to standard output");
    assert_int_equal(shell("--version >out && cmp whole part"), 0);
    // It is there, and takes what is written to it.
    assert_int_equal(shell("eval $M --ids ids --logits /dev/fd/2 2>&- >out"), 0);
    assert_int_equal(shell("tokenize $M <&- >out 2>err"), 1);
    read_named("err", cli.errors, sizeof cli.errors);
    assert_has(cli.errors, "standard input: cannot read");
    assert_int_equal(shell("run $M --ids - <&- >out 2>err"), 1);
    read_named("err", cli.errors, sizeof cli.errors);
    assert_has(cli.errors, "standard input: cannot read");
}

// The limit on the size of files ends no command before it has said so and cleaned up.
static void a_file_over_the_limit_is_an_error(void** state) {
    (void)state;
    assert_int_equal(weir("--version; ulimit -f 2000; $W synth limited " LARGE), 1);
    assert_has(cli.errors, "limited: cannot write: File too large");
    assert_one_line(cli.errors);
    assert_int_equal(weir("--version; test ! -e limited"), 0);
    assert_int_equal(weir("--version; { echo id,lower,upper,size; seq 9000 | "
                          "sed 's/.*/&,0,9,64/'; } >many.csv; $W plan many.csv -o limited"),
                     0);
    assert_int_equal(weir("--version; ulimit -f 16; $W plan many.csv -o limited"), 1);
    assert_has(cli.errors, "limited: cannot write: File too large");
    assert_int_equal(weir("--version; test ! -e limited"), 0);
}

// Not of the file: the last weights are no numbers, nor are the logits then.
static void a_file_is_removed_when_something_else_fails(void** state) {
    (void)state;
    assert_int_equal(weir("synth nan.gguf --type F32 --blocks 1 --embedding 32 --heads 2 "
                          "--kv-heads 2 --feed-forward 64 --vocabulary 300"),
                     0);
    assert_int_equal(weir("--version; head -c 512 /dev/zero | tr '\\0' '\\377' | dd of=nan.gguf "
                          "bs=512 oflag=seek_bytes conv=notrunc "
                          "seek=$(($(wc -c <nan.gguf) - 512)) 2>log"),
                     0);
    write_named("ids", "1 4 5 6\n", 8);
    assert_int_equal(weir("eval nan.gguf --ids ids --logits part"), 1);
    assert_has(cli.errors, "no finite likelihood");
    assert_int_equal(weir("--version; test ! -e part"), 0);
}

// A reader that leaves a pipe by a name is an error; one that leaves standard output ends the
// command as it ends others.
static void a_reader_that_leaves_is_told_of(void** state) {
    (void)state;
    assert_int_equal(shell("--version >out && mkfifo pipe"), 0);
    assert_int_equal(shell("--version >out; (head -c 1 pipe >out) & $W synth pipe " LARGE " 2>err"),
                     1);
    read_named("err", cli.errors, sizeof cli.errors);
    assert_string_equal(cli.errors, "weir: pipe: cannot write: Broken pipe\n");
    assert_int_equal(shell("--version >out; test -p pipe && rm pipe"), 0);
    assert_int_equal(shell("--version >out; { $W synth - " LARGE " 2>err; echo $? >code; } | "
                           "head -c 1 >out; cat code; test $(cat code) -eq 141 && test ! -s err"),
                     0);
}

// What a link leads to is written, and goes where it cannot be.
static void a_link_to_a_model_stays(void** state) {
    (void)state;
    assert_int_equal(shell("--version >out && ln -s led link && $W synth link " SMALL), 0);
    assert_int_equal(shell("synth s.gguf " SMALL " && cmp s.gguf led && test -L link"), 0);
    assert_int_equal(shell("--version >out; ulimit -f 100; $W synth link " LARGE " 2>err"), 1);
    assert_int_equal(shell("--version >out; test -L link && test ! -e led"), 0);
}

static void messages_and_json_hold_no_controls(void** state) {
    (void)state;
    assert_int_equal(weir("info \"$(printf 'no\\033\\302\\233such')\""), 1);
    assert_has(cli.errors, "no??");
    assert_null(strpbrk(cli.errors, "\x1b\x9b"));
    assert_int_equal(weir("info \"$(printf 'no\\233such')\""), 1);
    assert_has(cli.errors, "no?such");
    write_changed("t.gguf", (llama_change){"token", CHANGE_TOKEN, 4, 1.0f, "\xc2\x9b\x7f\x1b"});
    write_named("ids", "1 4\n", 4);
    assert_int_equal(weir("run t.gguf --ids ids -n 1 --json"), 0);
    assert_has(cli.output, "\\u009b\\u007f\\u001b");
    assert_null(strpbrk(cli.output, "\x1b\x7f\x9b"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(limits_refuse_with_what_is_needed_and_allowed),
        cmocka_unit_test(info_describes_safetensors_files),
        cmocka_unit_test(standard_output_by_its_name_is_not_opened_anew),
        cmocka_unit_test(closed_streams_stay_closed),
        cmocka_unit_test(a_file_over_the_limit_is_an_error),
        cmocka_unit_test(a_file_is_removed_when_something_else_fails),
        cmocka_unit_test(a_reader_that_leaves_is_told_of),
        cmocka_unit_test(a_link_to_a_model_stays),
        cmocka_unit_test(messages_and_json_hold_no_controls),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
