// Times the planner and prints CSV: one line per instance and mode. Every plan is verified, outside
// of the time. What the modes are for stands in docs/planner.md.
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <weir/plan_csv.h>

#include "plan_generator.h"

#define RUNS_MAX 101

static const char usage[] =
    "usage: bench_plan [OPTION...] [FILE.csv...]\n\n"
    "  --modes LIST   of place,search,prove,capacity and times such as 500us,10ms,1s\n"
    "                 (default: place,search); capacity is that in a name such as A.1048576.csv\n"
    "  --runs N       runs of each, of which the median is taken (default: 5)\n"
    "  --growth N     also generated problems of 100, 316, 1000, ... to N buffers\n"
    "  --count N      also the generated problem of N buffers\n"
    "  --write N      only print that\n"
    "  --cpu          processor time: for machines that do other things too\n"
    "  --shape NAME   of generated problems: mixed (default), long, uniform, powers, sliding, "
    "gaps\n"
    "  --seed N       of generated problems; N-M: each of them\n"
    "  --device TEXT  for the column device\n"
    "  --commit TEXT  for the column commit\n";

static const char* const shape_names[GENERATOR_SHAPES] = {
    [GENERATOR_MIXED] = "mixed",   [GENERATOR_LONG] = "long",       [GENERATOR_UNIFORM] = "uniform",
    [GENERATOR_POWERS] = "powers", [GENERATOR_SLIDING] = "sliding", [GENERATOR_GAPS] = "gaps",
};

typedef struct bench {
    const char* modes;
    uint32_t runs;
    uint32_t growth;
    uint32_t count;
    uint32_t write;
    generator_shape shape;
    uint64_t seed;
    uint64_t last_seed;
    bool cpu_time;
    const char* device;
    const char* commit;
} bench;

// One instance in one mode.
typedef struct measurement {
    double seconds[RUNS_MAX];
    weir_plan_result result;
    uint64_t memory; // most bytes at one time
    weir_status status;
} measurement;

typedef struct counter {
    uint64_t live;
    uint64_t most;
} counter;

static void* count_alloc(void* context, size_t byte_size, size_t alignment) {
    counter* count = context;
    void* pointer = NULL;
    const size_t least = alignment < sizeof(void*) ? sizeof(void*) : alignment;
    if (posix_memalign(&pointer, least, byte_size) != 0) {
        return NULL;
    }
    count->live += byte_size;
    count->most = count->live > count->most ? count->live : count->most;
    return pointer;
}

static void count_free(void* context, void* pointer, size_t byte_size, size_t alignment) {
    (void)alignment;
    ((counter*)context)->live -= byte_size;
    free(pointer);
}

static double now(const bench* options) {
    struct timespec time;
    clock_gettime(options->cpu_time ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static int compare_doubles(const void* a, const void* b) {
    const double x = *(const double*)a;
    const double y = *(const double*)b;
    return x < y ? -1 : x > y;
}

// Ends the program: a wrong plan makes all figures worthless.
static void run_once(const bench* options, const char* instance, const weir_plan_problem* problem,
                     measurement* measured, uint32_t run) {
    counter count = {0};
    const weir_allocator allocator = {&count, count_alloc, count_free};
    weir_plan* plan = NULL;
    const double begin = now(options);
    measured->status = weir_plan_create(&allocator, problem, &plan);
    measured->seconds[run] = now(options) - begin;
    measured->memory = count.most;
    measured->result = (weir_plan_result){0};
    if (measured->status == WEIR_OK) {
        measured->result = *weir_plan_result_of(plan);
        if (weir_plan_verify(NULL, problem, weir_plan_entries(plan, NULL)) != WEIR_OK) {
            fprintf(stderr, "%s: wrong plan: %s\n", instance, weir_last_error());
            exit(1);
        }
    }
    weir_plan_destroy(plan);
}

static void print_measurement(const bench* options, const char* instance, const char* mode,
                              uint32_t buffers, measurement* measured) {
    const weir_plan_result* result = &measured->result;
    const uint32_t runs = options->runs;
    qsort(measured->seconds, runs, sizeof *measured->seconds, compare_doubles);
    const double ratio =
        result->lower_bound > 0 ? (double)result->peak / (double)result->lower_bound : 1.0;
    printf("%s,%" PRIu32 ",%s,%s,%" PRIu64 ",%" PRIu64 ",%.6f,%d,%.9f,%.9f,%.9f,%" PRIu32
           ",%" PRIu64 ",%s,%s\n",
           instance, buffers, mode, weir_status_text(measured->status), result->peak,
           result->lower_bound, ratio, result->optimal, measured->seconds[runs / 2],
           measured->seconds[0], measured->seconds[runs - 1], runs, measured->memory,
           options->device, options->commit);
    fflush(stdout);
}

// The number before ".csv", or 0.
static uint64_t capacity_in(const char* path) {
    const char* end = strstr(path, ".csv");
    const char* begin = end;
    while (begin && begin > path && begin[-1] >= '0' && begin[-1] <= '9') {
        --begin;
    }
    return begin && begin > path && begin[-1] == '.' ? strtoull(begin, NULL, 10) : 0;
}

static bool set_time(const char* mode, uint64_t* time_limit_ns) {
    char* unit = NULL;
    const uint64_t number = strtoull(mode, &unit, 10);
    const uint64_t scale = strcmp(unit, "us") == 0   ? 1000u
                           : strcmp(unit, "ms") == 0 ? 1000000u
                           : strcmp(unit, "s") == 0  ? 1000000000u
                                                     : 0;
    *time_limit_ns = number * scale;
    return number > 0 && scale > 0;
}

// False where the mode says nothing for this instance.
static bool set_mode(const char* mode, const char* path, weir_plan_problem* problem) {
    if (strcmp(mode, "place") == 0) {
        problem->effort = WEIR_PLAN_PLACE;
    } else if (strcmp(mode, "prove") == 0) {
        problem->effort = WEIR_PLAN_PROVE;
    } else if (strcmp(mode, "capacity") == 0) {
        problem->effort = WEIR_PLAN_PROVE;
        problem->capacity = capacity_in(path);
        return problem->capacity > 0;
    } else if (strcmp(mode, "search") != 0 && !set_time(mode, &problem->time_limit_ns)) {
        fprintf(stderr, "unknown mode %s\n%s", mode, usage);
        exit(64);
    }
    return true;
}

static void measure(const bench* options, const char* path, const weir_plan_problem* problem) {
    const char* slash = strrchr(path, '/');
    char modes[256];
    char* rest = modes;
    snprintf(modes, sizeof modes, "%s", options->modes);
    for (char* mode = strsep(&rest, ","); mode; mode = strsep(&rest, ",")) {
        static measurement measured;
        weir_plan_problem copy = *problem;
        if (set_mode(mode, path, &copy)) {
            for (uint32_t run = 0; run < options->runs; ++run) {
                run_once(options, path, &copy, &measured, run);
            }
            print_measurement(options, slash ? slash + 1 : path, mode, problem->buffer_count,
                              &measured);
        }
    }
}

static char* read_file(const char* path, size_t* length) {
    FILE* file = fopen(path, "rb");
    char* bytes = NULL;
    size_t capacity = 0;
    *length = 0;
    if (!file) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        exit(1);
    }
    do {
        capacity = capacity > 0 ? 2 * capacity : 1u << 16;
        bytes = realloc(bytes, capacity);
        if (!bytes) {
            fprintf(stderr, "%s: out of memory\n", path);
            exit(1);
        }
        *length += fread(bytes + *length, 1, capacity - *length, file);
    } while (*length == capacity);
    fclose(file);
    return bytes;
}

static void measure_file(const bench* options, const char* path) {
    weir_plan_csv_desc desc = {.name = path};
    char* bytes = read_file(path, &desc.byte_size);
    weir_plan_csv* csv = NULL;
    desc.bytes = bytes;
    if (weir_plan_csv_create(NULL, &desc, &csv) != WEIR_OK) {
        fprintf(stderr, "%s\n", weir_last_error());
        exit(1);
    }
    measure(options, path, weir_plan_csv_problem(csv));
    weir_plan_csv_destroy(csv);
    free(bytes);
}

typedef struct generated {
    weir_plan_buffer* buffers;
    weir_plan_interval* intervals;
    weir_plan_problem problem;
} generated;

static generated generate(const bench* options, uint32_t count, uint64_t seed) {
    const size_t spans = (size_t)count * PLAN_GENERATOR_SPANS;
    generated made = {.buffers = malloc(count * sizeof *made.buffers),
                      .intervals = malloc(spans * sizeof *made.intervals)};
    if (!made.buffers || !made.intervals) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    plan_generate(count, seed, options->shape, made.buffers, made.intervals, &made.problem);
    return made;
}

static void free_generated(generated* made) {
    free(made->buffers);
    free(made->intervals);
}

static void measure_generated(const bench* options, uint32_t count) {
    for (uint64_t seed = options->seed; seed <= options->last_seed; ++seed) {
        char name[64];
        generated made = generate(options, count, seed);
        const bool is_mixed = options->shape == GENERATOR_MIXED;
        snprintf(name, sizeof name, "generated%s%s-%" PRIu32 "-%" PRIu64, is_mixed ? "" : "-",
                 is_mixed ? "" : shape_names[options->shape], count, seed);
        measure(options, name, &made.problem);
        free_generated(&made);
    }
}

// The first interval of each buffer alone fits into the columns; the gaps follow.
static void write_generated(const bench* options) {
    const uint32_t count = options->write;
    generated made = generate(options, count, options->seed);
    printf("id,lower,upper,size,gaps\n");
    for (uint32_t i = 0; i < count; ++i) {
        const weir_plan_buffer* buffer = &made.buffers[i];
        const weir_plan_interval* spans = &made.intervals[buffer->interval_begin];
        const uint32_t last = buffer->interval_count - 1;
        printf("%" PRIu32 ",%" PRId64 ",%" PRId64 ",%" PRIu64 ",", i, spans[0].begin,
               spans[last].end, buffer->byte_size);
        for (uint32_t k = 0; k < last; ++k) {
            printf("%s%" PRId64 "-%" PRId64, k > 0 ? " " : "", spans[k].end, spans[k + 1].begin);
        }
        printf("\n");
    }
    free_generated(&made);
}

// Two sizes per power of ten.
static void measure_growth(const bench* options) {
    for (uint64_t power = 100; power <= options->growth; power *= 10) {
        measure_generated(options, (uint32_t)power);
        const uint64_t half = power * 316 / 100;
        if (half <= options->growth) {
            measure_generated(options, (uint32_t)half);
        }
    }
}

static generator_shape shape_of(const char* name) {
    for (uint32_t shape = 0; shape < GENERATOR_SHAPES; ++shape) {
        if (strcmp(name, shape_names[shape]) == 0) {
            return (generator_shape)shape;
        }
    }
    fprintf(stderr, "unknown shape %s\n%s", name, usage);
    exit(64);
}

static void set_seeds(const char* text, bench* options) {
    char* end = NULL;
    options->seed = strtoull(text, &end, 10);
    options->last_seed = *end == '-' ? strtoull(end + 1, &end, 10) : options->seed;
    if (*end != 0 || options->seed == 0 || options->last_seed < options->seed) {
        fprintf(stderr, "no seeds: %s\n%s", text, usage);
        exit(64);
    }
}

static void parse(int argc, char** argv, bench* options) {
    static const struct option longs[] = {
        {"modes", required_argument, NULL, 'm'},
        {"runs", required_argument, NULL, 'r'},
        {"growth", required_argument, NULL, 'g'},
        {"count", required_argument, NULL, 'n'},
        {"write", required_argument, NULL, 'w'},
        {"cpu", no_argument, NULL, 'p'},
        {"shape", required_argument, NULL, 's'},
        {"seed", required_argument, NULL, 'i'},
        {"device", required_argument, NULL, 'd'},
        {"commit", required_argument, NULL, 'c'},
        {0},
    };
    for (int found = 0; (found = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
        switch (found) {
        case 'm':
            options->modes = optarg;
            break;
        case 'r':
            options->runs = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'g':
            options->growth = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'n':
            options->count = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'w':
            options->write = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'p':
            options->cpu_time = true;
            break;
        case 's':
            options->shape = shape_of(optarg);
            break;
        case 'i':
            set_seeds(optarg, options);
            break;
        case 'd':
            options->device = optarg;
            break;
        case 'c':
            options->commit = optarg;
            break;
        default:
            fputs(usage, stderr);
            exit(64);
        }
    }
    if (options->runs == 0 || options->runs > RUNS_MAX ||
        (optind == argc && !options->growth && !options->count && !options->write)) {
        fputs(usage, stderr);
        exit(64);
    }
}

int main(int argc, char** argv) {
    bench options = {.modes = "place,search",
                     .runs = 5,
                     .seed = PLAN_GENERATOR_SEED,
                     .last_seed = PLAN_GENERATOR_SEED,
                     .device = "",
                     .commit = ""};
    parse(argc, argv, &options);
    if (options.write > 0) {
        write_generated(&options);
        return 0;
    }
    printf("instance,buffers,mode,status,peak,lower_bound,ratio,optimal,median_s,min_s,max_s,runs,"
           "memory_bytes,device,commit\n");
    for (int i = optind; i < argc; ++i) {
        measure_file(&options, argv[i]);
    }
    if (options.count > 0) {
        measure_generated(&options, options.count);
    }
    measure_growth(&options);
    return 0;
}
