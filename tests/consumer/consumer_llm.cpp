#include <cstdio>
#include <weir-llm/generate.h>

int main() {
    weir_sampler* sampler = nullptr;
    const weir_sampler_options greedy = {};
    const float logits[] = {0, 2, 1};
    uint32_t id = 0;
    const bool ok = weir_sampler_create(nullptr, &greedy, 3, &sampler) == WEIR_OK &&
                    weir_sampler_next(sampler, logits, &id) == WEIR_OK && id == 1;
    std::printf("weir-llm %s\n", ok ? weir_version() : weir_last_error());
    weir_sampler_destroy(sampler);
    return ok ? 0 : 1;
}
