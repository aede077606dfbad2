#include <algorithm>
#include <cstring>

#include "backend/ascend/twin/core.h"
#include "backend/ascend/twin/cost.h"
#include "backend/ascend/twin/launch_state.h"

// Loads and stores of the scalar unit: of local memory at once, of global memory by way of its cache.
namespace ridge::backend::ascend::twin {

namespace {

constexpr uint64_t line_bytes = 64;

// A bit for each byte of a line that an access of at most 8 bytes touches.
uint64_t bits_of_line(uint64_t address, uint32_t bytes) {
  return ((uint64_t{1} << bytes) - 1) << address % line_bytes;
}

// Of local memory, where an index that a kernel made of its data is any number.
uint64_t counted_offset(const Operand& at, uint64_t offset, uint32_t bytes) {
  const uint64_t address = at.address + offset;
  return address < at.begin || address + bytes > at.end ? 0 : offset;
}

}  // namespace

void Core::count_scalar() {
  ++state(Pipe::s).time;
  state(Pipe::s).now += scalar_issue_cycles;
  PipeCounters& counted = counters[static_cast<int>(Pipe::s)];
  ++counted.instructions;
  counted.cycles += scalar_issue_cycles;
}

void Core::scalar_read(const Operand& from, uint64_t offset, uint32_t bytes, void* to, Site site) {
  Instruction load(Pipe::s, site);
  if (launch.options.count_only) offset = counted_offset(from, offset, bytes);
  const Access access = load.read(from, offset, bytes);
  count_scalar();
  check_defined(access, site);
  check_order(access, Pipe::s, site, /*accumulates=*/false);
  std::memcpy(to, access.data, bytes);
}

void Core::scalar_write(const Operand& to, uint64_t offset, uint32_t bytes, const void* from,
                        Site site) {
  Instruction store(Pipe::s, site);
  if (launch.options.count_only) offset = counted_offset(to, offset, bytes);
  const Access access = store.write(to, offset, bytes);
  count_scalar();
  check_order(access, Pipe::s, site, /*accumulates=*/false);
  std::memcpy(access.data, from, bytes);
  std::memset(access.defined, 1, bytes);
}

Core::CacheLine& Core::cache_line(uint64_t address) {
  const auto [found, fresh] = cache_.try_emplace(address / line_bytes);
  CacheLine& line = found->second;
  static_assert(sizeof(line.bytes) == line_bytes);
  if (fresh) {
    GlobalRange* range = launch.options.memory->find(address);
    const uint64_t first = address / line_bytes * line_bytes;
    for (uint64_t i = 0; i < line_bytes; ++i) {
      const bool inside = first + i - range->address() < range->bytes();
      line.bytes[i] = inside ? *range->data_at(first + i) : poison;
    }
  }
  return line;
}

void Core::cached_read(const Operand& from, uint64_t offset, uint32_t bytes, void* to, Site site) {
  Instruction load(Pipe::s, site);
  const Access access = load.read(from, offset, bytes);
  count_scalar();
  const CacheLine& line = cache_line(access.address);
  const uint64_t first = access.address % line_bytes;
  const uint64_t bits = bits_of_line(access.address, bytes);
  if ((line.written & bits) != bits) {
    check_defined(access, site);
    check_order(access, Pipe::s, site, /*accumulates=*/false);
    if (line.written == 0 && std::memcmp(line.bytes.data() + first, access.data, bytes) != 0) {
      report(Finding::Kind::coherence, site,
             "reads a line of the scalar unit's cache that memory has moved on from; "
             "DataCacheCleanAndInvalid belongs before it");
    }
  }
  std::memcpy(to, line.bytes.data() + first, bytes);
}

void Core::cached_write(const Operand& to, uint64_t offset, uint32_t bytes, const void* from,
                        Site site) {
  Instruction store(Pipe::s, site);
  const Access access = store.write(to, offset, bytes);
  count_scalar();
  CacheLine& line = cache_line(access.address);
  std::memcpy(line.bytes.data() + access.address % line_bytes, from, bytes);
  line.written |= bits_of_line(access.address, bytes);
  line.last_write = site;
}

void Core::clean_cache(const Operand& at, bool whole, Site site) {
  ++state(Pipe::s).time;
  std::erase_if(cache_, [&](auto& entry) {
    auto& [number, line] = entry;
    if (!whole && number != at.address / line_bytes) return false;
    for (uint64_t i = 0; i < line_bytes; ++i) {
      if ((line.written >> i & 1) == 0) continue;
      const uint64_t address = number * line_bytes + i;
      GlobalRange* range = launch.options.memory->find(address);
      *range->data_at(address) = line.bytes[i];
      *range->defined_at(address) = 1;
      check_order({Space::gm, true, Undefined::report, address, 1, nullptr, nullptr}, Pipe::s, site,
                  /*accumulates=*/false);
    }
    return true;
  });
}

}  // namespace ridge::backend::ascend::twin
