#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "backend/ascend/twin/interface/vector_lanes.h"

namespace ridge::backend::ascend::twin {

namespace {

double apply(Unary op, double x, double scalar) {
  switch (op) {
    case Unary::exp: return std::exp(x);
    case Unary::sqrt: return std::sqrt(x);
    case Unary::abs: return std::fabs(x);
    case Unary::adds: return x + scalar;
    case Unary::muls: return x * scalar;
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
    case Binary::bit_and:
      return static_cast<double>(static_cast<int64_t>(a) & static_cast<int64_t>(b));
  }
  return 0;
}

}  // namespace

Lanes counted(uint64_t count) { return {true, static_cast<uint32_t>(count), {}, 0}; }

Lanes masked(uint64_t elements, uint32_t repeats) {
  const auto low = std::min<uint64_t>(elements, 64);
  const auto high = std::min<uint64_t>(elements - low, 64);
  const auto bits = [](uint64_t n) { return n == 64 ? ~uint64_t{0} : (uint64_t{1} << n) - 1; };
  return {false, 0, {bits(low), bits(high)}, repeats};
}

void vector_unary(Unary op, const Operand& to, const Operand& from, double scalar, uint32_t count,
                  Site site) {
  VectorInstruction in(site, counted(count), to.type);
  if (op == Unary::adds || op == Unary::muls || op == Unary::maxs || op == Unary::mins) {
    require_type(in, to.type, {Type::f16, Type::f32, Type::i16, Type::i32});
  } else {
    require_type(in, to.type, {Type::f16, Type::f32});
  }
  Parts source = in.source(from, {});
  Parts target = in.target(to, {});
  in.forbid_overlap(to, from);
  in.count_conflicts(to, from, nullptr);
  std::move(in).issue([=, type = to.type] {
    Values values = load(type, source);
    for (double& value : values) value = apply(op, value, scalar);
    store(type, target, values);
  });
}

void vector_binary(Binary op, const Operand& to, const Operand& a, const Operand& b,
                   const Lanes& lanes, Strides to_strides, Strides a_strides, Strides b_strides,
                   Site site) {
  VectorInstruction in(site, lanes, to.type);
  if (op == Binary::div) {
    require_type(in, to.type, {Type::f16, Type::f32});
  } else if (op == Binary::bit_and) {
    require_type(in, to.type, {Type::i16, Type::u16});
  } else {
    require_type(in, to.type, {Type::f16, Type::f32, Type::i16, Type::i32});
  }
  Parts first = in.source(a, a_strides);
  Parts second = in.source(b, b_strides);
  Parts target = in.target(to, to_strides);
  in.forbid_overlap(to, a.address == to.address ? a : b);
  in.count_conflicts(to, a, &b);
  std::move(in).issue([=, type = to.type] {
    Values x = load(type, first);
    const Values y = load(type, second);
    for (size_t i = 0; i < x.size(); ++i) x[i] = apply(op, x[i], y[i]);
    store(type, target, x);
  });
}

void vector_axpy(const Operand& to, const Operand& from, double scalar, uint32_t count,
                 Site site) {
  VectorInstruction in(site, counted(count), to.type);
  require_type(in, to.type, {Type::f16, Type::f32});
  // Not in ascending order, which would make one access of two operands that lie side by side.
  Parts source, sum;
  if (from.address > to.address) source = in.source(from, {});
  sum = in.source(to, {});
  if (from.address <= to.address) source = in.source(from, {});
  Parts target = in.target(to, {});
  in.forbid_overlap(to, from);
  in.count_conflicts(to, from, &to);
  std::move(in).issue([=, type = to.type] {
    const Values x = load(type, source);
    Values values = load(type, sum);
    for (size_t i = 0; i < values.size(); ++i) values[i] += scalar * x[i];
    store(type, target, values);
  });
}

void vector_cast(const Operand& to, const Operand& from, AscendC::RoundMode mode, const Lanes& lanes,
                 Strides to_strides, Strides from_strides, Site site) {
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
  const bool has_int4 = from.type == Type::i4 || to.type == Type::i4;
  in.require(!has_int4 || lanes.counted, "has a mask for int4b_t, which the twin only counts");
  in.require(!has_int4 || lanes.count % 2 == 0, "has an odd number of int4b_t");
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

}  // namespace ridge::backend::ascend::twin
