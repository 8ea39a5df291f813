#include "device/residency.h"

#include <pthread.h>

#include "device/backend.h"
#include "device/residency_tree.h"

// Owned memory whose removal is staged is the set's to give back: no more of it waits for a commit
// that may never come.
#define STAGED_BYTES_MAX (UINT64_C(64) << 20)

typedef struct member_list {
    weir_storage *first, *last;
} member_list;

// Invariants, whenever the lock is free: each member is in the list of its state and in no other;
// counted.resident_bytes sums the bytes of RESIDENT and LEAVING members, device_bytes those of them
// that are in the budget of the device, counted.staged_bytes those of LEAVING ones that nobody
// holds a reference to.
struct weir_residency {
    weir_device* device;
    weir_residency_mode mode;
    uint64_t byte_budget;
    pthread_mutex_t lock; // guards what follows
    uint64_t room;        // counts what was let go; the system is asked again when it has changed
    weir_residency_counters counted;
    uint64_t device_bytes;
    member_list lists[RESIDENCY_STATES];
    weir_storage* tree; // of all members that have an address
};

// Moves a storage to the end of the list of a state; members are in the tree once they have an
// address.
static void move_to(weir_residency* set, weir_storage* storage, residency_state state) {
    storage_residency* member = &storage->residency;
    if (member->state != RESIDENCY_NONE) {
        member_list* from = &set->lists[member->state];
        *(member->previous ? &member->previous->residency.next : &from->first) = member->next;
        *(member->next ? &member->next->residency.previous : &from->last) = member->previous;
        set->counted.members--;
    }
    member->next = member->previous = NULL;
    member->state = state;
    if (state == RESIDENCY_NONE) {
        residency_tree_remove(&set->tree, storage);
    } else {
        if (!member->in_tree && atomic_load(&storage->host)) {
            residency_tree_add(&set->tree, storage);
        }
        member_list* to = &set->lists[state];
        member->previous = to->last;
        *(to->last ? &to->last->residency.next : &to->first) = storage;
        to->last = storage;
        set->counted.members++;
    }
}

// Tells whether a member holds its bytes resident, or will.
static bool stands(const weir_storage* storage) {
    const residency_state state = storage->residency.state;
    return state == RESIDENCY_STAGED || state == RESIDENCY_RESIDENT || state == RESIDENCY_AWAY;
}

// Tells whether all bytes of `inner` are bytes of `outer`, a member that stands for them.
static bool covers(const weir_storage* outer, const weir_storage* inner) {
    return outer != inner && stands(outer) && outer->memory_id == inner->memory_id &&
           outer->memory_offset <= inner->memory_offset &&
           outer->memory_offset + outer->byte_size >= inner->memory_offset + inner->byte_size;
}

static bool does_not_cover(void* context, const weir_storage* other) {
    return !covers(other, context);
}

// Bytes of one name have one address, but for those of files: mappings of them are few.
static bool is_covered(const weir_residency* set, weir_storage* storage) {
    const uint64_t address = (uint64_t)(uintptr_t)atomic_load(&storage->host);
    if (address != 0 && !storage->constant) {
        return !residency_tree_visit(set->tree, address, address + storage->byte_size,
                                     does_not_cover, storage);
    }
    for (int state = RESIDENCY_STAGED; state <= RESIDENCY_AWAY; state++) {
        for (const weir_storage* other = set->lists[state].first; other;
             other = other->residency.next) {
            if (covers(other, storage)) {
                return true;
            }
        }
    }
    return false;
}

static void stage_add(weir_residency* set, weir_storage* storage) {
    move_to(set, storage, RESIDENCY_STAGED);
    set->counted.adds++;
}

// Members whose bytes were those of one that went stand for themselves from now on.
static void uncover(weir_residency* set) {
    for (weir_storage* storage = set->lists[RESIDENCY_COVERED].first; storage;) {
        weir_storage* next = storage->residency.next;
        if (!is_covered(set, storage)) {
            stage_add(set, storage);
        }
        storage = next;
    }
}

// What is left of the pages of a storage that leaves.
typedef struct page_sweep {
    const weir_residency* set;
    const weir_storage* leaving;
    uint64_t cursor; // pages before it are dealt with
} page_sweep;

static void let_go_up_to(page_sweep* sweep, uint64_t end) {
    if (end > sweep->cursor) {
        sweep->set->device->vtable->let_go(sweep->leaving, (void*)(uintptr_t)sweep->cursor,
                                           end - sweep->cursor, sweep->set->mode);
        sweep->cursor = end;
    }
}

static bool keep_pages_of(void* context, const weir_storage* other) {
    page_sweep* sweep = context;
    const residency_state state = other->residency.state;
    if (other != sweep->leaving && (state == RESIDENCY_RESIDENT || state == RESIDENCY_LEAVING)) {
        const uint64_t page = sweep->set->device->page_bytes;
        const uint64_t end = (other->residency.end + page - 1) / page * page;
        let_go_up_to(sweep, other->residency.begin / page * page);
        sweep->cursor = end > sweep->cursor ? end : sweep->cursor;
    }
    return true;
}

// Lets the pages of a storage go, but for those that it shares with other resident ones: locks of
// pages are not counted by the system.
static void let_go(weir_residency* set, weir_storage* storage) {
    const uint64_t page = set->device->page_bytes;
    const storage_residency* member = &storage->residency;
    if (page > 0 && member->in_tree && member->begin < member->end) {
        const uint64_t end = (member->end + page - 1) / page * page;
        page_sweep sweep = {.set = set, .leaving = storage, .cursor = member->begin / page * page};
        residency_tree_visit(set->tree, sweep.cursor, end, keep_pages_of, &sweep);
        let_go_up_to(&sweep, end);
    } else if (page == 0) {
        set->device->vtable->let_go(storage, NULL, storage->byte_size, set->mode);
    }
    set->counted.resident_bytes -= storage->byte_size;
    set->device_bytes -= storage->in_budget ? storage->byte_size : 0;
    set->room++;
}

// A refused commit gives its number back: with nothing in flight, none is in use.
static bool is_in_use(const weir_residency* set, const weir_storage* storage) {
    return !weir_device_is_idle(set->device) &&
           !weir_device_is_past(set->device, storage->residency.last_use);
}

// The member to evict for a newcomer: the lowest priority first, then the longest
// unused. None of a higher priority, and none in use; `in_budget` asks for memory of the device.
static weir_storage* find_victim(const weir_residency* set, const weir_storage* newcomer,
                                 uint64_t now, bool in_budget) {
    weir_storage* victim = NULL;
    for (weir_storage* other = set->lists[RESIDENCY_RESIDENT].first; other;
         other = other->residency.next) {
        const storage_residency* member = &other->residency;
        if (member->priority > newcomer->residency.priority || member->last_use == now ||
            (in_budget && !other->in_budget) || is_in_use(set, other)) {
            continue;
        }
        if (!victim || member->priority < victim->residency.priority ||
            (member->priority == victim->residency.priority &&
             member->last_use < victim->residency.last_use)) {
            victim = other;
        }
    }
    return victim;
}

// The most bytes that may stay resident beside a newcomer: of all members, and of those in memory
// of the device.
typedef struct room {
    uint64_t all, device;
} room;

static uint64_t missing(uint64_t byte_size, uint64_t limit) {
    return byte_size > limit ? byte_size - limit : 0;
}

// False where the newcomer does not fit alone.
static bool find_room(weir_residency* set, const weir_storage* newcomer, room* left) {
    const weir_device_memory memory = set->device->vtable->memory(set->device);
    const uint64_t all = set->byte_budget > 0 ? set->byte_budget : UINT64_MAX;
    const uint64_t device =
        newcomer->in_budget && memory.budget_bytes > 0 ? memory.budget_bytes : UINT64_MAX;
    const uint64_t least = device < all ? device : all;
    set->counted.budget_bytes = least < UINT64_MAX ? least : 0;
    set->counted.deficit_bytes = missing(newcomer->byte_size, least);
    left->all = all - newcomer->byte_size;
    left->device = device < UINT64_MAX ? device - newcomer->byte_size : UINT64_MAX;
    return set->counted.deficit_bytes == 0;
}

// Takes victims off until the rest fits in `most`, and links them; says what is missing.
static weir_storage* choose_victims(weir_residency* set, const weir_storage* newcomer, uint64_t now,
                                    const room* most) {
    room kept = {set->counted.resident_bytes, set->device_bytes};
    weir_storage* first = NULL;
    while (kept.all > most->all || kept.device > most->device) {
        weir_storage* victim = find_victim(set, newcomer, now, kept.all <= most->all);
        if (!victim) {
            break;
        }
        kept.all -= victim->byte_size;
        kept.device -= victim->in_budget ? victim->byte_size : 0;
        move_to(set, victim, RESIDENCY_AWAY); // to the end of its list, where it is found again
        first = first ? first : victim;
    }
    const uint64_t all = missing(kept.all, most->all);
    const uint64_t device = missing(kept.device, most->device);
    set->counted.deficit_bytes = all > device ? all : device;
    return first;
}

// Tells whether the budgets have room, after evicting; evicts nothing where that would not do.
static bool make_room(weir_residency* set, const weir_storage* newcomer, uint64_t now) {
    room most;
    if (!find_room(set, newcomer, &most)) {
        return false;
    }
    weir_storage* victim = choose_victims(set, newcomer, now, &most);
    const bool fits = set->counted.deficit_bytes == 0;
    while (victim) {
        weir_storage* next = victim->residency.next;
        if (fits) {
            let_go(set, victim);
            set->counted.evictions++;
        } else {
            move_to(set, victim, RESIDENCY_RESIDENT);
        }
        victim = next;
    }
    return fits;
}

// Makes a member resident; false where it is refused.
static bool apply_add(weir_residency* set, weir_storage* storage, uint64_t now) {
    if (!make_room(set, storage, now)) {
        set->counted.refusals++;
        move_to(set, storage, RESIDENCY_AWAY);
        return false;
    }
    if (set->device->vtable->hold(storage, set->mode, storage->residency.priority) != WEIR_OK) {
        set->counted.refusals++;
        storage->residency.refused = set->room + 1;
        move_to(set, storage, RESIDENCY_AWAY);
        return false;
    }
    storage->residency.refused = 0;
    move_to(set, storage, RESIDENCY_RESIDENT);
    set->counted.resident_bytes += storage->byte_size;
    set->device_bytes += storage->in_budget ? storage->byte_size : 0;
    set->counted.adds_applied++;
    return true;
}

// Applies the staged removals and returns those that nobody holds, linked: they are destroyed
// without the lock.
static weir_storage* apply_removals(weir_residency* set) {
    weir_storage* released = NULL;
    while (set->lists[RESIDENCY_LEAVING].first) {
        weir_storage* storage = set->lists[RESIDENCY_LEAVING].first;
        let_go(set, storage);
        move_to(set, storage, RESIDENCY_NONE);
        set->counted.removals_applied++;
        if (storage->residency.released) {
            set->counted.staged_bytes -= storage->byte_size;
            storage->residency.next = released;
            released = storage;
        }
    }
    return released;
}

static void destroy_released(weir_storage* released) {
    while (released) {
        weir_storage* next = released->residency.next;
        released->vtable->destroy(released);
        released = next;
    }
}

// Removals first: they make room. A flush that applies nothing is none.
static weir_storage* flush(weir_residency* set, const weir_session* session, uint64_t now) {
    const bool removes = set->lists[RESIDENCY_LEAVING].first != NULL;
    weir_storage* released = apply_removals(set);
    bool adds = false;
    weir_storage* last = set->lists[RESIDENCY_STAGED].last;
    for (weir_storage* storage = set->lists[RESIDENCY_STAGED].first; storage;) {
        weir_storage* next = storage == last ? NULL : storage->residency.next;
        const weir_session* owner = storage->residency.session;
        const bool has_memory = weir_storage_is_allocated(storage); // else it stays staged
        if (has_memory && (!owner || owner == session)) {
            storage->residency.session = NULL;
            adds = apply_add(set, storage, now) || adds;
        }
        storage = next;
    }
    for (weir_storage* storage = set->lists[RESIDENCY_COVERED].first; session && storage;
         storage = storage->residency.next) {
        if (storage->residency.session == session) {
            storage->residency.session = NULL; // committed with it: no longer to be dropped
        }
    }
    set->counted.flushes += removes || adds ? 1 : 0;
    return released;
}

weir_status weir_residency_create(weir_device* device, const weir_residency_desc* desc,
                                  weir_residency** set) {
    if (desc->mode != WEIR_RESIDENCY_ADVISE && desc->mode != WEIR_RESIDENCY_LOCK) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "unknown mode %d of residency", (int)desc->mode);
    }
    weir_residency* made = NULL;
    WEIR_TRY(object_new(&device->allocator, &made));
    made->device = device;
    made->mode = desc->mode;
    made->byte_budget = desc->byte_budget;
    if (pthread_mutex_init(&made->lock, NULL) != 0) {
        object_free(&device->allocator, made);
        return WEIR_FAIL(WEIR_OUT_OF_MEMORY, "cannot make the lock of a residency set");
    }
    weir_residency* none = NULL;
    if (!atomic_compare_exchange_strong(&device->residency, &none, made)) {
        pthread_mutex_destroy(&made->lock);
        object_free(&device->allocator, made);
        return WEIR_FAIL(WEIR_BUSY, "the device has a residency set");
    }
    *set = made;
    return WEIR_OK;
}

void weir_residency_destroy(weir_residency* set) {
    if (!set) {
        return;
    }
    weir_device* device = set->device;
    atomic_store(&device->residency, NULL);
    while (set->lists[RESIDENCY_RESIDENT].first) {
        move_to(set, set->lists[RESIDENCY_RESIDENT].first, RESIDENCY_LEAVING);
    }
    destroy_released(apply_removals(set));
    for (int state = RESIDENCY_NONE + 1; state < RESIDENCY_STATES; state++) {
        while (set->lists[state].first) {
            move_to(set, set->lists[state].first, RESIDENCY_NONE);
        }
    }
    pthread_mutex_destroy(&set->lock);
    object_free(&device->allocator, set);
}

static void join(weir_residency* set, weir_storage* storage, int priority,
                 const weir_session* session) {
    storage->residency = (storage_residency){.priority = priority, .session = session};
    if (is_covered(set, storage)) {
        set->counted.duplicates++;
        move_to(set, storage, RESIDENCY_COVERED);
    } else {
        stage_add(set, storage);
    }
}

void weir_residency_join(weir_storage* storage) {
    weir_residency* set = atomic_load(&storage->device->residency);
    if (set) {
        pthread_mutex_lock(&set->lock);
        storage->residency = (storage_residency){.priority = 0};
        stage_add(set, storage); // new memory: nobody else's bytes
        pthread_mutex_unlock(&set->lock);
    }
}

int weir_residency_priority(const weir_storage* storage) {
    weir_residency* set = atomic_load(&storage->device->residency);
    int priority = 0;
    if (set) {
        pthread_mutex_lock(&set->lock);
        priority = storage->residency.priority;
        pthread_mutex_unlock(&set->lock);
    }
    return priority;
}

static void change_priority(weir_residency* set, weir_storage* storage, int priority) {
    storage_residency* member = &storage->residency;
    const bool is_held = member->state == RESIDENCY_RESIDENT || member->state == RESIDENCY_LEAVING;
    if (is_held && member->priority != priority) {
        const weir_status status = set->device->vtable->hold(storage, set->mode, priority);
        (void)status; // it stays resident as it was
    }
    member->priority = priority;
}

weir_status weir_residency_register(weir_residency* set, weir_storage* storage,
                                    const weir_residency_options* options) {
    static const weir_residency_options defaults = {0};
    options = options ? options : &defaults;
    if (storage->device != set->device) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "storage %s lies on another device", storage->name);
    }
    if (storage->slot_stride > 0) {
        return WEIR_FAIL(WEIR_UNSUPPORTED, "storage %s is committed as it grows", storage->name);
    }
    storage_residency* member = &storage->residency;
    pthread_mutex_lock(&set->lock);
    if (member->state == RESIDENCY_NONE) { // memory that is taken now is taken with it
        member->priority = options->priority;
    }
    pthread_mutex_unlock(&set->lock);
    WEIR_TRY(weir_storage_touch(storage));
    pthread_mutex_lock(&set->lock);
    if (member->state == RESIDENCY_NONE) {
        join(set, storage, options->priority, options->session);
    } else if (member->state == RESIDENCY_LEAVING) { // it never went
        set->counted.removals--;
        change_priority(set, storage, options->priority);
        move_to(set, storage, RESIDENCY_RESIDENT);
    } else {
        set->counted.duplicates++;
        change_priority(set, storage, options->priority);
    }
    pthread_mutex_unlock(&set->lock);
    return WEIR_OK;
}

// Stages the removal of a member; true where it waits for a flush.
static bool stage_removal(weir_residency* set, weir_storage* storage) {
    const residency_state state = storage->residency.state;
    const bool is_held = state == RESIDENCY_RESIDENT || state == RESIDENCY_LEAVING;
    set->counted.removals += state == RESIDENCY_COVERED || state == RESIDENCY_LEAVING ? 0 : 1;
    set->counted.removals_applied += is_held || state == RESIDENCY_COVERED ? 0 : 1;
    move_to(set, storage, is_held ? RESIDENCY_LEAVING : RESIDENCY_NONE);
    uncover(set);
    return is_held;
}

weir_status weir_residency_unregister(weir_residency* set, weir_storage* storage) {
    pthread_mutex_lock(&set->lock);
    const residency_state state = storage->residency.state;
    const bool is_member = state != RESIDENCY_NONE && state != RESIDENCY_LEAVING;
    if (is_member) {
        stage_removal(set, storage);
    }
    pthread_mutex_unlock(&set->lock);
    return is_member ? WEIR_OK
                     : WEIR_FAIL(WEIR_NOT_FOUND, "storage %s is no member", storage->name);
}

bool weir_residency_leave(weir_storage* storage) {
    weir_residency* set = atomic_load(&storage->device->residency);
    if (!set) {
        return false;
    }
    weir_storage* released = NULL;
    pthread_mutex_lock(&set->lock);
    bool waits = storage->residency.state != RESIDENCY_NONE && stage_removal(set, storage);
    if (waits && storage->is_foreign) { // its owner wants it back
        let_go(set, storage);
        move_to(set, storage, RESIDENCY_NONE);
        set->counted.removals_applied++;
        waits = false;
    } else if (waits) {
        storage->residency.released = true;
        set->counted.staged_bytes += storage->byte_size;
        if (set->counted.staged_bytes > STAGED_BYTES_MAX) {
            released = apply_removals(set);
            set->counted.flushes++;
        }
    }
    pthread_mutex_unlock(&set->lock);
    destroy_released(released);
    return waits;
}

void weir_residency_commit(weir_device* device, const weir_view* views, size_t count,
                           const weir_session* session) {
    weir_residency* set = atomic_load(&device->residency);
    if (!set) {
        return;
    }
    const uint64_t now = atomic_load(&device->submitted) + 1;
    pthread_mutex_lock(&set->lock);
    for (size_t i = 0; i < count; i++) {
        weir_storage* storage = views[i].storage;
        if (storage && storage->residency.state != RESIDENCY_NONE) {
            storage->residency.last_use = now;
            const uint64_t refused = storage->residency.refused;
            if (storage->residency.state == RESIDENCY_AWAY && refused != set->room + 1) {
                storage->residency.session = NULL;
                move_to(set, storage, RESIDENCY_STAGED); // as before: no new add
            }
        }
    }
    weir_storage* released = flush(set, session, now);
    pthread_mutex_unlock(&set->lock);
    destroy_released(released);
}

void weir_residency_roll_back(weir_device* device, const weir_session* session) {
    weir_residency* set = atomic_load(&device->residency);
    if (!set) {
        return;
    }
    pthread_mutex_lock(&set->lock);
    const residency_state states[] = {RESIDENCY_STAGED, RESIDENCY_COVERED};
    for (size_t i = 0; i < sizeof states / sizeof states[0]; i++) {
        for (weir_storage* storage = set->lists[states[i]].first; storage;) {
            weir_storage* next = storage->residency.next;
            if (storage->residency.session == session) {
                move_to(set, storage, RESIDENCY_NONE);
                set->counted.rolled_back++;
            }
            storage = next;
        }
    }
    uncover(set);
    pthread_mutex_unlock(&set->lock);
}

void weir_residency_flush(weir_residency* set) {
    pthread_mutex_lock(&set->lock);
    weir_storage* released = flush(set, NULL, atomic_load(&set->device->submitted) + 1);
    pthread_mutex_unlock(&set->lock);
    destroy_released(released);
}

bool weir_residency_is_resident(weir_residency* set, const weir_storage* storage) {
    pthread_mutex_lock(&set->lock);
    const bool resident = storage->residency.state == RESIDENCY_RESIDENT;
    pthread_mutex_unlock(&set->lock);
    return resident;
}

weir_residency_counters weir_residency_counted(weir_residency* set) {
    pthread_mutex_lock(&set->lock);
    const weir_residency_counters counted = set->counted;
    pthread_mutex_unlock(&set->lock);
    return counted;
}
