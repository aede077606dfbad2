#include <algorithm>
#include <cstring>

#include "backend/ascend/twin/core.h"
#include "backend/ascend/twin/launch_state.h"

// Loads and stores of the scalar unit: of local memory at once, of global memory by way of its cache.
namespace ridge::backend::ascend::twin {

void Core::scalar_read(const Operand& from, uint64_t offset, uint32_t bytes, void* to, Site site) {
  Instruction load(Pipe::s, site);
  const Access access = load.read(from, offset, bytes);
  ++state(Pipe::s).time;
  ++counters[0].instructions;
  check_defined(access, site);
  if (launch.options.check_order) check_order(access, Pipe::s, site, /*accumulates=*/false);
  std::memcpy(to, access.data, bytes);
}

void Core::scalar_write(const Operand& to, uint64_t offset, uint32_t bytes, const void* from,
                        Site site) {
  Instruction store(Pipe::s, site);
  const Access access = store.write(to, offset, bytes);
  ++state(Pipe::s).time;
  ++counters[0].instructions;
  if (launch.options.check_order) check_order(access, Pipe::s, site, /*accumulates=*/false);
  std::memcpy(access.data, from, bytes);
  std::memset(access.defined, 1, bytes);
}

Core::CacheLine& Core::cache_line(uint64_t line, const Operand& at, const Site& site) {
  constexpr uint64_t line_bytes = sizeof(CacheLine::bytes);
  const auto [found, fresh] = cache_.try_emplace(line);
  if (fresh) {
    GlobalRange* range = launch.options.memory->find(at.address);
    for (uint64_t i = 0; i < line_bytes; ++i) {
      const uint64_t address = line * line_bytes + i;
      const bool inside = address - range->address() < range->bytes();
      found->second.bytes[i] = inside ? *range->data_at(address) : poison;
    }
    found->second.last_write = site;
  }
  return found->second;
}

void Core::cached_read(const Operand& from, uint64_t offset, uint32_t bytes, void* to, Site site) {
  Instruction load(Pipe::s, site);
  const Access access = load.read(from, offset, bytes);
  ++state(Pipe::s).time;
  ++counters[0].instructions;
  CacheLine& line = cache_line(access.address / 64, from.at(0), site);
  const uint64_t first = access.address % 64;
  const uint64_t bits = (bytes == 64 ? ~uint64_t{0} : (uint64_t{1} << bytes) - 1) << first;
  if ((line.written & bits) != bits) {
    check_defined(access, site);
    if (launch.options.check_order) check_order(access, Pipe::s, site, /*accumulates=*/false);
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
  ++state(Pipe::s).time;
  ++counters[0].instructions;
  CacheLine& line = cache_line(access.address / 64, to.at(0), site);
  const uint64_t first = access.address % 64;
  std::memcpy(line.bytes.data() + first, from, bytes);
  line.written |= (bytes == 64 ? ~uint64_t{0} : (uint64_t{1} << bytes) - 1) << first;
  line.last_write = site;
}

void Core::clean_cache(const Operand& at, bool whole, Site site) {
  ++state(Pipe::s).time;
  std::erase_if(cache_, [&](auto& entry) {
    auto& [number, line] = entry;
    if (!whole && number != at.address / 64) return false;
    for (uint64_t i = 0; i < line.bytes.size(); ++i) {
      if ((line.written >> i & 1) == 0) continue;
      const uint64_t address = number * 64 + i;
      GlobalRange* range = launch.options.memory->find(address);
      *range->data_at(address) = line.bytes[i];
      *range->defined_at(address) = 1;
      if (launch.options.check_order) {
        check_order({Space::gm, true, Undefined::report, address, 1, nullptr, nullptr}, Pipe::s,
                    site, /*accumulates=*/false);
      }
    }
    return true;
  });
}

}  // namespace ridge::backend::ascend::twin
