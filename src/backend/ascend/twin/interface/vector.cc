#include "backend/ascend/twin/interface/vector.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "backend/ascend/twin/cost.h"

namespace ridge::backend::ascend::twin {

namespace {

constexpr uint32_t repeat_bytes = 256;

uint32_t element_bytes(Type type) { return std::max(1u, bits_of(type) / 8); }

// Elements of one operand in the order of lanes, gathered before the work and scattered after.
using Values = std::vector<double>;

struct Part {
  Access access;
  uint32_t count;  // elements
};
using Parts = std::vector<Part>;

Values load(Type type, const Parts& parts) {
  Values values;
  for (const Part& part : parts) {
    for (uint32_t i = 0; i < part.count; ++i) {
      values.push_back(load_element(type, part.access.data, i));
    }
  }
  return values;
}

void store(Type type, const Parts& parts, const Values& values,
           AscendC::RoundMode mode = AscendC::RoundMode::CAST_RINT) {
  size_t next = 0;
  for (const Part& part : parts) {
    for (uint32_t i = 0; i < part.count; ++i) {
      // Integer arithmetic wraps; every sum and product of two 32-bit integers fits 64 bits, and
      // double holds those of int16_t and the sums of int32_t exactly.
      if (is_float(type) || mode != AscendC::RoundMode::CAST_RINT) {
        store_element(type, part.access.data, i, values[next++], mode);
      } else {
        store_wrapped(type, part.access.data, i, static_cast<int64_t>(values[next++]));
      }
    }
  }
}

// A vector instruction while it is put together: which bytes of its operands the lanes touch.
class VectorInstruction : public Instruction {
 public:
  // `widest` is the largest element: it says how many elements a repeat has.
  VectorInstruction(Site site, const Lanes& lanes, Type widest)
      : Instruction(Pipe::v, site),
        lanes_(lanes),
        per_repeat_(repeat_bytes / element_bytes(widest)) {
    require(lanes.counted || (lanes.repeats > 0 && lanes.repeats <= 255),
            fmt::format("has {} repeats; 1 to 255 are possible", lanes.repeats));
    require(!lanes.counted || lanes.count > 0, "works on no elements");
    if (!lanes.counted) {
      for (uint32_t lane = per_repeat_; lane < 128; ++lane) {
        // A full mask of wider elements is written with all bits.
        if (bit(lane) && !(lanes.mask[0] == ~uint64_t{0} && lanes.mask[1] == ~uint64_t{0})) {
          require(false, fmt::format("has a mask beyond the {} elements of a repeat", per_repeat_));
        }
      }
      for (uint32_t lane = 0; lane < per_repeat_; ++lane) active_ += bit(lane);
      require(active_ > 0, "has an empty mask");
    }
    repeats_ = lanes.counted ? (lanes.count + per_repeat_ - 1) / per_repeat_ : lanes.repeats;
    counters.repeats = repeats_;
    counters.cycles = vector_start_cycles + repeats_;
  }

  uint32_t repeats() const { return repeats_; }
  uint32_t per_repeat() const { return per_repeat_; }
  uint32_t active() const { return active_; }  // elements of each repeat, with a mask
  bool bit(uint32_t lane) const { return lanes_.mask[lane / 64] >> (lane % 64) & 1; }

  Parts source(const Operand& from, Strides strides) { return parts(from, strides, false); }
  Parts target(const Operand& to, Strides strides) { return parts(to, strides, true); }

  // Banks are 16 groups of 32-byte blocks, and three rows of these; two sources in one group, or a
  // target in a source's bank, cost a cycle for each repeat. What works in place does not.
  void count_conflicts(const Operand& to, const Operand& a, const Operand* b) {
    const auto group = [](const Operand& o) { return o.address / 32 % 16; };
    const auto bank = [](const Operand& o) { return o.address / 32 % 16 + (o.address >> 16) * 16; };
    bool conflict = b && a.address != b->address && group(a) == group(*b);
    for (const Operand* source : {&a, b}) {
      conflict |= source && source->address != to.address && bank(*source) == bank(to);
    }
    if (!conflict) return;
    counters.bank_conflicts = repeats_;
    counters.cycles += repeats_;
  }

  // Operands are the same bytes or have none in common.
  void forbid_overlap(const Operand& to, const Operand& from) const {
    for (const Access& a : accesses) {
      if (!a.write) continue;
      for (const Access& b : accesses) {
        if (b.write || a.address >= b.address + b.bytes || b.address >= a.address + a.bytes) {
          continue;
        }
        if (a.address == b.address && a.bytes == b.bytes) continue;
        require(to.address == from.address && to.type == from.type,
                "writes what a later repeat still has to read: source and target overlap");
      }
    }
  }

 private:
  Parts parts(const Operand& operand, Strides strides, bool write) {
    align(operand);
    Parts found;
    const uint32_t bytes = element_bytes(operand.type);
    const auto add = [&](uint64_t offset, uint32_t count) {
      if (!found.empty()) {
        Part& last = found.back();
        if (last.access.address + bytes_of(operand.type, last.count) == operand.address + offset) {
          touch_part(operand, offset, count, write);
          last.count += count;
          return;
        }
      }
      found.push_back({touch_part(operand, offset, count, write), count});
    };
    if (lanes_.counted) {
      add(0, lanes_.count);
    } else {
      const uint32_t per_block = block_bytes / bytes;
      for (uint32_t r = 0; r < repeats_; ++r) {
        for (uint32_t lane = 0; lane < per_repeat_; ++lane) {
          if (!bit(lane)) continue;
          const uint64_t offset =
              (uint64_t{r} * strides.repeat + uint64_t{lane / per_block} * strides.block) *
                  block_bytes +
              uint64_t{lane % per_block} * bytes;
          add(offset, 1);
        }
      }
    }
    uint64_t elements = 0;
    for (const Part& part : found) elements += part.count;
    counters.bytes += bytes_of(operand.type, elements);
    return found;
  }
  Access touch_part(const Operand& operand, uint64_t offset, uint32_t count, bool write) {
    const auto bytes = static_cast<uint32_t>((count * bits_of(operand.type) + 7) / 8);
    return write ? this->write(operand, offset, bytes) : read(operand, offset, bytes);
  }

  Lanes lanes_;
  uint32_t per_repeat_;
  uint32_t repeats_ = 0;
  uint32_t active_ = 0;
};

void require_type(const Instruction& in, Type type, std::initializer_list<Type> legal) {
  in.require(std::find(legal.begin(), legal.end(), type) != legal.end(),
             fmt::format("has no form for {}", name(type)));
}

double apply(Unary op, Type type, double x, double scalar) {
  const auto rounded = [&](double value) {
    return type == Type::f16 ? static_cast<double>(f16_to_f32(f32_to_f16(static_cast<float>(value))))
                             : static_cast<double>(static_cast<float>(value));
  };
  switch (op) {
    case Unary::exp: return std::exp(x);
    case Unary::ln: return std::log(x);
    case Unary::sqrt: return std::sqrt(x);
    case Unary::rsqrt: return 1.0 / std::sqrt(x);
    case Unary::reciprocal: return 1.0 / x;
    case Unary::abs: return std::fabs(x);
    case Unary::relu: return std::max(x, 0.0);
    case Unary::adds: return is_float(type) ? x + rounded(scalar) : x + scalar;
    case Unary::muls: return is_float(type) ? x * rounded(scalar) : x * scalar;
    case Unary::maxs: return std::max(x, scalar);
    case Unary::mins: return std::min(x, scalar);
  }
  return 0;
}

double apply(Binary op, double a, double b) {
  switch (op) {
    case Binary::add: return a + b;
    case Binary::sub: return a - b;
    case Binary::mul: return a * b;
    case Binary::div: return a / b;
    case Binary::max: return std::max(a, b);
    case Binary::min: return std::min(a, b);
    case Binary::mul_add: break;  // has a third operand
  }
  return 0;
}

double rounded_to(Type type, double value) {
  std::byte bytes[8];
  store_element(type, bytes, 0, value);
  return load_element(type, bytes, 0);
}

// The documented order of sums: in halves. The upper half of the elements is added to the lower,
// each sum rounded to the type, until one is left; what has no partner is kept.
double reduce(Reduce op, Type type, Values values) {
  while (values.size() > 1) {
    const size_t half = (values.size() + 1) / 2;
    for (size_t i = 0; i + half < values.size(); ++i) {
      const double other = values[i + half];
      values[i] = op == Reduce::sum   ? rounded_to(type, values[i] + other)
                  : op == Reduce::max ? std::max(values[i], other)
                                      : std::min(values[i], other);
    }
    values.resize(half);
  }
  return values[0];
}

size_t index_of(Reduce op, const Values& values) {
  const auto found = op == Reduce::max ? std::max_element(values.begin(), values.end())
                                       : std::min_element(values.begin(), values.end());
  return static_cast<size_t>(found - values.begin());
}

// An index is stored as the bits of an integer of the element's size.
void store_index(Type type, std::byte* data, uint64_t at, size_t index) {
  store_wrapped(type == Type::f16 ? Type::u16 : Type::u32, data, at, static_cast<int64_t>(index));
}

}  // namespace

Lanes counted(uint64_t count) { return {true, static_cast<uint32_t>(count), {}, 0}; }

Lanes masked(uint64_t elements, uint32_t repeats, bool set_mask) {
  const Core& core = Core::current();
  if (core.counter_mode) return counted(set_mask ? elements : core.mask[0]);
  if (!set_mask) return {false, 0, core.mask, repeats};
  const auto low = std::min<uint64_t>(elements, 64);
  const auto high = std::min<uint64_t>(elements - low, 64);
  const auto bits = [](uint64_t n) { return n == 64 ? ~uint64_t{0} : (uint64_t{1} << n) - 1; };
  return {false, 0, {bits(low), bits(high)}, repeats};
}

Lanes masked(const uint64_t* bits, uint32_t repeats, bool set_mask) {
  return set_mask ? Lanes{false, 0, {bits[0], bits[1]}, repeats} : masked(uint64_t{0}, repeats, false);
}

void vector_unary(Unary op, const Operand& to, const Operand& from, double scalar,
                  const Lanes& lanes, Strides to_strides, Strides from_strides, Site site) {
  VectorInstruction in(site, lanes, to.type);
  if (op == Unary::adds || op == Unary::muls || op == Unary::maxs || op == Unary::mins) {
    require_type(in, to.type, {Type::f16, Type::f32, Type::i16, Type::i32});
  } else if (op == Unary::relu) {
    require_type(in, to.type, {Type::f16, Type::f32, Type::i32});
  } else {
    require_type(in, to.type, {Type::f16, Type::f32});
  }
  Parts source = in.source(from, from_strides);
  Parts target = in.target(to, to_strides);
  in.forbid_overlap(to, from);
  in.count_conflicts(to, from, nullptr);
  std::move(in).issue([=, type = to.type] {
    Values values = load(type, source);
    for (double& value : values) value = apply(op, type, value, scalar);
    store(type, target, values);
  });
}

void vector_binary(Binary op, const Operand& to, const Operand& a, const Operand& b,
                   const Lanes& lanes, Strides to_strides, Strides a_strides, Strides b_strides,
                   Site site) {
  VectorInstruction in(site, lanes, to.type);
  if (op == Binary::div || op == Binary::mul_add) {
    require_type(in, to.type, {Type::f16, Type::f32});
  } else {
    require_type(in, to.type, {Type::f16, Type::f32, Type::i16, Type::i32});
  }
  Parts first = in.source(a, a_strides);
  Parts second = in.source(b, b_strides);
  Parts third = op == Binary::mul_add ? in.source(to, to_strides) : Parts{};
  Parts target = in.target(to, to_strides);
  in.forbid_overlap(to, a.address == to.address ? a : b);
  in.count_conflicts(to, a, &b);
  std::move(in).issue([=, type = to.type] {
    Values x = load(type, first);
    const Values y = load(type, second);
    if (op == Binary::mul_add) {
      const Values sum = load(type, third);
      for (size_t i = 0; i < x.size(); ++i) x[i] = x[i] * y[i] + sum[i];
    } else {
      for (size_t i = 0; i < x.size(); ++i) x[i] = apply(op, x[i], y[i]);
    }
    store(type, target, x);
  });
}

void vector_axpy(const Operand& to, const Operand& from, double scalar, const Lanes& lanes,
                 Site site) {
  VectorInstruction in(site, lanes, to.type);
  in.require((to.type == from.type && (to.type == Type::f16 || to.type == Type::f32)) ||
                 (to.type == Type::f32 && from.type == Type::f16),
             fmt::format("has no form for {} += {}", name(to.type), name(from.type)));
  Parts source = in.source(from, {});
  Parts sum = in.source(to, {});
  Parts target = in.target(to, {});
  in.count_conflicts(to, from, nullptr);
  std::move(in).issue([=, type = to.type, from_type = from.type] {
    Values values = load(type, sum);
    const Values x = load(from_type, source);
    for (size_t i = 0; i < x.size(); ++i) {
      values[i] += rounded_to(type, x[i] * rounded_to(from_type, scalar));
    }
    store(type, target, values);
  });
}

void vector_cast(const Operand& to, const Operand& from, AscendC::RoundMode mode,
                 const Lanes& lanes, Strides to_strides, Strides from_strides, Site site) {
  const Type widest = bits_of(to.type) > bits_of(from.type) ? to.type : from.type;
  VectorInstruction in(site, lanes, widest);
  using enum AscendC::RoundMode;
  const auto is = [&](Type source, std::initializer_list<Type> targets) {
    return from.type == source &&
           std::find(targets.begin(), targets.end(), to.type) != targets.end();
  };
  in.require(is(Type::f16, {Type::f32, Type::i32, Type::i16, Type::i8, Type::u8, Type::i4}) ||
                 is(Type::f32, {Type::f32, Type::f16, Type::bf16, Type::i16, Type::i32,
                                Type::i64}) ||
                 is(Type::bf16, {Type::f32, Type::i32}) || is(Type::i4, {Type::f16}) ||
                 is(Type::u8, {Type::f16}) || is(Type::i8, {Type::f16}) ||
                 is(Type::i16, {Type::f16, Type::f32}) ||
                 is(Type::i32, {Type::f32, Type::i64, Type::i16}) ||
                 is(Type::i64, {Type::i32, Type::f32}),
             fmt::format("does not convert {} to {}", name(from.type), name(to.type)));
  const bool widens =
      bits_of(to.type) > bits_of(from.type) && is_float(to.type) && from.type != Type::i32;
  in.require(!widens || mode == CAST_NONE,
             fmt::format("rounds {} to {}, which is exact: CAST_NONE", name(from.type),
                         name(to.type)));
  in.require(mode != CAST_ODD || (from.type == Type::f32 && to.type == Type::f16),
             "has CAST_ODD, which only float to half knows");
  in.require(mode != CAST_NONE || widens || (from.type == Type::f32 && to.type == Type::f16) ||
                 (from.type == Type::f16 && bits_of(to.type) <= 8) || from.type == Type::i32,
             fmt::format("needs a rounding mode from {} to {}", name(from.type), name(to.type)));
  if (lanes.counted) {
    in.require(lanes.count % 2 == 0 || (from.type != Type::i4 && to.type != Type::i4),
               "has an odd number of int4b_t");
  }
  Parts source = in.source(from, from_strides);
  Parts target = in.target(to, to_strides);
  in.forbid_overlap(to, from);
  in.count_conflicts(to, from, nullptr);
  std::move(in).issue([=, to_type = to.type, from_type = from.type] {
    Values values = load(from_type, source);
    if (from_type == to_type) {
      for (double& value : values) value = round_to_integer(value, mode);
    }
    size_t next = 0;
    for (const Part& part : target) {
      for (uint32_t i = 0; i < part.count; ++i) {
        store_element(to_type, part.access.data, i, values[next++], mode);
      }
    }
  });
}

void vector_duplicate(const Operand& to, double scalar, const Lanes& lanes, Strides strides,
                      Site site) {
  VectorInstruction in(site, lanes, to.type);
  in.require(bits_of(to.type) == 16 || bits_of(to.type) == 32,
             fmt::format("has no form for {}", name(to.type)));
  Parts target = in.target(to, strides);
  std::move(in).issue([=, type = to.type] {
    for (const Part& part : target) {
      for (uint32_t i = 0; i < part.count; ++i) store_element(type, part.access.data, i, scalar);
    }
  });
}

void vector_copy(const Operand& to, const Operand& from, const Lanes& lanes, Strides to_strides,
                 Strides from_strides, Site site) {
  VectorInstruction in(site, lanes, to.type);
  in.require(bits_of(to.type) == 16 || bits_of(to.type) == 32,
             fmt::format("has no form for {}", name(to.type)));
  Parts source = in.source(from, from_strides);
  Parts target = in.target(to, to_strides);
  in.forbid_overlap(to, from);
  in.count_conflicts(to, from, nullptr);
  std::move(in).issue([=, type = to.type] { store(type, target, load(type, source)); });
}

void reduce_repeats(Reduce op, const Operand& to, const Operand& from, const Lanes& lanes,
                    uint32_t to_step, Strides strides, AscendC::ReduceOrder order, Site site) {
  using enum AscendC::ReduceOrder;
  VectorInstruction in(site, lanes, from.type);
  require_type(in, from.type, {Type::f16, Type::f32});
  in.require(!lanes.counted, "has no counter mode in the twin");
  const uint32_t bytes = element_bytes(from.type);
  const bool pair = order == ORDER_VALUE_INDEX || order == ORDER_INDEX_VALUE;
  const uint32_t results = pair ? 2 : 1;
  if (to.address % (bytes * results) != 0) in.align(to, bytes * results);
  Parts source = in.source(from, strides);
  std::vector<Access> targets;
  // Steps are in results: one element, or a pair.
  for (uint32_t r = 0; r < in.repeats(); ++r) {
    targets.push_back(in.write(to, uint64_t{r} * to_step * bytes * results, bytes * results));
  }
  in.counters.cycles = vector_start_cycles + in.repeats() * reduce_factor;
  std::move(in).issue([=, type = from.type, active = in.active()] {
    const Values values = load(type, source);
    for (size_t r = 0; r < targets.size(); ++r) {
      const Values of_repeat(values.begin() + r * active, values.begin() + (r + 1) * active);
      const double value = reduce(op, type, of_repeat);
      std::byte* data = targets[r].data;
      const uint64_t value_at = order == ORDER_INDEX_VALUE ? 1 : 0;
      if (order != ORDER_ONLY_INDEX) store_element(type, data, value_at, value);
      if (order != ORDER_ONLY_VALUE) {
        store_index(type, data, pair ? 1 - value_at : 0, index_of(op, of_repeat));
      }
    }
  });
}

void reduce_blocks(Reduce op, const Operand& to, const Operand& from, const Lanes& lanes,
                   uint32_t to_step, Strides strides, Site site) {
  VectorInstruction in(site, lanes, from.type);
  require_type(in, from.type, {Type::f16, Type::f32});
  in.require(!lanes.counted, "has no counter mode in the twin");
  const uint32_t bytes = element_bytes(from.type);
  const uint32_t per_block = block_bytes / bytes;
  in.align(to, 16);
  Parts source = in.source(from, strides);
  std::vector<uint32_t> active;  // elements of each block
  for (uint32_t first = 0; first < in.per_repeat(); first += per_block) {
    uint32_t count = 0;
    for (uint32_t lane = first; lane < first + per_block; ++lane) count += in.bit(lane);
    if (count > 0) active.push_back(count);
  }
  // A repeat gives 8 results, side by side; steps of repeats are of 8.
  const auto results = static_cast<uint32_t>(active.size());
  std::vector<Access> targets;
  for (uint32_t r = 0; r < in.repeats(); ++r) {
    targets.push_back(in.write(to, uint64_t{r} * to_step * 8 * bytes, results * bytes));
  }
  in.counters.cycles = vector_start_cycles + in.repeats() * reduce_factor;
  std::move(in).issue([=, type = from.type] {
    const Values values = load(type, source);
    auto next = values.begin();
    for (const Access& target : targets) {
      for (uint32_t b = 0; b < results; ++b) {
        store_element(type, target.data, b, reduce(op, type, Values(next, next + active[b])));
        next += active[b];
      }
    }
  });
}

void reduce_all(Reduce op, const Operand& to, const Operand& from, const Operand& work,
                uint32_t count, bool index, Site site) {
  VectorInstruction in(site, counted(count), from.type);
  require_type(in, from.type, {Type::f16, Type::f32});
  const uint32_t bytes = element_bytes(from.type);
  const uint32_t per_block = block_bytes / bytes;
  // Documented need: a result (for an index, a pair) for each repeat, in whole blocks.
  const uint32_t whole = std::max(1u, count / in.per_repeat()) * (index ? 2 : 1);
  const uint32_t needed = (whole + per_block - 1) / per_block * per_block * bytes;
  in.align(work);
  Parts source = in.source(from, {});
  in.write(work, 0, needed);
  const Access target = in.write(to, 0, bytes * (index ? 2 : 1));
  in.counters.cycles = 2 * vector_start_cycles + in.repeats() * reduce_factor;
  std::move(in).issue([=, type = from.type, per_repeat = in.per_repeat()] {
    const Values values = load(type, source);
    Values partial;
    for (size_t first = 0; first < values.size(); first += per_repeat) {
      const size_t last = std::min<size_t>(values.size(), first + per_repeat);
      partial.push_back(reduce(op, type, Values(values.begin() + first, values.begin() + last)));
    }
    store_element(type, target.data, 0, reduce(op, type, partial));
    if (index) store_index(type, target.data, 1, index_of(op, values));
  });
}

void broadcast_blocks(const Operand& to, const Operand& from, uint32_t repeats,
                      uint32_t block_stride, uint32_t repeat_stride, Site site) {
  Instruction in(Pipe::v, site);
  const uint32_t bytes = element_bytes(from.type);
  in.require(bits_of(from.type) == 16 || bits_of(from.type) == 32,
             fmt::format("has no form for {}", name(from.type)));
  in.require(repeats > 0 && repeats <= 254, fmt::format("has {} repeats; 1 to 254", repeats));
  in.align(to);
  in.align(from);
  const Access source = in.read(from, 0, repeats * 8 * bytes);
  std::vector<Access> targets;
  for (uint32_t r = 0; r < repeats; ++r) {
    for (uint32_t b = 0; b < 8; ++b) {
      const uint64_t block = uint64_t{r} * repeat_stride + uint64_t{b} * block_stride;
      targets.push_back(in.write(to, block * block_bytes, block_bytes));
    }
  }
  in.counters.repeats = repeats;
  in.counters.bytes = repeats * repeat_bytes;
  in.counters.cycles = vector_start_cycles + repeats;
  std::move(in).issue([=] {
    for (size_t i = 0; i < targets.size(); ++i) {
      for (uint32_t lane = 0; lane < block_bytes / bytes; ++lane) {
        std::memcpy(targets[i].data + lane * bytes, source.data + i * bytes, bytes);
      }
    }
  });
}

void gather(const Operand& to, const Operand& from, const Operand& offsets, uint32_t base,
            uint32_t count, Site site) {
  VectorInstruction in(site, counted(count), to.type);
  in.require(bits_of(to.type) == 16 || bits_of(to.type) == 32,
             fmt::format("has no form for {}", name(to.type)));
  in.align(from);
  Parts indices = in.source(offsets, {});
  const uint32_t bytes = element_bytes(to.type);
  // Which elements are taken is known only when it runs, so all of the source counts as read; that
  // each is inside the buffer is seen then.
  const auto reachable = static_cast<uint32_t>(from.end - from.address);
  const Access source = in.read(from, 0, reachable, Undefined::propagate);
  Parts target = in.target(to, {});
  in.counters.cycles = vector_start_cycles + 2.0 * in.repeats();
  Core* const core = &Core::current();
  std::move(in).issue([=, type = to.type] {
    const Values at = load(Type::u32, indices);
    size_t next = 0;
    for (const Part& part : target) {
      for (uint32_t i = 0; i < part.count; ++i) {
        const auto offset = static_cast<uint64_t>(at[next++]) + base;
        if (offset % bytes != 0 || offset + bytes > reachable) {
          core->report(Finding::Kind::bounds, site,
                       fmt::format("takes the element at byte {} of {}", offset, reachable));
          continue;
        }
        if (!source.defined[offset]) {
          core->report(Finding::Kind::undefined, site,
                       fmt::format("takes the element at byte {}, which was never written",
                                   offset));
        }
        std::memcpy(part.access.data + i * bytes, source.data + offset, bytes);
      }
    }
    (void)type;
  });
}

}  // namespace ridge::backend::ascend::twin
