#include <weir/check.h>

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "device/backend.h"
#include "device/check_serial.h"

#define DELAYED_RUNS 3

// What a run leaves behind: the outputs of each pass, then the states.
typedef struct record {
    uint8_t* bytes;
    uint64_t byte_size;
} record;

typedef struct check {
    weir_device* device;
    const weir_check_desc* desc;
    const weir_schedule* schedule;
    weir_binding* bindings; // those of the caller, with copies of the states
    weir_storage* states;   // all copies
    weir_program* program;
    check_serial apart;
    check_serial placed;
    record expected; // of the reference
    record got;
    weir_status first; // failed proof
    char message[512];
} check;

// Whether a binding gives a state its memory: of several for one value the last one holds.
static bool is_state(const check* c, uint32_t binding) {
    const weir_binding* bindings = c->desc->bindings;
    const weir_value_info* info = weir_schedule_value(c->schedule, bindings[binding].value);
    for (uint32_t i = binding + 1; i < c->desc->binding_count; i++) {
        if (bindings[i].value == bindings[binding].value) {
            return false;
        }
    }
    return info && info->kind == WEIR_VALUE_STATE;
}

// Storages align to 64 bytes, and so do the copies within one.
static uint64_t state_bytes(const check* c, uint32_t binding) {
    const uint64_t byte_size = weir_view_byte_span(&c->desc->bindings[binding].view);
    return (byte_size + 63) / 64 * 64;
}

// Copies the caller's states to where the program has its own.
static weir_status reset_states(const check* c) {
    for (uint32_t i = 0; i < c->desc->binding_count; i++) {
        const weir_view* from = &c->desc->bindings[i].view;
        if (!is_state(c, i)) {
            continue;
        }
        const void* source = weir_view_contents(from);
        void* target = weir_view_contents(&c->bindings[i].view);
        if (!source || !target) {
            return WEIR_FAIL(WEIR_UNSUPPORTED, "the host cannot reach state %s",
                             weir_schedule_value(c->schedule, c->bindings[i].value)->name);
        }
        memcpy(target, source, (size_t)weir_view_byte_span(from));
    }
    return WEIR_OK;
}

static weir_status copy_bindings(check* c) {
    const uint32_t count = c->desc->binding_count;
    uint64_t byte_size = 0;
    WEIR_TRY(weir_alloc(&c->device->allocator, count * sizeof *c->bindings, _Alignof(max_align_t),
                        (void**)&c->bindings));
    for (uint32_t i = 0; i < count; i++) {
        c->bindings[i] = c->desc->bindings[i];
        byte_size += is_state(c, i) ? state_bytes(c, i) : 0;
    }
    const weir_storage_desc desc = {.byte_size = byte_size, .name = "states of the check"};
    WEIR_TRY(weir_storage_allocate(c->device, &desc, &c->states));
    uint64_t offset = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (is_state(c, i)) {
            c->bindings[i].view.storage = c->states;
            c->bindings[i].view.byte_offset = offset;
            offset += state_bytes(c, i);
        }
    }
    return WEIR_OK;
}

static weir_status make_record(const check* c, record* made) {
    uint64_t byte_size = 0;
    if (__builtin_mul_overflow(c->schedule->report.output_bytes, c->desc->pass_count, &byte_size) ||
        __builtin_add_overflow(byte_size, c->schedule->report.state_bytes, &byte_size)) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE, "the outputs of %u passes pass 2^64 - 1 bytes",
                         c->desc->pass_count);
    }
    WEIR_TRY(weir_alloc_zeroed(&c->device->allocator, (size_t)byte_size, (void**)&made->bytes));
    made->byte_size = byte_size;
    return WEIR_OK;
}

static bool is_output(const weir_schedule* schedule, weir_value value) {
    const weir_value_info* info = &schedule->values.items[value];
    uint32_t uses = 0;
    schedule_uses_of(schedule, value, &uses);
    return info->kind == WEIR_VALUE_RESULT && info->is_output && uses > 0;
}

// Keeps the outputs of pass `number`: those of the program, or with `serial` of a serial run.
static void keep_outputs(const check* c, const check_serial* serial, uint32_t number,
                         record* kept) {
    const weir_schedule* schedule = c->schedule;
    uint8_t* target = kept->bytes + number * schedule->report.output_bytes;
    for (weir_value value = 0; value < schedule->values.count; value++) {
        if (is_output(schedule, value)) {
            const void* source =
                serial ? serial->roots[value] : weir_program_contents(c->program, value);
            memcpy(target + schedule->placements[value].byte_offset, source,
                   (size_t)check_value_bytes(schedule, value, c->desc->passes[number].params));
        }
    }
}

static uint64_t states_begin(const check* c) {
    return c->desc->pass_count * c->schedule->report.output_bytes;
}

static void keep_states(const check* c, const check_serial* serial, record* kept) {
    uint8_t* target = kept->bytes + states_begin(c);
    for (uint32_t i = 0; i < c->desc->binding_count; i++) {
        const weir_value value = c->bindings[i].value;
        if (is_state(c, i) && c->apart.roots[value]) {
            const size_t byte_size = (size_t)c->schedule->placements[value].byte_size;
            memcpy(target, serial ? serial->roots[value] : weir_view_contents(&c->bindings[i].view),
                   byte_size);
            target += byte_size;
        }
    }
}

// Runs all passes on the device and keeps what they leave.
static weir_status run_program(check* c) {
    WEIR_TRY(reset_states(c));
    for (uint32_t p = 0; p < c->desc->pass_count; p++) {
        const weir_check_pass* pass = &c->desc->passes[p];
        for (uint32_t i = 0; i < pass->input_count; i++) {
            const weir_check_input* input = &pass->inputs[i];
            WEIR_TRY(weir_program_write(c->program, input->input, input->bytes, input->byte_size));
        }
        WEIR_TRY(weir_program_run(c->program, pass->params, pass->param_count));
        keep_outputs(c, NULL, p, &c->got);
    }
    keep_states(c, NULL, &c->got);
    return WEIR_OK;
}

static uint64_t first_difference(const uint8_t* a, const uint8_t* b, uint64_t byte_size) {
    uint64_t i = 0;
    while (i < byte_size && a[i] == b[i]) {
        i++;
    }
    return i;
}

// Holds what a dispatch has written in both serial runs against each other.
static weir_status compare_written(const check* c, uint32_t dispatch, uint32_t pass) {
    const schedule_dispatch* item = &c->schedule->dispatches.items[dispatch];
    for (uint32_t i = 0; i < item->operand_count; i++) {
        const schedule_operand* operand = &c->schedule->operands.items[item->operand_begin + i];
        if (operand->kind != WEIR_ACCESS_WRITE) {
            continue;
        }
        const uint64_t byte_size =
            check_value_bytes(c->schedule, operand->root, c->desc->passes[pass].params);
        const uint64_t at = first_difference(c->apart.roots[operand->root],
                                             c->placed.roots[operand->root], byte_size);
        if (at < byte_size) {
            return WEIR_FAIL(WEIR_INTERNAL,
                             "pass %u: dispatch %u (%s) has read bytes that were free or taken: "
                             "byte %llu of value %u (%s) differs",
                             pass, dispatch, item->name, (unsigned long long)at, operand->root,
                             c->schedule->values.items[operand->root].name);
        }
    }
    return WEIR_OK;
}

// Runs both serial runs side by side, so that the first dispatch that goes wrong is known; the
// reference goes on alone after that. `*poison` is the outcome, the status that of the reference.
static weir_status run_serial(check* c, weir_status* poison) {
    for (uint32_t p = 0; p < c->desc->pass_count; p++) {
        const weir_check_pass* pass = &c->desc->passes[p];
        WEIR_TRY(check_serial_begin(&c->apart, pass));
        WEIR_TRY(check_serial_begin(&c->placed, pass));
        for (uint32_t d = 0; d < c->schedule->dispatches.count; d++) {
            WEIR_TRY(check_serial_run(&c->apart, d, pass->params));
            if (*poison != WEIR_OK) {
                continue;
            }
            *poison = check_serial_run(&c->placed, d, pass->params);
            if (*poison == WEIR_OK) {
                *poison = compare_written(c, d, p);
            }
            check_serial_bury(&c->placed, d);
        }
        keep_outputs(c, &c->apart, p, &c->expected);
    }
    keep_states(c, &c->apart, &c->expected);
    return WEIR_OK;
}

static weir_status differs(const check* c, const char* run, uint64_t at) {
    const weir_schedule* schedule = c->schedule;
    const uint64_t pass_bytes = schedule->report.output_bytes;
    if (at >= states_begin(c)) {
        return WEIR_FAIL(WEIR_INTERNAL, "%s: the states differ after the last pass (byte %llu)",
                         run, (unsigned long long)(at - states_begin(c)));
    }
    const char* name = "";
    for (weir_value value = 0; value < schedule->values.count; value++) {
        const weir_placement* place = &schedule->placements[value];
        if (is_output(schedule, value) && at % pass_bytes >= place->byte_offset &&
            at % pass_bytes < place->byte_offset + place->byte_size) {
            name = schedule->values.items[value].name;
        }
    }
    return WEIR_FAIL(WEIR_INTERNAL, "%s: output %s of pass %llu differs (byte %llu of the outputs)",
                     run, name, (unsigned long long)(at / pass_bytes),
                     (unsigned long long)(at % pass_bytes));
}

static weir_status compare_records(const check* c, const char* run) {
    const uint64_t at = first_difference(c->expected.bytes, c->got.bytes, c->expected.byte_size);
    return at < c->expected.byte_size ? differs(c, run, at) : WEIR_OK;
}

// Mixes well enough that neighbours get unlike delays (the finaliser of splitmix64, Steele, Lea and
// Flood 2014).
static uint64_t mix(uint64_t number) {
    number = (number ^ (number >> 30)) * 0xBF58476D1CE4E5B9u;
    number = (number ^ (number >> 27)) * 0x94D049BB133111EBu;
    return number ^ (number >> 31);
}

// Holds back every eighth dispatch at its first tile, and every sixteenth tile when it begins or
// when it is done and not yet counted.
static void delay(void* context, uint32_t worker, const char* name, uint32_t dispatch,
                  uint32_t tile, bool begin) {
    const uint64_t seed = mix(*(const uint64_t*)context + dispatch);
    const uint64_t random = mix(seed + ((uint64_t)tile << 1) + begin + 1);
    (void)worker;
    (void)name;
    long duration_ns = (random & 15) == 0 ? (long)((random >> 8) % 40000) : 0;
    duration_ns = (seed & 7) == 0 && tile == 0 && begin ? 200000 : duration_ns;
    if (duration_ns > 0) {
        nanosleep(&(struct timespec){.tv_nsec = duration_ns}, NULL);
    }
}

static weir_status run_delayed(check* c, weir_status* outcome) {
    const uint32_t runs = c->desc->delayed_runs > 0 ? c->desc->delayed_runs : DELAYED_RUNS;
    for (uint32_t i = 0; *outcome == WEIR_OK && i < runs; i++) {
        uint64_t seed = mix(c->desc->seed + i + 1);
        WEIR_TRY(weir_device_set_tile_hook(c->device, delay, &seed));
        const weir_status status = run_program(c);
        WEIR_TRY(weir_device_set_tile_hook(c->device, NULL, NULL));
        WEIR_TRY(status);
        *outcome = compare_records(c, "with random delays");
    }
    return WEIR_OK;
}

// Tells of one proof; the first that failed is what the check returns.
static void tell(check* c, weir_proof proof, weir_status status) {
    if (status != WEIR_OK && c->first == WEIR_OK) {
        c->first = status;
        snprintf(c->message, sizeof c->message, "%s", weir_last_error());
    }
    if (c->desc->report) {
        c->desc->report(c->desc->context, proof, status);
    }
}

static weir_status make_program(check* c, const weir_binding* bindings) {
    const weir_program_desc desc = {
        .schedule = c->schedule, .bindings = bindings, .binding_count = c->desc->binding_count};
    return weir_program_create(c->device, &desc, &c->program);
}

// The bindings of the caller are judged by a program that never runs: copying trusts them.
static weir_status prepare(check* c) {
    const weir_allocator* allocator = &c->device->allocator;
    WEIR_TRY(make_program(c, c->desc->bindings));
    weir_program_destroy(c->program);
    c->program = NULL;
    WEIR_TRY(copy_bindings(c));
    WEIR_TRY(make_program(c, c->bindings));
    WEIR_TRY(check_serial_make(allocator, c->desc, true, &c->apart));
    WEIR_TRY(check_serial_make(allocator, c->desc, false, &c->placed));
    WEIR_TRY(make_record(c, &c->expected));
    return make_record(c, &c->got);
}

static weir_status prove(check* c) {
    weir_status outcome = WEIR_OK;
    WEIR_TRY(prepare(c));
    WEIR_TRY(run_program(c)); // first: it judges the passes too
    tell(c, WEIR_PROOF_PLAN, weir_schedule_check_plan(c->schedule));
    tell(c, WEIR_PROOF_ORDER, weir_schedule_check_pairs(c->schedule));
    WEIR_TRY(run_serial(c, &outcome));
    tell(c, WEIR_PROOF_POISON, outcome);
    tell(c, WEIR_PROOF_ELIDED, compare_records(c, "on the device"));
    outcome = WEIR_OK;
    WEIR_TRY(run_delayed(c, &outcome));
    tell(c, WEIR_PROOF_DELAYED, outcome);
    return c->first == WEIR_OK ? WEIR_OK : WEIR_FAIL(c->first, "%s", c->message);
}

weir_status weir_schedule_prove(weir_device* device, const weir_check_desc* desc) {
    check c = {.device = device, .desc = desc, .schedule = desc->schedule};
    const weir_tile_hook_fn hook = device->hook;
    void* hook_context = device->hook_context;
    WEIR_TRY(weir_device_set_tile_hook(device, NULL, NULL));
    const weir_status status = prove(&c);
    device->hook = hook; // every pass was waited for
    device->hook_context = hook_context;
    weir_program_destroy(c.program);
    weir_storage_release(c.states);
    check_serial_free(&c.apart);
    check_serial_free(&c.placed);
    weir_free(&device->allocator, c.expected.bytes, (size_t)c.expected.byte_size,
              _Alignof(max_align_t));
    weir_free(&device->allocator, c.got.bytes, (size_t)c.got.byte_size, _Alignof(max_align_t));
    weir_free(&device->allocator, c.bindings, desc->binding_count * sizeof *c.bindings,
              _Alignof(max_align_t));
    return status;
}

const char* weir_proof_name(weir_proof proof) {
    static const char* const names[] = {"plan", "order", "poison", "elided", "delayed"};
    return (unsigned)proof < sizeof names / sizeof *names ? names[proof] : "unknown";
}
