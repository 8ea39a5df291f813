// `weir plan` and `weir check` as their users meet them: output, messages, exit codes.
#include "cli_fixture.h"

#include <inttypes.h>
#include <signal.h>

#include "json_reader.h"

static void plan_reports_both_passes(void** state) {
    (void)state;
    assert_int_equal(weir("plan $M --rows 16"), 0);
    assert_has(cli.output, "prefill, 16 rows");
    assert_has(cli.output, "decode, 1 row\n");
    assert_has(cli.output, "largest values");
    assert_has(cli.output, "waits kept");
    assert_int_equal(weir("plan $M --json --context 32"), 0);
    assert_one_line(cli.output);
    assert_has(cli.output, "\"state_bytes\": 4096"); // 2 blocks x 2 x 32 rows x 16 x 2 bytes
    assert_has(cli.output, "\"residual_edges\": 0");
    assert_has(cli.output, "\"name\": \"blk.0.q\", \"region\": \"arena\"");
    assert_has(cli.output, "\"name\": \"logits\", \"region\": \"output\"");
}

static void plan_explains_why_a_dispatch_waits(void** state) {
    (void)state;
    assert_int_equal(weir("plan $M --why 2 3"), 0);
    assert_has(cli.output, "dispatch 3 (rope blk.0.q) waits for dispatch 2 (matmul blk.0.attn_q");
    assert_has(cli.output, "RAW in arena: value ");
    assert_has(cli.output, "then blk.0.q at m1 [");
    assert_has(cli.output, "placed on it");
    static char first[OUTPUT_CAPACITY];
    strcpy(first, cli.output);
    assert_int_equal(weir("plan --pass decode --why 'rope blk.0.q' 2 $M"), 0);
    assert_string_equal(cli.output, first);
    assert_int_equal(weir("plan $M --why 0 4 --pass prefill --json"), 0);
    assert_one_line(cli.output);
    assert_json(cli.output);
    assert_has(cli.output, "\"ordered\": true, \"edge\": false");
    assert_has(cli.output, "\"path\": [0, ");
    assert_int_equal(weir("plan $M --why 2 5"), 0);
    assert_has(cli.output, "does not wait for");
}

static void plan_finds_fused_operations_by_their_names(void** state) {
    (void)state;
    assert_int_equal(weir("plan $M --why 'rms_norm + mul blk.0.attn_in' 'rope blk.0.k'"), 0);
    assert_has(cli.output, "(rms_norm + mul blk.0.attn_in)");
    static char first[OUTPUT_CAPACITY];
    strcpy(first, cli.output);
    assert_int_equal(weir("plan $M --why 'mul blk.0.attn_in' 'set_rows blk.0.keys'"), 0);
    assert_string_equal(cli.output, first);
    assert_int_equal(weir("plan $M --why 'mul blk.0.attn_in' 'rope blk.0.q' --json"), 0);
    assert_json(cli.output);
    assert_has(cli.output, "\"earlier_sources\": [\"rms_norm embedding\", \"mul blk.0.attn_in\"]");
    assert_has(cli.output, "\"later_sources\": [\"rope blk.0.q\"]");
    assert_int_equal(weir("plan $M --why blk.0.k blk.0.q"), 0);
    assert_has(cli.output, "blk.0.k has none: the kernel that makes it reads it too");
}

static void plan_counts_what_is_fused(void** state) {
    (void)state;
    assert_int_equal(weir("plan $M"), 0);
    assert_has(cli.output, "  operations ");
    assert_has(cli.output, "  fused as gate_up ");
    assert_has(cli.output, "  fused as rope_set_rows ");
    assert_int_equal(weir("plan $M --no-fusion"), 0);
    assert_null(strstr(cli.output, "fused as"));
    assert_int_equal(weir("plan $M --no-fusion --json"), 0);
    assert_json(cli.output);
    assert_has(cli.output, "\"rms_norm_mul\": 0");
    assert_int_equal(weir("plan $M --no-fusion --why 3 4"), 0);
    assert_has(cli.output, "dispatch 4 (rope blk.0.q) waits for dispatch 3 (matmul blk.0.attn_q");
}

// With attention in parts fewer bytes cost edges on devices that wait along edges.
static void plan_shows_bytes_against_waits(void** state) {
    (void)state;
    char call[128];
    uint64_t arena = 0;
    assert_int_equal(weir("plan $M --split-attention --rows 16 --tradeoff"), 0);
    assert_has(cli.output, "prefill, 16 rows");
    assert_has(cli.output, "--order waits");
    assert_has(cli.output, "--arena ");
    assert_int_equal(weir("plan $M --split-attention --rows 16 --tradeoff --json"), 0);
    assert_one_line(cli.output);
    const char* second = strstr(strstr(cli.output, "\"arena_bytes\"") + 1, "\"arena_bytes\"");
    assert_non_null(second);
    assert_int_equal(sscanf(second, "\"arena_bytes\": %" SCNu64, &arena), 1);
    snprintf(call, sizeof call,
             "plan $M --split-attention --rows 16 --arena %" PRIu64 " --json --pass prefill",
             arena);
    assert_int_equal(weir(call), 0);
    assert_has(cli.output, "\"residual\": [{\"earlier\": ");
    assert_has(cli.output, "\"hazard\": \"W");
    assert_int_equal(weir("plan $M --arena 64"), 2);
    assert_has(cli.errors, "prefill: the arena needs");
    assert_has(cli.errors, "the budget is 64");
    assert_int_equal(weir("plan $M --arena 64 --pass decode"), 2);
    assert_has(cli.errors, "decode: the arena needs");
    assert_int_equal(weir("check $M --arena 64"), 1);
    assert_has(cli.errors, "prefill: the arena needs");
    assert_int_equal(weir("plan $M --device barriers --why 2 3"), 0);
    assert_has(cli.output, "  group ");
    assert_int_equal(weir("plan $M --device barriers --why 2 3 --json"), 0);
    assert_has(cli.output, "\"later_group\": ");
    assert_int_equal(weir("plan $M --device barriers --tradeoff"), 0);
    assert_has(cli.output, "device barriers");
}

static void check_proves_other_orders(void** state) {
    (void)state;
    assert_int_equal(weir("check $M --order bytes --runs 1"), 0);
    assert_int_equal(weir("check $M --order given --runs 1"), 0);
    assert_int_equal(weir("plan $M --order given -o b.plan --rows 16 --context 64"), 0);
    assert_int_equal(weir("check $M --plan b.plan --rows 16 --context 64 --runs 1"), 0);
    assert_int_equal(weir("plan $M --split-attention --order bytes --rows 16"), 0);
    assert_has(cli.output, "edges for reuse");
    assert_has(cli.output, " on the bytes of ");
}

static void plan_explains_what_two_values_share(void** state) {
    (void)state;
    assert_int_equal(weir("plan $M --why blk.0.q logits"), 0);
    assert_has(cli.output, "blk.0.q and logits share no byte\n");
    assert_int_equal(weir("plan $M --no-fusion --why blk.0.q blk.1.q"), 0);
    assert_has(cli.output, "where the two meet, the one is used up before the other");
    assert_has(cli.output, "waits, through others, for");
    assert_int_equal(weir("plan $M --why 'value 8' blk.0.q --json"), 0);
    assert_json(cli.output);
    assert_has(cli.output, "\"in_place\": true");
}

static void plan_writes_the_schedule_as_json(void** state) {
    (void)state;
    assert_int_equal(weir("plan $M --schedule-json -"), 0);
    assert_one_line(cli.output);
    assert_json(cli.output);
    assert_int_equal(weir("plan $M --schedule-json schedule.json --pass prefill"), 0);
    assert_string_equal(cli.output, "");
    read_named("schedule.json", cli.output, sizeof cli.output);
    assert_json(cli.output);
    assert_has(cli.output, "\"name\": \"attention blk.1.");
}

static void check_prints_one_line_per_proof(void** state) {
    (void)state;
    assert_int_equal(weir("check $M --runs 1"), 0);
    assert_string_equal(cli.output, "prefill  plan     ok\nprefill  order    ok\n"
                                    "prefill  poison   ok\nprefill  elided   ok\n"
                                    "prefill  delayed  ok\ndecode   plan     ok\n"
                                    "decode   order    ok\ndecode   poison   ok\n"
                                    "decode   elided   ok\ndecode   delayed  ok\n");
    write_named("good.txt", "1 4\n5\t7\n", 8);
    assert_int_equal(weir("check $M --ids good.txt --rows 3 --context 4 --json --runs 1"), 0);
    assert_one_line(cli.output);
    assert_json(cli.output);
    assert_int_equal(count_of(cli.output, "\"holds\": true"), 11); // ten proofs and all of them
}

#define SMALL_CSV "id,lower,upper,size\nb1,0,3,4\nb2,3,9,4\nb3,0,9,4\nb4,9,21,4\nb5,0,21,4\n"

static void plans_in_a_file_are_what_run_and_check_use(void** state) {
    (void)state;
    static char planned[OUTPUT_CAPACITY];
    assert_int_equal(weir("plan $M -o a.plan --rows 8 --context 32"), 0);
    strcpy(planned, cli.output);
    assert_int_equal(weir("plan $M --plan a.plan --rows 8 --context 32"), 0);
    assert_string_equal(cli.output, planned);
    assert_int_equal(weir("plan $M -o - --rows 8 --context 32 | cmp - a.plan"), 0);
    assert_int_equal(weir("plan $M --diff a.plan --rows 8 --context 32"), 0);
    assert_string_equal(cli.output, "prefill\n  no difference\ndecode\n  no difference\n");
    assert_int_equal(weir("check $M --plan a.plan --rows 8 --context 32"), 0);
    assert_int_equal(weir("run $M -p abc -n 8 --ignore-end --rows 8 --context 32"), 0);
    strcpy(planned, cli.output);
    assert_int_equal(weir("run $M -p abc -n 8 --ignore-end --rows 8 --context 32 --plan a.plan"),
                     0);
    assert_string_equal(cli.output, planned);
}

static void plans_of_another_pass_are_refused_with_what_differs(void** state) {
    (void)state;
    assert_int_equal(weir("plan $M -o a.plan --rows 8 --context 32"), 0);
    static const char* const calls[] = {"run $M -n 1 --plan a.plan --rows 4 --context 32",
                                        "check $M --plan a.plan --rows 4 --context 32",
                                        "plan $M --plan a.plan --rows 4 --context 32",
                                        "plan $M --diff a.plan --rows 4 --context 32"};
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        assert_int_equal(weir(calls[i]), 1);
        assert_has(cli.errors, "a.plan, plan prefill: made for parameter rows in [1, 8], here it "
                               "is in [1, 4]");
        assert_one_line(cli.errors);
    }
    assert_int_equal(weir("run $M -n 1 --plan $M"), 1);
    assert_has(cli.errors, "not a plan file");
    assert_int_equal(weir("run $M -n 1 --plan none.plan"), 1);
    assert_has(cli.errors, "none.plan");
}

static void plan_places_the_buffers_of_a_csv(void** state) {
    (void)state;
    write_named("small.csv", SMALL_CSV, sizeof SMALL_CSV - 1);
    assert_int_equal(weir("plan small.csv"), 0);
    assert_has(cli.output, "5 buffers, 20 bytes without reuse\n");
    assert_has(cli.output, "peak                     12 bytes\n");
    assert_string_equal(cli.errors, "");
    assert_int_equal(weir("plan small.csv --json -o out.csv --svg out.svg"), 0);
    assert_one_line(cli.output);
    assert_has(cli.output,
               "{\"peak\": 12, \"lower_bound\": 12, \"optimal\": true, \"seconds\": 0.");
    assert_has(cli.output, "\"buffers\": 5");
    assert_null(strstr(cli.output, "entries"));
    read_named("out.svg", cli.output, sizeof cli.output);
    assert_has(cli.output, "<title>b2: 4 bytes at ");
    read_named("out.csv", cli.output, sizeof cli.output);
    assert_true(strncmp(cli.output, "id,lower,upper,size,offset\nb1,0,3,4,", 36) == 0);
    assert_int_equal(weir("plan out.csv --verify"), 0);
    assert_string_equal(cli.output, "valid: 5 buffers in 12 bytes\n");
    assert_int_equal(weir("plan - --json --entries --map <small.csv"), 0);
    assert_has(cli.output, "\"entries\": [{\"id\": \"b1\", \"offset\": ");
    assert_has(cli.output, "pool 0, block 0: 5 buffers, 12 bytes");
    assert_int_equal(weir("plan small.csv --capacity 12 --align 4 --proof --budget 50 --time 5"),
                     0);
    assert_int_equal(weir("plan small.csv --align 5 --json"), 0);
    assert_has(cli.output, "{\"peak\": 14,");
}

static void plan_exits_with_2_where_nothing_fits(void** state) {
    (void)state;
    write_named("small.csv", SMALL_CSV, sizeof SMALL_CSV - 1);
    const char* calls[] = {
        "plan small.csv --capacity 11 -o none.csv",
        "plan small.csv --capacity 11 --minimize -o none.csv",
        "plan collide.csv -o none.csv",
    };
    static const char collide[] = "id,lower,upper,size,offset\na,0,2,8,0\nb,1,3,8,4\n";
    write_named("collide.csv", collide, sizeof collide - 1);
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        assert_int_equal(weir(calls[i]), 2);
        assert_has(cli.errors, ".csv: ");
        assert_one_line(cli.errors);
        assert_string_equal(cli.output, "");
    }
    assert_int_equal(weir("info none.csv"), 1); // nothing was written
    assert_has(cli.errors, "No such file");
    assert_int_equal(weir("plan collide.csv --free"), 0);
    assert_int_equal(weir("plan small.csv --capacity 11 --json"), 2);
    assert_one_line(cli.errors);
    assert_one_line(cli.output);
    assert_has(cli.output, "{\"failure\": \"infeasible\", ");
    assert_has(cli.output, "\"buffers\": 5}");
}

static void plan_writes_csv_to_standard_output(void** state) {
    (void)state;
    write_named("small.csv", SMALL_CSV, sizeof SMALL_CSV - 1);
    assert_int_equal(weir("plan small.csv -o placed.csv"), 0);
    assert_int_equal(weir("plan small.csv -o - | cmp - placed.csv"), 0);
    assert_int_equal(weir("plan small.csv --svg - | head -c 4"), 0);
    assert_string_equal(cli.output, "<svg");
    assert_int_equal(weir("plan placed.csv --verify --svg - | tail -c 7"), 0);
    assert_string_equal(cli.output, "</svg>\n");
    assert_int_equal(weir("plan small.csv -o /dev/stdout | cmp - placed.csv"), 0);
    assert_int_equal(weir("plan $M --schedule-json - --why 0 1"), 64);
    assert_has(cli.errors, "standard output takes one of");
    const char* mixed[] = {"-o - --svg -", "-o - --map", "--svg - --map"};
    for (size_t i = 0; i < sizeof mixed / sizeof *mixed; i++) {
        char command[64];
        snprintf(command, sizeof command, "plan small.csv %s", mixed[i]);
        assert_int_equal(weir(command), 64);
        assert_has(cli.errors, "standard output takes one of");
        assert_string_equal(cli.output, "");
    }
}

static void plan_verifies_a_foreign_plan(void** state) {
    (void)state;
    static const char good[] = "id,lower,upper,size,offset\na,0,2,8,0\nb,1,3,8,8\nc,2,4,8,0\n";
    static const char bad[] = "id,lower,upper,size,offset\na,0,2,8,0\nb,1,3,8,4\nc,2,4,8,12\n";
    static const char blocks[] =
        "id,lower,upper,size,offset,block\na,0,2,8,0,0\nb,1,3,8,4,1\nc,2,4,8,12,1\n";
    write_named("good.csv", good, sizeof good - 1);
    write_named("bad.csv", bad, sizeof bad - 1);
    write_named("blocks.csv", blocks, sizeof blocks - 1);
    assert_int_equal(weir("plan good.csv --verify --json"), 0);
    assert_string_equal(cli.output, "{\"valid\": true, \"peak\": 16, \"buffers\": 3}\n");
    assert_int_equal(weir("plan good.csv --verify --capacity 15"), 1);
    assert_has(cli.errors, "needs 16 bytes");
    assert_int_equal(weir("plan good.csv --verify --align 16"), 1);
    assert_int_equal(weir("plan bad.csv --verify --map"), 1);
    assert_has(cli.errors, "bad.csv: buffers 0 at [0, 8) and 1 at [4, 12)");
    assert_has(cli.output, "!");
    assert_one_line(cli.errors);
    assert_int_equal(weir("plan blocks.csv --verify --block 20"), 0);
    assert_string_equal(cli.output, "valid: 3 buffers in 28 bytes\n");
    assert_int_equal(weir("plan blocks.csv --verify --block 19"), 1);
    assert_int_equal(weir("plan blocks.csv"), 1);
    assert_has(cli.errors, "blocks.csv: buffer 1 lies in block 1, expected --block N, --free");
    assert_int_equal(weir("plan blocks.csv --free"), 0);
    write_named("small.csv", SMALL_CSV, sizeof SMALL_CSV - 1);
    assert_int_equal(weir("plan small.csv --verify"), 1);
    assert_has(cli.errors, "no column 'offset'");
}

#define STEPS_MAX 200

// A problem whose every moment holds as many bytes.
typedef struct full_shape {
    uint64_t seed;
    int buffers; // besides those that fill up the moments
    uint64_t steps;
    uint64_t longest_life;
    uint64_t least_size;
    uint64_t sizes; // how many there are to choose from
} full_shape;

// Returns the bound.
static uint64_t write_full(const char* name, const full_shape* shape) {
    static char text[65536];
    test_random random = {shape->seed};
    uint64_t live[STEPS_MAX] = {0};
    uint64_t bound = 0;
    size_t length = (size_t)snprintf(text, sizeof text, "id,lower,upper,size\n");
    for (int i = 0; i < shape->buffers; i++) {
        const uint64_t begin = random_below(&random, shape->steps);
        const uint64_t last = begin + 1 + random_below(&random, shape->longest_life);
        const uint64_t end = last < shape->steps ? last : shape->steps;
        const uint64_t size = shape->least_size + random_below(&random, shape->sizes);
        for (uint64_t step = begin; step < end; step++) {
            live[step] += size;
            bound = live[step] > bound ? live[step] : bound;
        }
        length +=
            (size_t)snprintf(text + length, sizeof text - length,
                             "b%d,%" PRIu64 ",%" PRIu64 ",%" PRIu64 "\n", i, begin, end, size);
    }
    for (uint64_t step = 0; step < shape->steps; step++) {
        length += (size_t)snprintf(text + length, sizeof text - length,
                                   "f%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 "\n", step, step,
                                   step + 1, bound - live[step]);
    }
    assert_true(length < sizeof text);
    write_named(name, text, length);
    return bound;
}

// Of odd sizes: the bound cannot be met, and no search comes to an end.
static uint64_t write_hard(const char* name) {
    const full_shape shape = {7, 600, STEPS_MAX, 60, 1000, 1000000};
    return write_full(name, &shape);
}

// Where the search for the smallest peak ends above a capacity that can be met.
static void a_capacity_that_is_met_alone_is_met_by_minimize(void** state) {
    (void)state;
    const full_shape shape = {5, 40, 30, 12, 1, 100};
    const uint64_t bound = write_full("full.csv", &shape);
    char arguments[256];
    int met = 0;
    assert_int_equal(weir("plan full.csv --budget 20 --json"), 0);
    assert_true(strncmp(cli.output, "{\"peak\": ", 9) == 0);
    const uint64_t peak = strtoull(cli.output + 9, NULL, 10);
    for (uint64_t capacity = peak - 1; capacity > bound; capacity -= (peak - bound) / 12 + 1) {
        snprintf(arguments, sizeof arguments, "plan full.csv --budget 20 --capacity %" PRIu64,
                 capacity);
        if (weir(arguments) != 0) {
            continue;
        }
        met++;
        strcat(arguments, " --minimize -o best.csv");
        assert_int_equal(weir(arguments), 0);
        snprintf(arguments, sizeof arguments, "plan best.csv --verify --capacity %" PRIu64,
                 capacity);
        assert_int_equal(weir(arguments), 0);
    }
    assert_true(met > 2);
}

static void plan_exits_with_3_where_it_gives_up(void** state) {
    (void)state;
    const uint64_t bound = write_hard("hard.csv");
    char arguments[256];
    assert_int_equal(weir("plan hard.csv --budget 1 --proof -o best.csv"), 3);
    assert_has(cli.errors, "nothing is proven");
    assert_one_line(cli.errors);
    assert_int_equal(weir("plan best.csv --verify"), 0);
    assert_int_equal(weir("plan hard.csv --budget 1 -o best.csv"), 0);
    const char* options[] = {"", "--minimize", "--proof", "--minimize --proof"};
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        snprintf(arguments, sizeof arguments,
                 "plan hard.csv --budget 1 --capacity %" PRIu64 " -o none.csv %s",
                 bound + bound / 1000, options[i]);
        assert_int_equal(weir(arguments), 3);
        assert_one_line(cli.errors);
        assert_string_equal(cli.output, "");
    }
    assert_int_equal(weir("plan none.csv"), 1); // nothing was written
}

// Starts a search that would go on for days and returns the pipe that its problem is read from.
static int start_endless_plan(pid_t* child) {
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    *child = fork();
    assert_true(*child >= 0);
    if (*child == 0) {
        close(ends[1]);
        if (chdir(cli.folder) == 0 && dup2(ends[0], 0) == 0 && freopen("out", "w", stdout)) {
            close(ends[0]);
            execl(cli.program, "weir", "plan", "-", "--proof", "--budget", "1000000000000", "-o",
                  "best.csv", (char*)NULL);
        }
        _exit(127);
    }
    close(ends[0]);
    return ends[1];
}

static void interrupt_ends_a_search_with_the_best_plan(void** state) {
    (void)state;
    char path[128];
    size_t length = 0;
    pid_t child = 0;
    write_hard("hard.csv");
    snprintf(path, sizeof path, "%s/hard.csv", cli.folder);
    char* text = read_whole_file(path, false, &length);
    const int problem = start_endless_plan(&child);
    assert_int_equal(write(problem, text, length), length);
    free(text);
    close(problem);
    // Everything is read now; half a second is enough to begin the search.
    usleep(500000);
    assert_int_equal(kill(child, SIGINT), 0);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 130);
    assert_int_equal(weir("plan best.csv --verify"), 0);
}

static void plan_tells_models_from_csv(void** state) {
    (void)state;
    write_named("small.csv", SMALL_CSV, sizeof SMALL_CSV - 1);
    assert_int_equal(weir("plan small.csv --rows 4"), 64);
    assert_has(cli.errors, "--rows is not for CSV");
    assert_int_equal(weir("plan $M --capacity 4"), 64);
    assert_has(cli.errors, "--capacity is not for models");
    assert_int_equal(weir("plan small.csv --time -1"), 64);
    assert_int_equal(weir("plan small.csv --entries"), 64);
    assert_has(cli.errors, "--entries is for --json");
    assert_int_equal(weir("plan small.csv --verify -o out.csv"), 64);
    assert_has(cli.errors, "--verify judges");
    assert_int_equal(weir("plan none.csv"), 1);
    assert_has(cli.errors, "none.csv: cannot open");
    write_named("wrong.csv", "id,lower,upper,size\na,0,1\n", 26);
    assert_int_equal(weir("plan wrong.csv"), 1);
    assert_has(cli.errors, "wrong.csv:2:6: 3 fields");
    assert_int_equal(weir("plan small.csv -o /no/such/file"), 1);
    assert_has(cli.errors, "/no/such/file: cannot open");
    assert_int_equal(weir("plan small.csv -o /dev/full"), 1);
    assert_has(cli.errors, "/dev/full: cannot write");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plan_reports_both_passes),
        cmocka_unit_test(plan_explains_why_a_dispatch_waits),
        cmocka_unit_test(plan_finds_fused_operations_by_their_names),
        cmocka_unit_test(plan_counts_what_is_fused),
        cmocka_unit_test(plan_shows_bytes_against_waits),
        cmocka_unit_test(check_proves_other_orders),
        cmocka_unit_test(plan_explains_what_two_values_share),
        cmocka_unit_test(plan_writes_the_schedule_as_json),
        cmocka_unit_test(check_prints_one_line_per_proof),
        cmocka_unit_test(plans_in_a_file_are_what_run_and_check_use),
        cmocka_unit_test(plans_of_another_pass_are_refused_with_what_differs),
        cmocka_unit_test(plan_places_the_buffers_of_a_csv),
        cmocka_unit_test(plan_exits_with_2_where_nothing_fits),
        cmocka_unit_test(plan_writes_csv_to_standard_output),
        cmocka_unit_test(plan_exits_with_3_where_it_gives_up),
        cmocka_unit_test(a_capacity_that_is_met_alone_is_met_by_minimize),
        cmocka_unit_test(interrupt_ends_a_search_with_the_best_plan),
        cmocka_unit_test(plan_verifies_a_foreign_plan),
        cmocka_unit_test(plan_tells_models_from_csv),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
