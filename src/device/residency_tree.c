#include "device/residency_tree.h"

// The order of the heap: any fixed function of the storage that is as good as random.
static uint64_t rank_of(const weir_storage* storage) {
    uint64_t x = (uint64_t)(uintptr_t)storage; // the finalizer of MurmurHash3 (Appleby, 2011)
    x = (x ^ (x >> 33)) * 0xFF51AFD7ED558CCDull;
    x = (x ^ (x >> 33)) * 0xC4CEB9FE1A85EC53ull;
    return x ^ (x >> 33);
}

static bool is_before(const weir_storage* a, const weir_storage* b) {
    const uint64_t a_begin = a->residency.begin;
    const uint64_t b_begin = b->residency.begin;
    return a_begin != b_begin ? a_begin < b_begin : (uintptr_t)a < (uintptr_t)b;
}

static uint64_t last_end(const weir_storage* node) {
    return node ? node->residency.last_end : 0;
}

static void update(weir_storage* node) {
    storage_residency* member = &node->residency;
    const uint64_t left = last_end(member->left);
    const uint64_t right = last_end(member->right);
    const uint64_t below = left > right ? left : right;
    member->last_end = member->end > below ? member->end : below;
}

// Splits a tree into what lies before `pivot` and the rest.
static void split(weir_storage* node, const weir_storage* pivot, weir_storage** before,
                  weir_storage** rest) {
    if (!node) {
        *before = *rest = NULL;
    } else if (is_before(node, pivot)) {
        split(node->residency.right, pivot, &node->residency.right, rest);
        *before = node;
        update(node);
    } else {
        split(node->residency.left, pivot, before, &node->residency.left);
        *rest = node;
        update(node);
    }
}

// Joins two trees of which the first lies before the second.
static weir_storage* join(weir_storage* a, weir_storage* b) {
    if (!a || !b) {
        return a ? a : b;
    }
    if (rank_of(a) > rank_of(b)) {
        a->residency.right = join(a->residency.right, b);
        update(a);
        return a;
    }
    b->residency.left = join(a, b->residency.left);
    update(b);
    return b;
}

static weir_storage* add(weir_storage* node, weir_storage* storage) {
    if (!node || rank_of(storage) > rank_of(node)) {
        split(node, storage, &storage->residency.left, &storage->residency.right);
        update(storage);
        return storage;
    }
    weir_storage** side = is_before(storage, node) ? &node->residency.left : &node->residency.right;
    *side = add(*side, storage);
    update(node);
    return node;
}

static weir_storage* take(weir_storage* node, weir_storage* storage) {
    if (node == storage) {
        return join(node->residency.left, node->residency.right);
    }
    weir_storage** side = is_before(storage, node) ? &node->residency.left : &node->residency.right;
    *side = take(*side, storage);
    update(node);
    return node;
}

void residency_tree_add(weir_storage** root, weir_storage* storage) {
    const uint64_t address = (uint64_t)(uintptr_t)atomic_load(&storage->host);
    storage->residency.begin = address;
    storage->residency.end = address + storage->byte_size;
    storage->residency.in_tree = true;
    *root = add(*root, storage);
}

void residency_tree_remove(weir_storage** root, weir_storage* storage) {
    if (storage->residency.in_tree) {
        *root = take(*root, storage);
        storage->residency.in_tree = false;
    }
}

bool residency_tree_visit(const weir_storage* root, uint64_t begin, uint64_t end,
                          bool (*visit)(void* context, const weir_storage* storage),
                          void* context) {
    if (!root || root->residency.last_end <= begin) {
        return true;
    }
    const storage_residency* member = &root->residency;
    if (!residency_tree_visit(member->left, begin, end, visit, context)) {
        return false;
    }
    if (member->begin >= end) {
        return true;
    }
    return (member->end <= begin || visit(context, root)) &&
           residency_tree_visit(member->right, begin, end, visit, context);
}
