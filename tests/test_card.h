// With WEIR_TEST_CARD tests use a device of Vulkan as a card that shows the host no memory of its
// own, and gets copies of files.
#ifndef WEIR_TESTS_TEST_CARD_H
#define WEIR_TESTS_TEST_CARD_H

#include <stdlib.h>
#include <weir/vulkan.h>

// The options of such a card, NULL where none is asked for; other devices ignore them.
static inline const weir_vulkan_options* test_card(void) {
    static const weir_vulkan_options card = {.hides_memory = true, .copies_files = true};
    return getenv("WEIR_TEST_CARD") ? &card : NULL;
}

#endif
