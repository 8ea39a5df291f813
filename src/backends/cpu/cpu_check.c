#include "backends/cpu/cpu_device.h"

#ifdef WEIR_EXPENSIVE_CHECKS

static weir_status check_pair(const device_dispatch* a, const device_dispatch* b) {
    for (uint32_t i = 0; i < a->operand_count; i++) {
        for (uint32_t j = 0; j < b->operand_count; j++) {
            const weir_access* x = &a->accesses[i];
            const weir_access* y = &b->accesses[j];
            if ((x->kind | y->kind) == WEIR_ACCESS_READ ||
                !weir_range_overlaps(&x->range, &y->range)) {
                continue;
            }
            char x_text[128];
            char y_text[128];
            return WEIR_FAIL(WEIR_INTERNAL, "%s at %s and %s at %s run at the same time", a->name,
                             weir_range_format(&x->range, x_text, sizeof x_text), b->name,
                             weir_range_format(&y->range, y_text, sizeof y_text));
        }
    }
    return WEIR_OK;
}

// Each worker first says what it runs and then looks at the others, so of two tiles that overlap in
// time one sees the other.
weir_status cpu_check_start(cpu_worker* worker, const cpu_work* work, uint32_t dispatch) {
    const cpu_device* device = worker->device;
    atomic_store(&worker->running, dispatch + 1);
    for (uint32_t i = 0; i < device->worker_count; i++) {
        const uint32_t other = atomic_load(&device->workers[i].running);
        if (other != 0 && other != dispatch + 1) {
            WEIR_TRY(check_pair(&work->dispatches[dispatch], &work->dispatches[other - 1]));
        }
    }
    return WEIR_OK;
}

void cpu_check_end(cpu_worker* worker) {
    atomic_store(&worker->running, 0);
}

#else

weir_status cpu_check_start(cpu_worker* worker, const cpu_work* work, uint32_t dispatch) {
    (void)worker;
    (void)work;
    (void)dispatch;
    return WEIR_OK;
}

void cpu_check_end(cpu_worker* worker) {
    (void)worker;
}

#endif
