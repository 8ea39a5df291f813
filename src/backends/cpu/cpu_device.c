#include "backends/cpu/cpu_device.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "backends/cpu/cpu_target.h"
#include "backends/cpu/cpu_topology.h"
#include "backends/host_pages.h"
#include "backends/host_storage.h"
#include "base/log_line.h"
#include "base/memory_size.h"

static_assert(offsetof(cpu_device, base) == 0, "the base comes first");

static void destroy(weir_device* base) {
    cpu_device* device = (cpu_device*)base;
    const weir_allocator allocator = base->allocator;
    weir_device_drain(base);
    cpu_workers_stop(device);
    weir_device_finish(base);
    pthread_mutex_destroy(&device->check_lock);
    pthread_mutex_destroy(&device->queue_lock);
    weir_free(&allocator, device, sizeof *device, CPU_LINE);
}

static weir_device_memory cpu_memory(weir_device* device) {
    (void)device;
    return (weir_device_memory){.total_bytes = memory_size()};
}

static const device_vtable cpu_device_vtable = {
    .destroy = destroy,
    .allocate = host_storage_allocate,
    .map = host_storage_map,
    .wrap = host_storage_wrap,
    .reserve = host_pages_reserve,
    .commit = host_pages_commit,
    .decommit = host_pages_decommit,
    .memory = cpu_memory,
    .hold = host_pages_hold,
    .let_go = host_pages_let_go,
    .prepare = cpu_work_create,
};

// "8 cores", with the hardware threads and the time granted where these are other numbers.
static weir_status describe_processors(char* text, size_t capacity) {
    cpu_topology topology;
    char threads[32] = "";
    char granted[48] = "";
    WEIR_TRY(cpu_topology_read_own(NULL, &topology));
    if (topology.thread_count > topology.core_count) {
        snprintf(threads, sizeof threads, ", %u threads", topology.thread_count);
    }
    if (topology.granted_count < topology.core_count) {
        snprintf(granted, sizeof granted, ", time of %u granted", topology.granted_count);
    }
    snprintf(text, capacity, "%u cores%s%s", topology.core_count, threads, granted);
    cpu_topology_free(NULL, &topology);
    return WEIR_OK;
}

static void append_info(const char* name, const char* processors, const char* same_as,
                        weir_device_info* infos, uint32_t capacity, uint32_t* count) {
    weir_device_info info = {.available = true, .unified = true, .memory_bytes = memory_size()};
    snprintf(info.name, sizeof info.name, "%s", name);
    snprintf(info.description, sizeof info.description, "%s%s%s", processors,
             same_as ? ", the kernels of " : "", same_as ? same_as : "");
    if (*count < capacity) {
        infos[*count] = info;
    }
    ++*count;
}

// "cpu" first, then the kernels that can be asked for, each name once.
weir_status weir_cpu_device_list(weir_device_info* infos, uint32_t capacity, uint32_t* count) {
    char processors[128];
    WEIR_TRY(describe_processors(processors, sizeof processors));
    append_info("cpu", processors, weir_cpu_target_best()->name, infos, capacity, count);
    const weir_target* before = NULL;
    const weir_target* target = NULL;
    for (uint32_t i = 0; (target = weir_cpu_target_at(i)) != NULL; i++) {
        if (!before || strcmp(target->name, before->name) != 0) {
            append_info(target->name, processors, NULL, infos, capacity, count);
        }
        before = target;
    }
    return WEIR_OK;
}

weir_status weir_cpu_device_create(const weir_device_desc* desc, const weir_target* target,
                                   weir_device** device) {
    if (desc->thread_count > WEIR_THREADS_MAX) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "%u worker threads, at most %d", desc->thread_count,
                         WEIR_THREADS_MAX);
    }
    void* memory = NULL;
    WEIR_TRY(weir_alloc(&desc->allocator, sizeof(cpu_device), CPU_LINE, &memory));
    cpu_device* made = memory;
    *made = (cpu_device){0};
    weir_status status = weir_device_init(&made->base, &cpu_device_vtable, desc, target);
    if (status == WEIR_OK && (pthread_mutex_init(&made->queue_lock, NULL) != 0 ||
                              pthread_mutex_init(&made->check_lock, NULL) != 0)) {
        weir_device_finish(&made->base);
        status = WEIR_FAIL(WEIR_OUT_OF_MEMORY, "cannot make the locks of a queue");
    }
    if (status != WEIR_OK) {
        weir_free(&desc->allocator, made, sizeof *made, CPU_LINE);
        return status;
    }
    made->base.page_bytes = host_pages_size();
    status = cpu_workers_start(made, desc->thread_count);
    if (status != WEIR_OK) {
        destroy(&made->base);
        return status;
    }
    log_line(&made->base.log, WEIR_LOG_INFO, "cpu: %u workers", made->worker_count);
    *device = &made->base;
    return WEIR_OK;
}
