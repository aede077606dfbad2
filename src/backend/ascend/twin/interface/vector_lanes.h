#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "backend/ascend/twin/cost.h"
#include "backend/ascend/twin/interface/vector.h"

// How instructions of the vector unit find their elements.
namespace ridge::backend::ascend::twin {

inline constexpr uint32_t repeat_bytes = 256;

inline uint32_t element_bytes(Type type) { return std::max(1u, bits_of(type) / 8); }

// Elements of one operand in the order of lanes, gathered before the work and scattered after.
using Values = std::vector<double>;

struct Part {
  Access access;
  uint32_t count;  // elements
};
using Parts = std::vector<Part>;

inline Values load(Type type, const Parts& parts) {
  Values values;
  for (const Part& part : parts) {
    for (uint32_t i = 0; i < part.count; ++i) {
      values.push_back(load_element(type, part.access.data, i));
    }
  }
  return values;
}

inline void store(Type type, const Parts& parts, const Values& values) {
  size_t next = 0;
  for (const Part& part : parts) {
    for (uint32_t i = 0; i < part.count; ++i) {
      // Integer arithmetic wraps; every sum and product of two 32-bit integers fits 64 bits, and
      // double holds those of int16_t and the sums of int32_t exactly.
      if (is_float(type)) {
        store_element(type, part.access.data, i, values[next++]);
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
  bool bit(uint32_t lane) const { return lanes_.mask[lane / 64] >> (lane % 64) & 1; }
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
    const uint64_t blocks_of_repeat = uint64_t{per_repeat_} * bytes / block_bytes;
    const bool is_dense_repeat = !lanes_.counted && active_ == per_repeat_ &&
                                 strides.block == 1 && bits_of(operand.type) >= 8;
    if (lanes_.counted) {
      add(0, lanes_.count);
    } else if (is_dense_repeat && strides.repeat == blocks_of_repeat) {
      add(0, repeats_ * per_repeat_);
    } else if (is_dense_repeat) {
      for (uint32_t r = 0; r < repeats_; ++r) {
        add(uint64_t{r} * strides.repeat * block_bytes, per_repeat_);
      }
    } else {
      const uint32_t per_block = block_bytes / bytes;
      for (uint32_t r = 0; r < repeats_; ++r) {
        for (uint32_t lane = 0; lane < per_repeat_;) {
          // As many of a block as follow each other.
          uint32_t count = 0;
          while (lane % per_block + count < per_block && bit(lane + count)) ++count;
          if (count == 0) {
            ++lane;
            continue;
          }
          const uint64_t offset =
              (uint64_t{r} * strides.repeat + uint64_t{lane / per_block} * strides.block) *
                  block_bytes +
              uint64_t{lane % per_block} * bytes;
          add(offset, count);
          lane += count;
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

inline void require_type(const Instruction& in, Type type, std::initializer_list<Type> legal) {
  in.require(std::find(legal.begin(), legal.end(), type) != legal.end(),
             fmt::format("has no form for {}", name(type)));
}

}  // namespace ridge::backend::ascend::twin
