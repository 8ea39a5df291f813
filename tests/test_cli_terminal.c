// The program `weir` on a terminal: text that a terminal would obey, and Ctrl-C within a text.
#include "cli_fixture.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <termios.h>

typedef struct terminal {
    int master; // what the person at the terminal sees and types
    int kept;   // the other side: without it, text and settings would go with the program
    char name[128];
    pid_t child;
    char text[OUTPUT_CAPACITY];
    size_t length;
} terminal;

static terminal term;

static void open_terminal(void) {
    term = (terminal){.master = posix_openpt(O_RDWR | O_NOCTTY)};
    assert_true(term.master >= 0);
    assert_int_equal(grantpt(term.master), 0);
    assert_int_equal(unlockpt(term.master), 0);
    assert_int_equal(ptsname_r(term.master, term.name, sizeof term.name), 0);
    term.kept = open(term.name, O_RDWR | O_NOCTTY);
    assert_true(term.kept >= 0);
}

static void close_terminal(void) {
    close(term.master);
    close(term.kept);
}

// Runs a command with a terminal as its standard output; what comes out of the terminal goes to
// cli.output.
static void weir_on_terminal(const char* arguments) {
    char command[1024];
    open_terminal();
    snprintf(command, sizeof command, "--version >out; '%s' %s >'%s' 2>err #", cli.program,
             arguments, term.name);
    assert_int_equal(weir(command), 0);
    assert_int_equal(fcntl(term.master, F_SETFL, O_NONBLOCK), 0);
    const ssize_t length = read(term.master, cli.output, sizeof cli.output - 1);
    assert_true(length > 0);
    cli.output[length] = '\0';
    close_terminal();
}

// Every token of the text is one that a terminal would obey, whole or in two halves.
static void text_on_a_terminal_holds_no_controls(void** state) {
    (void)state;
    static const struct {
        const char* token;
        const char* shown;
    } cases[] = {
        {"\x1b[31m", "?[31m"},
        {"\a\b\x7f", "???"},
        {"\xc2\x9b"
         "1m",
         "?1m"},
        {"\x9b"
         "1m",
         "?1m"},
        {"\xc3\xa9", "\xc3\xa9"},
        {"\xe2\x82\xac", "\xe2\x82\xac"},
        {"\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80"},
        {"\xc2\xa9", "\xc2\xa9"},
        {"\xc2", "?"},
        {"a\tb", "a\tb"},
        {"\xc3"
         "a\x9b",
         "\xc3"
         "a?"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_changed("t.gguf", (llama_change){"token", CHANGE_TOKEN, 4, 1.0f, cases[i].token});
        write_named("ids", "1 4\n", 4);
        weir_on_terminal("run t.gguf --ids ids -n 1 --ignore-end");
        assert_memory_equal(cli.output, cases[i].shown, strlen(cases[i].shown));
        assert_null(strpbrk(cli.output, "\x1b\a\b\x7f"));
        assert_int_equal(weir("run t.gguf --ids ids -n 1 --ignore-end"), 0); // to a file: as it is
        assert_memory_equal(cli.output, cases[i].token, strlen(cases[i].token));
    }
}

// Runs `weir run MODEL -p PROMPT ...` with a terminal of its own as standard input, output, errors.
static void start(const char* const* arguments) {
    open_terminal();
    term.child = fork();
    assert_true(term.child >= 0);
    if (term.child == 0) {
        setsid();
        const int own = open(term.name, O_RDWR); // the first that is opened is the controlling one
        if (own >= 0 && ioctl(own, TIOCSCTTY, 0) == 0 && chdir(cli.folder) == 0 &&
            dup2(own, 0) == 0 && dup2(own, 1) == 1 && dup2(own, 2) == 2) {
            close_terminal();
            execv(cli.program, (char* const*)(uintptr_t)arguments);
        }
        _exit(127);
    }
}

// Reads what is there to read; false once the program is gone and nothing is left.
static bool read_some(void) {
    siginfo_t info = {.si_pid = 0};
    assert_int_equal(waitid(P_PID, (id_t)term.child, &info, WEXITED | WNOHANG | WNOWAIT), 0);
    const bool gone = info.si_pid == term.child;
    char bytes[4096];
    const int flags = fcntl(term.master, F_GETFL);
    fcntl(term.master, F_SETFL, flags | O_NONBLOCK);
    const ssize_t got = read(term.master, bytes, sizeof bytes);
    if (got > 0) {
        // The end of a long text is what counts.
        if (term.length + (size_t)got >= sizeof term.text) {
            term.length = 0;
        }
        memcpy(term.text + term.length, bytes, (size_t)got);
        term.length += (size_t)got;
        term.text[term.length] = '\0';
        return true;
    }
    usleep(gone ? 0 : 1000);
    return !gone;
}

// Returns the exit code.
static int finish(void) {
    int status = 0;
    while (read_some()) {
    }
    assert_int_equal(waitpid(term.child, &status, 0), term.child);
    assert_true(WIFEXITED(status));
    close_terminal();
    return WEXITSTATUS(status);
}

static void ctrl_c_ends_a_text_and_leaves_the_terminal_as_it_was(void** state) {
    (void)state;
    struct termios before;
    struct termios after;
    const char* const arguments[] = {"weir", "run",          "endless.gguf", "-p",      "a", "-n",
                                     "0",    "--ignore-end", "--context",    "1000000", NULL};
    write_changed(
        "endless.gguf",
        (llama_change){.name = "llama.context_length", .kind = CHANGE_U32, .number = 1000000});
    start(arguments);
    assert_int_equal(tcgetattr(term.kept, &before), 0);
    while (term.length == 0) {
        assert_true(read_some());
    }
    assert_int_equal(write(term.master, "\x03", 1), 1);
    while (read_some()) {
    }
    assert_int_equal(tcgetattr(term.kept, &after), 0);
    assert_int_equal(before.c_iflag, after.c_iflag);
    assert_int_equal(before.c_oflag, after.c_oflag);
    assert_int_equal(before.c_cflag, after.c_cflag);
    assert_int_equal(before.c_lflag, after.c_lflag);
    assert_memory_equal(before.c_cc, after.c_cc, sizeof before.c_cc);
    assert_int_equal(finish(), 130);
    // The text ends with its line; what was done stands in a line of its own.
    const char* said = strstr(term.text, "\r\nweir: interrupted after ");
    assert_non_null(said);
    assert_has(said, " tokens\r\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_on_a_terminal_holds_no_controls),
        cmocka_unit_test(ctrl_c_ends_a_text_and_leaves_the_terminal_as_it_was),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
