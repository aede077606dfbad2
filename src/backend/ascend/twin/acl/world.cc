#include "backend/ascend/twin/acl/world.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <optional>

namespace ridge::backend::ascend::twin_acl {
namespace {

constexpr const char* setting_names[] = {"soc",      "devices", "memory_bytes", "version",
                                         "schedule", "seed",    "count_only", "fail"};

struct Settings {
  std::mutex mutex;
  std::map<std::string, std::string> values;
};
Settings& settings() {
  static auto* all = new Settings;
  return *all;
}

std::string environment_name(std::string name) {
  for (char& letter : name) {
    if (letter >= 'a' && letter <= 'z') letter = static_cast<char>(letter - 'a' + 'A');
  }
  return "RIDGE_ASCEND_TWIN_" + name;
}

struct Fault {
  std::string call;
  uint64_t nth = 0;
  abi::Status status = status::internal_error;
};

// "CALL:N=STATUS", "CALL:N"
std::optional<Fault> parse_fault(std::string_view text) {
  Fault fault;
  const size_t colon = text.find(':');
  if (colon == std::string_view::npos) return std::nullopt;
  fault.call = text.substr(0, colon);
  text.remove_prefix(colon + 1);
  const char* end = text.data() + text.size();
  const auto [after, failure] = std::from_chars(text.data(), end, fault.nth);
  if (failure != std::errc{} || fault.nth == 0) return std::nullopt;
  if (after == end) return fault;
  if (*after != '=') return std::nullopt;
  const auto [last, wrong] = std::from_chars(after + 1, end, fault.status);
  if (wrong != std::errc{} || last != end || fault.status == 0) return std::nullopt;
  return fault;
}

struct Faults {
  std::mutex mutex;
  std::string text;  // that `faults` were read from
  std::vector<Fault> faults;
  uint64_t calls = 0;  // of entry points
  std::map<std::string, uint64_t, std::less<>> calls_of;
};
Faults& faults() {
  static auto* all = new Faults;
  return *all;
}

void begin_anew(Faults& all) {
  all.text.clear();
  all.faults.clear();
  all.calls = 0;
  all.calls_of.clear();
}

void read_faults(Faults& all, const std::string& text) {
  begin_anew(all);
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const auto fault = parse_fault(std::string_view(text).substr(begin, end - begin));
    if (!fault) {
      all.faults.clear();
      throw Failure{
          status::invalid_parameter,
          fmt::format("RIDGE_ASCEND_TWIN_FAIL is '{}': it wants CALL:N or CALL:N=STATUS", text)};
    }
    all.faults.push_back(*fault);
    begin = end + 1;
  }
  all.text = text;
}

abi::Status status_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::out_of_memory:
      return status::out_of_memory;
    case ErrorCode::invalid_argument:
      return status::runtime_invalid_parameter;
    case ErrorCode::not_found:
      return status::invalid_parameter;
    default:
      return status::internal_error;
  }
}

size_t page_bytes() { return static_cast<size_t>(::sysconf(_SC_PAGESIZE)); }
size_t whole_pages(size_t bytes) {
  return (bytes + page_bytes() - 1) / page_bytes() * page_bytes();
}

void describe(std::string& text, size_t count, const char* one, const char* many) {
  if (count == 0) return;
  text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count, count == 1 ? one : many);
}

}  // namespace

std::string setting(const std::string& name) {
  const std::lock_guard lock(settings().mutex);
  const auto found = settings().values.find(name);
  if (found != settings().values.end()) return found->second;
  const char* value = std::getenv(environment_name(name).c_str());
  return value == nullptr ? "" : value;
}

Quarantine::~Quarantine() {
  for (const Pages& pages : kept_) ::munmap(pages.start, pages.bytes);
}

std::optional<Quarantine::Pages> Quarantine::keep(uint64_t address, uint64_t bytes) {
  constexpr size_t most = 1024;
  const uint64_t start = address / page_bytes() * page_bytes();
  const size_t size = whole_pages(address + bytes - start);
  void* pages = ::mmap(reinterpret_cast<void*>(start), size, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
  if (pages == MAP_FAILED) return Pages{reinterpret_cast<void*>(start), size};
  kept_.push_back({pages, size});
  if (kept_.size() <= most) return std::nullopt;
  const Pages oldest = kept_.front();
  kept_.pop_front();
  ::munmap(oldest.start, oldest.bytes);
  return oldest;
}

HostAllocation::HostAllocation(size_t size) : bytes(size) {
  // The page behind it is not accessible: what runs over the end faults.
  void* pages = ::mmap(nullptr, whole_pages(bytes) + page_bytes(), PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (pages == MAP_FAILED || ::mprotect(pages, whole_pages(bytes), PROT_READ | PROT_WRITE) != 0) {
    if (pages != MAP_FAILED) ::munmap(pages, whole_pages(bytes) + page_bytes());
    throw Failure{status::host_out_of_memory,
                  fmt::format("aclrtMallocHost: the system gives no {} bytes", bytes)};
  }
  data = static_cast<std::byte*>(pages);
  std::memset(data, 0xff, bytes);
}

HostAllocation::~HostAllocation() { ::munmap(data, whole_pages(bytes) + page_bytes()); }

uint64_t next_handle() {
  static std::atomic<uint64_t> last = 0;
  return 0x7ac1'0000'0000'0000 + 16 * (last.fetch_add(1) + 1);
}

World& world() {
  // Never destroyed: threads of streams that nobody ended may still use it at the end of the
  // process.
  static auto* all = new World;
  return *all;
}

abi::ContextHandle& current_context() {
  thread_local abi::ContextHandle current = nullptr;
  return current;
}

std::string& recent_message() {
  thread_local std::string message;
  return message;
}

void count_call(const char* call) {
  Faults& all = faults();
  const std::lock_guard lock(all.mutex);
  if (const std::string text = setting("fail"); text != all.text) read_faults(all, text);
  const bool is_entry = std::strcmp(call, "task") != 0;
  if (is_entry) ++all.calls;
  const uint64_t of_this = ++all.calls_of[call];
  for (const Fault& fault : all.faults) {
    const bool hits = fault.call == "*" ? is_entry && fault.nth == all.calls
                                        : fault.call == call && fault.nth == of_this;
    if (hits) {
      throw Failure{fault.status, fmt::format("{}: fault injected by RIDGE_ASCEND_TWIN_FAIL={}:{}",
                                              call, fault.call, fault.nth)};
    }
  }
}

abi::Status status_of_exception(const char* call) {
  try {
    throw;
  } catch (const Failure& failure) {
    recent_message() = failure.message;
    return failure.status;
  } catch (const Error& error) {
    recent_message() = fmt::format("{}: {}", call, error.message());
    return status_of(error.code());
  } catch (const std::bad_alloc&) {
    recent_message() = fmt::format("{}: the host has no memory", call);
    return status::host_out_of_memory;
  } catch (const std::exception& other) {
    recent_message() = fmt::format("{}: {}", call, other.what());
    return status::internal_error;
  } catch (...) {  // nothing may leave an entry point
    recent_message() = fmt::format("{}: something unknown was thrown", call);
    return status::internal_error;
  }
}

void check_initialised(const char* call) {
  const std::lock_guard lock(world().mutex);
  if (!world().is_initialised) {
    throw Failure{status::not_initialised, fmt::format("{}: aclInit comes first", call)};
  }
}

Chip& World::chip(int32_t device, const char* call) {
  if (device >= 0 && static_cast<size_t>(device) < chips.size()) {
    return *chips[static_cast<size_t>(device)];
  }
  throw Failure{status::invalid_device,
                fmt::format("{}: there is no device {}; there are {}", call, device, chips.size())};
}

std::pair<abi::ContextHandle, std::shared_ptr<ContextState>> World::context(const char* call) {
  const auto found = contexts.all().find(current_context());
  if (found == contexts.all().end()) {
    throw Failure{status::no_context,
                  fmt::format("{}: this thread has no context, or one that was destroyed; "
                              "aclrtSetDevice or aclrtSetCurrentContext gives it one",
                              call)};
  }
  return {found->first, found->second};
}

std::shared_ptr<StreamState> World::stream(abi::StreamHandle handle, const char* call) {
  const auto [current, state] = context(call);
  if (handle == nullptr) {
    if (state->default_stream == nullptr) {
      auto stream = std::make_shared<StreamState>();
      stream->context = current;
      stream->device = state->device;
      state->default_stream = streams.add(std::move(stream));
    }
    handle = state->default_stream;
  }
  auto stream = streams.find(handle, call);
  if (stream->context != current) {
    throw Failure{status::stream_of_other_context,
                  fmt::format("{}: the stream is of another context than this thread's", call)};
  }
  return stream;
}

void World::refuse_while_capturing(const char* call) const {
  for (const auto& [handle, stream] : streams.all()) {
    if (stream->capture == nullptr) continue;
    const bool is_hit = stream->mode == abi::CaptureMode::global ||
                        (stream->mode == abi::CaptureMode::thread_local_ &&
                         stream->capturer == std::this_thread::get_id());
    if (is_hit) {
      throw Failure{
          status::not_while_capturing,
          fmt::format("{}: a stream is being captured, and this would not be part of it", call)};
    }
  }
}

std::string World::release_all(int32_t device) {
  std::string left;
  const auto is_of = [&](int32_t other) { return device < 0 || device == other; };
  const auto drop = [&](auto& handles, const char* one, const char* many, const auto& counts) {
    size_t count = 0;
    std::erase_if(handles.all(), [&](const auto& item) {
      if (!is_of(item.second->device)) return false;
      count += counts(item) ? 1 : 0;
      return true;
    });
    describe(left, count, one, many);
  };
  const auto always = [](const auto&) { return true; };
  // Streams first: what they still run names the rest.
  std::vector<abi::StreamHandle> of_contexts;
  for (const auto& [handle, context] : contexts.all())
    of_contexts.push_back(context->default_stream);
  drop(streams, "stream", "streams", [&](const auto& item) {
    return std::ranges::find(of_contexts, item.first) == of_contexts.end();
  });
  drop(graphs, "graph", "graphs", always);
  drop(binaries, "binary", "binaries", always);
  drop(contexts, "context", "contexts", [](const auto& item) { return !item.second->is_default; });
  for (size_t i = 0; i < chips.size(); ++i) {
    if (!is_of(static_cast<int32_t>(i))) continue;
    Chip& chip = *chips[i];
    uint64_t bytes = 0;
    for (const auto& [address, size] : chip.allocations) bytes += size;
    describe(left, chip.allocations.size(), "allocation", "allocations");
    if (bytes > 0) left += fmt::format(" of {} bytes on device {}", bytes, i);
    chip.allocations.clear();
    chip.freed.clear();
    chip.memory.reset();
    chip.default_context = nullptr;
    if (device < 0) describe(left, chip.is_set ? 1 : 0, "device", "devices");
    chip.is_set = false;
  }
  if (device >= 0) return left;
  // Of no device.
  describe(left, events.all().size(), "event", "events");
  describe(left, host.size(), "allocation of host memory", "allocations of host memory");
  events.all().clear();
  functions.all().clear();
  arguments.all().clear();
  host.clear();
  freed_host.clear();
  return left;
}

void add_kernel(twin::KernelImage kernel) {
  const std::lock_guard lock(world().mutex);
  std::string name = kernel.name;
  world().kernels.insert_or_assign(std::move(name), std::move(kernel));
}

namespace {

struct Observer {
  std::mutex mutex;
  LaunchObserver call;
};
Observer& observer() {
  static auto* one = new Observer;
  return *one;
}

}  // namespace

void observe_launches(LaunchObserver call) {
  const std::lock_guard lock(observer().mutex);
  observer().call = std::move(call);
}

LaunchObserver launch_observer() {
  const std::lock_guard lock(observer().mutex);
  return observer().call;
}

}  // namespace ridge::backend::ascend::twin_acl

using namespace ridge::backend::ascend::twin_acl;

extern "C" bool ridge_ascend_twin_set(const char* name, const char* value) {
  if (std::ranges::find(setting_names, std::string_view(name)) == std::end(setting_names)) {
    return false;
  }
  {
    const std::lock_guard lock(settings().mutex);
    if (value == nullptr) {
      settings().values.erase(name);
    } else {
      settings().values[name] = value;
    }
  }
  if (std::strcmp(name, "fail") == 0) {
    const std::lock_guard lock(faults().mutex);
    begin_anew(faults());
  }
  return true;
}

extern "C" uint64_t ridge_ascend_twin_calls() {
  const std::lock_guard lock(faults().mutex);
  return faults().calls;
}

extern "C" const char* ridge_ascend_twin_left() {
  thread_local std::string told;
  const std::lock_guard lock(world().mutex);
  told = world().left;
  return told.c_str();
}
