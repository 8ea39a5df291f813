// Runs the conformance suite on the device that is named: see conformance.h.
#include "conformance.h"

static const char* device_name = "cpu";

static weir_status nothing(const weir_kernel_call* call) {
    (void)call;
    return WEIR_OK;
}

// Asks for the recording alone, which is dropped.
static bool takes_functions(weir_session* session) {
    const weir_dispatch_desc desc = {.name = "probe", .kernel = nothing};
    const weir_status status = weir_session_dispatch(session, &desc, NULL);
    if (status == WEIR_UNSUPPORTED) {
        return false;
    }
    assert_ok(status);
    return true;
}

int conformance_open(void** state) {
    static conformance c;
    c = (conformance){.name = device_name, .allocator = {.fail_at = SIZE_MAX}};
    c.executes = strcmp(device_name, "null") != 0;
    c.device = open_device(device_name, 2, &c.allocator);
    c.storage = allocate_zeros(c.device, FLOATS * sizeof(float));
    c.floats = floats_of(c.storage, 0, FLOATS);
    assert_ok(weir_session_create(c.device, &c.session));
    c.runs_functions = takes_functions(c.session);
    weir_session_destroy(c.session);
    assert_ok(weir_session_create(c.device, &c.session));
    *state = &c;
    return 0;
}

int conformance_close(void** state) {
    conformance* c = *state;
    weir_session_destroy(c->session);
    weir_storage_release(c->storage);
    weir_device_destroy(c->device);
    const size_t left = atomic_load(&c->allocator.live_blocks);
    if (left != 0) {
        print_error("%zu blocks were not given back\n", left);
    }
    return left == 0 ? 0 : -1;
}

static void leave_if_absent(void) {
    weir_device* device = NULL;
    const weir_status status =
        weir_device_create(&(weir_device_desc){.name = device_name}, &device);
    static const char* const everywhere[] = {"cpu", "cpu:plain", "null"};
    bool may_lack = true;
    for (size_t i = 0; i < sizeof everywhere / sizeof *everywhere; i++) {
        may_lack = may_lack && strcmp(device_name, everywhere[i]) != 0;
    }
    if (may_lack && (status == WEIR_UNSUPPORTED || status == WEIR_NOT_FOUND)) {
        fprintf(stderr, "skipped: %s\n", weir_last_error());
        exit(SKIPPED);
    }
    assert_ok(status);
    weir_device_destroy(device);
}

int main(int argc, char** argv) {
    device_name = argc > 1 ? argv[1] : device_name;
    leave_if_absent();
    const int failed = conformance_buffer_range() + conformance_conflict_tracker() +
                       conformance_mlx_buffer() + conformance_residency() +
                       conformance_raw_buffer() + conformance_arena() + conformance_arena_shadow();
    return failed == 0 ? 0 : 1;
}
