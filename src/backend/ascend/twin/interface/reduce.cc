#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "backend/ascend/twin/interface/vector_lanes.h"

// Reductions, and what moves elements across lanes.
namespace ridge::backend::ascend::twin {

namespace {

// As it is once it was stored.
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
      values[i] = op == Reduce::sum ? rounded_to(type, values[i] + other)
                                    : std::max(values[i], other);
    }
    values.resize(half);
  }
  return values[0];
}

size_t index_of_largest(const Values& values) {
  return static_cast<size_t>(std::max_element(values.begin(), values.end()) - values.begin());
}

// An index is stored as the bits of an integer of the element's size.
void store_index(Type type, std::byte* data, uint64_t at, size_t index) {
  store_wrapped(type == Type::f16 ? Type::u16 : Type::u32, data, at, static_cast<int64_t>(index));
}

}  // namespace

void reduce_repeats(Reduce op, const Operand& to, const Operand& from, const Lanes& lanes,
                    uint32_t to_step, Strides strides, AscendC::ReduceOrder order, Site site) {
  using enum AscendC::ReduceOrder;
  VectorInstruction in(site, lanes, from.type);
  require_type(in, from.type, {Type::f16, Type::f32});
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
        store_index(type, data, pair ? 1 - value_at : 0, index_of_largest(of_repeat));
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
    if (index) store_index(type, target.data, 1, index_of_largest(values));
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
  std::move(in).issue([=] {
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
  });
}

}  // namespace ridge::backend::ascend::twin
