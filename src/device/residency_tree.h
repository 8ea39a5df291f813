// Members of a residency set by the host addresses of their bytes: which of them share a page, and
// which lie within another.
//
// A treap (Seidel and Aragon 1996) in the storages themselves, so that nothing here can fail: by
// first byte, with the largest end of each subtree.
#ifndef WEIR_DEVICE_RESIDENCY_TREE_H
#define WEIR_DEVICE_RESIDENCY_TREE_H

#include "device/backend.h"

// Adds a storage that has its address, or removes it; a storage that is not in the tree is left
// alone by the latter.
void residency_tree_add(weir_storage** root, weir_storage* storage);
void residency_tree_remove(weir_storage** root, weir_storage* storage);

// Visits the storages that have a byte in [begin, end), by rising first byte, until `visit` returns
// false.
bool residency_tree_visit(const weir_storage* root, uint64_t begin, uint64_t end,
                          bool (*visit)(void* context, const weir_storage* storage), void* context);

#endif
