// The device that executes nothing: it keeps every rule of the front end and lets a test decide
// when work completes and which call fails. New back ends start from here.
#include <assert.h>
#include <string.h>

#include "backends/host_pages.h"
#include "backends/host_storage.h"

typedef struct null_device {
    weir_device base;
    pthread_mutex_t completion_lock; // completions by several threads come one after another
    struct {
        uint64_t sequence;
        uint64_t after[PASSES_IN_FLIGHT]; // of passes that were in flight at the submission
        uint32_t after_count;
    } passes[PASSES_IN_FLIGHT]; // guarded by it; with manual completion
    bool manual_completion;
    bool fail_armed;
    uint32_t calls_until_failure;
    weir_status failure;
} null_device;

typedef struct null_work {
    device_work base;
    weir_device* device;
} null_work;

static_assert(offsetof(null_device, base) == 0, "the base comes first");
static_assert(offsetof(null_work, base) == 0, "the base comes first");

static const device_vtable null_device_vtable;

static null_device* cast(weir_device* device) {
    return (null_device*)device;
}

// Counts one call towards the failure that a test asked for.
static weir_status step(weir_device* device, const char* call) {
    null_device* null = cast(device);
    if (!null->fail_armed || null->calls_until_failure-- > 0) {
        return WEIR_OK;
    }
    null->fail_armed = false;
    return WEIR_FAIL(null->failure, "%s fails because a test asked for it", call);
}

static weir_status null_allocate(weir_device* device, const weir_storage_desc* desc,
                                 weir_storage** storage) {
    WEIR_TRY(step(device, "allocate"));
    return host_storage_allocate(device, desc, storage);
}

static weir_status null_map(weir_device* device, const weir_storage_map_desc* desc,
                            weir_storage** storage) {
    WEIR_TRY(step(device, "map"));
    return host_storage_map(device, desc, storage);
}

static weir_status null_wrap(weir_device* device, const weir_storage_wrap_desc* desc,
                             weir_storage** storage) {
    WEIR_TRY(step(device, "wrap"));
    return host_storage_wrap(device, desc, storage);
}

static weir_status null_reserve(weir_device* device, uint64_t byte_size, const char* name,
                                weir_storage** storage) {
    WEIR_TRY(step(device, "reserve"));
    return host_pages_reserve(device, byte_size, name, storage);
}

static weir_status null_commit(weir_storage* storage, uint64_t begin, uint64_t end) {
    WEIR_TRY(step(storage->device, "commit"));
    return host_pages_commit(storage, begin, end);
}

static weir_device_memory null_memory(weir_device* device) {
    (void)device;
    return (weir_device_memory){0};
}

static weir_status null_hold(const weir_storage* storage, weir_residency_mode mode, int priority) {
    WEIR_TRY(step(storage->device, "hold"));
    return host_pages_hold(storage, mode, priority);
}

static weir_status null_submit(device_work* work, const device_pass_desc* pass) {
    weir_device* device = ((null_work*)work)->device;
    null_device* null = cast(device);
    WEIR_TRY(step(device, "submit"));
    if (!null->manual_completion) {
        weir_device_complete(device, pass->sequence, WEIR_OK, NULL);
        return WEIR_OK;
    }
    const size_t entry = pass->sequence % PASSES_IN_FLIGHT;
    pthread_mutex_lock(&null->completion_lock);
    null->passes[entry].sequence = pass->sequence;
    null->passes[entry].after_count = pass->after_count;
    memcpy(null->passes[entry].after, pass->after, pass->after_count * sizeof pass->after[0]);
    pthread_mutex_unlock(&null->completion_lock);
    return WEIR_OK;
}

static void null_work_destroy(device_work* work) {
    object_free(&((null_work*)work)->device->allocator, (null_work*)work);
}

static weir_status null_rebind(device_work* work) {
    return step(((null_work*)work)->device, "rebind");
}

static const work_vtable null_work_vtable = {
    .submit = null_submit,
    .rebind = null_rebind,
    .destroy = null_work_destroy,
};

static weir_status null_prepare(weir_device* device, const device_dispatch* dispatches,
                                uint32_t count, device_work** work) {
    (void)dispatches;
    (void)count;
    null_work* made = NULL;
    WEIR_TRY(object_new(&device->allocator, &made));
    made->base.vtable = &null_work_vtable;
    made->device = device;
    *work = &made->base;
    return WEIR_OK;
}

static void null_destroy(weir_device* device) {
    const weir_allocator allocator = device->allocator;
    weir_null_complete(device, UINT32_MAX, WEIR_OK);
    weir_device_finish(device);
    pthread_mutex_destroy(&cast(device)->completion_lock);
    object_free(&allocator, cast(device));
}

// Completes a pass that is in flight; with the lock held.
static void complete(weir_device* device, uint64_t sequence, weir_status status) {
    static const char cause[] = "completed with this status by a test";
    if (status == WEIR_DEVICE_LOST) {
        weir_device_lose(device, cause);
    }
    weir_device_complete(device, sequence, status, cause);
}

uint32_t weir_null_complete(weir_device* device, uint32_t count, weir_status status) {
    if (device->vtable != &null_device_vtable || !cast(device)->manual_completion) {
        return 0;
    }
    uint32_t done = 0;
    pthread_mutex_lock(&cast(device)->completion_lock);
    while (done < count && !weir_device_is_idle(device)) {
        const uint64_t oldest = atomic_load(&device->oldest);
        complete(device, oldest, status);
        done += weir_device_has_done(device, oldest) ? 1 : 0; // not if its submission failed
    }
    pthread_mutex_unlock(&cast(device)->completion_lock);
    return done;
}

bool weir_null_complete_ticket(weir_ticket ticket, weir_status status) {
    weir_device* device = ticket.device;
    if (ticket.sequence == 0 || device->vtable != &null_device_vtable ||
        !cast(device)->manual_completion) {
        return false;
    }
    null_device* null = cast(device);
    const size_t entry = ticket.sequence % PASSES_IN_FLIGHT;
    pthread_mutex_lock(&null->completion_lock);
    bool ready = null->passes[entry].sequence == ticket.sequence &&
                 !weir_device_has_done(device, ticket.sequence);
    for (uint32_t i = 0; ready && i < null->passes[entry].after_count; i++) {
        ready = weir_device_has_done(device, null->passes[entry].after[i]);
    }
    if (ready) {
        complete(device, ticket.sequence, status);
    }
    pthread_mutex_unlock(&null->completion_lock);
    return ready;
}

void weir_null_lose(weir_device* device, const char* cause) {
    if (device->vtable == &null_device_vtable) {
        weir_device_lose(device, cause);
    }
}

void weir_null_fail(weir_device* device, uint32_t call, weir_status status) {
    if (device->vtable == &null_device_vtable) {
        null_device* null = cast(device);
        null->fail_armed = status != WEIR_OK;
        null->calls_until_failure = call;
        null->failure = status;
    }
}

weir_status weir_null_device_create(const weir_device_desc* desc, const weir_target* target,
                                    weir_device** device) {
    null_device* made = NULL;
    WEIR_TRY(object_new(&desc->allocator, &made));
    weir_status status = weir_device_init(&made->base, &null_device_vtable, desc, target);
    if (status == WEIR_OK && pthread_mutex_init(&made->completion_lock, NULL) != 0) {
        weir_device_finish(&made->base);
        status = WEIR_FAIL(WEIR_OUT_OF_MEMORY, "cannot make the lock of completions");
    }
    if (status != WEIR_OK) {
        object_free(&desc->allocator, made);
        return status;
    }
    made->manual_completion = desc->manual_completion;
    made->base.page_bytes = host_pages_size();
    *device = &made->base;
    return WEIR_OK;
}

static const device_vtable null_device_vtable = {
    .destroy = null_destroy,
    .allocate = null_allocate,
    .map = null_map,
    .wrap = null_wrap,
    .reserve = null_reserve,
    .commit = null_commit,
    .decommit = host_pages_decommit,
    .memory = null_memory,
    .hold = null_hold,
    .let_go = host_pages_let_go,
    .prepare = null_prepare,
};
