#include "backend/ascend/twin/interface/move.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "backend/ascend/twin/cost.h"
#include "backend/ascend/twin/global_range.h"
#include "backend/ascend/twin/launch_state.h"

namespace ridge::backend::ascend::twin {

namespace {

struct Run {
  Access from;
  Access to;
};

void copy_run(const Run& run) {
  std::memmove(run.to.data, run.from.data, run.from.bytes);
  std::memmove(run.to.defined, run.from.defined, run.from.bytes);
}

void add_run(const Run& run) {
  for (uint32_t i = 0; i < run.from.bytes / sizeof(float); ++i) {
    const float sum = static_cast<float>(load_element(Type::f32, run.to.data, i)) +
                      static_cast<float>(load_element(Type::f32, run.from.data, i));
    store_element(Type::f32, run.to.data, i, sum);
  }
}

Pipe pipe_between(const Operand& to, const Operand& from, const Site& site) {
  const auto is = [&](Space source, Space target) {
    return from.space == source && to.space == target;
  };
  if (is(Space::gm, Space::ub) || is(Space::gm, Space::l1)) return Pipe::mte2;
  if (is(Space::ub, Space::gm) || is(Space::l1, Space::gm)) return Pipe::mte3;
  Core::current().fail(Finding::Kind::parameter, site,
                       fmt::format("has no way from {} to {}", name(from.space), name(to.space)));
}

// To global memory goes only what is defined.
Undefined undefined_between(const Operand& to) {
  return to.space == Space::gm ? Undefined::report : Undefined::propagate;
}

// What a read of those bytes asks global memory for: it gives parts of 128 bytes of its lines of 512,
// and whole lines where a part is cut.
uint64_t asked_bytes(uint64_t address, uint64_t bytes) {
  constexpr uint64_t part = 128, line = 512;
  if (address % part == 0 && bytes % part == 0) return bytes;
  return ((address + bytes - 1) / line - address / line + 1) * line;
}

// `asked` is of reads.
void count_copy(Instruction& copy, const Operand& to, uint64_t bytes, uint64_t asked) {
  copy.counters.bytes = bytes;
  double rate = to.space == Space::l1 ? gm_to_l1_rate : gm_to_ub_rate;
  if (copy.pipe == Pipe::mte3) rate = local_to_gm_rate;
  const uint64_t moved = copy.pipe == Pipe::mte2 ? asked : bytes;
  copy.counters.cycles = copy_start_cycles + static_cast<double>(moved) / rate;
  copy.l2_bytes = moved;
  // The rest of a line that is cut comes again, by the time that rows of odd lengths take; what the
  // launch wrote itself is in L2.
  if (copy.pipe == Pipe::mte3) copy.hbm_bytes = 0;
  if (copy.pipe == Pipe::mte2 && !copy.reads_own) copy.hbm_bytes += moved - bytes;
}

}  // namespace

void move_blocks(const Operand& to, const Operand& from, const Strided& shape, Site site) {
  Instruction copy(pipe_between(to, from, site), site);
  copy.require(shape.blocks > 0 && shape.blocks <= 4095,
               fmt::format("copies {} blocks; 1 to 4095 are possible", shape.blocks));
  if (shape.block_bytes % block_bytes != 0 || shape.block_bytes == 0) {
    Core::current().fail(Finding::Kind::alignment, site,
                         fmt::format("copies {} bytes, which is no multiple of {}; DataCopyPad "
                                     "copies any number",
                                     shape.block_bytes, block_bytes));
  }
  copy.align(to);
  copy.align(from);
  const bool add = to.space == Space::gm && Core::current().atomic_add;
  const Undefined undefined = undefined_between(to);
  std::vector<Run> runs;
  runs.reserve(shape.blocks);
  uint64_t asked = 0;
  for (uint32_t b = 0; b < shape.blocks; ++b) {
    asked += asked_bytes(from.address + b * shape.source_step, shape.block_bytes);
    const Access source = copy.read(from, b * shape.source_step, shape.block_bytes, undefined);
    const uint64_t target = b * shape.target_step;
    runs.push_back({source, add ? copy.add(to, target, shape.block_bytes)
                                : copy.write(to, target, shape.block_bytes, undefined)});
  }
  count_copy(copy, to, uint64_t{shape.blocks} * shape.block_bytes, asked);
  std::move(copy).issue([runs = std::move(runs), add] {
    for (const Run& run : runs) add ? add_run(run) : copy_run(run);
  });
}

void move_padded_in(const Operand& to, const Operand& from,
                    const AscendC::DataCopyExtParams& shape, const Padding& padding, Site site) {
  Instruction copy(pipe_between(to, from, site), site);
  copy.require(copy.pipe == Pipe::mte2, "copies from GM to UB or L1");
  copy.require(shape.blockCount > 0 && shape.blockCount <= 4095,
               fmt::format("copies {} blocks; 1 to 4095 are possible", shape.blockCount));
  copy.require(shape.blockLen > 0 && shape.blockLen < (1u << 21),
               fmt::format("copies blocks of {} bytes; 1 to 2097151 are possible", shape.blockLen));
  copy.require(padding.left_bytes <= 32 && padding.right_bytes <= 32,
               "pads with more than 32 bytes");
  copy.require(padding.on || (padding.left_bytes == 0 && padding.right_bytes == 0),
               "has padding that isPad does not switch on");
  copy.align(to);
  const uint32_t used = padding.left_bytes + shape.blockLen + padding.right_bytes;
  const uint32_t rounded = (used + block_bytes - 1) / block_bytes * block_bytes;
  struct Row {
    Run run;
    Access whole;  // in UB, with padding and what lies behind it
  };
  std::vector<Row> rows;
  rows.reserve(shape.blockCount);
  uint64_t asked = 0;
  for (uint32_t b = 0; b < shape.blockCount; ++b) {
    const uint64_t at = b * (uint64_t{shape.blockLen} + shape.srcStride);
    asked += asked_bytes(from.address + at, shape.blockLen);
    const Access source = copy.read(from, at, shape.blockLen, Undefined::propagate);
    const Access whole =
        copy.write(to, b * (uint64_t{rounded} + uint64_t{shape.dstStride} * block_bytes), rounded,
                   Undefined::propagate);
    Access target = whole;
    target.data += padding.left_bytes;
    target.defined += padding.left_bytes;
    rows.push_back({{source, target}, whole});
  }
  count_copy(copy, to, uint64_t{shape.blockCount} * shape.blockLen, asked);
  std::move(copy).issue([rows = std::move(rows), padding, used] {
    for (const Row& row : rows) {
      std::memset(row.whole.defined, 0, row.whole.bytes);
      std::memset(row.whole.data, std::to_integer<int>(poison), row.whole.bytes);
      copy_run(row.run);
      for (uint32_t i = 0; i < used; ++i) {
        if (i == padding.left_bytes) i += row.run.from.bytes;
        if (i >= used) break;
        const uint32_t within = (i < padding.left_bytes ? i : i - padding.left_bytes -
                                                                  row.run.from.bytes) %
                                padding.value_bytes;
        row.whole.data[i] = std::byte(padding.value >> (8 * within));
        row.whole.defined[i] = 1;
      }
    }
  });
}

void move_padded_out(const Operand& to, const Operand& from,
                     const AscendC::DataCopyExtParams& shape, Site site) {
  Instruction copy(pipe_between(to, from, site), site);
  copy.require(copy.pipe == Pipe::mte3, "copies from UB or L1 to GM");
  copy.require(shape.blockCount > 0 && shape.blockCount <= 4095,
               fmt::format("copies {} blocks; 1 to 4095 are possible", shape.blockCount));
  copy.require(shape.blockLen > 0 && shape.blockLen < (1u << 21),
               fmt::format("copies blocks of {} bytes; 1 to 2097151 are possible", shape.blockLen));
  copy.align(from);
  const uint32_t rounded = (shape.blockLen + block_bytes - 1) / block_bytes * block_bytes;
  const bool add = Core::current().atomic_add;
  std::vector<Run> runs;
  runs.reserve(shape.blockCount);
  for (uint32_t b = 0; b < shape.blockCount; ++b) {
    const Access source =
        copy.read(from, b * (uint64_t{rounded} + uint64_t{shape.srcStride} * block_bytes),
                  shape.blockLen);
    const uint64_t target = b * (uint64_t{shape.blockLen} + shape.dstStride);
    runs.push_back({source, add ? copy.add(to, target, shape.blockLen)
                                : copy.write(to, target, shape.blockLen)});
  }
  count_copy(copy, to, uint64_t{shape.blockCount} * shape.blockLen, /*asked=*/0);
  std::move(copy).issue([runs = std::move(runs), add] {
    for (const Run& run : runs) add ? add_run(run) : copy_run(run);
  });
}

void move_nd_to_nz(const Operand& to, const Operand& from, const AscendC::Nd2NzParams& shape,
                   Site site) {
  Instruction copy(pipe_between(to, from, site), site);
  copy.require(copy.pipe == Pipe::mte2 && to.space == Space::l1, "copies from GM to L1");
  copy.require(shape.ndNum > 0 && shape.ndNum <= 4095 && shape.nValue <= 16384 &&
                   shape.dstNzC0Stride <= 16384 && shape.dstNzNStride > 0,
               "has ndNum outside 1 to 4095, nValue or dstNzC0Stride beyond 16384, or a "
               "dstNzNStride of 0");
  copy.require(shape.nValue > 0 && shape.dValue > 0, "copies an empty matrix");
  copy.align(to);
  const uint32_t element = bits_of(to.type) / 8;
  const uint32_t c0 = block_bytes / element;
  std::vector<Run> runs;
  uint64_t asked = 0;
  for (uint32_t nd = 0; nd < shape.ndNum; ++nd) {
    for (uint32_t n = 0; n < shape.nValue; ++n) {
      asked += asked_bytes(from.address + (uint64_t{nd} * shape.srcNdMatrixStride +
                                           uint64_t{n} * shape.srcDValue) * element,
                           uint64_t{shape.dValue} * element);
      // One transfer of a row is enough to count it.
      const uint32_t step = Core::current().launch.options.count_only ? shape.dValue : c0;
      for (uint32_t d = 0; d < shape.dValue; d += step) {
        if (step != c0) {
          copy.read(from, (uint64_t{nd} * shape.srcNdMatrixStride + uint64_t{n} * shape.srcDValue) *
                              element,
                    shape.dValue * element, Undefined::propagate);
          continue;
        }
        const uint32_t bytes = std::min<uint32_t>(c0, shape.dValue - d) * element;
        const uint64_t source =
            (uint64_t{nd} * shape.srcNdMatrixStride + uint64_t{n} * shape.srcDValue + d) * element;
        const uint64_t target =
            uint64_t{nd} * shape.dstNzMatrixStride * element +
            (uint64_t{d / c0} * shape.dstNzC0Stride + uint64_t{n} * shape.dstNzNStride) *
                block_bytes;
        const Access read = copy.read(from, source, bytes, Undefined::propagate);
        runs.push_back({read, copy.write(to, target, bytes, Undefined::propagate)});
      }
    }
  }
  copy.counters.nd_nz_rows = uint64_t{shape.ndNum} * shape.nValue;
  const uint64_t bytes = uint64_t{shape.ndNum} * shape.nValue * shape.dValue * element;
  // Each row comes in lines of its own.
  copy.counters.lines_512 = copy.counters.nd_nz_rows * ((shape.dValue * element + 511) / 512);
  count_copy(copy, to, bytes, asked);
  copy.counters.cycles = std::max(
      copy.counters.cycles,
      copy_start_cycles + nd_row_cycles * static_cast<double>(copy.counters.nd_nz_rows));
  std::move(copy).issue([runs = std::move(runs)] {
    for (const Run& run : runs) copy_run(run);
  });
}

}  // namespace ridge::backend::ascend::twin
