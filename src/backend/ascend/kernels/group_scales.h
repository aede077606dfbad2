#pragma once

#include "backend/ascend/kernels/row_math.h"
#include "backend/ascend/kernels/tiling_data.h"

// Scales of a quantised weight in float32: d · sc, and what is added to a group's values, which is
// dm · mc + offset · d · sc. Both are exact but for the addition.
namespace ridge::backend::ascend {

inline constexpr uint32_t fractal_row_bytes = 32;

// to[r] = from[r] · row for each of `rows` rows of `columns`.
__aicore__ inline void multiply_by_row(const AscendC::LocalTensor<float>& to,
                                       const AscendC::LocalTensor<float>& from,
                                       const AscendC::LocalTensor<float>& row, uint32_t rows,
                                       uint32_t columns) {
  const uint8_t pitch = columns / floats_per_block;
  for (uint32_t column = 0; column < columns; column += floats_per_repeat) {
    AscendC::Mul(to[column], from[column], row[column],
                 static_cast<uint64_t>(smaller(floats_per_repeat, columns - column)), rows,
                 AscendC::BinaryRepeatParams{1, 1, 1, pitch, pitch, 0});
  }
}

// to[r] = from[r] · the value that fills block r.
__aicore__ inline void multiply_by_blocks(const AscendC::LocalTensor<float>& to,
                                          const AscendC::LocalTensor<float>& from,
                                          const AscendC::LocalTensor<float>& blocks, uint32_t rows,
                                          uint32_t columns) {
  const uint8_t pitch = columns / floats_per_block;
  for (uint32_t column = 0; column < columns; column += floats_per_repeat) {
    AscendC::Mul(to[column], from[column], blocks,
                 static_cast<uint64_t>(smaller(floats_per_repeat, columns - column)), rows,
                 AscendC::BinaryRepeatParams{1, 1, 0, pitch, pitch, 1});
  }
}

// Buffers of UB whose sizes are multiples of 512 would all begin in the same group of banks, and
// instructions with two of them take twice as long; this much more of each prevents it.
inline constexpr uint32_t bank_skew_bytes = 5 * 32;

// Of `groups` groups that follow each other (whole spans of them, or a part of one) and `columns`
// columns (a multiple of 32).
class GroupScales {
 public:
  __aicore__ inline GroupScales(AscendC::TPipe& pipe, const QuantizedLinearTiling& tiling,
                                uint32_t most_groups, uint32_t most_columns)
      : format_(tiling.format),
        n_padded_(tiling.linear.n_padded),
        kinds_(1 + tiling.format.has_minimum) {
    const uint32_t all = kinds_ * most_groups * most_columns;
    const uint32_t halves = kinds_ * spans_of(most_groups) * most_columns;
    pipe.InitBuffer(in_, 2, halves * sizeof(half) + (format_.has_scales ? all : 0) + bank_skew_bytes);
    pipe.InitBuffer(scales_, all * sizeof(float) + bank_skew_bytes);
    if (!format_.has_scales) return;
    pipe.InitBuffer(code_halves_, all * sizeof(half) + bank_skew_bytes);
    pipe.InitBuffer(rows_, halves * sizeof(float) + bank_skew_bytes);
  }

  // Of weight `number` of several that follow each other.
  __aicore__ inline void open(GM_ADDR scales, uint32_t k, uint32_t number = 0) {
    const uint32_t fractal = 8 * fractal_row_bytes / format_.code_bits;
    const uint32_t padded = round_up(k, fractal);
    const uint64_t halves = static_cast<uint64_t>(padded / format_.span) * n_padded_;
    const uint64_t codes = static_cast<uint64_t>(padded / format_.group) * n_padded_;
    const uint64_t half_bytes = kinds_ * halves * sizeof(half);
    GM_ADDR first = scales + number * (half_bytes + (format_.has_scales ? kinds_ * codes : 0));
    GM_ADDR behind = first + half_bytes;
    for (uint32_t kind = 0; kind < kinds_; ++kind) {
      halves_gm_[kind].SetGlobalBuffer(reinterpret_cast<__gm__ half*>(first) + kind * halves);
      codes_gm_[kind].SetGlobalBuffer(reinterpret_cast<__gm__ int8_t*>(behind) + kind * codes);
    }
  }

  // Begins to copy what `compute` takes next.
  __aicore__ inline void load(uint32_t group, uint32_t groups, uint32_t n, uint32_t columns) {
    const uint32_t spans = spans_of(groups);
    const uint64_t span = static_cast<uint64_t>(group) * format_.group / format_.span;
    AscendC::LocalTensor<int8_t> in = in_.AllocTensor<int8_t>();
    const AscendC::LocalTensor<half> halves = in.ReinterpretCast<half>();
    const AscendC::LocalTensor<int8_t> codes = codes_of(in, spans, columns);
    for (uint32_t kind = 0; kind < kinds_; ++kind) {
      AscendC::DataCopy(halves[kind * spans * columns], halves_gm_[kind][span * n_padded_ + n],
                        rows_of(spans, columns, sizeof(half)));
      if (!format_.has_scales) continue;
      AscendC::DataCopy(codes[kind * groups * columns],
                        codes_gm_[kind][static_cast<uint64_t>(group) * n_padded_ + n],
                        rows_of(groups, columns, 1));
    }
    in_.EnQue(in);
  }

  // Leaves them in scales(), [groups][columns], and with has_minimum behind these what is added.
  __aicore__ inline void compute(uint32_t groups, uint32_t columns) {
    const uint32_t spans = spans_of(groups);
    const uint32_t all = kinds_ * groups * columns;
    AscendC::LocalTensor<int8_t> in = in_.DeQue<int8_t>();
    const AscendC::LocalTensor<half> halves = in.ReinterpretCast<half>();
    if (format_.has_scales) {
      AscendC::LocalTensor<half> code_halves = code_halves_.Get<half>();
      AscendC::LocalTensor<float> rows = rows_.Get<float>();
      AscendC::Cast(rows, halves, AscendC::RoundMode::CAST_NONE, kinds_ * spans * columns);
      AscendC::Cast(code_halves, codes_of(in, spans, columns), AscendC::RoundMode::CAST_NONE, all);
      AscendC::PipeBarrier<PIPE_V>();
      AscendC::Cast(scales(), code_halves, AscendC::RoundMode::CAST_NONE, all);
      AscendC::PipeBarrier<PIPE_V>();
      const uint32_t of_span = groups / spans;
      for (uint32_t i = 0; i < kinds_ * spans; ++i) {
        const AscendC::LocalTensor<float> of = scales()[i * of_span * columns];
        multiply_by_row(of, of, rows[i * columns], of_span, columns);
      }
    } else {
      AscendC::Cast(scales(), halves, AscendC::RoundMode::CAST_NONE, all);
    }
    AscendC::PipeBarrier<PIPE_V>();
    in_.FreeTensor(in);
    if (format_.offset == 0) return;
    AscendC::Axpy(scales()[groups * columns], scales(), format_.offset, groups * columns);
    AscendC::PipeBarrier<PIPE_V>();
  }

  __aicore__ inline AscendC::LocalTensor<float> scales() { return scales_.Get<float>(); }

 private:
  __aicore__ inline uint32_t spans_of(uint32_t groups) const {
    return (groups * format_.group + format_.span - 1) / format_.span;
  }
  // Behind the halves.
  __aicore__ inline AscendC::LocalTensor<int8_t> codes_of(const AscendC::LocalTensor<int8_t>& in,
                                                          uint32_t spans, uint32_t columns) const {
    return in[kinds_ * spans * columns * sizeof(half)];
  }
  __aicore__ inline AscendC::DataCopyParams rows_of(uint32_t rows, uint32_t columns,
                                                    uint32_t element_bytes) const {
    AscendC::DataCopyParams params;
    params.blockCount = rows;
    params.blockLen = columns * element_bytes / 32;
    params.srcStride = (n_padded_ - columns) * element_bytes / 32;
    params.dstStride = 0;
    return params;
  }

  const QuantizedFormat format_;
  const uint32_t n_padded_;
  const uint32_t kinds_;  // scales, and minima where there are some
  AscendC::GlobalTensor<half> halves_gm_[2];
  AscendC::GlobalTensor<int8_t> codes_gm_[2];
  AscendC::TQue<AscendC::TPosition::VECIN, 2> in_;  // halves, then codes
  AscendC::TBuf<AscendC::TPosition::VECCALC> code_halves_, rows_, scales_;
};

}  // namespace ridge::backend::ascend
