// What a program or a test may tell the twin's ACL runtime beyond ACL itself.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "backend/ascend/twin/launch.h"

extern "C" {

// Sets what the environment variable RIDGE_ASCEND_TWIN_NAME (in capitals) sets otherwise; a null
// value goes back to that. False for a name that there is not:
//   soc           the chip, by name or short name; 910B2 unless said
//   devices       how many there are, 0 to 16; 1 unless said
//   memory_bytes  of each; the chip's own unless said
//   version       what aclrtGetVersion says, such as 1.8.0
//   schedule      plain or delayed, and
//   seed          of the delayed one, for kernels
//   count_only    1: kernels are counted, not run, and their results are never there; a device that is set
//                 up meanwhile has memory for any model
//   fail          CALL:N or CALL:N=STATUS, comma-separated: the N-th call (from 1) of CALL fails.
//                 CALL is an entry point, * for any of them, or task for what runs on streams.
//                 Setting it begins to count anew. What releases something does so all the same.
bool ridge_ascend_twin_set(const char* name, const char* value);

// Calls of entry points since `fail` was set, or since the start.
uint64_t ridge_ascend_twin_calls();

// What aclrtResetDevice and aclFinalize found still there since aclInit, or "". Valid until the next
// call of this thread.
const char* ridge_ascend_twin_left();
}

namespace ridge::backend::ascend::twin_acl {

// The path that aclrtBinaryLoadFromFile takes: the back end's own kernels, compiled against the
// twin, and those that were added.
inline constexpr const char* kernels_path = "ascend-twin:kernels";

// The entry point of that name, or nullptr: for acl::Library::linked.
void* find_entry_point(const char* name);

// Adds a kernel, or takes it for the one of its name. They stay from one aclInit to the next.
void add_kernel(twin::KernelImage kernel);

// Called after each launch, on the stream's thread; an empty one ends that. With count_only, launches
// that differ in nothing but where their memory is have one report.
using LaunchObserver = std::function<void(const twin::KernelImage& kernel, uint32_t blocks,
                                          const std::shared_ptr<const twin::LaunchReport>& report)>;
void observe_launches(LaunchObserver observer);

}  // namespace ridge::backend::ascend::twin_acl
