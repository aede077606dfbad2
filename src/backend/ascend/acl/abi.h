// Our own declarations of the part of the ACL runtime (libascendcl, ACL 1.13, CANN 8.1) that ridge calls. Names,
// parameter types and values are those of the binary interface; no header of CANN is needed to build. Handles are
// `void*` there; here each has a type of its own, so that a stream cannot be passed for an event.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ridge::backend::ascend::abi {

using Status = int32_t;  // 0 is success; values below
using ContextHandle = struct OpaqueContext*;
using StreamHandle = struct OpaqueStream*;
using EventHandle = struct OpaqueEvent*;
using BinaryHandle = struct OpaqueBinary*;
using FunctionHandle = struct OpaqueFunction*;
using ArgumentsHandle = struct OpaqueArguments*;
using ParameterHandle = struct OpaqueParameter*;
using GraphHandle = struct OpaqueGraph*;

enum class MallocPolicy : int32_t { huge_pages_first = 0 };
enum class CopyKind : int32_t {
  host_to_host = 0,
  host_to_device = 1,
  device_to_host = 2,
  device_to_device = 3,
};
enum class MemoryKind : int32_t { hbm = 1 };
enum class EventStatus : int32_t { not_ready = 0, complete = 1 };
enum class CaptureMode : int32_t { global = 0, thread_local_ = 1, relaxed = 2 };

inline constexpr uint32_t event_for_synchronising = 0x1;
inline constexpr uint32_t event_with_time = 0x8;

// How a kernel is put on the cores. Attribute 1 with mode 1 starts all blocks together, which
// kernels need whose blocks wait for each other.
struct LaunchAttribute {
  int32_t id = 1;
  union {
    uint8_t schedule_mode;
    uint32_t reserved[4];
  } value = {.reserved = {0, 0, 0, 0}};
};
struct LaunchConfig {
  LaunchAttribute* attributes = nullptr;
  size_t count = 0;
};
static_assert(sizeof(LaunchAttribute) == 20 && sizeof(LaunchConfig) == 16);
struct BinaryLoadOptions;  // always null here
struct PlaceHolder;        // likewise

// The statuses that ridge or the twin treats as more than "failed".
namespace status {
inline constexpr Status success = 0;
inline constexpr Status invalid_parameter = 100000;
inline constexpr Status not_initialised = 100001;
inline constexpr Status repeated_initialise = 100002;
inline constexpr Status invalid_file = 100003;
inline constexpr Status runtime_invalid_parameter = 107000;
inline constexpr Status invalid_device = 107001;
inline constexpr Status no_context = 107002;
inline constexpr Status stream_of_other_context = 107003;
inline constexpr Status address_not_aligned = 107008;
inline constexpr Status file_not_opened = 107009;
inline constexpr Status invalid_memory_type = 107016;
inline constexpr Status invalid_handle = 107017;
inline constexpr Status wait_timed_out = 107019;
inline constexpr Status task_timed_out = 107020;
inline constexpr Status stream_captured = 107027;
inline constexpr Status stream_not_captured = 107029;
inline constexpr Status not_while_capturing = 107030;
inline constexpr Status default_stream_captured = 107031;
inline constexpr Status resources_left = 148051;
inline constexpr Status host_out_of_memory = 200000;
inline constexpr Status interface_unsupported = 200001;
inline constexpr Status feature_unsupported = 200006;
inline constexpr Status runtime_feature_unsupported = 207000;
inline constexpr Status out_of_memory = 207001;
inline constexpr Status no_device = 207004;
inline constexpr Status no_permission = 207006;
inline constexpr Status device_out_of_memory = 207018;
inline constexpr Status internal_error = 500000;
inline constexpr Status heartbeat_lost = 507010;
inline constexpr Status copy_failed = 507013;
inline constexpr Status core_timed_out = 507014;
inline constexpr Status core_exception = 507015;
inline constexpr Status vector_core_timed_out = 507034;
inline constexpr Status stream_wait_timed_out = 507046;
inline constexpr Status driver_error = 507899;
}  // namespace status

// FUNCTION(result, name, (parameters)): what every library must have.
#define RIDGE_ACL_FUNCTIONS(FUNCTION)                                                             \
  FUNCTION(Status, aclInit, (const char* config_path))                                            \
  FUNCTION(Status, aclFinalize, ())                                                               \
  FUNCTION(Status, aclrtGetVersion, (int32_t * major, int32_t* minor, int32_t* patch))            \
  FUNCTION(const char*, aclGetRecentErrMsg, ())                                                   \
  FUNCTION(Status, aclrtGetDeviceCount, (uint32_t * count))                                       \
  FUNCTION(const char*, aclrtGetSocName, ())                                                      \
  FUNCTION(Status, aclrtSetDevice, (int32_t device))                                              \
  FUNCTION(Status, aclrtResetDevice, (int32_t device))                                            \
  FUNCTION(Status, aclrtCreateContext, (ContextHandle * context, int32_t device))                 \
  FUNCTION(Status, aclrtDestroyContext, (ContextHandle context))                                  \
  FUNCTION(Status, aclrtSetCurrentContext, (ContextHandle context))                               \
  FUNCTION(Status, aclrtGetMemInfo, (MemoryKind kind, size_t* free_bytes, size_t* total_bytes))   \
  FUNCTION(Status, aclrtMalloc, (void** address, size_t bytes, MallocPolicy policy))              \
  FUNCTION(Status, aclrtFree, (void* address))                                                    \
  FUNCTION(Status, aclrtMallocHost, (void** address, size_t bytes))                               \
  FUNCTION(Status, aclrtFreeHost, (void* address))                                                \
  FUNCTION(Status, aclrtMemcpy,                                                                   \
           (void* to, size_t to_bytes, const void* from, size_t bytes, CopyKind kind))            \
  FUNCTION(Status, aclrtMemcpyAsync,                                                              \
           (void* to, size_t to_bytes, const void* from, size_t bytes, CopyKind kind,             \
            StreamHandle stream))                                                                 \
  FUNCTION(Status, aclrtMemset, (void* to, size_t to_bytes, int32_t value, size_t bytes))         \
  FUNCTION(Status, aclrtMemsetAsync,                                                              \
           (void* to, size_t to_bytes, int32_t value, size_t bytes, StreamHandle stream))         \
  FUNCTION(Status, aclrtCreateStreamWithConfig,                                                   \
           (StreamHandle * stream, uint32_t priority, uint32_t flags))                            \
  FUNCTION(Status, aclrtDestroyStream, (StreamHandle stream))                                     \
  FUNCTION(Status, aclrtSynchronizeStream, (StreamHandle stream))                                 \
  FUNCTION(Status, aclrtSynchronizeStreamWithTimeout, (StreamHandle stream, int32_t timeout_ms))  \
  FUNCTION(Status, aclrtStreamWaitEvent, (StreamHandle stream, EventHandle event))                \
  FUNCTION(Status, aclrtCreateEventExWithFlag, (EventHandle * event, uint32_t flags))             \
  FUNCTION(Status, aclrtDestroyEvent, (EventHandle event))                                        \
  FUNCTION(Status, aclrtRecordEvent, (EventHandle event, StreamHandle stream))                    \
  FUNCTION(Status, aclrtQueryEventStatus, (EventHandle event, EventStatus* status))               \
  FUNCTION(Status, aclrtSynchronizeEvent, (EventHandle event))                                    \
  FUNCTION(Status, aclrtEventElapsedTime,                                                         \
           (float* milliseconds, EventHandle start, EventHandle end))                             \
  FUNCTION(Status, aclrtBinaryLoadFromFile,                                                       \
           (const char* path, BinaryLoadOptions* options, BinaryHandle* binary))                  \
  FUNCTION(Status, aclrtBinaryUnLoad, (BinaryHandle binary))                                      \
  FUNCTION(Status, aclrtBinaryGetFunction,                                                        \
           (BinaryHandle binary, const char* name, FunctionHandle* function))                     \
  FUNCTION(Status, aclrtKernelArgsInit, (FunctionHandle function, ArgumentsHandle* arguments))    \
  FUNCTION(Status, aclrtKernelArgsAppend,                                                         \
           (ArgumentsHandle arguments, void* value, size_t bytes, ParameterHandle* parameter))    \
  FUNCTION(Status, aclrtKernelArgsFinalize, (ArgumentsHandle arguments))                          \
  FUNCTION(Status, aclrtLaunchKernelWithConfig,                                                   \
           (FunctionHandle function, uint32_t blocks, StreamHandle stream, LaunchConfig* config,  \
            ArgumentsHandle arguments, void* reserved))

// What newer libraries have too, or what CANN calls experimental; null where it is missing.
#define RIDGE_ACL_OPTIONAL_FUNCTIONS(FUNCTION)                                                    \
  FUNCTION(Status, aclrtLaunchKernelWithHostArgs,                                                 \
           (FunctionHandle function, uint32_t blocks, StreamHandle stream, LaunchConfig* config,  \
            void* arguments, size_t bytes, PlaceHolder* places, size_t place_count))              \
  FUNCTION(Status, aclmdlRICaptureBegin, (StreamHandle stream, CaptureMode mode))                 \
  FUNCTION(Status, aclmdlRICaptureEnd, (StreamHandle stream, GraphHandle* graph))                 \
  FUNCTION(Status, aclmdlRIExecuteAsync, (GraphHandle graph, StreamHandle stream))                \
  FUNCTION(Status, aclmdlRIDestroy, (GraphHandle graph))

// The entry points of one library.
struct Functions {
#define RIDGE_ACL_MEMBER(result, name, parameters) result(*name) parameters = nullptr;
  RIDGE_ACL_FUNCTIONS(RIDGE_ACL_MEMBER)
  RIDGE_ACL_OPTIONAL_FUNCTIONS(RIDGE_ACL_MEMBER)
#undef RIDGE_ACL_MEMBER
};

}  // namespace ridge::backend::ascend::abi
