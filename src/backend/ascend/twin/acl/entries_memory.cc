// Entry points of memory: who it belongs to is checked before anything is touched.
#include <cstring>
#include <span>

#include "backend/ascend/twin/acl/enqueue.h"
#include "backend/ascend/twin/acl/entry_points.h"
#include "backend/ascend/twin/acl/world.h"

namespace ridge::backend::ascend::twin_acl {
namespace {

constexpr size_t freed_to_remember = 4096;
constexpr uint64_t async_alignment = 64;  // of copies on the device

uint64_t number_of(const void* address) { return reinterpret_cast<uint64_t>(address); }

// The first range of `ranges` (address to anything with a size) that holds `address`.
template <typename Ranges, typename Size>
auto range_at(const Ranges& ranges, uint64_t address, const Size& size) {
  auto found = ranges.upper_bound(address);
  if (found == ranges.begin()) return ranges.end();
  --found;
  return address - found->first < size(found->second) ? found : ranges.end();
}
constexpr auto plain = [](uint64_t bytes) { return bytes; };

void remember(std::map<uint64_t, uint64_t>& freed, uint64_t address, uint64_t bytes) {
  if (freed.size() >= freed_to_remember) freed.erase(freed.begin());
  freed[address] = bytes;
}
// Addresses that are in use again.
void forget(std::map<uint64_t, uint64_t>& freed, uint64_t address, uint64_t bytes) {
  auto first = freed.lower_bound(address);
  if (first != freed.begin() && std::prev(first)->first + std::prev(first)->second > address) {
    --first;
  }
  while (first != freed.end() && first->first < address + bytes) first = freed.erase(first);
}

// The system gives these addresses to anybody again, so that they say nothing of who uses them.
void forget(std::map<uint64_t, uint64_t>& freed, const std::optional<Quarantine::Pages>& pages) {
  if (pages) forget(freed, number_of(pages->start), pages->bytes);
}

// Where some bytes are.
struct Place {
  Chip* chip = nullptr;  // null for the host
  int32_t device = -1;
  std::shared_ptr<HostAllocation> pinned;  // of the host, where it is that
  uint64_t address = 0;
};

// Throws Failure for bytes that are partly, or no longer, somebody's.
Place place_of(World& all, const void* at, size_t bytes, const char* call, const char* role) {
  Place place{.address = number_of(at)};
  const auto within = [&](uint64_t start, uint64_t size, const char* kind) {
    if (place.address + bytes <= start + size) return;
    throw Failure{
        status::runtime_invalid_parameter,
        fmt::format("{}: {} bytes from the {} at {} run {} bytes over the end of {} of {} bytes",
                    call, bytes, role, at, place.address + bytes - start - size, kind, size)};
  };
  const auto refuse_freed = [&](const std::map<uint64_t, uint64_t>& freed, const char* kind) {
    if (range_at(freed, place.address, plain) == freed.end()) return;
    throw Failure{status::runtime_invalid_parameter,
                  fmt::format("{}: the {} at {} is {} that was freed", call, role, at, kind)};
  };
  for (size_t i = 0; i < all.chips.size(); ++i) {
    Chip& chip = *all.chips[i];
    const auto found = range_at(chip.allocations, place.address, plain);
    if (found != chip.allocations.end()) {
      within(found->first, found->second, "an allocation");
      place.chip = &chip;
      place.device = static_cast<int32_t>(i);
      return place;
    }
    refuse_freed(chip.freed, "device memory");
  }
  const auto found =
      range_at(all.host, place.address, [](const auto& allocation) { return allocation->bytes; });
  if (found != all.host.end()) {
    within(found->first, found->second->bytes, "an allocation of host memory");
    place.pinned = found->second;
    return place;
  }
  refuse_freed(all.freed_host, "host memory");
  return place;
}

void expect(const Place& place, bool on_device, const char* call, const char* role) {
  if ((place.chip != nullptr) == on_device) return;
  throw Failure{status::invalid_memory_type,
                fmt::format("{}: the {} at {:#x} is memory of the {}, and the kind of copy says {}",
                            call, role, place.address, on_device ? "host" : "device",
                            on_device ? "device" : "host")};
}

struct Copy {
  Place to, from;
  size_t bytes = 0;
};

Copy check_copy(World& all, void* to, size_t to_bytes, const void* from, size_t bytes,
                abi::CopyKind kind, const char* call) {
  if (to == nullptr || from == nullptr || bytes == 0) {
    throw Failure{status::runtime_invalid_parameter,
                  fmt::format("{}: of {} bytes from {} to {}; nothing of it may be 0", call, bytes,
                              from, to)};
  }
  if (bytes > to_bytes) {
    throw Failure{
        status::runtime_invalid_parameter,
        fmt::format("{}: {} bytes do not fit the destination's {}", call, bytes, to_bytes)};
  }
  if (kind < abi::CopyKind::host_to_host || kind > abi::CopyKind::device_to_device) {
    throw Failure{status::runtime_invalid_parameter,
                  fmt::format("{}: there is no kind {} of copy", call, static_cast<int>(kind))};
  }
  Copy copy{place_of(all, to, to_bytes, call, "destination"),
            place_of(all, from, bytes, call, "source"), bytes};
  const bool to_device =
      kind == abi::CopyKind::host_to_device || kind == abi::CopyKind::device_to_device;
  const bool from_device =
      kind == abi::CopyKind::device_to_host || kind == abi::CopyKind::device_to_device;
  expect(copy.to, to_device, call, "destination");
  expect(copy.from, from_device, call, "source");
  if (to_device && from_device && copy.to.chip != copy.from.chip) {
    throw Failure{status::runtime_feature_unsupported,
                  fmt::format("{}: the twin does not copy from one device to another", call)};
  }
  return copy;
}

// On whichever thread; throws Failure where memory went away meanwhile.
void run_copy(const Copy& copy, const char* call) {
  for (const Place* place : {&copy.to, &copy.from}) {
    if (place->pinned != nullptr && place->pinned->is_freed) {
      throw Failure{status::copy_failed,
                    fmt::format("{}: the host memory at {:#x} was freed before the copy ran", call,
                                place->address)};
    }
  }
  const auto host = [&](const Place& place) {
    return std::span(reinterpret_cast<std::byte*>(place.address), copy.bytes);
  };
  if (copy.to.chip == nullptr && copy.from.chip == nullptr) {
    std::memcpy(host(copy.to).data(), host(copy.from).data(), copy.bytes);
    return;
  }
  Chip& chip = copy.to.chip != nullptr ? *copy.to.chip : *copy.from.chip;
  if (copy.to.chip != nullptr) counted_launches().forget();
  const std::shared_lock use(chip.use);
  try {
    if (copy.to.chip == nullptr) {
      chip.memory->read(copy.from.address, host(copy.to));
    } else if (copy.from.chip == nullptr) {
      chip.memory->write(copy.to.address, host(copy.from));
    } else {
      chip.memory->copy(copy.to.address, copy.from.address, copy.bytes);
    }
  } catch (const Error& error) {
    throw Failure{
        status::copy_failed,
        fmt::format("{}: device memory went away before the copy ran: {}", call, error.message())};
  }
}

Place check_fill(World& all, void* to, size_t to_bytes, size_t bytes, const char* call) {
  if (to == nullptr || bytes == 0 || bytes > to_bytes) {
    throw Failure{status::runtime_invalid_parameter,
                  fmt::format("{}: {} bytes of {} at {}; the first may be 1 to the second", call,
                              bytes, to_bytes, to)};
  }
  return place_of(all, to, to_bytes, call, "destination");
}

void run_fill(const Place& to, int32_t value, size_t bytes, const char* call) {
  const auto byte = static_cast<std::byte>(value);
  if (to.chip == nullptr) {
    std::memset(reinterpret_cast<void*>(to.address), value, bytes);
    return;
  }
  counted_launches().forget();
  const std::shared_lock use(to.chip->use);
  try {
    to.chip->memory->fill(to.address, byte, bytes);
  } catch (const Error& error) {
    throw Failure{status::copy_failed, fmt::format("{}: device memory went away before it ran: {}",
                                                   call, error.message())};
  }
}

}  // namespace

extern "C" {

abi::Status aclrtMalloc(void** address, size_t bytes, abi::MallocPolicy) {
  return entry("aclrtMalloc", [&] {
    World& all = world();
    const std::lock_guard lock(all.mutex);
    const auto [handle, context] = all.context("aclrtMalloc");
    all.refuse_while_capturing("aclrtMalloc");
    Chip& chip = all.chip(context->device, "aclrtMalloc");
    const uint64_t start = chip.memory->allocate(bytes);
    forget(chip.freed, start, bytes);
    chip.allocations[start] = bytes;
    *address = reinterpret_cast<void*>(start);
  });
}

abi::Status aclrtFree(void* address) {
  return releasing_entry("aclrtFree", [&] {
    World& all = world();
    Chip* of = nullptr;
    uint64_t bytes = 0;
    {
      const std::lock_guard lock(all.mutex);
      all.refuse_while_capturing("aclrtFree");
      for (const auto& chip : all.chips) {
        const auto found = chip->allocations.find(number_of(address));
        if (found != chip->allocations.end()) {
          of = chip.get();
          bytes = found->second;
          remember(chip->freed, found->first, found->second);
          chip->allocations.erase(found);
          break;
        }
        if (chip->freed.contains(number_of(address))) {
          throw Failure{status::runtime_invalid_parameter,
                        fmt::format("aclrtFree: {} was freed before", address)};
        }
      }
    }
    if (of == nullptr) {
      throw Failure{status::runtime_invalid_parameter,
                    fmt::format("aclrtFree: {} is not what aclrtMalloc gave", address)};
    }
    std::optional<Quarantine::Pages> let_go;
    {
      const std::unique_lock alone(of->use);
      of->memory->free(number_of(address));
      let_go = of->quarantine.keep(number_of(address), bytes);
    }
    const std::lock_guard lock(all.mutex);
    forget(of->freed, let_go);
  });
}

abi::Status aclrtMallocHost(void** address, size_t bytes) {
  return entry("aclrtMallocHost", [&] {
    World& all = world();
    const std::lock_guard lock(all.mutex);
    all.context("aclrtMallocHost");
    if (bytes == 0) {
      throw Failure{status::runtime_invalid_parameter, "aclrtMallocHost: of 0 bytes"};
    }
    auto allocation = std::make_shared<HostAllocation>(bytes);
    *address = allocation->data;
    forget(all.freed_host, number_of(*address), bytes);
    all.host[number_of(*address)] = std::move(allocation);
  });
}

abi::Status aclrtFreeHost(void* address) {
  return releasing_entry("aclrtFreeHost", [&] {
    World& all = world();
    const std::lock_guard lock(all.mutex);
    const auto found = all.host.find(number_of(address));
    if (found == all.host.end()) {
      throw Failure{
          status::runtime_invalid_parameter,
          all.freed_host.contains(number_of(address))
              ? fmt::format("aclrtFreeHost: {} was freed before", address)
              : fmt::format("aclrtFreeHost: {} is not what aclrtMallocHost gave", address)};
    }
    found->second->is_freed = true;
    const uint64_t bytes = found->second->bytes;
    remember(all.freed_host, found->first, bytes);
    const bool is_named = found->second.use_count() > 1;  // by a copy that waits; its pages stay
    all.host.erase(found);
    const auto let_go = all.host_quarantine.keep(number_of(address), bytes);
    if (!is_named) forget(all.freed_host, let_go);
  });
}

abi::Status aclrtMemcpy(void* to, size_t to_bytes, const void* from, size_t bytes,
                        abi::CopyKind kind) {
  return entry("aclrtMemcpy", [&] {
    World& all = world();
    Copy copy;
    {
      const std::lock_guard lock(all.mutex);
      all.context("aclrtMemcpy");
      all.refuse_while_capturing("aclrtMemcpy");
      copy = check_copy(all, to, to_bytes, from, bytes, kind, "aclrtMemcpy");
    }
    run_copy(copy, "aclrtMemcpy");
  });
}

abi::Status aclrtMemcpyAsync(void* to, size_t to_bytes, const void* from, size_t bytes,
                             abi::CopyKind kind, abi::StreamHandle handle) {
  constexpr const char* call = "aclrtMemcpyAsync";
  return entry(call, [&] {
    World& all = world();
    const std::lock_guard lock(all.mutex);
    const auto stream = all.stream(handle, call);
    const Copy copy = check_copy(all, to, to_bytes, from, bytes, kind, call);
    if (kind == abi::CopyKind::host_to_host) {
      throw Failure{status::runtime_feature_unsupported,
                    "aclrtMemcpyAsync: one side has to be on the device"};
    }
    for (const Place* place : {&copy.to, &copy.from}) {
      if (place->chip != nullptr && place->device != stream->device) {
        throw Failure{
            status::invalid_device,
            fmt::format("aclrtMemcpyAsync: {:#x} is on device {}, the stream on device {}",
                        place->address, place->device, stream->device)};
      }
      if (place->chip == nullptr && place->pinned == nullptr) {
        throw Failure{
            status::invalid_memory_type,
            fmt::format("aclrtMemcpyAsync: the host memory at {:#x} is not of aclrtMallocHost, and "
                        "may change before the copy runs",
                        place->address)};
      }
    }
    if (kind == abi::CopyKind::device_to_device &&
        (copy.to.address % async_alignment != 0 || copy.from.address % async_alignment != 0)) {
      throw Failure{status::address_not_aligned,
                    fmt::format("aclrtMemcpyAsync: from {:#x} to {:#x} on the device; both have to "
                                "be multiples of {}",
                                copy.from.address, copy.to.address, async_alignment)};
    }
    enqueue(*stream, [copy, call] {
      run_copy(copy, call);
      return 0.0;
    });
  });
}

abi::Status aclrtMemset(void* to, size_t to_bytes, int32_t value, size_t bytes) {
  return entry("aclrtMemset", [&] {
    World& all = world();
    Place place;
    {
      const std::lock_guard lock(all.mutex);
      all.context("aclrtMemset");
      all.refuse_while_capturing("aclrtMemset");
      place = check_fill(all, to, to_bytes, bytes, "aclrtMemset");
    }
    run_fill(place, value, bytes, "aclrtMemset");
  });
}

abi::Status aclrtMemsetAsync(void* to, size_t to_bytes, int32_t value, size_t bytes,
                             abi::StreamHandle handle) {
  constexpr const char* call = "aclrtMemsetAsync";
  return entry(call, [&] {
    World& all = world();
    const std::lock_guard lock(all.mutex);
    const auto stream = all.stream(handle, call);
    const Place place = check_fill(all, to, to_bytes, bytes, call);
    if (place.device != stream->device) {
      throw Failure{status::invalid_memory_type,
                    fmt::format("{}: {} is not memory of the stream's device", call, to)};
    }
    enqueue(*stream, [place, value, bytes, call] {
      run_fill(place, value, bytes, call);
      return 0.0;
    });
  });
}

}  // extern "C"

}  // namespace ridge::backend::ascend::twin_acl
