// Level 1, not for language models alone: gradients of y = tanh(V tanh(W x)), kernels of the
// caller. Each value has a gradient of the same layout: slices and reshapes need no code of their
// own. The tape walked back records the gradients. Checked by finite differences.
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <weir/weir.h>

enum { W, V, X, H, Y, VALUES, PARAMETERS = 12 + 3 + 4, COUNT = PARAMETERS + 3 + 1 };
static const weir_shape shapes[VALUES] = {{2, {3, 4}}, {2, {1, 3}}, {1, {4}}, {1, {3}}, {1, {1}}};
static double numbers[2 * COUNT] = { // the values in their order, then their gradients
    .8, -.7, .6, -.5, .4, -.3, .2, .1, -.9, .5, .6, -.2, .7, -.8, .3, .9, -.4, .5, .6};
static weir_view views[2 * VALUES];
static weir_operand tape[8][6]; // of each step back: w, x, y, dy, dw, dx
static uint32_t steps;

static weir_status layer(const weir_kernel_call* c) { // w, x -> y
    double* const* p = (double* const*)c->pointers;
    const int64_t columns = c->views[0].shape.dims[1];
    double sum = 0;
    for (int64_t i = 0; i < weir_view_element_count(&c->views[0]); i++) {
        sum = (i % columns > 0 ? sum : 0) + p[0][i] * p[1][i % columns];
        p[2][i / columns] = tanh(sum);
    }
    return WEIR_OK;
}

static weir_status layer_back(const weir_kernel_call* c) { // w, x, y, dy -> dw, dx
    double* const* p = (double* const*)c->pointers;
    const int64_t columns = c->views[1].shape.dims[0];
    for (int64_t i = 0; i < weir_view_element_count(&c->views[0]); i++) {
        const double y = p[2][i / columns], d = p[3][i / columns] * (1 - y * y);
        p[4][i] += d * p[1][i % columns];
        p[5][i % columns] += d * p[0][i];
    }
    return WEIR_OK;
}

// Records y = tanh(w x), and puts on the tape what the way back will dispatch.
static weir_status apply(weir_session* session, int w, int x, int y) {
    const weir_operand back[6] = {{views[w], WEIR_ACCESS_READ},
                                  {views[x], WEIR_ACCESS_READ},
                                  {views[y], WEIR_ACCESS_READ},
                                  {views[VALUES + y], WEIR_ACCESS_READ},
                                  {views[VALUES + w], WEIR_ACCESS_READ_WRITE},
                                  {views[VALUES + x], WEIR_ACCESS_READ_WRITE}};
    memcpy(tape[steps++], back, sizeof back);
    const weir_operand forward[3] = {back[0], back[1], {views[y], WEIR_ACCESS_WRITE}};
    return weir_session_dispatch(session, &(weir_dispatch_desc){.kernel = layer, forward, 3}, NULL);
}

static weir_status evaluate(weir_session* session) { // one submit and one wait for both ways
    memset(numbers + COUNT, 0, COUNT * sizeof(double));
    numbers[2 * COUNT - 1] = 1; // dy
    WEIR_TRY(apply(session, W, X, H));
    WEIR_TRY(apply(session, V, H, Y));
    while (steps > 0) {
        const weir_dispatch_desc desc = {.kernel = layer_back, tape[--steps], 6};
        WEIR_TRY(weir_session_dispatch(session, &desc, NULL));
    }
    return weir_session_finish(session);
}

static weir_status run(weir_storage* storage, weir_session* session) {
    for (uint64_t i = 0, begin = 0; i < 2 * VALUES; begin += weir_view_byte_length(&views[i++])) {
        const weir_shape* shape = &shapes[i % VALUES];
        const weir_shape flat = {1, {shape->dims[0] * (shape->rank > 1 ? shape->dims[1] : 1)}};
        WEIR_TRY(weir_view_make(storage, begin, WEIR_DTYPE_F64, &flat, &views[i]));
        WEIR_TRY(weir_view_reshape(&views[i], shape, &views[i]));
    }
    double exact[PARAMETERS], worst = 0;
    WEIR_TRY(evaluate(session));
    const double y = numbers[COUNT - 1], step = 1e-6;
    memcpy(exact, numbers + COUNT, sizeof exact);
    for (int i = 0; i < PARAMETERS; i++) {
        numbers[i] += step;
        WEIR_TRY(evaluate(session));
        worst = fmax(worst, fabs(exact[i] - (numbers[COUNT - 1] - y) / step));
        numbers[i] -= step;
    }
    printf("%d gradients, largest difference %s 1e-5\n", PARAMETERS, worst < 1e-5 ? "<" : ">=");
    return WEIR_OK;
}

int main(void) {
    const weir_storage_wrap_desc wrap = {.pointer = numbers, .byte_size = sizeof numbers};
    weir_device* device = NULL;
    weir_storage* storage = NULL;
    weir_session* session = NULL;
    const bool ok = weir_device_create(&(weir_device_desc){.name = "cpu"}, &device) == WEIR_OK &&
                    weir_storage_wrap(device, &wrap, &storage) == WEIR_OK &&
                    weir_session_create(device, &session) == WEIR_OK &&
                    run(storage, session) == WEIR_OK;
    fprintf(stderr, "%s", ok ? "" : weir_last_error());
    weir_session_destroy(session);
    weir_storage_release(storage);
    weir_device_destroy(device);
    return ok ? 0 : 1;
}
