#pragma once

#include "backend/ascend/twin/interface/tensor.h"

// The vector unit. A form with a count works on contiguous elements; one with a mask and repeats on
// 256 bytes for each repeat, with strides in blocks of 32 bytes.
namespace ridge::backend::ascend::twin {

enum class Unary : uint8_t { exp, sqrt, abs, adds, muls, maxs, mins };
enum class Binary : uint8_t { add, sub, mul, div, max, bit_and };
enum class Reduce : uint8_t { sum, max };

// Which elements an instruction works on.
struct Lanes {
  bool counted = true;
  uint32_t count = 0;                 // counted
  std::array<uint64_t, 2> mask{};     // else: elements of each repeat
  uint32_t repeats = 0;
};
// Of one operand.
struct Strides {
  uint32_t block = 1;
  uint32_t repeat = 8;
};

Lanes counted(uint64_t count);
Lanes masked(uint64_t elements, uint32_t repeats);
inline Lanes masked(const uint64_t (&mask)[2], uint32_t repeats) {
  return {false, 0, {mask[0], mask[1]}, repeats};
}

// `scalar` is a value of the operands' type.
void vector_unary(Unary op, const Operand& to, const Operand& from, double scalar, uint32_t count,
                  Site site);
void vector_binary(Binary op, const Operand& to, const Operand& a, const Operand& b,
                   const Lanes& lanes, Strides to_strides, Strides a_strides, Strides b_strides,
                   Site site);
void vector_axpy(const Operand& to, const Operand& from, double scalar, uint32_t count, Site site);
void vector_cast(const Operand& to, const Operand& from, AscendC::RoundMode mode, const Lanes& lanes,
                 Strides to_strides, Strides from_strides, Site site);
void vector_duplicate(const Operand& to, double scalar, const Lanes& lanes, Strides strides,
                      Site site);
// Of each repeat; of the largest with an index, value and index side by side in `order`.
void reduce_repeats(Reduce op, const Operand& to, const Operand& from, const Lanes& lanes,
                    uint32_t to_step, Strides strides, AscendC::ReduceOrder order, Site site);
// Of `count` contiguous elements. `work` holds what the repeats give.
void reduce_all(Reduce op, const Operand& to, const Operand& from, const Operand& work,
                uint32_t count, bool index, Site site);
void broadcast_blocks(const Operand& to, const Operand& from, uint32_t repeats,
                      uint32_t block_stride, uint32_t repeat_stride, Site site);
// to[i] = the element at byte base + offsets[i] of `from`.
void gather(const Operand& to, const Operand& from, const Operand& offsets, uint32_t base,
            uint32_t count, Site site);

}  // namespace ridge::backend::ascend::twin

namespace AscendC {

#define RIDGE_TWIN_BINARY(Name, op)                                                               \
  template <typename T>                                                                           \
  void Name(const LocalTensor<T>& to, const LocalTensor<T>& a, const LocalTensor<T>& b,           \
            const int32_t& count, Where where = Where::current()) {                               \
    twin::vector_binary(twin::Binary::op, to.operand(), a.operand(), b.operand(),                 \
                        twin::counted(count), {}, {}, {}, {#Name, where});                        \
  }                                                                                               \
  template <typename T>                                                                           \
  void Name(const LocalTensor<T>& to, const LocalTensor<T>& a, const LocalTensor<T>& b,           \
            uint64_t mask, uint8_t repeats, const BinaryRepeatParams& p,                          \
            Where where = Where::current()) {                                                     \
    twin::vector_binary(twin::Binary::op, to.operand(), a.operand(), b.operand(),                 \
                        twin::masked(mask, repeats), {p.dstBlkStride, p.dstRepStride},            \
                        {p.src0BlkStride, p.src0RepStride}, {p.src1BlkStride, p.src1RepStride},   \
                        {#Name, where});                                                          \
  }
RIDGE_TWIN_BINARY(Add, add)
RIDGE_TWIN_BINARY(Sub, sub)
RIDGE_TWIN_BINARY(Mul, mul)
RIDGE_TWIN_BINARY(Div, div)
RIDGE_TWIN_BINARY(Max, max)
RIDGE_TWIN_BINARY(And, bit_and)
#undef RIDGE_TWIN_BINARY

#define RIDGE_TWIN_UNARY(Name, op)                                                                \
  template <typename T>                                                                           \
  void Name(const LocalTensor<T>& to, const LocalTensor<T>& from, const int32_t& count,           \
            Where where = Where::current()) {                                                     \
    twin::vector_unary(twin::Unary::op, to.operand(), from.operand(), 0, count, {#Name, where});  \
  }
RIDGE_TWIN_UNARY(Exp, exp)
RIDGE_TWIN_UNARY(Sqrt, sqrt)
RIDGE_TWIN_UNARY(Abs, abs)
#undef RIDGE_TWIN_UNARY

#define RIDGE_TWIN_SCALAR(Name, op)                                                               \
  template <typename T>                                                                           \
  void Name(const LocalTensor<T>& to, const LocalTensor<T>& from, const T& scalar,                \
            const int32_t& count, Where where = Where::current()) {                               \
    twin::vector_unary(twin::Unary::op, to.operand(), from.operand(),                             \
                       static_cast<double>(scalar), count, {#Name, where});                       \
  }
RIDGE_TWIN_SCALAR(Adds, adds)
RIDGE_TWIN_SCALAR(Muls, muls)
RIDGE_TWIN_SCALAR(Maxs, maxs)
RIDGE_TWIN_SCALAR(Mins, mins)
#undef RIDGE_TWIN_SCALAR

// to += scalar · from, rounded once.
template <typename T>
void Axpy(const LocalTensor<T>& to, const LocalTensor<T>& from, const T& scalar,
          const int32_t& count, Where where = Where::current()) {
  twin::vector_axpy(to.operand(), from.operand(), static_cast<double>(scalar), count,
                    {"Axpy", where});
}

template <typename To, typename From>
void Cast(const LocalTensor<To>& to, const LocalTensor<From>& from, const RoundMode& mode,
          uint32_t count, Where where = Where::current()) {
  twin::vector_cast(to.operand(), from.operand(), mode, twin::counted(count), {}, {},
                    {"Cast", where});
}
// A repeat has as many elements as 256 bytes of the wider type.
template <typename To, typename From>
void Cast(const LocalTensor<To>& to, const LocalTensor<From>& from, const RoundMode& mode,
          uint64_t mask, uint8_t repeats, const UnaryRepeatParams& p,
          Where where = Where::current()) {
  twin::vector_cast(to.operand(), from.operand(), mode, twin::masked(mask, repeats),
                    {p.dstBlkStride, p.dstRepStride}, {p.srcBlkStride, p.srcRepStride},
                    {"Cast", where});
}

template <typename T>
void Duplicate(const LocalTensor<T>& to, const T& scalar, const int32_t& count,
               Where where = Where::current()) {
  twin::vector_duplicate(to.operand(), static_cast<double>(scalar), twin::counted(count), {},
                         {"Duplicate", where});
}
// Of the elements whose bits are set in the mask.
template <typename T>
void Duplicate(const LocalTensor<T>& to, const T& scalar, uint64_t (&mask)[2], uint8_t repeats,
               uint16_t block_stride, uint8_t repeat_stride, Where where = Where::current()) {
  twin::vector_duplicate(to.operand(), static_cast<double>(scalar), twin::masked(mask, repeats),
                         {block_stride, repeat_stride}, {"Duplicate", where});
}

template <typename T>
void WholeReduceMax(const LocalTensor<T>& to, const LocalTensor<T>& from, int32_t mask,
                    int32_t repeats, int32_t to_step, int32_t block_stride, int32_t repeat_stride,
                    ReduceOrder order = ReduceOrder::ORDER_VALUE_INDEX,
                    Where where = Where::current()) {
  twin::reduce_repeats(twin::Reduce::max, to.operand(), from.operand(),
                       twin::masked(uint64_t(mask), repeats), to_step,
                       {uint32_t(block_stride), uint32_t(repeat_stride)}, order,
                       {"WholeReduceMax", where});
}
template <typename T>
void WholeReduceSum(const LocalTensor<T>& to, const LocalTensor<T>& from, int32_t mask,
                    int32_t repeats, int32_t to_step, int32_t block_stride, int32_t repeat_stride,
                    Where where = Where::current()) {
  twin::reduce_repeats(twin::Reduce::sum, to.operand(), from.operand(),
                       twin::masked(uint64_t(mask), repeats), to_step,
                       {uint32_t(block_stride), uint32_t(repeat_stride)},
                       ReduceOrder::ORDER_ONLY_VALUE, {"WholeReduceSum", where});
}

template <typename T>
void ReduceSum(const LocalTensor<T>& to, const LocalTensor<T>& from, const LocalTensor<T>& work,
               int32_t count, Where where = Where::current()) {
  twin::reduce_all(twin::Reduce::sum, to.operand(), from.operand(), work.operand(), count,
                   /*index=*/false, {"ReduceSum", where});
}
template <typename T>
void ReduceMax(const LocalTensor<T>& to, const LocalTensor<T>& from, const LocalTensor<T>& work,
               int32_t count, bool index = false, Where where = Where::current()) {
  twin::reduce_all(twin::Reduce::max, to.operand(), from.operand(), work.operand(), count, index,
                   {"ReduceMax", where});
}

template <typename T>
void Brcb(const LocalTensor<T>& to, const LocalTensor<T>& from, uint8_t repeats,
          const BrcbRepeatParams& p, Where where = Where::current()) {
  twin::broadcast_blocks(to.operand(), from.operand(), repeats, p.dstBlkStride, p.dstRepStride,
                         {"Brcb", where});
}

template <typename T>
void Gather(const LocalTensor<T>& to, const LocalTensor<T>& from,
            const LocalTensor<uint32_t>& offsets, uint32_t base, uint32_t count,
            Where where = Where::current()) {
  twin::gather(to.operand(), from.operand(), offsets.operand(), base, count, {"Gather", where});
}

}  // namespace AscendC
