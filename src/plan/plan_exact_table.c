#include "plan/plan_exact_parts.h"

// The table of states without solution. A state is the set of unplaced classes, the offset at which
// each would come to rest, and the (offset, rank) from which on classes may still be placed; what
// lies below decides nothing. A failure serves every later state that is at least as bound: no
// larger capacity, and no earlier start. Under another order ranks mean other classes, but those
// matter at equal offsets only.
//
// A key of 128 bits stands for the state: of 2^26 states two share one with a chance of 2^-77.

#define SLOTS_MIN ((size_t)1 << 10)
#define SLOTS_MAX ((size_t)1 << 16)
#define SLOTS_PER_CLASS 256

weir_status exact_table_take(plan_scratch* scratch, uint32_t count, exact_table* table) {
    size_t slots = SLOTS_MIN;
    while (slots < SLOTS_MAX && slots < (size_t)count * SLOTS_PER_CLASS) {
        slots *= 2;
    }
    table->mask = slots - 1;
    return scratch_take(scratch, &table->slots, slots);
}

// The finaliser of splitmix64 (Steele et al. 2014).
static inline uint64_t mix(uint64_t x) {
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return x ^ x >> 31;
}

exact_key exact_key_of(const exact_search* search, const exact_part* part) {
    exact_key key = {{0, 0}};
    for (uint32_t i = part->first; i < part->end; ++i) {
        if (row_has(search->unplaced, i)) {
            // Two lanes that share no constant: a sum over classes, so their order is no matter.
            const uint64_t rest =
                (uint64_t)search->rest[i] * 2 + (search->low[i] > search->rest[i]);
            key.words[0] += mix(mix(i + 0x9E3779B97F4A7C15u) + rest);
            key.words[1] += mix(mix(rest + 0xD1B54A32D192ED03u) ^ (i * 0x8CB92BA72F3D8DD7u));
        }
    }
    key.words[0] |= key.words[0] == 0 && key.words[1] == 0;
    return key;
}

static exact_failure* slot_of(const exact_search* search, const exact_key* key) {
    return &search->table.slots[key->words[0] & search->table.mask];
}

bool exact_has_failed(const exact_search* search, const exact_frame* frame) {
    const exact_failure* slot = slot_of(search, &frame->key);
    return slot->key.words[0] == frame->key.words[0] && slot->key.words[1] == frame->key.words[1] &&
           slot->capacity >= search->capacity;
}

void exact_note_failure(exact_search* search, const exact_frame* frame) {
    *slot_of(search, &frame->key) = (exact_failure){frame->key, search->capacity};
}
