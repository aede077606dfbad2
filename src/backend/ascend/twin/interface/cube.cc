#include "backend/ascend/twin/interface/cube.h"

#include <fmt/format.h>

#include <array>
#include <bit>
#include <cstring>
#include <utility>
#include <vector>

#include "backend/ascend/twin/cost.h"
#include "backend/ascend/twin/launch_state.h"

namespace ridge::backend::ascend::twin {

namespace {

constexpr uint32_t fractal_bytes = 512;

uint32_t up(uint32_t value, uint32_t to) { return (value + to - 1) / to; }

// Halves as floats; the cube multiplies millions of them.
const std::array<float, 65536>& half_table() {
  static const auto table = [] {
    std::array<float, 65536> values;
    for (uint32_t bits = 0; bits < values.size(); ++bits) {
      values[bits] = f16_to_f32(static_cast<uint16_t>(bits));
    }
    return values;
  }();
  return table;
}

float load_float(Type type, const std::byte* data, uint64_t index) {
  if (type == Type::f16) {
    uint16_t bits;
    std::memcpy(&bits, data + index * 2, 2);
    return half_table()[bits];
  }
  return static_cast<float>(load_element(type, data, index));
}

}  // namespace

void load_fractals(const Operand& to, const Operand& from, const AscendC::LoadData2DParams& params,
                   Site site) {
  Instruction load(Pipe::mte1, site);
  load.require(from.space == Space::l1 && (to.space == Space::l0a || to.space == Space::l0b),
               fmt::format("has no way from {} to {}", name(from.space), name(to.space)));
  load.require(params.repeatTimes > 0, "repeats 0 times, which does nothing");
  load.require(!params.ifTranspose || bits_of(to.type) == 16,
               "transposes only fractals of 16-bit elements");
  load.require(params.addrMode == 0, "has an addrMode that the twin lacks: 0 goes upwards");
  load.align(to);
  load.align(from);
  struct Run {
    Access from;
    Access to;
  };
  std::vector<Run> runs;
  for (uint32_t r = 0; r < params.repeatTimes; ++r) {
    const uint64_t source = (uint64_t{params.startIndex} + uint64_t{r} * params.srcStride) *
                            fractal_bytes;
    const uint64_t target = uint64_t{r} * (params.dstGap + 1u) * fractal_bytes;
    const Access read = load.read(from, source, fractal_bytes, Undefined::propagate);
    runs.push_back({read, load.write(to, target, fractal_bytes, Undefined::propagate)});
  }
  load.counters.bytes = uint64_t{params.repeatTimes} * fractal_bytes;
  const double rate = to.space == Space::l0a ? l1_to_l0a_rate : l1_to_l0b_rate;
  load.counters.cycles = load_start_cycles + load.counters.bytes / rate;
  std::move(load).issue([runs = std::move(runs), transpose = params.ifTranspose] {
    for (const Run& run : runs) {
      if (!transpose) {
        std::memcpy(run.to.data, run.from.data, fractal_bytes);
        std::memcpy(run.to.defined, run.from.defined, fractal_bytes);
        continue;
      }
      for (uint32_t row = 0; row < 16; ++row) {
        for (uint32_t column = 0; column < 16; ++column) {
          const uint32_t source = (row * 16 + column) * 2;
          const uint32_t target = (column * 16 + row) * 2;
          std::memcpy(run.to.data + target, run.from.data + source, 2);
          std::memcpy(run.to.defined + target, run.from.defined + source, 2);
        }
      }
    }
  });
}

// Sums in ascending k, each product exact and each addition rounded once to float32, beginning with
// what the accumulator holds; int32 sums wrap.
void multiply(const Operand& to, const Operand& a, const Operand& b,
              const AscendC::MmadParams& params, Site site) {
  Instruction mmad(Pipe::m, site);
  const bool integers = (a.type == Type::i8 || a.type == Type::i4) && b.type == a.type &&
                        to.type == Type::i32;
  mmad.require(integers || (a.type == b.type && to.type == Type::f32 && is_float(a.type)),
               fmt::format("does not multiply {} by {} into {}", name(a.type), name(b.type),
                           name(to.type)));
  mmad.require(a.space == Space::l0a && b.space == Space::l0b && to.space == Space::l0c,
               "takes its matrices from L0A and L0B and leaves them in L0C");
  mmad.require(params.m <= 4095 && params.n <= 4095 && params.k <= 4095,
               "has m, n or k beyond 4095");
  mmad.require(params.unitFlag == 0 && !params.cmatrixSource && !params.isBias &&
                   !params.enSsparse && params.fmOffset == 0,
               "has a unit flag, a bias, sparsity or an offset, which the twin lacks");
  const uint32_t m = params.m, n = params.n, k = params.k;
  if (m == 0 || n == 0 || k == 0) return;  // documented to do nothing
  mmad.align(to);
  mmad.align(a);
  mmad.align(b);
  const uint32_t k0 = block_bytes * 8 / bits_of(a.type);
  const uint32_t k_fractals = up(k, k0), n_fractals = up(n, 16), m_fractals = up(m, 16);
  mmad.accumulates = m_fractals * n_fractals >= 10;
  mmad.counters.macs = uint64_t{m} * n * k;
  const double rate = a.type == Type::f32 ? 0.25 : 1;
  mmad.counters.cycles =
      cube_start_cycles + double{1} * m_fractals * n_fractals * k_fractals / rate;
  if (Core::current().launch.options.count_only) {
    std::move(mmad).issue([] {});
    return;
  }
  // With one row the cube takes a as a vector: k elements, one after the other.
  const bool vector = m == 1;
  const auto a_at = [=](uint32_t row, uint32_t kf) -> uint64_t {
    if (vector) return uint64_t{kf} * block_bytes;
    return (uint64_t{row / 16} * k_fractals + kf) * fractal_bytes + row % 16 * block_bytes;
  };
  const auto b_at = [=](uint32_t column, uint32_t kf) -> uint64_t {
    return (uint64_t{kf} * n_fractals + column / 16) * fractal_bytes + column % 16 * block_bytes;
  };
  const auto c_at = [=](uint32_t row, uint32_t column) -> uint64_t {
    return ((uint64_t{column / 16} * m_fractals + row / 16) * 256 + row % 16 * 16 + column % 16) *
           4;
  };
  std::vector<const std::byte*> a_rows, b_columns;
  for (uint32_t row = 0; row < m; ++row) {
    for (uint32_t kf = 0; kf < k_fractals; ++kf) {
      const uint32_t bytes = (std::min(k0, k - kf * k0) * bits_of(a.type) + 7) / 8;
      a_rows.push_back(mmad.read(a, a_at(row, kf), bytes).data);
    }
  }
  for (uint32_t kf = 0; kf < k_fractals; ++kf) {
    for (uint32_t column = 0; column < n; ++column) {
      const uint32_t bytes = (std::min(k0, k - kf * k0) * bits_of(a.type) + 7) / 8;
      b_columns.push_back(mmad.read(b, b_at(column, kf), bytes).data);
    }
  }
  std::vector<std::byte*> c_rows;  // of 16 columns
  for (uint32_t nf = 0; nf < n_fractals; ++nf) {
    for (uint32_t row = 0; row < m; ++row) {
      const uint32_t bytes = std::min(16u, n - nf * 16) * 4;
      if (!params.cmatrixInitVal) mmad.read(to, c_at(row, nf * 16), bytes);
      c_rows.push_back(mmad.write(to, c_at(row, nf * 16), bytes).data);
    }
  }
  std::move(mmad).issue([=, type = a.type, fresh = params.cmatrixInitVal, a_rows = std::move(a_rows),
                         b_columns = std::move(b_columns), c_rows = std::move(c_rows)] {
    if (integers) {
      std::vector<int32_t> right(size_t{k} * n);
      for (uint32_t i = 0; i < k; ++i) {
        for (uint32_t column = 0; column < n; ++column) {
          right[size_t{i} * n + column] = static_cast<int32_t>(
              load_integer(type, b_columns[size_t{i / k0} * n + column], i % k0));
        }
      }
      std::vector<uint32_t> sums(n);
      for (uint32_t row = 0; row < m; ++row) {
        for (uint32_t column = 0; column < n; ++column) {
          const std::byte* at = c_rows[size_t{column / 16} * m + row];
          sums[column] = fresh ? 0 : static_cast<uint32_t>(load_integer(Type::i32, at, column % 16));
        }
        for (uint32_t i = 0; i < k; ++i) {
          const auto x = static_cast<int32_t>(
              load_integer(type, a_rows[size_t{row} * k_fractals + i / k0], i % k0));
          const int32_t* y = right.data() + size_t{i} * n;
          for (uint32_t column = 0; column < n; ++column) {
            sums[column] += static_cast<uint32_t>(x * y[column]);
          }
        }
        for (uint32_t column = 0; column < n; ++column) {
          store_wrapped(Type::i32, c_rows[size_t{column / 16} * m + row], column % 16,
                        static_cast<int32_t>(sums[column]));
        }
      }
      return;
    }
    // b by rows of k, so that the inner loop runs along n.
    std::vector<float> right(size_t{k} * n), left(k), sums(n);
    for (uint32_t kf = 0; kf < k_fractals; ++kf) {
      const uint32_t count = std::min(k0, k - kf * k0);
      for (uint32_t column = 0; column < n; ++column) {
        const std::byte* from = b_columns[size_t{kf} * n + column];
        for (uint32_t i = 0; i < count; ++i) {
          right[(size_t{kf} * k0 + i) * n + column] = load_float(type, from, i);
        }
      }
    }
    for (uint32_t row = 0; row < m; ++row) {
      for (uint32_t i = 0; i < k; ++i) {
        left[i] = load_float(type, a_rows[size_t{row} * k_fractals + i / k0], i % k0);
      }
      for (uint32_t column = 0; column < n; ++column) {
        const std::byte* at = c_rows[size_t{column / 16} * m + row];
        sums[column] = fresh ? 0.0f : load_float(Type::f32, at, column % 16);
      }
      for (uint32_t i = 0; i < k; ++i) {
        const float x = left[i];
        const float* y = right.data() + size_t{i} * n;
        for (uint32_t column = 0; column < n; ++column) sums[column] += x * y[column];
      }
      for (uint32_t column = 0; column < n; ++column) {
        std::memcpy(c_rows[size_t{column / 16} * m + row] + column % 16 * 4, &sums[column], 4);
      }
    }
  });
}

void fixpipe(const Operand& to, const Operand& from, const AscendC::FixpipeParamsV220& params,
             AscendC::CO2Layout layout, Site site) {
  Instruction fix(Pipe::fix, site);
  fix.require(to.space == Space::gm && from.space == Space::l0c, "goes from L0C to GM");
  fix.require(layout == AscendC::CO2Layout::ROW_MAJOR, "has a layout that the twin lacks");
  fix.require(params.ndNum == 1 && params.unitFlag == 0 && !params.isChannelSplit,
              "has several matrices, a unit flag or split channels, which the twin lacks");
  fix.require(params.nSize > 0 && params.mSize > 0 && params.nSize <= 4095 && params.mSize <= 8192,
              "has nSize outside 1 to 4095 or mSize outside 1 to 8192");
  fix.require(params.srcStride % 16 == 0 && params.srcStride >= params.mSize,
              fmt::format("has srcStride {}: rows of L0C, a multiple of 16 and not less than mSize",
                          params.srcStride));
  const bool same = params.quantPre == NoQuant && to.type == from.type;
  const bool narrow = from.type == Type::f32 && ((params.quantPre == F322F16 && to.type == Type::f16) ||
                                                 (params.quantPre == F322BF16 && to.type == Type::bf16));
  const bool scaled = params.quantPre == DEQF16 && from.type == Type::i32 && to.type == Type::f16;
  fix.require(same || narrow || scaled,
              fmt::format("does not convert {} to {} with this quantPre", name(from.type),
                          name(to.type)));
  fix.require(params.dstStride >= params.nSize, "has rows that overlap: dstStride is in elements");
  fix.align(from);
  const uint32_t element = bits_of(to.type) / 8;
  struct Run {
    const std::byte* from;
    std::byte* to;
    uint32_t count;
  };
  std::vector<Run> runs;
  for (uint32_t row = 0; row < params.mSize; ++row) {
    for (uint32_t column = 0; column < params.nSize; column += 16) {
      const uint32_t count = std::min(16u, params.nSize - column);
      const uint64_t source = (uint64_t{column / 16} * params.srcStride + row) * 64;
      const Access read = fix.read(from, source, count * 4);
      const uint64_t target = (uint64_t{row} * params.dstStride + column) * element;
      const Access write = Core::current().atomic_add ? fix.add(to, target, count * element)
                                                      : fix.write(to, target, count * element);
      runs.push_back({read.data, write.data, count});
    }
  }
  fix.counters.bytes = uint64_t{params.mSize} * params.nSize * element;
  fix.counters.cycles = copy_start_cycles + fix.counters.bytes / l0c_to_gm_rate;
  fix.l2_bytes = fix.counters.bytes;
  fix.hbm_bytes = 0;
  const float scale = std::bit_cast<float>(static_cast<uint32_t>(params.deqScalar));
  std::move(fix).issue([=, runs = std::move(runs), type = to.type, from_type = from.type,
                        relu = params.reluEn, add = Core::current().atomic_add] {
    for (const Run& run : runs) {
      for (uint32_t i = 0; i < run.count; ++i) {
        double value = load_element(from_type, run.from, i);
        if (scaled) value = static_cast<float>(value * scale);
        if (relu) value = std::max(value, 0.0);
        if (add) value += load_element(type, run.to, i);
        store_element(type, run.to, i, value);
      }
    }
  });
}

}  // namespace ridge::backend::ascend::twin
