#include <stdio.h>
#include <weir/weir.h>

int main(void) {
    weir_device* device = NULL;
    if (weir_device_create(&(weir_device_desc){.name = "cpu"}, &device) != WEIR_OK) {
        fprintf(stderr, "%s\n", weir_last_error());
        return 1;
    }
    printf("weir %s\n", weir_version());
    weir_device_destroy(device);
    return 0;
}
