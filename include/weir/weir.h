// All of libweir's public headers.
#ifndef WEIR_WEIR_H
#define WEIR_WEIR_H

#include <weir/access.h>
#include <weir/allocator.h>
#include <weir/api.h>
#include <weir/arena.h>
#include <weir/check.h>
#include <weir/device.h>
#include <weir/dlpack.h>
#include <weir/dtype.h>
#include <weir/explain.h>
#include <weir/fault.h>
#include <weir/fusion.h>
#include <weir/gguf.h>
#include <weir/graph.h>
#include <weir/kernel.h>
#include <weir/log.h>
#include <weir/plan.h>
#include <weir/plan_csv.h>
#include <weir/plan_file.h>
#include <weir/plan_report.h>
#include <weir/pool.h>
#include <weir/program.h>
#include <weir/range.h>
#include <weir/residency.h>
#include <weir/safetensors.h>
#include <weir/schedule.h>
#include <weir/session.h>
#include <weir/shadow.h>
#include <weir/shape.h>
#include <weir/state.h>
#include <weir/status.h>
#include <weir/storage.h>
#include <weir/target.h>
#include <weir/text.h>
#include <weir/tracker.h>
#include <weir/view.h>
#include <weir/vulkan.h>

#endif
