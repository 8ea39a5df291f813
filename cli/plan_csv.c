// weir plan FILE.csv: places the buffers of a file, or checks where it places them.
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <weir/plan_csv.h>

#include "json.h"
#include "output.h"
#include "plan.h"

#define REDRAW_NS 100000000u // between two lines of progress

// One file, and what is made of it.
typedef struct csv_job {
    const plan_options* options;
    const char* name; // of the file, in messages
    cli_bytes text;
    weir_plan_csv* csv;
    weir_plan_problem problem;
    weir_plan* plan;
    weir_plan_report report;
    uint64_t begin_ns;
    uint64_t drawn_ns; // when progress was last shown
    bool draw;
} csv_job;

static volatile sig_atomic_t interrupted = 0;

// A second signal ends the program at once: the handler is there only for the first.
static void interrupt(int signal_number) {
    (void)signal_number;
    interrupted = 1;
}

static bool show_progress(void* context, uint64_t peak, uint64_t lower_bound) {
    csv_job* job = context;
    const uint64_t now = job->draw ? cli_now() : 0;
    if (job->draw && now - job->drawn_ns >= REDRAW_NS) {
        job->drawn_ns = now;
        const double seconds = (double)(now - job->begin_ns) / 1e9;
        if (peak == UINT64_MAX) {
            fprintf(stderr, "\rlower bound %" PRIu64 ", %.1f s\033[K", lower_bound, seconds);
        } else {
            fprintf(stderr, "\rpeak %" PRIu64 ", lower bound %" PRIu64 ", %.1f s\033[K", peak,
                    lower_bound, seconds);
        }
    }
    return !interrupted;
}

static weir_status read_csv(csv_job* job) {
    const plan_options* options = job->options;
    WEIR_TRY(cli_read_file(options->path, &job->text));
    job->name = cli_is_stream(options->path) ? "standard input" : options->path;
    const weir_plan_csv_desc desc = {.name = job->name,
                                     .bytes = job->text.items,
                                     .byte_size = job->text.count,
                                     .ignore_offsets = options->free};
    WEIR_TRY(weir_plan_csv_create(NULL, &desc, &job->csv));
    job->problem = *weir_plan_csv_problem(job->csv);
    job->problem.alignment = options->alignment;
    job->problem.capacity = options->capacity;
    job->problem.block_bytes_max = options->block_bytes;
    job->problem.effort = options->proof ? WEIR_PLAN_PROVE : WEIR_PLAN_SEARCH;
    job->problem.iterations = options->budget;
    job->problem.time_limit_ns = (uint64_t)((double)options->seconds * 1e9);
    job->problem.progress = show_progress;
    job->problem.progress_context = job;
    job->report = (weir_plan_report){.problem = &job->problem,
                                     .id = weir_plan_csv_id,
                                     .id_context = job->csv,
                                     .figures_only = !options->entries};
    return WEIR_OK;
}

// Offsets that count from the borders of several blocks would collide in one.
static weir_status check_blocks(const csv_job* job) {
    const weir_plan_entry* entries = NULL;
    if (job->options->block_bytes > 0 || job->options->free ||
        weir_plan_csv_entries(job->csv, &entries) != WEIR_OK) {
        return WEIR_OK; // some offsets are to be found
    }
    for (uint32_t i = 0; i < job->problem.buffer_count; i++) {
        if (entries[i].block > 0) {
            return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                             "%s: buffer %" PRIu32 " lies in block %" PRIu32
                             ", expected --block N, --free or --verify",
                             job->name, i, entries[i].block);
        }
    }
    return WEIR_OK;
}

// A plan that is over the capacity is a proof where nothing smaller exists.
static weir_status check_capacity(const csv_job* job) {
    const weir_plan_result* result = &job->report.result;
    const uint64_t capacity = job->options->capacity;
    if (capacity == 0 || result->peak <= capacity) {
        return WEIR_OK;
    }
    const bool proven = result->optimal || result->lower_bound > capacity;
    return WEIR_FAIL(proven ? WEIR_INFEASIBLE : WEIR_TIMEOUT,
                     "%s: the best plan found needs %" PRIu64 " bytes, expected at most %" PRIu64
                     "; no plan needs less than %" PRIu64,
                     job->name, result->peak, capacity,
                     proven && result->optimal ? result->peak : result->lower_bound);
}

// What the planner says is about a problem; whoever typed the command knows it by its file.
static weir_status name_file(const csv_job* job, weir_status status) {
    return status == WEIR_OK ? WEIR_OK : WEIR_FAIL(status, "%s: %s", job->name, weir_last_error());
}

// Plans for a capacity, 0 for the smallest peak, and keeps the better of that and what there was.
static weir_status plan_within(csv_job* job, uint64_t capacity) {
    weir_plan_result* kept = &job->report.result;
    weir_plan* plan = NULL;
    job->problem.capacity = capacity;
    WEIR_TRY(name_file(job, weir_plan_create(NULL, &job->problem, &plan)));
    const weir_plan_result made = *weir_plan_result_of(plan);
    const uint64_t bound =
        kept->lower_bound > made.lower_bound ? kept->lower_bound : made.lower_bound;
    if (!job->plan || made.peak < kept->peak) {
        weir_plan_destroy(job->plan);
        job->plan = plan;
        *kept = made;
    } else {
        weir_plan_destroy(plan);
    }
    kept->lower_bound = bound;
    kept->optimal = kept->peak == bound;
    return WEIR_OK;
}

// A search for the smallest peak may spend its budget without a plan that fits, where one for such
// a plan finds it at once: so that comes first.
static weir_status plan_as_asked(csv_job* job) {
    const plan_options* options = job->options;
    const uint64_t limit = job->problem.time_limit_ns;
    const weir_status status = plan_within(job, options->capacity);
    const uint64_t spent = cli_now() - job->begin_ns;
    const bool goes_on = status == WEIR_OK ? !job->report.result.optimal : status == WEIR_TIMEOUT;
    if (!options->minimize || options->capacity == 0 || !goes_on || interrupted ||
        (limit > 0 && spent >= limit)) {
        return status;
    }
    job->problem.time_limit_ns = limit > 0 ? limit - spent : 0;
    return plan_within(job, 0);
}

// Plans, and has the verifier look at what came out.
static weir_status make_plan(csv_job* job) {
    struct sigaction action = {.sa_handler = interrupt, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGINT, &action, NULL);
    job->draw = isatty(STDERR_FILENO);
    job->begin_ns = job->drawn_ns = cli_now();
    const weir_status status = plan_as_asked(job);
    job->report.duration_ns = cli_now() - job->begin_ns;
    if (job->draw && job->drawn_ns > job->begin_ns) {
        fputs("\r\033[K", stderr);
    }
    if (status != WEIR_OK) {
        return status;
    }
    job->report.entries = weir_plan_entries(job->plan, NULL);
    WEIR_TRY(check_capacity(job));
    return name_file(job, weir_plan_verify(NULL, &job->problem, job->report.entries));
}

static weir_status write_csv(const csv_job* job, cli_output* output) {
    return weir_plan_csv_write(job->csv, job->report.entries, cli_output_write, output);
}

static weir_status write_svg(const csv_job* job, cli_output* output) {
    return weir_plan_report_svg(NULL, &job->report, cli_output_write, output);
}

static weir_status write_map(const csv_job* job, cli_output* output) {
    return weir_plan_report_map(NULL, &job->report, cli_output_write, output);
}

static weir_status write_json(const csv_job* job, cli_output* output) {
    return weir_plan_report_json(&job->report, cli_output_write, output);
}

// Writes one thing to where an option wants it; NULL is nowhere.
static weir_status write_to(const csv_job* job, const char* path,
                            weir_status (*write)(const csv_job* job, cli_output* output)) {
    cli_output output;
    if (!path) {
        return WEIR_OK;
    }
    WEIR_TRY(cli_output_open(path, &output));
    return cli_output_close(&output, write(job, &output));
}

static weir_status print_map(const csv_job* job) {
    return write_to(job, job->options->map ? "-" : NULL, write_map);
}

static weir_status print_figures(const csv_job* job) {
    const weir_plan_result* result = &job->report.result;
    if (job->options->json) {
        return write_to(job, "-", write_json);
    }
    printf("%" PRIu32 " buffers, %" PRIu64 " bytes without reuse\n", job->problem.buffer_count,
           result->total);
    printf("  peak         %14" PRIu64 " bytes\n", result->peak);
    printf("  lower bound  %14" PRIu64 " bytes%s\n", result->lower_bound,
           result->optimal ? ", and the peak is proven the smallest" : "");
    if (result->blocks > 1) {
        printf("  blocks       %14" PRIu32 "\n", result->blocks);
    }
    printf("  time         %14.6f s\n", (double)job->report.duration_ns / 1e9);
    return WEIR_OK;
}

// What is known where no plan is as asked: scripts read the same names in every case.
static void print_failure(const csv_job* job, weir_status status) {
    const weir_plan_result* best = &job->report.result;
    json writer = {.file = stdout};
    json_begin(&writer, NULL, '{');
    json_text(&writer, "failure", status == WEIR_INFEASIBLE ? "infeasible" : "gave up");
    if (job->plan) {
        json_u64(&writer, "peak", best->peak);
        json_u64(&writer, "lower_bound", best->lower_bound);
    } else {
        json_f64(&writer, "peak", NAN); // null
        json_f64(&writer, "lower_bound", NAN);
    }
    json_bool(&writer, "optimal", best->optimal);
    json_f64(&writer, "seconds", (double)job->report.duration_ns / 1e9);
    json_u64(&writer, "buffers", job->problem.buffer_count);
    json_end(&writer, '}');
    putchar('\n');
}

static weir_status plan_csv(csv_job* job) {
    const plan_options* options = job->options;
    WEIR_TRY(check_blocks(job));
    const weir_status made = make_plan(job);
    if (made != WEIR_OK) {
        if (options->json && (made == WEIR_INFEASIBLE || made == WEIR_TIMEOUT)) {
            print_failure(job, made);
        }
        return made;
    }
    WEIR_TRY(write_to(job, options->output, write_csv));
    WEIR_TRY(write_to(job, options->svg, write_svg));
    if (!cli_is_output_stream(options->output) && !cli_is_output_stream(options->svg)) {
        WEIR_TRY(print_figures(job));
    }
    WEIR_TRY(print_map(job));
    // What can be had without a proof was the request; only a proof can be missing now.
    const bool wanted = options->capacity == 0 || options->minimize;
    if (options->proof && wanted && !job->report.result.optimal && !interrupted) {
        return WEIR_FAIL(WEIR_TIMEOUT, "%s: the budget is spent, and nothing is proven", job->name);
    }
    return WEIR_OK;
}

typedef struct block_end {
    uint32_t block;
    uint64_t end;
} block_end;

static int compare_ends(const void* a, const void* b) {
    const block_end* x = a;
    const block_end* y = b;
    if (x->block != y->block) {
        return x->block < y->block ? -1 : 1;
    }
    return x->end < y->end ? -1 : x->end > y->end;
}

// The sum of the highest ends of all blocks. Where the plan is wrong it may wrap round.
static weir_status sum_peak(const csv_job* job, uint64_t* peak) {
    const uint32_t count = job->problem.buffer_count;
    block_end* ends = NULL;
    WEIR_TRY(weir_alloc(NULL, count * sizeof *ends, _Alignof(block_end), (void**)&ends));
    for (uint32_t i = 0; i < count; i++) {
        const weir_plan_entry* entry = &job->report.entries[i];
        ends[i] = (block_end){entry->block,
                              entry->byte_size > 0 ? entry->byte_offset + entry->byte_size : 0};
    }
    qsort(ends, count, sizeof *ends, compare_ends);
    *peak = 0;
    for (uint32_t i = 0; i < count; i++) {
        const bool last = i + 1 == count || ends[i + 1].block != ends[i].block;
        *peak += last ? ends[i].end : 0;
    }
    weir_free(NULL, ends, count * sizeof *ends, _Alignof(block_end));
    return WEIR_OK;
}

// The drawings come first: they show best what is wrong with a plan.
static cli_exit verify_csv(csv_job* job) {
    uint64_t* peak = &job->report.result.peak;
    weir_status status = weir_plan_csv_entries(job->csv, &job->report.entries);
    if (status == WEIR_OK) {
        status = sum_peak(job, peak);
    }
    if (status == WEIR_OK) {
        status = write_to(job, job->options->svg, write_svg);
    }
    if (status == WEIR_OK) {
        status = print_map(job);
    }
    if (status != WEIR_OK) {
        return cli_fail(status);
    }
    status = weir_plan_verify(NULL, &job->problem, job->report.entries);
    if (status == WEIR_OK && job->options->json) {
        json writer = {.file = stdout};
        json_begin(&writer, NULL, '{');
        json_bool(&writer, "valid", true);
        json_u64(&writer, "peak", *peak);
        json_u64(&writer, "buffers", job->problem.buffer_count);
        json_end(&writer, '}');
        putchar('\n');
    } else if (status == WEIR_OK && !cli_is_output_stream(job->options->svg)) {
        printf("valid: %" PRIu32 " buffers in %" PRIu64 " bytes\n", job->problem.buffer_count,
               *peak);
    }
    return status == WEIR_OK ? CLI_OK : cli_error("%s: %s", job->name, weir_last_error());
}

cli_exit plan_csv_command(const plan_options* options) {
    csv_job job = {.options = options};
    cli_exit code = CLI_OK;
    weir_status status = read_csv(&job);
    if (status == WEIR_OK && options->verify) {
        code = verify_csv(&job);
    } else if (status == WEIR_OK) {
        status = plan_csv(&job);
    }
    if (status != WEIR_OK) {
        code = cli_fail(status);
    }
    if (code == CLI_OK && interrupted) {
        code = CLI_INTERRUPTED;
    }
    weir_plan_destroy(job.plan);
    weir_plan_csv_destroy(job.csv);
    cli_bytes_free(&job.text);
    return cli_finish(code);
}
