// A snapshot is a header and, slot by slot, the rows of the cache: the keys of block 0, its values,
// the keys of block 1. Rows are written and read by the device, so that it does not matter where
// its caches lie.
#include <weir-llm/snapshot.h>

#include <string.h>
#include <weir/session.h>

#include "context_refill.h"

static const char magic[8] = {'W', 'E', 'I', 'R', 'C', 'T', 'X', '1'};

// Numbers are little-endian, as are those of the caches behind it and all machines that run weir.
typedef struct snapshot_header {
    char magic[8];
    char dtype[8];      // name of the type of keys and values, filled up with zeros
    uint64_t model;     // identity_of the model
    uint64_t row_bytes; // of one token in one slot
    uint32_t slots;
    uint32_t position;
    uint64_t checksum; // of all bytes but these
} snapshot_header;

_Static_assert(sizeof(snapshot_header) == 48 && offsetof(snapshot_header, checksum) == 40,
               "the checksum covers what comes before it, and there are no gaps");

// The step of FNV-1a (Fowler, Noll and Vo) on words, with the upper half brought down, which a
// multiplication alone never does.
static uint64_t mix_word(uint64_t hash, uint64_t word) {
    hash = (hash ^ word) * 0x100000001B3u;
    return hash ^ hash >> 32;
}

// Mixes eight bytes at a time, the rest filled up with zeros: caches are large, and this guards
// against damage only.
static uint64_t mix(uint64_t hash, const void* bytes, uint64_t byte_size) {
    const uint8_t* at = bytes;
    uint64_t word = 0;
    for (; byte_size >= sizeof word; at += sizeof word, byte_size -= sizeof word) {
        memcpy(&word, at, sizeof word);
        hash = mix_word(hash, word);
    }
    word = 0;
    if (byte_size > 0) {
        memcpy(&word, at, byte_size);
        hash = mix_word(hash, word);
    }
    return hash;
}

static uint64_t checksum_of(const snapshot_header* header, const void* rows, uint64_t byte_size) {
    return mix(mix(0xCBF29CE484222325u, header, offsetof(snapshot_header, checksum)), rows,
               byte_size);
}

// What a cache depends on: the shape of the model, and weights that training has changed as a
// whole, so that the beginning of each tensor stands for the rest.
static uint64_t identity_of(const weir_model* model) {
    enum { SAMPLE_BYTES = 64 };
    const weir_llama_params* params = weir_model_params(model);
    const uint32_t counts[] = {params->blocks,   params->embedding, params->heads,
                               params->kv_heads, params->head_dim,  params->rotated};
    const float reals[] = {params->epsilon, params->rope_base, params->rope_scale};
    uint64_t hash = mix(mix(0, counts, sizeof counts), reals, sizeof reals);
    uint64_t count = 0;
    const weir_gguf_tensor* tensors = weir_gguf_tensors(weir_model_gguf(model), &count);
    for (uint64_t i = 0; i < count; i++) {
        char name[65] = {0}; // the longest that the format has
        weir_view view;
        memcpy(name, tensors[i].name.bytes, tensors[i].name.length);
        if (weir_model_weight(model, name, &view) == WEIR_OK) {
            const uint64_t length = weir_view_byte_length(&view);
            const void* bytes = weir_view_contents(&view);
            hash = mix(mix(hash, name, sizeof name), &length, sizeof length);
            const uint64_t sampled = length < SAMPLE_BYTES ? length : SAMPLE_BYTES;
            hash = mix(hash, bytes, bytes ? sampled : 0);
        }
    }
    return hash;
}

// The header of a snapshot of a context at its position, without a checksum.
static snapshot_header header_of(const weir_context* context) {
    const weir_model* model = weir_context_model(context);
    const weir_llama_params* params = weir_model_params(model);
    const weir_dtype_info* dtype = weir_dtype_describe(weir_context_kv_dtype(context));
    const uint64_t width = (uint64_t)params->kv_heads * params->head_dim;
    snapshot_header header = {.row_bytes = width / dtype->block_elements * dtype->block_bytes,
                              .slots = 2 * params->blocks,
                              .position = weir_context_position(context)};
    memcpy(header.magic, magic, sizeof magic);
    const size_t length = strlen(dtype->name);
    memcpy(header.dtype, dtype->name, length < sizeof header.dtype ? length : sizeof header.dtype);
    return header;
}

// Below 2^63: a cache of as many rows was made.
static uint64_t slot_bytes(const snapshot_header* header) {
    return header->row_bytes * header->position;
}

uint64_t weir_snapshot_bytes(const weir_context* context) {
    const snapshot_header header = header_of(context);
    return sizeof header + header.slots * slot_bytes(&header);
}

// Reads the slots to `rows`, with one wait for all.
static weir_status record_download(weir_session* session, const weir_state* cache,
                                   const snapshot_header* header, uint8_t* rows) {
    const uint64_t byte_size = slot_bytes(header);
    for (uint32_t slot = 0; slot < header->slots; slot++) {
        weir_view view;
        WEIR_TRY(weir_state_rows(cache, slot, 0, header->position, &view));
        WEIR_TRY(weir_session_download(session, &view, rows + slot * byte_size, byte_size));
    }
    return weir_session_finish(session);
}

weir_status weir_snapshot_save(const weir_context* context, void* bytes, uint64_t byte_size) {
    const uint64_t needed = weir_snapshot_bytes(context);
    if (byte_size < needed) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE, "a snapshot of %u tokens has %llu bytes, room for %llu",
                         weir_context_position(context), (unsigned long long)needed,
                         (unsigned long long)byte_size);
    }
    snapshot_header header = header_of(context);
    uint8_t* rows = (uint8_t*)bytes + sizeof header;
    if (header.position > 0) {
        weir_session* session = NULL;
        WEIR_TRY(weir_session_create(weir_model_device(weir_context_model(context)), &session));
        const weir_status status =
            record_download(session, weir_context_cache(context), &header, rows);
        weir_session_destroy(session);
        WEIR_TRY(status);
    }
    header.model = identity_of(weir_context_model(context));
    header.checksum = checksum_of(&header, rows, needed - sizeof header);
    memcpy(bytes, &header, sizeof header);
    return WEIR_OK;
}

// Checks that bytes are a snapshot as somebody saved it.
static weir_status check_whole(const void* bytes, uint64_t byte_size, snapshot_header* header) {
    if (byte_size < sizeof *header || memcmp(bytes, magic, sizeof magic) != 0) {
        return WEIR_FAIL(WEIR_BAD_FORMAT,
                         "snapshot: %llu bytes, expected at least %zu that begin with \"%.8s\"",
                         (unsigned long long)byte_size, sizeof *header, magic);
    }
    memcpy(header, bytes, sizeof *header);
    const uint8_t* rows = (const uint8_t*)bytes + sizeof *header;
    if (header->checksum != checksum_of(header, rows, byte_size - sizeof *header)) {
        return WEIR_FAIL(WEIR_BAD_FORMAT, "snapshot: damaged, its checksum is that of other bytes");
    }
    return WEIR_OK;
}

// Checks that a whole snapshot fits a context. After the check of the position no product passes 64
// bits: the context has a cache for as many rows.
static weir_status check_fits(const weir_context* context, const snapshot_header* header,
                              uint64_t byte_size) {
    const weir_model* model = weir_context_model(context);
    const snapshot_header expected = header_of(context);
    if (memcmp(header->dtype, expected.dtype, sizeof header->dtype) != 0) {
        char shown[40];
        const weir_text dtype = {header->dtype, strnlen(header->dtype, sizeof header->dtype)};
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                         "snapshot: keys and values in %s, those of the context are in %.8s",
                         weir_text_escape(dtype, shown, sizeof shown), expected.dtype);
    }
    if (header->slots != expected.slots || header->row_bytes != expected.row_bytes ||
        header->model != identity_of(model)) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "snapshot: of another model than %s",
                         weir_gguf_file_name(weir_model_gguf(model)));
    }
    if (header->position > weir_context_length(context)) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE, "snapshot: %u tokens, the context has room for %u",
                         header->position, weir_context_length(context));
    }
    if (byte_size != sizeof *header + header->slots * slot_bytes(header)) {
        return WEIR_FAIL(WEIR_BAD_FORMAT, "snapshot: %llu bytes, %u tokens have %llu",
                         (unsigned long long)byte_size, header->position,
                         (unsigned long long)(sizeof *header + header->slots * slot_bytes(header)));
    }
    return WEIR_OK;
}

// One transfer from where the rows of a slot come to where they go.
typedef weir_status (*slot_fn)(weir_session* session, const void* source, uint32_t slot,
                               const weir_view* to);

// Where the rows of all slots come from.
typedef struct slot_source {
    const weir_context* to;
    slot_fn transfer;
    const void* source; // handed to it
} slot_source;

// Slots wait one by one, so that no more than one is staged.
static weir_status fill_with(weir_session* session, const slot_source* from,
                             const weir_state* cache, uint32_t position) {
    const uint32_t slots = 2 * weir_model_params(weir_context_model(from->to))->blocks;
    for (uint32_t slot = 0; slot < slots; slot++) {
        weir_view view;
        WEIR_TRY(weir_state_rows(cache, slot, 0, position, &view));
        WEIR_TRY(from->transfer(session, from->source, slot, &view));
        WEIR_TRY(weir_session_finish(session));
    }
    return WEIR_OK;
}

static weir_status fill(void* source, const weir_state* cache, uint32_t position) {
    const slot_source* from = source;
    weir_session* session = NULL;
    if (position == 0) {
        return WEIR_OK;
    }
    WEIR_TRY(weir_session_create(weir_model_device(weir_context_model(from->to)), &session));
    const weir_status status = fill_with(session, from, cache, position);
    weir_session_destroy(session);
    return status;
}

static weir_status upload_slot(weir_session* session, const void* rows, uint32_t slot,
                               const weir_view* to) {
    const uint64_t byte_size = weir_view_byte_length(to);
    return weir_session_upload(session, (const uint8_t*)rows + slot * byte_size, byte_size, to);
}

static weir_status copy_slot(weir_session* session, const void* cache, uint32_t slot,
                             const weir_view* to) {
    weir_view view;
    WEIR_TRY(weir_state_rows(cache, slot, 0, to->shape.dims[0], &view));
    return weir_session_copy(session, &view, to);
}

weir_status weir_snapshot_load(weir_context* context, const void* bytes, uint64_t byte_size) {
    snapshot_header header;
    WEIR_TRY(check_whole(bytes, byte_size, &header));
    WEIR_TRY(check_fits(context, &header, byte_size));
    slot_source rows = {context, upload_slot, (const uint8_t*)bytes + sizeof header};
    return weir_context_refill(context, header.position, fill, &rows);
}

weir_status weir_snapshot_copy(const weir_context* from, weir_context* to) {
    const uint32_t position = weir_context_position(from);
    if (from == to) {
        return WEIR_OK;
    }
    if (weir_context_model(from) != weir_context_model(to)) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "contexts of two opened models: %s and %s",
                         weir_gguf_file_name(weir_model_gguf(weir_context_model(from))),
                         weir_gguf_file_name(weir_model_gguf(weir_context_model(to))));
    }
    if (weir_context_kv_dtype(from) != weir_context_kv_dtype(to)) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                         "keys and values in %s cannot be copied to those in %s",
                         weir_dtype_describe(weir_context_kv_dtype(from))->name,
                         weir_dtype_describe(weir_context_kv_dtype(to))->name);
    }
    if (position > weir_context_length(to)) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE, "a text of %u tokens, the context has room for %u",
                         position, weir_context_length(to));
    }
    slot_source slots = {to, copy_slot, weir_context_cache(from)};
    return weir_context_refill(to, position, fill, &slots);
}
