// How storages, sessions and programs tell the residency set of their device what happens. All of
// these do nothing on a device without one.
#ifndef WEIR_DEVICE_RESIDENCY_H
#define WEIR_DEVICE_RESIDENCY_H

#include <weir/residency.h>

// Makes an allocated storage a member.
void weir_residency_join(weir_storage* storage);

// The priority that a storage was registered with, from before its memory is taken on; else 0.
int weir_residency_priority(const weir_storage* storage);

// Called with the last reference gone. True: the set destroys the storage with its next flush.
bool weir_residency_leave(weir_storage* storage);

// Called before a commit, with the views whose storages it uses; `session` may be NULL.
void weir_residency_commit(weir_device* device, const weir_view* views, size_t count,
                           const weir_session* session);

// Drops the staged adds of a session that goes without a commit of them.
void weir_residency_roll_back(weir_device* device, const weir_session* session);

#endif
