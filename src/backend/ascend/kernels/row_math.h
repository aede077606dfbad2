#pragma once

#include "backend/ascend/kernels/read_tiling.h"

// How several vector kernels copy rows to UB and back, and what they do there to rows of float32.
// In UB rows begin at multiples of 32 bytes.
namespace ridge::backend::ascend {

inline constexpr uint32_t floats_per_block = 8;    // of 32 bytes
inline constexpr uint32_t floats_per_repeat = 64;  // of 256 bytes

// What follows on the one pipe comes after what precedes on the other.
template <AscendC::HardEvent event>
__aicore__ inline void order() {
  const auto flag = AscendC::GetTPipePtr()->FetchEventID(event);
  AscendC::SetFlag<event>(flag);
  AscendC::WaitFlag<event>(flag);
}

// Elements from one row's beginning in UB to the next: whole blocks of both T and float.
template <typename T>
__aicore__ inline uint32_t row_pitch(uint32_t columns) {
  return round_up(columns, 32 / sizeof(T) > floats_per_block ? 32 / sizeof(T) : floats_per_block);
}

// Rows of `columns` elements: `stride` elements apart in global memory, `pitch` in UB.
struct RowCopy {
  uint32_t rows;
  uint32_t columns;
  uint32_t stride;
  uint32_t pitch;
};

// Whole blocks of UB between the end of a row, which a copy rounds up by itself, and the next row.
template <typename T>
__aicore__ inline uint32_t blocks_behind(const RowCopy& copy) {
  return (copy.pitch * sizeof(T) - round_up(copy.columns * sizeof(T), 32)) / 32;
}
// As DataCopyPad takes them, to UB and back.
template <typename T>
__aicore__ inline AscendC::DataCopyExtParams rows_in(const RowCopy& copy) {
  const uint32_t bytes = copy.columns * sizeof(T);
  const uint32_t gap = (copy.stride - copy.columns) * sizeof(T);
  return {static_cast<uint16_t>(copy.rows), bytes, gap, blocks_behind<T>(copy), 0};
}
template <typename T>
__aicore__ inline AscendC::DataCopyExtParams rows_out(const RowCopy& copy) {
  const uint32_t bytes = copy.columns * sizeof(T);
  const uint32_t gap = (copy.stride - copy.columns) * sizeof(T);
  return {static_cast<uint16_t>(copy.rows), bytes, blocks_behind<T>(copy), gap, 0};
}

// `count` floats of T; T may be float.
template <typename T>
__aicore__ inline void widen(const AscendC::LocalTensor<float>& to,
                             const AscendC::LocalTensor<T>& from, uint32_t count) {
  if constexpr (sizeof(T) == sizeof(float)) {
    AscendC::Adds(to, from, 0.0f, count);
  } else {
    AscendC::Cast(to, from, AscendC::RoundMode::CAST_NONE, count);
  }
}
template <typename T>
__aicore__ inline void narrow(const AscendC::LocalTensor<T>& to,
                              const AscendC::LocalTensor<float>& from, uint32_t count) {
  if constexpr (sizeof(T) == sizeof(float)) {
    AscendC::Adds(to, from, 0.0f, count);
  } else {
    AscendC::Cast(to, from, AscendC::RoundMode::CAST_RINT, count);
  }
}

enum class ByBlock { multiply, divide, subtract };

template <ByBlock operation>
__aicore__ inline void apply_by_block(const AscendC::LocalTensor<float>& to,
                                      const AscendC::LocalTensor<float>& from,
                                      const AscendC::LocalTensor<float>& block, uint64_t mask,
                                      uint8_t repeats, const AscendC::BinaryRepeatParams& strides) {
  if constexpr (operation == ByBlock::multiply) {
    AscendC::Mul(to, from, block, mask, repeats, strides);
  } else if constexpr (operation == ByBlock::divide) {
    AscendC::Div(to, from, block, mask, repeats, strides);
  } else {
    AscendC::Sub(to, from, block, mask, repeats, strides);
  }
}

// to[i] = from[i] (·, / or −) the one value that fills the 32 bytes of `block`.
template <ByBlock operation>
__aicore__ inline void scale_row(const AscendC::LocalTensor<float>& to,
                                 const AscendC::LocalTensor<float>& from,
                                 const AscendC::LocalTensor<float>& block, uint32_t columns) {
  // The second source stays where it is: strides of 0.
  const AscendC::BinaryRepeatParams stay{1, 1, 0, 8, 8, 0};
  constexpr uint32_t most_repeats = 255;
  for (uint32_t done = 0; done < columns;) {
    const uint32_t left = columns - done;
    const uint64_t mask = left < floats_per_repeat ? left : floats_per_repeat;
    const uint8_t repeats =
        left < floats_per_repeat ? 1 : smaller(left / floats_per_repeat, most_repeats);
    apply_by_block<operation>(to[done], from[done], block, mask, repeats, stay);
    done += mask * repeats;
  }
}

// The same in place of at most 255 rows that lie one behind the other, each with a block of its own: an
// instruction for each 64 columns. Columns are a multiple of 8.
struct DenseRows {
  uint32_t rows;
  uint32_t columns;
};
template <ByBlock operation>
__aicore__ inline void scale_rows(const AscendC::LocalTensor<float>& values,
                                  const AscendC::LocalTensor<float>& blocks,
                                  const DenseRows& shape) {
  const auto pitch = static_cast<uint8_t>(shape.columns / floats_per_block);
  const AscendC::BinaryRepeatParams own{1, 1, 0, pitch, pitch, 1};
  for (uint32_t column = 0; column < shape.columns; column += floats_per_repeat) {
    apply_by_block<operation>(values[column], values[column], blocks,
                              smaller(floats_per_repeat, shape.columns - column), shape.rows, own);
  }
}

}  // namespace ridge::backend::ascend
