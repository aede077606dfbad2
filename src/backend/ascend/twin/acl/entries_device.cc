// Entry points of the library itself, of devices and of contexts.
#include <cstdio>
#include <cstdlib>

#include "backend/ascend/twin/acl/entry_points.h"
#include "backend/ascend/twin/acl/world.h"

namespace ridge::backend::ascend::twin_acl {
namespace {

constexpr uint64_t most_devices = 16;

uint64_t number(const char* name, uint64_t otherwise, uint64_t most) {
  const std::string text = setting(name);
  if (text.empty()) return otherwise;
  char* end = nullptr;
  const uint64_t value = std::strtoull(text.c_str(), &end, 10);
  if (*end != '\0' || text[0] < '0' || text[0] > '9' || value > most) {
    throw Failure{status::invalid_parameter,
                  fmt::format("RIDGE_ASCEND_TWIN: {} is '{}'; a number from 0 to {} would be right",
                              name, text, most)};
  }
  return value;
}

const Soc& chosen_soc() {
  const std::string name = setting("soc");
  return find_soc(name.empty() ? "910B2" : name);
}

// What is only counted takes no memory: a chip may have as much as any model wants.
constexpr uint64_t counted_memory_bytes = uint64_t{1} << 44;

uint64_t memory_bytes(const Soc& soc) {
  if (setting("count_only") == "1") return counted_memory_bytes;
  return number("memory_bytes", soc.memory_bytes, soc.memory_bytes);
}

void read_version(int32_t (&parts)[3]) {
  const std::string text = setting("version");
  if (text.empty()) return;
  char after = 0;
  if (std::sscanf(text.c_str(), "%d.%d.%d%c", &parts[0], &parts[1], &parts[2], &after) != 3) {
    throw Failure{status::invalid_parameter,
                  fmt::format("RIDGE_ASCEND_TWIN: version is '{}'; 1.13.0 would be right", text)};
  }
}

// Tells what a device, or the process, has not given back.
void tell(World& all, const char* call, const std::string& left) {
  if (left.empty()) return;
  all.left += (all.left.empty() ? "" : "; ") + left;
  const std::string text = fmt::format("{}: still there: {}", call, left);
  std::fprintf(stderr, "ascend-twin: %s\n", text.c_str());
  throw Failure{status::resources_left, text};
}

}  // namespace

extern "C" {

abi::Status aclInit(const char*) {
  return entry("aclInit", Needs::nothing, [] {
    World& all = world();
    const std::lock_guard lock(all.mutex);
    if (all.is_initialised) {
      throw Failure{status::repeated_initialise, "aclInit: once is enough"};
    }
    const Soc& soc = chosen_soc();
    const uint64_t count = number("devices", 1, most_devices);
    memory_bytes(soc);  // a wrong setting is told here
    all.chips.clear();
    for (uint64_t i = 0; i < count; ++i) {
      all.chips.push_back(std::make_unique<Chip>());
      all.chips.back()->soc = &soc;
    }
    all.left.clear();
    all.is_initialised = true;
  });
}

abi::Status aclFinalize() {
  return releasing_entry("aclFinalize", [] {
    World& all = world();
    const std::lock_guard lock(all.mutex);
    const std::string left = all.release_all(/*device=*/-1);
    all.is_initialised = false;
    tell(all, "aclFinalize", left);
  });
}

abi::Status aclrtGetVersion(int32_t* major, int32_t* minor, int32_t* patch) {
  return entry("aclrtGetVersion", Needs::nothing, [&] {
    int32_t parts[3] = {1, 13, 0};
    read_version(parts);
    *major = parts[0];
    *minor = parts[1];
    *patch = parts[2];
  });
}

const char* aclGetRecentErrMsg() {
  // Valid until the thread asks again, and told once.
  thread_local std::string told;
  told = std::move(recent_message());
  recent_message().clear();
  return told.empty() ? nullptr : told.c_str();
}

abi::Status aclrtGetDeviceCount(uint32_t* count) {
  return entry("aclrtGetDeviceCount", [&] {
    const std::lock_guard lock(world().mutex);
    *count = static_cast<uint32_t>(world().chips.size());
  });
}

const char* aclrtGetSocName() {
  const char* soc = nullptr;
  entry("aclrtGetSocName", [&] { soc = chosen_soc().name.data(); });
  return soc;
}

abi::Status aclrtSetDevice(int32_t device) {
  return entry("aclrtSetDevice", [&] {
    World& all = world();
    const std::lock_guard lock(all.mutex);
    Chip& chip = all.chip(device, "aclrtSetDevice");
    if (chip.memory == nullptr) {
      chip.memory = std::make_unique<twin::GlobalMemory>(memory_bytes(*chip.soc));
    }
    if (chip.default_context == nullptr) {
      auto context = std::make_shared<ContextState>();
      context->device = device;
      context->is_default = true;
      chip.default_context = all.contexts.add(std::move(context));
    }
    chip.is_set = true;
    current_context() = chip.default_context;
  });
}

abi::Status aclrtResetDevice(int32_t device) {
  return releasing_entry("aclrtResetDevice", [&] {
    World& all = world();
    const std::lock_guard lock(all.mutex);
    Chip& chip = all.chip(device, "aclrtResetDevice");
    if (!chip.is_set) {
      throw Failure{status::invalid_device,
                    fmt::format("aclrtResetDevice: nobody has set device {}", device)};
    }
    tell(all, "aclrtResetDevice", all.release_all(device));
  });
}

abi::Status aclrtCreateContext(abi::ContextHandle* context, int32_t device) {
  return entry("aclrtCreateContext", [&] {
    World& all = world();
    const std::lock_guard lock(all.mutex);
    if (!all.chip(device, "aclrtCreateContext").is_set) {
      throw Failure{status::invalid_device,
                    fmt::format("aclrtCreateContext: aclrtSetDevice({}) comes first", device)};
    }
    auto state = std::make_shared<ContextState>();
    state->device = device;
    *context = all.contexts.add(std::move(state));
    current_context() = *context;
  });
}

abi::Status aclrtDestroyContext(abi::ContextHandle context) {
  return releasing_entry("aclrtDestroyContext", [&] {
    World& all = world();
    std::shared_ptr<StreamState> default_stream;
    const std::lock_guard lock(all.mutex);
    const auto state = all.contexts.find(context, "aclrtDestroyContext");
    if (state->is_default) {
      throw Failure{status::runtime_invalid_parameter,
                    "aclrtDestroyContext: a device's own context goes with aclrtResetDevice"};
    }
    for (const auto& [handle, stream] : all.streams.all()) {
      if (stream->context == context && handle != state->default_stream) {
        throw Failure{status::runtime_invalid_parameter,
                      "aclrtDestroyContext: streams of the context are still there"};
      }
    }
    if (state->default_stream != nullptr) {
      default_stream = all.streams.take(state->default_stream, "aclrtDestroyContext");
    }
    all.contexts.take(context, "aclrtDestroyContext");
  });
}

abi::Status aclrtSetCurrentContext(abi::ContextHandle context) {
  return entry("aclrtSetCurrentContext", [&] {
    const std::lock_guard lock(world().mutex);
    world().contexts.find(context, "aclrtSetCurrentContext");
    current_context() = context;
  });
}

abi::Status aclrtGetMemInfo(abi::MemoryKind kind, size_t* free_bytes, size_t* total_bytes) {
  return entry("aclrtGetMemInfo", [&] {
    World& all = world();
    const std::lock_guard lock(all.mutex);
    const auto [handle, context] = all.context("aclrtGetMemInfo");
    if (kind != abi::MemoryKind::hbm) {
      throw Failure{status::invalid_memory_type, "aclrtGetMemInfo: only HBM (1) is there"};
    }
    const twin::GlobalMemory& memory = *all.chip(context->device, "aclrtGetMemInfo").memory;
    *total_bytes = memory.capacity_bytes();
    *free_bytes = memory.capacity_bytes() - memory.used_bytes();
  });
}

}  // extern "C"

}  // namespace ridge::backend::ascend::twin_acl
