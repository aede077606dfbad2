#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>

#include "backend/ascend/twin/core.h"
#include "backend/ascend/twin/launch_state.h"

namespace ridge::backend::ascend::twin {

namespace {

std::string file_of(const std::source_location& where) {
  const std::string_view path = where.file_name();
  const size_t slash = path.rfind('/');
  return std::string(slash == std::string_view::npos ? path : path.substr(slash + 1));
}

}  // namespace

std::string_view name(Space space) {
  constexpr std::string_view names[] = {"GM", "UB", "L1", "L0A", "L0B", "L0C", "BT", "FB"};
  return names[static_cast<int>(space)];
}

uint32_t capacity_of(Space space) {
  constexpr uint32_t capacities[] = {0,         usable_unified_buffer_bytes, usable_l1_bytes,
                                     l0a_bytes, l0b_bytes,                   l0c_bytes,
                                     bias_table_bytes, fixpipe_buffer_bytes};
  return capacities[static_cast<int>(space)];
}

uint32_t alignment_of(Space space) {
  constexpr uint32_t alignments[] = {1, 32, 32, 512, 512, 64, 64, 128};
  return alignments[static_cast<int>(space)];
}

std::string place(const std::source_location& where) {
  return fmt::format("{}:{}", file_of(where), where.line());
}

const char* verb(bool write) { return write ? "writes" : "reads"; }

void LocalMemory::reset(uint32_t capacity) {
  if (data.empty()) {
    data.assign(capacity, poison);
    defined.assign(capacity, 0);
    cells.resize((capacity + block_bytes - 1) / block_bytes);
  }
  std::fill_n(data.begin(), touched, poison);
  std::fill_n(defined.begin(), touched, 0);
  for (uint32_t block = 0; block * block_bytes < touched; ++block) cells[block].clear();
  touched = 0;
}

void Instruction::require(bool right, const std::string& message) const {
  if (!right) Core::current().fail(Finding::Kind::parameter, site, message);
}

void Instruction::align(const Operand& operand, uint32_t bytes) const {
  if (operand.address % bytes == 0) return;
  Core::current().fail(Finding::Kind::alignment, site,
                       fmt::format("an operand is at {} address {:#x}, which is no multiple of {} "
                                   "bytes",
                                   name(operand.space), operand.address, bytes));
}

Access Instruction::read(const Operand& from, uint64_t offset, uint32_t bytes,
                         Undefined undefined) {
  return touch(from, offset, bytes, /*write=*/false, undefined);
}

Access Instruction::write(const Operand& to, uint64_t offset, uint32_t bytes, Undefined undefined) {
  return touch(to, offset, bytes, /*write=*/true, undefined);
}

Access Instruction::add(const Operand& to, uint64_t offset, uint32_t bytes) {
  const Access before = touch(to, offset, bytes, /*write=*/false, Undefined::report, /*adds=*/true);
  touch(to, offset, bytes, /*write=*/true, Undefined::report, /*adds=*/true);
  return before;
}

Access Instruction::touch(const Operand& operand, uint64_t offset, uint32_t bytes, bool write,
                          Undefined undefined, bool adds) {
  Core& core = Core::current();
  const uint64_t address = operand.address + offset;
  if (address < operand.begin || address + bytes > operand.end) {
    core.fail(Finding::Kind::bounds, site,
              fmt::format("{} {} bytes at offset {} of a buffer of {} bytes in {}", verb(write),
                          bytes, static_cast<int64_t>(address - operand.begin),
                          operand.end - operand.begin, name(operand.space)));
  }
  Access access{operand.space, write, undefined, address, bytes, nullptr, nullptr, adds};
  if (operand.space == Space::gm) {
    GlobalRange* range = core.launch.options.memory->find(address);
    if (!range || address + bytes > range->address() + range->bytes()) {
      core.fail(Finding::Kind::bounds, site,
                range ? fmt::format("{} {} bytes at offset {} of an allocation of {} bytes in GM",
                                    verb(write), bytes, address - range->address(), range->bytes())
                      : fmt::format("{} {} bytes at GM address {:#x}, where nothing is allocated",
                                    verb(write), bytes, address));
    }
    access.data = range->data_at(address);
    access.defined = range->defined_at(address);
    if (pipe != Pipe::s) {
      const Launch::Noted noted = core.launch.note_transfer(*range, address, bytes, write);
      hbm_bytes += noted.hbm_bytes;
      reads_own |= !write && noted.is_own;
    }
    if (bytes > 0) counters.lines_512 += (address + bytes - 1) / 512 - address / 512 + 1;
  } else {
    LocalMemory& memory = core.memory(operand.space);
    access.data = memory.data.data() + address;
    access.defined = memory.defined.data() + address;
  }
  // Runs that follow each other are one.
  if (!accesses.empty()) {
    Access& last = accesses.back();
    if (last.write == write && last.space == access.space && last.undefined == undefined && last.adds == adds &&
        last.address + last.bytes == address && last.data + last.bytes == access.data) {
      last.bytes += bytes;
      return access;
    }
  }
  accesses.push_back(access);
  return access;
}

void Instruction::issue(std::function<void()> run) && {
  Core::current().issue(std::move(*this), std::move(run));
}

}  // namespace ridge::backend::ascend::twin
