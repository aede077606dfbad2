#pragma once

#include "backend/ascend/kernels/few_rows_space.h"

namespace ridge::backend::ascend {

// Makes digits of x; each of a block's vector cores does every second piece.
template <typename Code>
class DigitMaker {
  using D = Digits<Code>;

 public:
  __aicore__ inline DigitMaker(AscendC::TPipe& pipe, const QuantizedLinearTiling& tiling,
                               const FewRowsSpace<Code>& space)
      : tiling_(tiling), space_(space), parts_(D::fractal_k / tiling.format.group) {
    const uint32_t piece = tiling.piece;
    const uint32_t groups = piece / tiling.format.group;
    pipe.InitBuffer(x_in_, 1, piece * sizeof(half) + bank_skew_bytes);
    pipe.InitBuffer(x_, piece * sizeof(float) + bank_skew_bytes);
    pipe.InitBuffer(quotient_, piece * sizeof(float) + bank_skew_bytes);
    pipe.InitBuffer(next_, piece * sizeof(float) + bank_skew_bytes);
    pipe.InitBuffer(halves_, piece * sizeof(half) + bank_skew_bytes);
    pipe.InitBuffer(codes_, piece + bank_skew_bytes);
    pipe.InitBuffer(blocks_, groups * floats_per_block * sizeof(float) + bank_skew_bytes);
    pipe.InitBuffer(masks_, parts_ * fractal_row_bytes);
    pipe.InitBuffer(statistics_out_, 2, 2 * groups * sizeof(float));
    pipe.InitBuffer(rows_out_, 1, piece / D::fractal_k * space.padded_rows() * fractal_row_bytes);
  }

  __aicore__ inline void run(GM_ADDR x) {
    x_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ half*>(x));
    digits_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ int8_t*>(space_.digits()));
    scales_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(space_.scales()));
    sums_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(space_.sums()));
    make_masks();
    const uint32_t padded = round_up(tiling_.linear.k, tiling_.chunk);
    uint32_t number = 0;
    for (uint32_t k = 0; k < padded; k += tiling_.piece, ++number) {
      if (number % 2 != static_cast<uint32_t>(AscendC::GetSubBlockIdx())) continue;
      make_piece(k, smaller(tiling_.piece, padded - k));
    }
  }

 private:
  static constexpr uint32_t words_of_row = fractal_row_bytes / sizeof(int16_t);
  static constexpr uint32_t blocks_per_repeat = 8;

  // For each part a fractal's row with the bits of the part's codes.
  __aicore__ inline void make_masks() {
    AscendC::LocalTensor<int16_t> masks = masks_.Get<int16_t>();
    for (uint32_t part = 0; part < parts_; ++part) {
      for (uint32_t word = 0; word < words_of_row; ++word) {
        masks.SetValue(part * words_of_row + word,
                       static_cast<int16_t>(word * parts_ / words_of_row == part ? -1 : 0));
      }
    }
    order<AscendC::HardEvent::S_V>();
  }

  __aicore__ inline void make_piece(uint32_t k, uint32_t count) {
    AscendC::LocalTensor<int8_t> rows = rows_out_.template AllocTensor<int8_t>();
    const uint32_t bytes = count / D::fractal_k * space_.padded_rows() * fractal_row_bytes;
    // The rows behind the last are stored too.
    AscendC::Duplicate(rows.template ReinterpretCast<half>(), half(0.0f), bytes / 2);
    AscendC::PipeBarrier<PIPE_V>();
    for (uint32_t token = 0; token < tiling_.linear.m; ++token) {
      load(token, k, count);
      find_statistics(token, k, count);
      AscendC::LocalTensor<float> number = quotient_.Get<float>();
      AscendC::LocalTensor<float> next = next_.Get<float>();
      for (uint32_t d = 0; d + 1 < D::count; ++d) {
        // next = floor((number + base / 2) / base); what is left of the number is the digit.
        AscendC::Adds(next, number, D::base / 2, count);
        AscendC::PipeBarrier<PIPE_V>();
        AscendC::Muls(next, next, 1 / D::base, count);
        AscendC::PipeBarrier<PIPE_V>();
        AscendC::Cast(next, next, AscendC::RoundMode::CAST_FLOOR, count);
        AscendC::PipeBarrier<PIPE_V>();
        AscendC::Axpy(number, next, -D::base, count);
        AscendC::PipeBarrier<PIPE_V>();
        place(rows, number, d, token, count);
        const AscendC::LocalTensor<float> used = number;
        number = next;
        next = used;
      }
      place(rows, number, D::count - 1, token, count);
    }
    rows_out_.EnQue(rows);
    rows = rows_out_.template DeQue<int8_t>();
    AscendC::DataCopy(
        digits_gm_[static_cast<uint64_t>(k / D::fractal_k) * space_.padded_rows() *
                   fractal_row_bytes],
        rows, bytes);
    rows_out_.FreeTensor(rows);
  }

  // x as float32, zeros behind its end.
  __aicore__ inline void load(uint32_t token, uint32_t k, uint32_t count) {
    const uint32_t there = smaller(count, tiling_.linear.k - k);
    const uint32_t bytes = there * sizeof(half);
    AscendC::LocalTensor<half> in = x_in_.template AllocTensor<half>();
    AscendC::DataCopyPad(in, x_gm_[static_cast<uint64_t>(token) * tiling_.linear.x_stride + k],
                         AscendC::DataCopyExtParams{1, bytes, 0, 0, 0},
                         AscendC::DataCopyPadExtParams<half>{false, 0, 0, half(0.0f)});
    x_in_.EnQue(in);
    in = x_in_.template DeQue<half>();
    AscendC::LocalTensor<float> x = x_.Get<float>();
    AscendC::Cast(x, in, AscendC::RoundMode::CAST_NONE, there);
    if (there < count) AscendC::Duplicate(x[there], 0.0f, count - there);
    AscendC::PipeBarrier<PIPE_V>();
    x_in_.FreeTensor(in);
  }

  // The scale and sum of each group go to global memory, the quotients of x and scale, rounded, stay.
  __aicore__ inline void find_statistics(uint32_t token, uint32_t k, uint32_t count) {
    const uint32_t group = tiling_.format.group;
    const uint32_t groups = count / group;
    const uint8_t group_blocks = group / floats_per_block;
    AscendC::LocalTensor<float> x = x_.Get<float>();
    AscendC::LocalTensor<float> quotient = quotient_.Get<float>();
    AscendC::LocalTensor<float> scales = statistics_out_.template AllocTensor<float>();
    AscendC::LocalTensor<float> sums = scales[groups];
    AscendC::Abs(quotient, x, count);
    AscendC::WholeReduceSum(sums, x, group, groups, 1, 1, group_blocks);
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::WholeReduceMax(scales, quotient, group, groups, 1, 1, group_blocks,
                            AscendC::ReduceOrder::ORDER_ONLY_VALUE);
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::Muls(scales, scales, 1 / D::largest, groups);
    AscendC::PipeBarrier<PIPE_V>();
    // Zeros are divided by something too.
    AscendC::Maxs(scales, scales, 1e-30f, groups);
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::LocalTensor<float> blocks = blocks_.Get<float>();
    AscendC::Brcb(blocks, scales, groups / floats_per_block, AscendC::BrcbRepeatParams{1, 8});
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::Div(quotient, x, blocks, static_cast<uint64_t>(group), groups,
                 AscendC::BinaryRepeatParams{1, 1, 0, group_blocks, group_blocks, 1});
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::Cast(quotient, quotient, AscendC::RoundMode::CAST_RINT, count);
    AscendC::PipeBarrier<PIPE_V>();
    statistics_out_.EnQue(scales);
    scales = statistics_out_.template DeQue<float>();
    const uint32_t of_token = round_up(tiling_.linear.k, tiling_.chunk) / group;
    const uint64_t at = static_cast<uint64_t>(token) * of_token + k / group;
    AscendC::DataCopy(scales_gm_[at], scales, groups);
    AscendC::DataCopy(sums_gm_[at], scales[groups], groups);
    statistics_out_.FreeTensor(scales);
  }

  // A digit of all elements into its rows, one for each part of a fractal.
  __aicore__ inline void place(const AscendC::LocalTensor<int8_t>& rows,
                               const AscendC::LocalTensor<float>& digit, uint32_t d, uint32_t token,
                               uint32_t count) {
    AscendC::LocalTensor<half> halves = halves_.Get<half>();
    AscendC::LocalTensor<int8_t> codes = codes_.Get<int8_t>();
    AscendC::Cast(halves, digit, AscendC::RoundMode::CAST_RINT, count);
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::Cast(codes.template ReinterpretCast<Code>(), halves, AscendC::RoundMode::CAST_RINT,
                  count);
    AscendC::PipeBarrier<PIPE_V>();
    const uint32_t fractals = count / D::fractal_k;
    for (uint32_t part = 0; part < parts_; ++part) {
      const uint32_t row = (d * tiling_.linear.m + token) * parts_ + part;
      for (uint32_t done = 0; done < fractals;) {
        done += place_part(rows, row, part, done, fractals - done);
      }
    }
    AscendC::PipeBarrier<PIPE_V>();
  }

  // By one instruction as many fractals as it can do. A row's 32 bytes of one fractal lie
  // padded_rows · 32 bytes before those of the next; strides hold that of a repeat for 16 rows only.
  __aicore__ inline uint32_t place_part(const AscendC::LocalTensor<int8_t>& rows, uint32_t row,
                                        uint32_t part, uint32_t first, uint32_t fractals) {
    const uint8_t pitch = space_.padded_rows();
    const uint32_t of_repeat = smaller(blocks_per_repeat, fractals);
    const uint32_t repeats = pitch == c0 && of_repeat == blocks_per_repeat
                                 ? fractals / blocks_per_repeat
                                 : 1;
    const uint8_t repeat_pitch = repeats > 1 ? blocks_per_repeat * pitch : 0;
    AscendC::And(
        rows[(first * pitch + row) * fractal_row_bytes].template ReinterpretCast<int16_t>(),
        codes_.Get<int8_t>()[first * fractal_row_bytes].template ReinterpretCast<int16_t>(),
        masks_.Get<int16_t>()[part * words_of_row],
        static_cast<uint64_t>(of_repeat * words_of_row), repeats,
        AscendC::BinaryRepeatParams{pitch, 1, 0, repeat_pitch, blocks_per_repeat, 0});
    return of_repeat * repeats;
  }

  const QuantizedLinearTiling tiling_;
  const FewRowsSpace<Code>& space_;
  const uint32_t parts_;  // groups of a fractal
  AscendC::GlobalTensor<half> x_gm_;
  AscendC::GlobalTensor<int8_t> digits_gm_;
  AscendC::GlobalTensor<float> scales_gm_, sums_gm_;
  AscendC::TQue<AscendC::TPosition::VECIN, 1> x_in_;
  AscendC::TQue<AscendC::TPosition::VECOUT, 2> statistics_out_;
  AscendC::TQue<AscendC::TPosition::VECOUT, 1> rows_out_;
  AscendC::TBuf<AscendC::TPosition::VECCALC> x_, quotient_, next_, halves_, codes_, blocks_, masks_;
};

}  // namespace ridge::backend::ascend
