#include <string.h>

#include "soak.h"

#define STEPS_MAX 12
#define LENGTH_MAX 64

// y = 2 * x + y, which the copy does in the same way.
static weir_status add_twice(const weir_kernel_call* call) {
    const float* x = call->pointers[0];
    float* y = call->pointers[1];
    for (int64_t i = 0; i < call->views[0].shape.dims[0]; i++) {
        y[i] = 2.0f * x[i] + y[i];
    }
    return WEIR_OK;
}

// One more thread was here.
static weir_status count_one(const weir_kernel_call* call) {
    ++*(uint64_t*)call->pointers[0];
    return WEIR_OK;
}

static weir_status refuse(const weir_kernel_call* call) {
    (void)call;
    return weir_status_fail(WEIR_IO, __FILE__, __LINE__, "a kernel fails because it was asked to");
}

static weir_status view_floats(soak_thread* thread, uint32_t begin, int64_t count,
                               weir_view* view) {
    return weir_view_make(thread->floats, begin * sizeof(float), WEIR_DTYPE_F32,
                          &(weir_shape){1, {count}}, view);
}

// One random step, on the device and on the copy.
static weir_status record_step(soak_thread* thread, weir_session* session, float* mirror) {
    const uint32_t length = 1 + soak_below(thread, LENGTH_MAX);
    const uint32_t from = soak_below(thread, SOAK_FLOATS / 2 - LENGTH_MAX);
    const uint32_t to = SOAK_FLOATS / 2 + soak_below(thread, SOAK_FLOATS / 2 - LENGTH_MAX);
    const bool back = soak_below(thread, 2) == 0;
    const uint32_t x_at = back ? to : from;
    const uint32_t y_at = back ? from : to;
    weir_view x, y;
    WEIR_TRY(view_floats(thread, x_at, length, &x));
    WEIR_TRY(view_floats(thread, y_at, length, &y));
    if (soak_below(thread, 2) == 0) {
        const float value = (float)soak_below(thread, 5);
        WEIR_TRY(weir_session_fill(session, &y, &value, sizeof value));
        for (uint32_t i = 0; i < length; i++) {
            mirror[y_at + i] = value;
        }
    } else if (soak_below(thread, 2) == 0) {
        WEIR_TRY(weir_session_copy(session, &x, &y));
        memcpy(mirror + y_at, mirror + x_at, length * sizeof *mirror);
    } else {
        const weir_operand operands[] = {{x, WEIR_ACCESS_READ}, {y, WEIR_ACCESS_READ_WRITE}};
        const weir_dispatch_desc desc = {
            .name = "add twice", .kernel = add_twice, .operands = operands, .operand_count = 2};
        WEIR_TRY(weir_session_dispatch(session, &desc, NULL));
        for (uint32_t i = 0; i < length; i++) {
            mirror[y_at + i] = 2.0f * mirror[x_at + i] + mirror[y_at + i];
        }
    }
    return WEIR_OK;
}

static weir_status record_meeting(soak_thread* thread, weir_session* session) {
    weir_view view;
    WEIR_TRY(weir_view_make(thread->meeting, 0, WEIR_DTYPE_U8, &(weir_shape){1, {sizeof(uint64_t)}},
                            &view));
    const weir_operand operand = {view, WEIR_ACCESS_READ_WRITE};
    const weir_dispatch_desc desc = {
        .name = "count", .kernel = count_one, .operands = &operand, .operand_count = 1};
    return weir_session_dispatch(session, &desc, NULL);
}

static weir_status record_steps(soak_thread* thread, weir_session* session, float* mirror) {
    for (uint32_t steps = 1 + soak_below(thread, STEPS_MAX); steps > 0; steps--) {
        WEIR_TRY(record_step(thread, session, mirror));
    }
    return record_meeting(thread, session);
}

// Numbers that are added to each other again and again would become infinite.
static void keep_small(soak_thread* thread) {
    const float zero = 0.0f;
    weir_session* session = NULL;
    weir_view all;
    float most = 0.0f;
    for (uint32_t i = 0; i < SOAK_FLOATS; i++) {
        most = thread->mirror[i] > most ? thread->mirror[i] : most;
    }
    if (most < 1000.0f) {
        return;
    }
    soak_require(view_floats(thread, 0, SOAK_FLOATS, &all) == WEIR_OK, thread);
    soak_require(weir_session_create(thread->device, &session) == WEIR_OK, thread);
    soak_require(weir_session_fill(session, &all, &zero, sizeof zero) == WEIR_OK, thread);
    soak_require(weir_session_finish(session) == WEIR_OK, thread);
    weir_session_destroy(session);
    memset(thread->mirror, 0, sizeof thread->mirror);
}

void soak_run_session(soak_thread* thread) {
    float got[SOAK_FLOATS];
    weir_session* session = NULL;
    weir_view all;
    keep_small(thread);
    soak_require(view_floats(thread, 0, SOAK_FLOATS, &all) == WEIR_OK, thread);
    soak_require(weir_session_create(thread->device, &session) == WEIR_OK, thread);
    soak_require(record_steps(thread, session, thread->mirror) == WEIR_OK, thread);
    soak_require(weir_session_download(session, &all, got, sizeof got) == WEIR_OK, thread);
    soak_require(weir_session_finish(session) == WEIR_OK, thread);
    soak_require(memcmp(got, thread->mirror, sizeof got) == 0, thread);
    weir_session_destroy(session);
    thread->meetings++;
    thread->counts[SOAK_SESSIONS]++;
}

// What was recorded is gone, or, committed, goes on alone.
void soak_drop_session(soak_thread* thread) {
    float dropped[SOAK_FLOATS];
    weir_session* session = NULL;
    const bool commits = soak_below(thread, 2) == 0;
    keep_small(thread);
    memcpy(dropped, thread->mirror, sizeof dropped);
    soak_require(weir_session_create(thread->device, &session) == WEIR_OK, thread);
    soak_require(record_steps(thread, session, commits ? thread->mirror : dropped) == WEIR_OK,
                 thread);
    if (commits) {
        weir_ticket ticket;
        soak_require(weir_session_commit(session, &ticket) == WEIR_OK, thread);
        thread->meetings++;
    }
    weir_session_destroy(session);
    thread->counts[SOAK_SESSIONS_DROPPED]++;
}

// One allocation from making a session to its commit fails, and nothing of it is done.
void soak_starve_session(soak_thread* thread) {
    float mirror[SOAK_FLOATS];
    weir_session* session = NULL;
    keep_small(thread);
    memcpy(mirror, thread->mirror, sizeof mirror);
    soak_arm(soak_below(thread, 30));
    weir_status status = weir_session_create(thread->device, &session);
    status = status == WEIR_OK ? record_steps(thread, session, mirror) : status;
    status = status == WEIR_OK ? weir_session_finish(session) : status;
    const bool failed = soak_disarm();
    soak_require(status == (failed ? WEIR_OUT_OF_MEMORY : WEIR_OK), thread);
    weir_session_destroy(session);
    if (failed) {
        thread->counts[SOAK_FAILED_ALLOCATIONS]++;
    } else {
        memcpy(thread->mirror, mirror, sizeof mirror);
        thread->meetings++;
        thread->counts[SOAK_SESSIONS]++;
    }
}

// A pass whose kernel fails says so to whoever waits for it, and to nobody else.
void soak_fail_kernel(soak_thread* thread) {
    weir_session* session = NULL;
    weir_view view;
    soak_require(view_floats(thread, 0, 4, &view) == WEIR_OK, thread);
    const weir_operand operand = {view, WEIR_ACCESS_READ_WRITE};
    const weir_dispatch_desc desc = {
        .name = "refuse", .kernel = refuse, .operands = &operand, .operand_count = 1};
    soak_require(weir_session_create(thread->device, &session) == WEIR_OK, thread);
    soak_require(weir_session_dispatch(session, &desc, NULL) == WEIR_OK, thread);
    soak_require(weir_session_finish(session) == WEIR_IO, thread);
    weir_session_destroy(session);
    thread->counts[SOAK_FAILED_KERNELS]++;
}
