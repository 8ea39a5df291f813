#include "base/bus_fault.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CHUNK_ENTRIES 100

struct bus_watch {
    atomic_uint generation;      // odd while the entry changes
    atomic_uintptr_t begin, end; // whole pages; end 0: the entry is free
    atomic_uintptr_t lost;       // lowest address that was lost; UINTPTR_MAX: none
};

typedef struct watch_chunk {
    bus_watch entries[CHUNK_ENTRIES];
    _Atomic(struct watch_chunk*) next;
} watch_chunk;

// State of the process: the table grows and is never freed, as a handler may be reading it.
static watch_chunk first_chunk;
static pthread_mutex_t install_lock = PTHREAD_MUTEX_INITIALIZER; // guards the next two
static unsigned install_count;
static struct sigaction previous_action; // read by the handler, which is not installed while it
                                         // changes
static atomic_bool is_handled;

static bool claim(bus_watch* watch) {
    unsigned generation = atomic_load(&watch->generation);
    if (generation % 2 != 0 || atomic_load(&watch->end) != 0) {
        return false;
    }
    return atomic_compare_exchange_strong(&watch->generation, &generation, generation + 1);
}

// The pages come from the system: no allocator outlives all devices.
static watch_chunk* chunk_after(watch_chunk* chunk) {
    watch_chunk* next = atomic_load(&chunk->next);
    if (next) {
        return next;
    }
    void* pages =
        mmap(NULL, sizeof *next, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) {
        return NULL;
    }
    if (!atomic_compare_exchange_strong(&chunk->next, &next, pages)) {
        munmap(pages, sizeof *next);
        return next; // another thread was faster
    }
    return pages;
}

static bus_watch* find_free(void) {
    for (watch_chunk* chunk = &first_chunk; chunk; chunk = chunk_after(chunk)) {
        for (size_t i = 0; i < CHUNK_ENTRIES; i++) {
            if (claim(&chunk->entries[i])) {
                return &chunk->entries[i];
            }
        }
    }
    return NULL;
}

weir_status bus_fault_watch(const void* base, size_t byte_size, bus_watch** watch) {
    bus_watch* found = find_free();
    if (!found) {
        return WEIR_FAIL(WEIR_OUT_OF_MEMORY, "no memory to watch a mapping of %zu bytes",
                         byte_size);
    }
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t end = (uintptr_t)base + byte_size;
    atomic_store(&found->begin, (uintptr_t)base);
    atomic_store(&found->lost, UINTPTR_MAX);
    atomic_store(&found->end, (end + page - 1) / page * page);
    atomic_fetch_add(&found->generation, 1);
    *watch = found;
    return WEIR_OK;
}

void bus_fault_unwatch(bus_watch* watch) {
    if (watch) {
        atomic_fetch_add(&watch->generation, 1);
        atomic_store(&watch->end, 0);
        atomic_store(&watch->begin, 0);
        atomic_fetch_add(&watch->generation, 1);
    }
}

uintptr_t bus_fault_lost(const bus_watch* watch) {
    return atomic_load(&watch->lost);
}

void bus_fault_lose(bus_watch* watch, uintptr_t address) {
    uintptr_t lost = atomic_load(&watch->lost);
    while (address < lost && !atomic_compare_exchange_weak(&watch->lost, &lost, address)) {
    }
}

bool bus_fault_is_handled(void) {
    return atomic_load_explicit(&is_handled, memory_order_relaxed);
}

bool bus_fault_is_safe_here(void) {
    sigset_t blocked;
    return !bus_fault_is_handled() ||
           (pthread_sigmask(SIG_BLOCK, NULL, &blocked) == 0 && sigismember(&blocked, SIGBUS) == 0);
}

void bus_fault_unblock(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGBUS);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

static bus_watch* find_watch(uintptr_t address) {
    for (watch_chunk* chunk = &first_chunk; chunk; chunk = atomic_load(&chunk->next)) {
        for (size_t i = 0; i < CHUNK_ENTRIES; i++) {
            bus_watch* watch = &chunk->entries[i];
            const unsigned generation = atomic_load(&watch->generation);
            const bool inside =
                atomic_load(&watch->begin) <= address && address < atomic_load(&watch->end);
            if (inside && generation % 2 == 0 && atomic_load(&watch->generation) == generation) {
                return watch;
            }
        }
    }
    return NULL;
}

// Puts a page of zeros where a page of a watched mapping is gone. The system call is made without
// the C library, whose functions sanitizers and tests replace by ones that are not for handlers.
static bool replace_page(uintptr_t address) {
    bus_watch* watch = find_watch(address);
    if (!watch) {
        return false;
    }
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t begin = address / page * page;
    const long placed = syscall(SYS_mmap, begin, page, PROT_READ,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
    if ((uintptr_t)placed != begin) {
        return false;
    }
    bus_fault_lose(watch, begin);
    return true;
}

// Without a handler before ours the fault has to end the process: it comes again when the default
// action is back. A signal that somebody sent would not, and is sent again.
static void chain(int number, siginfo_t* info, void* context) {
    const struct sigaction previous = previous_action;
    const bool was_sent = info->si_code <= 0;
    if ((previous.sa_flags & SA_SIGINFO) != 0) {
        previous.sa_sigaction(number, info, context);
    } else if (previous.sa_handler == SIG_DFL || (previous.sa_handler == SIG_IGN && !was_sent)) {
        struct sigaction action = {.sa_handler = SIG_DFL};
        sigemptyset(&action.sa_mask);
        sigaction(number, &action, NULL);
        if (was_sent) {
            raise(number);
        }
    } else if (previous.sa_handler != SIG_IGN) {
        previous.sa_handler(number);
    }
}

// Kinds of SIGBUS that mean a page which cannot be had: past the end of the file, a failed read, or
// memory with an uncorrectable error.
static bool is_lost_page(const siginfo_t* info) {
#ifdef BUS_MCEERR_AR
    return info->si_code == BUS_ADRERR || info->si_code == BUS_MCEERR_AR;
#else
    return info->si_code == BUS_ADRERR;
#endif
}

static void on_bus_error(int number, siginfo_t* info, void* context) {
    const int saved_errno = errno;
    if (!is_lost_page(info) || !replace_page((uintptr_t)info->si_addr)) {
        chain(number, info, context);
    }
    errno = saved_errno;
}

// The flags and the mask of the handler before hold for it when it is called through ours.
static weir_status install(void) {
    if (sigaction(SIGBUS, NULL, &previous_action) != 0) {
        return WEIR_FAIL(WEIR_IO, "cannot read the handler of SIGBUS: %s", strerror(errno));
    }
    struct sigaction action = {.sa_sigaction = on_bus_error, .sa_mask = previous_action.sa_mask};
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | (previous_action.sa_flags & SA_NODEFER);
    if (sigaction(SIGBUS, &action, NULL) != 0) {
        return WEIR_FAIL(WEIR_IO, "cannot install a handler of SIGBUS: %s", strerror(errno));
    }
    atomic_store(&is_handled, true);
    return WEIR_OK;
}

static weir_status uninstall(void) {
    struct sigaction current;
    if (sigaction(SIGBUS, NULL, &current) != 0) {
        return WEIR_FAIL(WEIR_IO, "cannot read the handler of SIGBUS: %s", strerror(errno));
    }
    if ((current.sa_flags & SA_SIGINFO) == 0 || current.sa_sigaction != on_bus_error) {
        return WEIR_FAIL(WEIR_BUSY, "another handler of SIGBUS was installed and may call ours");
    }
    if (sigaction(SIGBUS, &previous_action, NULL) != 0) {
        return WEIR_FAIL(WEIR_IO, "cannot bring back the handler of SIGBUS: %s", strerror(errno));
    }
    atomic_store(&is_handled, false);
    return WEIR_OK;
}

weir_status weir_fault_handler_install(void) {
    pthread_mutex_lock(&install_lock);
    const weir_status status = install_count > 0 ? WEIR_OK : install();
    install_count += status == WEIR_OK ? 1 : 0;
    pthread_mutex_unlock(&install_lock);
    return status;
}

weir_status weir_fault_handler_remove(void) {
    pthread_mutex_lock(&install_lock);
    weir_status status = WEIR_OK;
    if (install_count == 0) {
        status = WEIR_FAIL(WEIR_INVALID_ARGUMENT, "the handler of SIGBUS is not installed");
    } else if (install_count == 1) {
        status = uninstall();
    }
    install_count -= status == WEIR_OK ? 1 : 0;
    pthread_mutex_unlock(&install_lock);
    return status;
}
