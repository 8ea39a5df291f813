#include "backends/cpu/cpu_device.h"

#ifdef WEIR_EXPENSIVE_CHECKS

static weir_status fail(const device_dispatch* a, const char* a_range, const device_dispatch* b,
                        const char* b_range) {
    return WEIR_FAIL(WEIR_INTERNAL, "%s at %s and %s at %s run at the same time", a->name, a_range,
                     b->name, b_range);
}

static weir_status check_pair(const device_dispatch* a, const device_dispatch* b) {
    if (a->fence || b->fence) {
        return fail(a, a->fence ? "anything" : "its operands", b,
                    b->fence ? "anything" : "its operands");
    }
    for (uint32_t i = 0; i < a->access_count; i++) {
        for (uint32_t j = 0; j < b->access_count; j++) {
            const weir_access* x = &a->accesses[i];
            const weir_access* y = &b->accesses[j];
            if (((x->kind | y->kind) & WEIR_ACCESS_WRITE) == 0 ||
                !weir_range_overlaps(&x->range, &y->range)) {
                continue;
            }
            char x_text[128];
            char y_text[128];
            return fail(a, weir_range_format(&x->range, x_text, sizeof x_text), b,
                        weir_range_format(&y->range, y_text, sizeof y_text));
        }
    }
    return WEIR_OK;
}

// What another worker runs stays while the lock is held: its tile ends by taking it.
weir_status cpu_check_start(cpu_worker* worker, const cpu_work* work, uint32_t dispatch) {
    cpu_device* device = worker->device;
    weir_status status = WEIR_OK;
    pthread_mutex_lock(&device->check_lock);
    for (uint32_t i = 0; i < cpu_seat_count(device) && status == WEIR_OK; i++) {
        const cpu_worker* other = &device->workers[i];
        const bool same = other->running.work == work && other->running.dispatch == dispatch;
        if (other->running.work && !same) {
            status = check_pair(&work->dispatches[dispatch],
                                &other->running.work->dispatches[other->running.dispatch]);
        }
    }
    worker->running.work = work;
    worker->running.dispatch = dispatch;
    pthread_mutex_unlock(&device->check_lock);
    return status;
}

void cpu_check_end(cpu_worker* worker) {
    pthread_mutex_lock(&worker->device->check_lock);
    worker->running.work = NULL;
    pthread_mutex_unlock(&worker->device->check_lock);
}

#else

typedef int cpu_check_is_off; // a translation unit is not empty

#endif
