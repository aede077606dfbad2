// The state behind the entry points: settings, faults to inject, devices, and what handles stand
// for.
#pragma once

#include <fmt/format.h>

#include <atomic>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "backend/ascend/acl/abi.h"
#include "backend/ascend/twin/acl/control.h"
#include "backend/ascend/twin/acl/stream_queue.h"
#include "base/error.h"

namespace ridge::backend::ascend::twin_acl {

namespace status = abi::status;

// Of control.h: the value that was set, else the environment's, else "".
std::string setting(const std::string& name);

// Addresses that were freed and that the system shall not give out again soon, so that who still
// uses them is found. Reserves no memory. Not for several threads at once.
class Quarantine {
 public:
  ~Quarantine();
  struct Pages {
    void* start;
    size_t bytes;
  };

  // The pages of those bytes, which are not mapped any more. Returns addresses that anybody may be
  // given from now on: the oldest ones, or these, where somebody has them already; empty where
  // there are none.
  std::optional<Pages> keep(uint64_t address, uint64_t bytes);

 private:
  std::deque<Pages> kept_;
};

// Page-locked memory of the host. Its pages go when nothing names them any more.
struct HostAllocation {
  explicit HostAllocation(size_t size);
  ~HostAllocation();
  std::byte* data = nullptr;
  size_t bytes;
  std::atomic<bool> is_freed = false;
};

// One device. Tasks hold `use` shared, so that memory does not vanish under them.
struct Chip {
  const Soc* soc = nullptr;
  std::unique_ptr<twin::GlobalMemory> memory;
  std::map<uint64_t, uint64_t> allocations;  // address to bytes
  std::map<uint64_t, uint64_t> freed;        // likewise, the latest of them
  Quarantine quarantine;
  std::shared_mutex use;
  bool is_set = false;  // by aclrtSetDevice; one aclrtResetDevice ends it
  abi::ContextHandle default_context = nullptr;
};

struct ContextState {
  int32_t device = 0;
  abi::StreamHandle default_stream = nullptr;  // made when it is first asked for
  bool is_default = false;
};

struct GraphState {
  int32_t device = 0;
  std::vector<Task> tasks;
  std::atomic<int> running = 0;
};

struct StreamState {
  abi::ContextHandle context = nullptr;
  int32_t device = 0;
  StreamQueue queue;
  std::shared_ptr<GraphState> capture;  // while it is captured
  abi::CaptureMode mode = abi::CaptureMode::global;
  std::thread::id capturer;
};

struct BinaryState {
  int32_t device = 0;
};
struct FunctionState {
  abi::BinaryHandle binary = nullptr;
  twin::KernelImage image;
};
struct ArgumentsState {
  abi::FunctionHandle function = nullptr;
  std::vector<std::byte> bytes;
  bool is_final = false;
};

// Another value each time, for all kinds together.
uint64_t next_handle();

// Handles of one kind. Their values are no addresses and are never used again, so that a stale one,
// a made-up one or one of another kind is known for what it is.
template <typename Handle, typename State>
class Handles {
 public:
  explicit Handles(const char* kind) : kind_(kind) {}

  Handle add(std::shared_ptr<State> state) {
    const auto handle = reinterpret_cast<Handle>(next_handle());
    states_[handle] = std::move(state);
    return handle;
  }
  // Throws Failure where there is none, saying `call`.
  std::shared_ptr<State> find(Handle handle, const char* call) const {
    const auto found = states_.find(handle);
    if (found != states_.end()) return found->second;
    throw Failure{status::invalid_handle,
                  fmt::format("{}: {} is no {}, or one that was destroyed", call,
                              static_cast<const void*>(handle), kind_)};
  }
  std::shared_ptr<State> take(Handle handle, const char* call) {
    auto state = find(handle, call);
    states_.erase(handle);
    return state;
  }
  std::map<Handle, std::shared_ptr<State>>& all() { return states_; }
  const std::map<Handle, std::shared_ptr<State>>& all() const { return states_; }

 private:
  const char* kind_;
  std::map<Handle, std::shared_ptr<State>> states_;
};

// Everything but queues is read and changed under `mutex`, which tasks never take: whoever holds it
// may wait for them.
struct World {
  std::mutex mutex;
  bool is_initialised = false;
  std::string left;  // of ridge_ascend_twin_left
  std::vector<std::unique_ptr<Chip>> chips;
  Handles<abi::ContextHandle, ContextState> contexts{"context"};
  Handles<abi::StreamHandle, StreamState> streams{"stream"};
  Handles<abi::EventHandle, EventState> events{"event"};
  Handles<abi::BinaryHandle, BinaryState> binaries{"binary"};
  Handles<abi::FunctionHandle, FunctionState> functions{"function"};
  Handles<abi::ArgumentsHandle, ArgumentsState> arguments{"list of arguments"};
  Handles<abi::GraphHandle, GraphState> graphs{"graph"};
  std::map<uint64_t, std::shared_ptr<HostAllocation>> host;  // by first address
  std::map<uint64_t, uint64_t> freed_host;
  Quarantine host_quarantine;
  std::map<std::string, twin::KernelImage, std::less<>> kernels;  // of add_kernel

  Chip& chip(int32_t device, const char* call);
  // The calling thread's; throws Failure where it has none.
  std::pair<abi::ContextHandle, std::shared_ptr<ContextState>> context(const char* call);
  // A stream of the calling thread's context; null is its default one.
  std::shared_ptr<StreamState> stream(abi::StreamHandle handle, const char* call);
  // Throws where a capture does not let this thread do what waits, or touches memory.
  void refuse_while_capturing(const char* call) const;
  // What is left of a device, or of all for a device < 0; empty for nothing. Those are released.
  std::string release_all(int32_t device);
};
World& world();

// Reports of launches that were counted, until memory of a device changes: layers launch the same
// kernels on other weights. Two launches are the same where kernel, blocks and the address of the
// tiling, the last argument, are, and all addresses lie alike in their lines of 512 bytes.
class CountedLaunches {
 public:
  using Report = std::shared_ptr<const twin::LaunchReport>;
  // The report that `count` made for the same launch, or now makes.
  Report find(const twin::KernelImage& image, uint32_t blocks,
              std::span<const std::byte> arguments, const std::function<Report()>& count);
  void forget();

 private:
  std::mutex mutex_;
  std::map<std::vector<uint64_t>, Report> reports_;
  std::map<std::string, uint64_t> kernels_;  // numbers for them
};
CountedLaunches& counted_launches();

// Of observe_launches; empty for none.
LaunchObserver launch_observer();

// The calling thread's context; not checked.
abi::ContextHandle& current_context();

// --- What each entry point runs in. ---

// Throws Failure where `fail` asks for it.
void count_call(const char* call);
// The status of what is being thrown, whose text aclGetRecentErrMsg then tells.
abi::Status status_of_exception(const char* call);
std::string& recent_message();

enum class Needs : uint8_t { nothing, initialised };
void check_initialised(const char* call);

template <typename Body>
abi::Status entry(const char* call, Needs needs, const Body& body) {
  try {
    count_call(call);
    if (needs == Needs::initialised) check_initialised(call);
    body();
    return status::success;
  } catch (...) {
    return status_of_exception(call);
  }
}
template <typename Body>
abi::Status entry(const char* call, const Body& body) {
  return entry(call, Needs::initialised, body);
}
// Of what releases something: a fault comes afterwards, as nobody could try again.
template <typename Body>
abi::Status releasing_entry(const char* call, const Body& body) {
  try {
    check_initialised(call);
    body();
    count_call(call);
    return status::success;
  } catch (...) {
    return status_of_exception(call);
  }
}

}  // namespace ridge::backend::ascend::twin_acl
