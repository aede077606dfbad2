#pragma once

#include "backend/ascend/twin/interface/tensor.h"

// The vector unit. A form with a count works on contiguous elements; one with a mask and repeats on
// 256 bytes for each repeat, with strides in blocks of 32 bytes.
namespace ridge::backend::ascend::twin {

enum class Unary : uint8_t { exp, ln, sqrt, rsqrt, reciprocal, abs, relu, adds, muls, maxs, mins };
enum class Binary : uint8_t { add, sub, mul, div, max, min, mul_add };
enum class Reduce : uint8_t { sum, max, min };

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
Lanes masked(uint64_t elements, uint32_t repeats, bool set_mask);
Lanes masked(const uint64_t* bits, uint32_t repeats, bool set_mask);

void vector_unary(Unary op, const Operand& to, const Operand& from, double scalar,
                  const Lanes& lanes, Strides to_strides, Strides from_strides, Site site);
void vector_binary(Binary op, const Operand& to, const Operand& a, const Operand& b,
                   const Lanes& lanes, Strides to_strides, Strides a_strides, Strides b_strides,
                   Site site);
// to += from · scalar, rounded once more for the sum.
void vector_axpy(const Operand& to, const Operand& from, double scalar, const Lanes& lanes,
                 Site site);
void vector_cast(const Operand& to, const Operand& from, AscendC::RoundMode mode,
                 const Lanes& lanes, Strides to_strides, Strides from_strides, Site site);
void vector_duplicate(const Operand& to, double scalar, const Lanes& lanes, Strides strides,
                      Site site);
void vector_copy(const Operand& to, const Operand& from, const Lanes& lanes, Strides to_strides,
                 Strides from_strides, Site site);
// One result for each repeat; with `index`, value and index side by side in `order`.
void reduce_repeats(Reduce op, const Operand& to, const Operand& from, const Lanes& lanes,
                    uint32_t to_step, Strides strides, AscendC::ReduceOrder order, Site site);
// One result for each 32-byte block.
void reduce_blocks(Reduce op, const Operand& to, const Operand& from, const Lanes& lanes,
                   uint32_t to_step, Strides strides, Site site);
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
  template <typename T, bool set_mask = true>                                                     \
  void Name(const LocalTensor<T>& to, const LocalTensor<T>& a, const LocalTensor<T>& b,           \
            uint64_t mask, uint8_t repeats, const BinaryRepeatParams& p,                          \
            Where where = Where::current()) {                                                     \
    twin::vector_binary(twin::Binary::op, to.operand(), a.operand(), b.operand(),                 \
                        twin::masked(mask, repeats, set_mask), {p.dstBlkStride, p.dstRepStride},  \
                        {p.src0BlkStride, p.src0RepStride}, {p.src1BlkStride, p.src1RepStride},   \
                        {#Name, where});                                                          \
  }                                                                                               \
  template <typename T, bool set_mask = true>                                                     \
  void Name(const LocalTensor<T>& to, const LocalTensor<T>& a, const LocalTensor<T>& b,           \
            uint64_t mask[], uint8_t repeats, const BinaryRepeatParams& p,                        \
            Where where = Where::current()) {                                                     \
    twin::vector_binary(twin::Binary::op, to.operand(), a.operand(), b.operand(),                 \
                        twin::masked(mask, repeats, set_mask), {p.dstBlkStride, p.dstRepStride},  \
                        {p.src0BlkStride, p.src0RepStride}, {p.src1BlkStride, p.src1RepStride},   \
                        {#Name, where});                                                          \
  }
RIDGE_TWIN_BINARY(Add, add)
RIDGE_TWIN_BINARY(Sub, sub)
RIDGE_TWIN_BINARY(Mul, mul)
RIDGE_TWIN_BINARY(Div, div)
RIDGE_TWIN_BINARY(Max, max)
RIDGE_TWIN_BINARY(Min, min)
RIDGE_TWIN_BINARY(MulAddDst, mul_add)
#undef RIDGE_TWIN_BINARY

#define RIDGE_TWIN_UNARY(Name, op)                                                                \
  template <typename T>                                                                           \
  void Name(const LocalTensor<T>& to, const LocalTensor<T>& from, const int32_t& count,           \
            Where where = Where::current()) {                                                     \
    twin::vector_unary(twin::Unary::op, to.operand(), from.operand(), 0, twin::counted(count),    \
                       {}, {}, {#Name, where});                                                   \
  }                                                                                               \
  template <typename T, bool set_mask = true>                                                     \
  void Name(const LocalTensor<T>& to, const LocalTensor<T>& from, uint64_t mask, uint8_t repeats, \
            const UnaryRepeatParams& p, Where where = Where::current()) {                         \
    twin::vector_unary(twin::Unary::op, to.operand(), from.operand(), 0,                          \
                       twin::masked(mask, repeats, set_mask), {p.dstBlkStride, p.dstRepStride},   \
                       {p.srcBlkStride, p.srcRepStride}, {#Name, where});                         \
  }
RIDGE_TWIN_UNARY(Exp, exp)
RIDGE_TWIN_UNARY(Ln, ln)
RIDGE_TWIN_UNARY(Sqrt, sqrt)
RIDGE_TWIN_UNARY(Rsqrt, rsqrt)
RIDGE_TWIN_UNARY(Reciprocal, reciprocal)
RIDGE_TWIN_UNARY(Abs, abs)
RIDGE_TWIN_UNARY(Relu, relu)
#undef RIDGE_TWIN_UNARY

#define RIDGE_TWIN_SCALAR(Name, op)                                                               \
  template <typename T>                                                                           \
  void Name(const LocalTensor<T>& to, const LocalTensor<T>& from, const T& scalar,                \
            const int32_t& count, Where where = Where::current()) {                               \
    twin::vector_unary(twin::Unary::op, to.operand(), from.operand(),                             \
                       static_cast<double>(scalar), twin::counted(count), {}, {},                 \
                       {#Name, where});                                                           \
  }                                                                                               \
  template <typename T, bool set_mask = true>                                                     \
  void Name(const LocalTensor<T>& to, const LocalTensor<T>& from, const T& scalar, uint64_t mask, \
            uint8_t repeats, const UnaryRepeatParams& p, Where where = Where::current()) {        \
    twin::vector_unary(twin::Unary::op, to.operand(), from.operand(),                             \
                       static_cast<double>(scalar), twin::masked(mask, repeats, set_mask),        \
                       {p.dstBlkStride, p.dstRepStride}, {p.srcBlkStride, p.srcRepStride},        \
                       {#Name, where});                                                           \
  }
RIDGE_TWIN_SCALAR(Adds, adds)
RIDGE_TWIN_SCALAR(Muls, muls)
RIDGE_TWIN_SCALAR(Maxs, maxs)
RIDGE_TWIN_SCALAR(Mins, mins)
#undef RIDGE_TWIN_SCALAR

template <typename T, typename U>
void Axpy(const LocalTensor<T>& to, const LocalTensor<U>& from, const U& scalar,
          const int32_t& count, Where where = Where::current()) {
  twin::vector_axpy(to.operand(), from.operand(), static_cast<double>(scalar),
                    twin::counted(count), {"Axpy", where});
}

template <typename To, typename From>
void Cast(const LocalTensor<To>& to, const LocalTensor<From>& from, const RoundMode& mode,
          uint32_t count, Where where = Where::current()) {
  twin::vector_cast(to.operand(), from.operand(), mode, twin::counted(count), {}, {},
                    {"Cast", where});
}
template <typename To, typename From, bool set_mask = true>
void Cast(const LocalTensor<To>& to, const LocalTensor<From>& from, const RoundMode& mode,
          uint64_t mask, uint8_t repeats, const UnaryRepeatParams& p,
          Where where = Where::current()) {
  twin::vector_cast(to.operand(), from.operand(), mode, twin::masked(mask, repeats, set_mask),
                    {p.dstBlkStride, p.dstRepStride}, {p.srcBlkStride, p.srcRepStride},
                    {"Cast", where});
}

template <typename T>
void Duplicate(const LocalTensor<T>& to, const T& scalar, const int32_t& count,
               Where where = Where::current()) {
  twin::vector_duplicate(to.operand(), static_cast<double>(scalar), twin::counted(count), {},
                         {"Duplicate", where});
}
template <typename T, bool set_mask = true>
void Duplicate(const LocalTensor<T>& to, const T& scalar, uint64_t mask, uint8_t repeats,
               uint16_t block_stride, uint8_t repeat_stride, Where where = Where::current()) {
  twin::vector_duplicate(to.operand(), static_cast<double>(scalar),
                         twin::masked(mask, repeats, set_mask), {block_stride, repeat_stride},
                         {"Duplicate", where});
}

template <typename T, bool set_mask = true>
void Copy(const LocalTensor<T>& to, const LocalTensor<T>& from, uint64_t mask, uint8_t repeats,
          const CopyRepeatParams& p, Where where = Where::current()) {
  twin::vector_copy(to.operand(), from.operand(), twin::masked(mask, repeats, set_mask),
                    {p.dstStride, p.dstRepeatSize}, {p.srcStride, p.srcRepeatSize},
                    {"Copy", where});
}

#define RIDGE_TWIN_REDUCE(Suffix, op)                                                             \
  template <typename T, bool set_mask = true>                                                     \
  void BlockReduce##Suffix(const LocalTensor<T>& to, const LocalTensor<T>& from, int32_t repeats, \
                           int32_t mask, int32_t to_step, int32_t block_stride,                   \
                           int32_t repeat_stride, Where where = Where::current()) {               \
    twin::reduce_blocks(twin::Reduce::op, to.operand(), from.operand(),                           \
                        twin::masked(uint64_t(mask), repeats, set_mask), to_step,                 \
                        {uint32_t(block_stride), uint32_t(repeat_stride)},                        \
                        {"BlockReduce" #Suffix, where});                                          \
  }
RIDGE_TWIN_REDUCE(Sum, sum)
RIDGE_TWIN_REDUCE(Max, max)
RIDGE_TWIN_REDUCE(Min, min)
#undef RIDGE_TWIN_REDUCE

template <typename T, bool set_mask = true>
void WholeReduceSum(const LocalTensor<T>& to, const LocalTensor<T>& from, int32_t mask,
                    int32_t repeats, int32_t to_step, int32_t block_stride, int32_t repeat_stride,
                    Where where = Where::current()) {
  twin::reduce_repeats(twin::Reduce::sum, to.operand(), from.operand(),
                       twin::masked(uint64_t(mask), repeats, set_mask), to_step,
                       {uint32_t(block_stride), uint32_t(repeat_stride)},
                       ReduceOrder::ORDER_ONLY_VALUE, {"WholeReduceSum", where});
}
template <typename T, bool set_mask = true>
void WholeReduceMax(const LocalTensor<T>& to, const LocalTensor<T>& from, int32_t mask,
                    int32_t repeats, int32_t to_step, int32_t block_stride, int32_t repeat_stride,
                    ReduceOrder order = ReduceOrder::ORDER_VALUE_INDEX,
                    Where where = Where::current()) {
  twin::reduce_repeats(twin::Reduce::max, to.operand(), from.operand(),
                       twin::masked(uint64_t(mask), repeats, set_mask), to_step,
                       {uint32_t(block_stride), uint32_t(repeat_stride)}, order,
                       {"WholeReduceMax", where});
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

// In counter mode the mask is the number of elements, and repeats say nothing.
inline void SetMaskCount() { twin::Core::current().counter_mode = true; }
inline void SetMaskNorm() { twin::Core::current().counter_mode = false; }
template <typename T, MaskMode mode = MaskMode::NORMAL>
void SetVectorMask(uint64_t high, uint64_t low) {
  twin::Core::current().mask = {low, high};
}
inline void ResetMask() { twin::Core::current().mask = {~uint64_t{0}, ~uint64_t{0}}; }

}  // namespace AscendC
