#pragma once

#include "backend/ascend/kernels/attention_units.h"
#include "backend/ascend/kernels/row_math.h"

// What the two vector cores of a block do for ridge_attention_*, each for half of the rows: scores into
// probabilities, and sums of products.
namespace ridge::backend::ascend {

template <typename T>
class AttentionVector {
 public:
  __aicore__ inline AttentionVector(AscendC::TPipe& pipe, const AttentionTiling& tiling,
                                    GM_ADDR workspace)
      : tiling_(tiling), slots_(workspace, tiling, AscendC::GetBlockIdx() / 2) {
    pipe.InitBuffer(scores_in_, 1, most_rows * attention_key_tile * sizeof(float));
    pipe.InitBuffer(probabilities_out_, 1, most_rows * attention_key_tile * sizeof(T));
    pipe.InitBuffer(products_in_, 1, most_rows * attention_chunk * sizeof(float));
    pipe.InitBuffer(out_, 1, most_rows * attention_chunk * sizeof(T));
    pipe.InitBuffer(sums_, most_rows * tiling.value_dim * sizeof(float));
    pipe.InitBuffer(statistics_, 5 * most_rows * sizeof(float));
    pipe.InitBuffer(blocks_, most_rows * floats_per_block * sizeof(float));
    pipe.InitBuffer(work_, floats_per_block * sizeof(float));
    if (tiling.soft_cap > 0) pipe.InitBuffer(dividend_, attention_key_tile * sizeof(float));
  }

  __aicore__ inline void open(GM_ADDR sinks, GM_ADDR out) {
    sinks_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(sinks));
    out_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(out));
    AscendC::LocalTensor<float> all = statistics_.Get<float>();
    largest_ = all;
    total_ = all[most_rows];
    largest_of_tile_ = all[2 * most_rows];
    total_of_tile_ = all[3 * most_rows];
    shrink_ = all[4 * most_rows];
    if (tiling_.soft_cap > 0) {
      AscendC::Duplicate(dividend_.Get<float>(), -2 * tiling_.soft_cap, attention_key_tile);
    }
  }

  __aicore__ inline void run(const AttentionUnit& unit) {
    const uint32_t first_half = (unit.rows() + 1) / 2;
    const bool second = AscendC::GetSubBlockIdx() != 0;
    const uint32_t first = second ? first_half : 0;
    const uint32_t rows = second ? unit.rows() - first_half : first_half;
    if (rows > 0) begin(unit, first, rows);
    for (uint32_t tile = 0; tile < unit.tiles(); ++tile) {
      AscendC::CrossCoreWaitFlag(scores_ready);
      if (rows > 0) make_probabilities(unit, first, rows, tile);
      AscendC::CrossCoreSetFlag<2, PIPE_MTE3>(probabilities_ready);
      AscendC::CrossCoreWaitFlag(products_ready);
      if (rows > 0) add_products(first, rows, tile);
    }
    if (rows > 0) finish(unit, first, rows);
    done_ += unit.tiles();
  }

 private:
  static constexpr uint32_t most_rows = attention_rows / 2;
  static constexpr float nothing = -3.0e38f;  // less than any score

  __aicore__ inline void begin(const AttentionUnit& unit, uint32_t first, uint32_t rows) {
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::Duplicate(largest_, nothing, most_rows);
    AscendC::Duplicate(total_, tiling_.has_sinks != 0 ? 1.0f : 0.0f, most_rows);
    AscendC::Duplicate(sums_.Get<float>(), 0.0f, most_rows * tiling_.value_dim);
    AscendC::PipeBarrier<PIPE_V>();
    if (tiling_.has_sinks == 0) return;
    // A sink is a key that gives no value: its logit is the first to be the largest, and its share of
    // the sum is 1.
    order<AscendC::HardEvent::V_S>();
    for (uint32_t r = 0; r < rows; ++r) {
      largest_.SetValue(r, sinks_gm_.GetValue(unit.first_head + (first + r) % unit.heads));
    }
    order<AscendC::HardEvent::S_V>();
  }

  // Of a tile's keys a row's token sees [first, end).
  struct Visible {
    uint32_t first;
    uint32_t end;
    __aicore__ inline bool none() const { return first >= end; }
  };
  __aicore__ inline Visible visible(const AttentionUnit& unit, uint32_t row, uint32_t tile) const {
    const uint32_t end = unit.first_visible + row / unit.heads;
    const uint32_t first = tiling_.window > 0 && end > tiling_.window ? end - tiling_.window : 0;
    const uint32_t before = unit.first_of(tile);
    return {first <= before ? 0 : first - before,
            end <= before ? 0 : smaller(end - before, unit.keys_of(tile))};
  }

  // What a row may not see of its first keys becomes nothing.
  __aicore__ inline void hide_before(const AscendC::LocalTensor<float>& row, uint32_t first) {
    for (uint32_t at = 0; at < first; at += floats_per_repeat) {
      const uint32_t hidden = smaller(floats_per_repeat, first - at);
      uint64_t mask[2] = {hidden == floats_per_repeat ? ~0ULL : (1ULL << hidden) - 1, 0};
      AscendC::Duplicate(row[at], nothing, mask, 1, 1, 8);
    }
  }

  // c · tanh(s / c) = c - 2 c / (exp(2 s / c) + 1), which holds for exponentials of 0 and infinity too.
  __aicore__ inline void scale_scores(const AscendC::LocalTensor<float>& row, uint32_t keys) {
    if (tiling_.soft_cap <= 0) {
      AscendC::Muls(row, row, tiling_.scale, keys);
      AscendC::PipeBarrier<PIPE_V>();
      return;
    }
    AscendC::Muls(row, row, tiling_.scale * 2 / tiling_.soft_cap, keys);
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::Exp(row, row, keys);
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::Adds(row, row, 1.0f, keys);
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::Div(row, dividend_.Get<float>(), row, keys);
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::Adds(row, row, tiling_.soft_cap, keys);
    AscendC::PipeBarrier<PIPE_V>();
  }

  __aicore__ inline void make_probabilities(const AttentionUnit& unit, uint32_t first,
                                            uint32_t rows, uint32_t tile) {
    AscendC::LocalTensor<float> scores = load_scores(first, rows, unit.keys_of(tile), tile);
    AscendC::Duplicate(largest_of_tile_, nothing, most_rows);
    AscendC::Duplicate(total_of_tile_, 0.0f, most_rows);
    AscendC::PipeBarrier<PIPE_V>();
    for (uint32_t r = 0; r < rows; ++r) {
      const Visible keys = visible(unit, first + r, tile);
      if (keys.none()) continue;
      AscendC::LocalTensor<float> row = scores[r * attention_key_tile];
      scale_scores(row, keys.end);
      if (keys.first > 0) {
        hide_before(row, keys.first);
        AscendC::PipeBarrier<PIPE_V>();
      }
      AscendC::ReduceMax(largest_of_tile_[r], row, work_.Get<float>(), keys.end);
      AscendC::PipeBarrier<PIPE_V>();
    }
    // What was summed up shrinks by exp(old largest - new largest).
    AscendC::Max(largest_of_tile_, largest_of_tile_, largest_, most_rows);
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::Sub(shrink_, largest_, largest_of_tile_, most_rows);
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::Exp(shrink_, shrink_, most_rows);
    AscendC::Adds(largest_, largest_of_tile_, 0.0f, most_rows);
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::LocalTensor<float> blocks = blocks_.Get<float>();
    AscendC::Brcb(blocks, largest_, most_rows / floats_per_block, AscendC::BrcbRepeatParams{1, 8});
    AscendC::LocalTensor<T> probabilities = probabilities_out_.template AllocTensor<T>();
    // Nothing of keys that a row does not see.
    AscendC::Duplicate(probabilities, T(0.0f), rows * attention_key_tile);
    AscendC::PipeBarrier<PIPE_V>();
    for (uint32_t r = 0; r < rows; ++r) {
      const Visible keys = visible(unit, first + r, tile);
      if (keys.none()) continue;
      AscendC::LocalTensor<float> row = scores[r * attention_key_tile];
      scale_row<ByBlock::subtract>(row, row, blocks[r * floats_per_block], keys.end);
      AscendC::PipeBarrier<PIPE_V>();
      AscendC::Exp(row, row, keys.end);
      AscendC::PipeBarrier<PIPE_V>();
      narrow(probabilities[r * attention_key_tile], row, keys.end);
      AscendC::ReduceSum(total_of_tile_[r], row, work_.Get<float>(), keys.end);
      AscendC::PipeBarrier<PIPE_V>();
    }
    AscendC::Mul(total_, total_, shrink_, most_rows);
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::Add(total_, total_, total_of_tile_, most_rows);
    AscendC::PipeBarrier<PIPE_V>();
    scores_in_.FreeTensor(scores);
    probabilities_out_.EnQue(probabilities);
    store_probabilities(first, rows, tile);
  }

  __aicore__ inline AscendC::LocalTensor<float> load_scores(uint32_t first, uint32_t rows,
                                                            uint32_t keys, uint32_t tile) {
    AscendC::GlobalTensor<float> from;
    from.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(slots_.scores(done_ + tile)));
    AscendC::LocalTensor<float> scores = scores_in_.template AllocTensor<float>();
    AscendC::DataCopyPad(scores, from[first * attention_key_tile],
                         rows_in<float>({rows, keys, attention_key_tile, attention_key_tile}),
                         AscendC::DataCopyPadExtParams<float>{false, 0, 0, 0});
    scores_in_.EnQue(scores);
    return scores_in_.template DeQue<float>();
  }

  __aicore__ inline void store_probabilities(uint32_t first, uint32_t rows, uint32_t tile) {
    AscendC::GlobalTensor<T> to;
    to.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(slots_.probabilities(done_ + tile)));
    AscendC::LocalTensor<T> probabilities = probabilities_out_.template DeQue<T>();
    AscendC::DataCopy(to[first * attention_key_tile], probabilities, rows * attention_key_tile);
    probabilities_out_.FreeTensor(probabilities);
  }

  // Sums lie chunk by chunk, in a chunk row by row.
  __aicore__ inline AscendC::LocalTensor<float> sums_from(uint32_t column) {
    return sums_.Get<float>()[column * most_rows];
  }
  __aicore__ inline uint32_t columns_from(uint32_t column) const {
    return smaller(attention_chunk, tiling_.value_dim - column);
  }

  __aicore__ inline void add_products(uint32_t first, uint32_t rows, uint32_t tile) {
    AscendC::GlobalTensor<float> from;
    from.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(slots_.products(done_ + tile)));
    AscendC::LocalTensor<float> blocks = blocks_.Get<float>();
    AscendC::Brcb(blocks, shrink_, most_rows / floats_per_block, AscendC::BrcbRepeatParams{1, 8});
    AscendC::PipeBarrier<PIPE_V>();
    for (uint32_t column = 0; column < tiling_.value_dim; column += attention_chunk) {
      const uint32_t columns = columns_from(column);
      AscendC::LocalTensor<float> products = products_in_.template AllocTensor<float>();
      AscendC::DataCopyPad(products,
                           from[static_cast<uint64_t>(first) * tiling_.value_dim + column],
                           rows_in<float>({rows, columns, tiling_.value_dim, columns}),
                           AscendC::DataCopyPadExtParams<float>{false, 0, 0, 0});
      products_in_.EnQue(products);
      products = products_in_.template DeQue<float>();
      AscendC::LocalTensor<float> sums = sums_from(column);
      for (uint32_t r = 0; r < rows; ++r) {
        AscendC::LocalTensor<float> row = sums[r * columns];
        scale_row<ByBlock::multiply>(row, row, blocks[r * floats_per_block], columns);
      }
      AscendC::PipeBarrier<PIPE_V>();
      AscendC::Add(sums, sums, products, rows * columns);
      AscendC::PipeBarrier<PIPE_V>();
      products_in_.FreeTensor(products);
    }
  }

  __aicore__ inline void finish(const AttentionUnit& unit, uint32_t first, uint32_t rows) {
    AscendC::LocalTensor<float> blocks = blocks_.Get<float>();
    AscendC::Brcb(blocks, total_, most_rows / floats_per_block, AscendC::BrcbRepeatParams{1, 8});
    AscendC::PipeBarrier<PIPE_V>();
    for (uint32_t column = 0; column < tiling_.value_dim; column += attention_chunk) {
      const uint32_t columns = columns_from(column);
      AscendC::LocalTensor<float> sums = sums_from(column);
      AscendC::LocalTensor<T> out = out_.template AllocTensor<T>();
      for (uint32_t r = 0; r < rows; ++r) {
        AscendC::LocalTensor<float> row = sums[r * columns];
        scale_row<ByBlock::divide>(row, row, blocks[r * floats_per_block], columns);
      }
      AscendC::PipeBarrier<PIPE_V>();
      narrow(out, sums, rows * columns);
      out_.EnQue(out);
      out = out_.template DeQue<T>();
      for (uint32_t r = 0; r < rows; ++r) {
        const uint64_t token = unit.first_row + (first + r) / unit.heads;
        const uint32_t head = unit.first_head + (first + r) % unit.heads;
        AscendC::DataCopy(
            out_gm_[token * tiling_.out_stride + head * tiling_.value_dim + column],
            out[r * columns], columns);
      }
      out_.FreeTensor(out);
    }
  }

  const AttentionTiling tiling_;
  const AttentionSlots slots_;
  uint32_t done_ = 0;
  AscendC::GlobalTensor<float> sinks_gm_;
  AscendC::GlobalTensor<T> out_gm_;
  AscendC::TQue<AscendC::TPosition::VECIN, 1> scores_in_, products_in_;
  AscendC::TQue<AscendC::TPosition::VECOUT, 1> probabilities_out_, out_;
  AscendC::TBuf<AscendC::TPosition::VECCALC> sums_, statistics_, blocks_, work_, dividend_;
  // One float for each row, in statistics_.
  AscendC::LocalTensor<float> largest_, total_, largest_of_tile_, total_of_tile_, shrink_;
};

}  // namespace ridge::backend::ascend
