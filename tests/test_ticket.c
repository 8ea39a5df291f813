// Tickets: waiting, polling, outcomes, times, and how many passes can be in flight.
#include "testing.h"

#include "session_fixture.h"

static weir_status fail_without_words(const weir_kernel_call* call) {
    (void)call;
    return WEIR_IO;
}

static void the_outcome_of_a_ticket_can_be_asked_for_again(void** state) {
    fixture* f = *state;
    weir_ticket tickets[4];
    for (int i = 0; i < 4; i++) {
        const weir_dispatch_desc desc = {.name = "kernel",
                                         .kernel = i % 2 ? fail_without_words : do_nothing};
        assert_ok(weir_session_dispatch(f->session, &desc, NULL));
        assert_ok(weir_session_commit(f->session, &tickets[i]));
    }
    for (int round = 0; round < 2; round++) {
        for (int i = 3; i >= 0; i--) {
            assert_status(weir_ticket_wait(tickets[i], WEIR_WAIT_FOREVER),
                          i % 2 ? WEIR_IO : WEIR_OK);
        }
    }
}

static void work_that_is_not_complete_times_out(void** state) {
    (void)state;
    weir_device* device = open_manual();
    weir_session* session = NULL;
    assert_ok(weir_session_create(device, &session));
    const weir_ticket first = commit_one(session);
    const weir_ticket second = commit_one(session);
    assert_false(weir_ticket_is_complete(first));
    const uint64_t begin = now_ns();
    assert_status(weir_ticket_wait(first, 3000000), WEIR_TIMEOUT);
    assert_true(now_ns() - begin >= 3000000);
    assert_status(weir_ticket_wait(first, 0), WEIR_TIMEOUT);
    assert_status(weir_device_set_tile_hook(device, NULL, NULL), WEIR_BUSY);
    assert_int_equal(weir_null_complete(device, 1, WEIR_OK), 1);
    assert_true(weir_ticket_is_complete(first));
    assert_false(weir_ticket_is_complete(second));
    assert_ok(weir_ticket_wait(first, 0));
    assert_int_equal(weir_null_complete(device, 5, WEIR_CANCELLED), 1);
    assert_int_equal(weir_null_complete(device, 5, WEIR_OK), 0);
    assert_status(weir_ticket_wait(second, WEIR_WAIT_FOREVER), WEIR_CANCELLED);
    assert_ok(weir_ticket_wait(first, WEIR_WAIT_FOREVER));
    assert_ok(weir_device_set_tile_hook(device, NULL, NULL));
    weir_session_destroy(session);
    weir_device_destroy(device);
}

static void the_last_64_failures_are_kept(void** state) {
    (void)state;
    weir_device* device = open_manual();
    weir_session* session = NULL;
    weir_ticket tickets[70];
    assert_ok(weir_session_create(device, &session));
    for (int i = 0; i < 70; i++) {
        tickets[i] = commit_one(session);
        assert_int_equal(weir_null_complete(device, 1, WEIR_CANCELLED), 1);
    }
    for (int i = 0; i < 70; i++) {
        assert_status(weir_ticket_wait(tickets[i], 0), i < 6 ? WEIR_OK : WEIR_CANCELLED);
    }
    weir_session_destroy(session);
    weir_device_destroy(device);
}

typedef struct completer {
    weir_device* device;
    atomic_uint committed;
    atomic_bool early; // the 65th commit did not wait
} completer;

static void* complete_one_by_one(void* argument) {
    completer* c = argument;
    uint32_t done = 0;
    while (atomic_load(&c->committed) < 64) {
        sleep_us(50);
    }
    sleep_us(5000); // time for the next commit to pass by mistake
    atomic_store(&c->early, atomic_load(&c->committed) > 64);
    while (done < 200) {
        done += weir_null_complete(c->device, 1, WEIR_OK);
    }
    return NULL;
}

static void a_commit_waits_while_64_passes_are_in_flight(void** state) {
    (void)state;
    weir_device* device = open_manual();
    weir_session* session = NULL;
    completer c = {.device = device};
    weir_ticket last = {0};
    pthread_t thread;
    assert_ok(weir_session_create(device, &session));
    assert_int_equal(pthread_create(&thread, NULL, complete_one_by_one, &c), 0);
    for (uint32_t i = 0; i < 200; i++) {
        const weir_ticket ticket = commit_one(session);
        assert_int_equal(ticket.sequence, i + 1);
        atomic_store(&c.committed, i + 1);
        last = ticket;
    }
    assert_ok(weir_ticket_wait(last, WEIR_WAIT_FOREVER));
    pthread_join(thread, NULL);
    assert_false(atomic_load(&c.early));
    weir_session_destroy(session);
    weir_device_destroy(device);
}

static void* complete_some(void* argument) {
    completer* c = argument;
    uint32_t done = 0;
    for (int i = 0; i < 40; i++) {
        done += weir_null_complete(c->device, 1 + (uint32_t)i % 3, WEIR_IO);
    }
    atomic_fetch_add(&c->committed, done);
    return NULL;
}

static void threads_that_complete_together_complete_each_pass_once(void** state) {
    (void)state;
    for (int round = 0; round < 20; round++) {
        weir_device* device = open_manual();
        weir_session* session = NULL;
        completer c = {.device = device};
        weir_ticket tickets[60];
        pthread_t threads[3];
        assert_ok(weir_session_create(device, &session));
        for (int i = 0; i < 60; i++) {
            tickets[i] = commit_one(session);
        }
        for (int i = 0; i < 3; i++) {
            assert_int_equal(pthread_create(&threads[i], NULL, complete_some, &c), 0);
        }
        for (int i = 0; i < 3; i++) {
            pthread_join(threads[i], NULL);
        }
        assert_int_equal(atomic_load(&c.committed), 60);
        for (int i = 0; i < 60; i++) {
            assert_status(weir_ticket_wait(tickets[i], 0), WEIR_IO);
        }
        weir_session_destroy(session);
        weir_device_destroy(device);
    }
}

static void the_first_of_several_tickets_can_be_waited_for(void** state) {
    (void)state;
    weir_device* device = open_manual();
    weir_device* other = open_manual();
    weir_session* sessions[2] = {NULL};
    assert_ok(weir_session_create(device, &sessions[0]));
    assert_ok(weir_session_create(other, &sessions[1]));
    weir_ticket tickets[4];
    uint32_t index = 99;
    for (int i = 0; i < 3; i++) {
        tickets[i] = commit_one(sessions[0]);
    }
    assert_status(weir_ticket_wait_any(tickets, 3, 1000000, &index), WEIR_TIMEOUT);
    assert_int_equal(index, 99);
    assert_true(weir_null_complete_ticket(tickets[2], WEIR_IO));
    assert_status(weir_ticket_wait_any(tickets, 3, WEIR_WAIT_FOREVER, &index), WEIR_IO);
    assert_int_equal(index, 2);
    assert_true(weir_null_complete_ticket(tickets[1], WEIR_OK));
    assert_ok(weir_ticket_wait_any(tickets, 3, 0, &index));
    assert_int_equal(index, 1);
    tickets[3] = (weir_ticket){0}; // nothing to wait for
    assert_ok(weir_ticket_wait_any(tickets + 3, 1, WEIR_WAIT_FOREVER, &index));
    assert_int_equal(index, 0);
    tickets[3] = commit_one(sessions[1]);
    assert_status(weir_ticket_wait_any(tickets, 4, 0, &index), WEIR_INVALID_ARGUMENT);
    assert_message_has("ticket 3 is of another device");
    assert_status(weir_ticket_wait_any(tickets, 0, 0, &index), WEIR_INVALID_ARGUMENT);
    for (int i = 0; i < 2; i++) {
        weir_session_destroy(sessions[i]);
    }
    weir_device_destroy(device);
    weir_device_destroy(other);
}

static weir_status nap(const weir_kernel_call* call) {
    sleep_us(*(const uint32_t*)call->constants);
    return WEIR_OK;
}

// Two dispatches that follow each other, of three tiles each.
static void record_naps(const fixture* f, uint32_t microseconds) {
    const weir_operand operand = {floats_of(f->storage, 0, 1), WEIR_ACCESS_READ_WRITE};
    const weir_dispatch_desc desc = {.name = "nap",
                                     .kernel = nap,
                                     .operands = &operand,
                                     .operand_count = 1,
                                     .constants = &microseconds,
                                     .constants_size = sizeof microseconds,
                                     .tile_count = 3};
    assert_ok(weir_session_dispatch(f->session, &desc, NULL));
    assert_ok(weir_session_dispatch(f->session, &desc, NULL));
}

static void times_are_taken_on_request(void** state) {
    (void)state;
    for (uint32_t threads = 1; threads <= 3; threads++) {
        fixture f = open_fixture("cpu", threads, NULL);
        weir_timing timings[3] = {{0, 0}, {0, 0}, {7, 7}};
        uint32_t count = 99;
        weir_ticket ticket;
        record_naps(&f, 0);
        assert_ok(weir_session_commit(f.session, &ticket));
        assert_ok(weir_ticket_wait(ticket, WEIR_WAIT_FOREVER));
        assert_status(weir_ticket_timings(ticket, timings, 3, &count), WEIR_NOT_FOUND);
        weir_session_set_timing(f.session, true);
        record_naps(&f, 400);
        const uint64_t begin = now_ns();
        assert_ok(weir_session_commit(f.session, &ticket));
        assert_ok(weir_ticket_wait(ticket, WEIR_WAIT_FOREVER));
        const uint64_t end = now_ns();
        assert_int_equal(count, 99);
        assert_ok(weir_ticket_timings(ticket, timings, 3, &count));
        assert_int_equal(count, 2);
        assert_int_equal(timings[2].begin_ns, 7);
        assert_true(timings[0].begin_ns >= begin && timings[1].end_ns <= end);
        assert_true(timings[0].end_ns <= timings[1].begin_ns);
        for (int i = 0; i < 2; i++) {
            assert_true(timings[i].end_ns - timings[i].begin_ns >= 400000);
        }
        weir_timing first = {0, 0};
        assert_ok(weir_ticket_timings(ticket, &first, 1, &count)); // again, and less of it
        assert_int_equal(count, 2);
        assert_int_equal(first.end_ns, timings[0].end_ns);
        close_fixture(&f);
    }
}

static void times_are_kept_for_64_commits(void** state) {
    (void)state;
    fixture f = open_fixture("cpu", 1, NULL);
    weir_timing timings[2];
    uint32_t count = 0;
    weir_ticket timed;
    weir_session_set_timing(f.session, true);
    record_naps(&f, 0);
    assert_ok(weir_session_commit(f.session, &timed));
    weir_session_set_timing(f.session, false);
    for (int i = 0; i < 63; i++) {
        assert_ok(weir_ticket_wait(commit_one(f.session), WEIR_WAIT_FOREVER));
    }
    assert_ok(weir_ticket_timings(timed, timings, 2, &count));
    assert_ok(weir_ticket_wait(commit_one(f.session), WEIR_WAIT_FOREVER));
    assert_status(weir_ticket_timings(timed, timings, 2, &count), WEIR_NOT_FOUND);
    close_fixture(&f);
}

static void times_are_not_known_before_the_work_is_complete(void** state) {
    (void)state;
    weir_device* device = open_manual();
    weir_session* session = NULL;
    weir_timing timing;
    uint32_t count = 0;
    assert_ok(weir_session_create(device, &session));
    weir_session_set_timing(session, true);
    const weir_ticket ticket = commit_one(session);
    assert_status(weir_ticket_timings(ticket, &timing, 1, &count), WEIR_BUSY);
    assert_int_equal(weir_null_complete(device, 1, WEIR_OK), 1);
    assert_ok(weir_ticket_timings(ticket, &timing, 1, &count));
    assert_int_equal(count, 1);
    assert_int_equal(timing.end_ns, 0); // nothing ran
    assert_status(weir_ticket_timings((weir_ticket){0}, &timing, 1, &count), WEIR_NOT_FOUND);
    weir_session_destroy(session);
    weir_device_destroy(device);
}

// One side of a game of two threads: each waits for the ticket of its own device, which the other
// completes. Only the tickets order what they do.
typedef struct player {
    weir_device* own;
    weir_device* other;
    weir_session* session; // of the other device
    weir_ticket first;     // to wait for
    weir_ticket next;      // set by the other player before it completes the one before
    struct player* opponent;
    uint32_t rounds;
    bool starts;
    uint32_t played;
} player;

// Commits the next ticket of the opponent, then completes the one that it waits for.
static bool hit(player* p, weir_ticket* aim) {
    const weir_ticket now = *aim;
    const weir_dispatch_desc desc = {.name = "ball", .kernel = do_nothing};
    const bool committed = weir_session_dispatch(p->session, &desc, NULL) == WEIR_OK &&
                           weir_session_commit(p->session, aim) == WEIR_OK;
    p->opponent->next = *aim;
    return committed && weir_null_complete_ticket(now, WEIR_OK);
}

static void* play(void* argument) {
    player* p = argument;
    weir_ticket aim = p->opponent->first;
    weir_ticket mine = p->first;
    bool playing = !p->starts || hit(p, &aim);
    while (playing && p->played < p->rounds) {
        playing = weir_ticket_wait(mine, WEIR_WAIT_FOREVER) == WEIR_OK;
        mine = p->next;
        p->played += playing ? 1 : 0;
        if (playing && (p->played < p->rounds || !p->starts)) {
            playing = hit(p, &aim);
        }
    }
    return NULL;
}

static void tickets_go_back_and_forth_between_two_threads(void** state) {
    (void)state;
    const uint32_t rounds = getenv("WEIR_LONG") ? 1000000 : 20000;
    player players[2];
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) {
        players[i] = (player){.own = open_manual(), .rounds = rounds, .starts = i == 0};
    }
    for (int i = 0; i < 2; i++) {
        players[i].opponent = &players[1 - i];
        players[i].other = players[1 - i].own;
        assert_ok(weir_session_create(players[i].other, &players[i].session));
    }
    for (int i = 0; i < 2; i++) {
        players[i].first = commit_one(players[1 - i].session);
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, play, &players[i]), 0);
    }
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(players[i].played, rounds);
    }
    for (int i = 0; i < 2; i++) {
        weir_session_destroy(players[i].session);
    }
    for (int i = 0; i < 2; i++) {
        weir_device_destroy(players[i].own);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        on_cpu(the_outcome_of_a_ticket_can_be_asked_for_again),
        cmocka_unit_test(work_that_is_not_complete_times_out),
        cmocka_unit_test(the_last_64_failures_are_kept),
        cmocka_unit_test(a_commit_waits_while_64_passes_are_in_flight),
        cmocka_unit_test(threads_that_complete_together_complete_each_pass_once),
        cmocka_unit_test(the_first_of_several_tickets_can_be_waited_for),
        cmocka_unit_test(times_are_taken_on_request),
        cmocka_unit_test(times_are_kept_for_64_commits),
        cmocka_unit_test(times_are_not_known_before_the_work_is_complete),
        cmocka_unit_test(tickets_go_back_and_forth_between_two_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
