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
    pipe.InitBuffer(scores_in_, 2, most_rows * attention_key_tile * sizeof(float));
    pipe.InitBuffer(probabilities_out_, 2, fractal_columns * column_pitch * 32);
    pipe.InitBuffer(products_in_, 2, most_rows * attention_chunk * sizeof(float));
    pipe.InitBuffer(out_, 1, most_rows * attention_chunk * sizeof(T));
    pipe.InitBuffer(sums_, most_rows * tiling.value_dim * sizeof(float));
    pipe.InitBuffer(statistics_, 5 * most_rows * sizeof(float));
    pipe.InitBuffer(folded_, most_rows * floats_per_repeat * sizeof(float));
    pipe.InitBuffer(blocks_, 3 * most_rows * floats_per_block * sizeof(float));
    if (tiling.soft_cap > 0) pipe.InitBuffer(dividend_, floats_per_block * sizeof(float));
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
    // Of rows that a unit has not, too.
    AscendC::Duplicate(largest_of_tile_, nothing, most_rows);
    AscendC::Duplicate(total_of_tile_, 0.0f, most_rows);
    if (tiling_.soft_cap > 0) {
      AscendC::Duplicate(dividend_.Get<float>(), -2 * tiling_.soft_cap, floats_per_block);
    }
  }

  __aicore__ inline void run(const AttentionUnit& unit) {
    const uint32_t first_half = (unit.rows() + 1) / 2;
    const bool second = AscendC::GetSubBlockIdx() != 0;
    const uint32_t first = second ? first_half : 0;
    const uint32_t rows = second ? unit.rows() - first_half : first_half;
    if (rows > 0) begin(unit, first, rows);
    // A tile's products come once the next one's probabilities are made: while the cube core computes
    // them.
    for (uint32_t tile = 0; tile <= unit.tiles(); ++tile) {
      if (tile < unit.tiles()) {
        AscendC::CrossCoreWaitFlag(scores_ready);
        if (rows > 0) make_probabilities(unit, first, rows, tile);
        AscendC::CrossCoreSetFlag<2, PIPE_MTE3>(probabilities_ready);
      }
      if (tile > 0) {
        AscendC::CrossCoreWaitFlag(products_ready);
        if (rows > 0) add_products(first, rows, tile - 1);
      }
    }
    if (rows > 0) finish(unit, first, rows);
    done_ += unit.tiles();
  }

 private:
  static constexpr uint32_t most_rows = attention_rows / 2;
  static constexpr uint32_t row_blocks = attention_key_tile / floats_per_block;
  // Of probabilities: 16 keys of 16 bits are 32 bytes of a column of fractals. Columns are an odd number of
  // blocks apart, so that those of a row lie in different banks.
  static constexpr uint32_t c0 = 16;
  static constexpr uint32_t fractal_columns = attention_key_tile / c0;
  static constexpr uint32_t column_pitch = most_rows + 1;
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
  };
  __aicore__ inline Visible visible(const AttentionUnit& unit, uint32_t row, uint32_t tile) const {
    const uint32_t end = unit.first_visible + row / unit.heads;
    const uint32_t first = tiling_.window > 0 && end > tiling_.window ? end - tiling_.window : 0;
    const uint32_t before = unit.first_of(tile);
    return {first <= before ? 0 : first - before,
            end <= before ? 0 : smaller(end - before, unit.keys_of(tile))};
  }
  // Later tokens see more at the end and, in a window, less at the beginning.
  __aicore__ inline bool sees_all(const AttentionUnit& unit, uint32_t first, uint32_t rows,
                                  uint32_t tile) const {
    return visible(unit, first, tile).end == attention_key_tile &&
           visible(unit, first + rows - 1, tile).first == 0;
  }

  // The scores of keys that a row's token does not see, and what lies behind the last of the keys,
  // become nothing. The rows of a token have the same.
  __aicore__ inline void hide(const AscendC::LocalTensor<float>& scores, const AttentionUnit& unit,
                              uint32_t first, uint32_t rows, uint32_t tile) {
    for (uint32_t r = 0; r < rows;) {
      const uint32_t same = smaller(unit.heads - (first + r) % unit.heads, rows - r);
      const Visible keys = visible(unit, first + r, tile);
      for (uint32_t at = 0; at < attention_key_tile; at += floats_per_repeat) {
        uint64_t mask[2] = {~bits_before(keys.end, at) | bits_before(keys.first, at), 0};
        if (mask[0] == 0) continue;
        AscendC::Duplicate(scores[r * attention_key_tile + at], nothing, mask, same, 1,
                           row_blocks);
      }
      r += same;
    }
    AscendC::PipeBarrier<PIPE_V>();
  }
  // Of the lanes from `at` on.
  __aicore__ inline static uint64_t bits_before(uint32_t key, uint32_t at) {
    if (key <= at) return 0;
    return key - at >= floats_per_repeat ? ~0ULL : (1ULL << (key - at)) - 1;
  }

  // c · tanh(s / c) = c - 2 c / (exp(2 s / c) + 1), which holds for exponentials of 0 and infinity too.
  __aicore__ inline void scale_scores(const AscendC::LocalTensor<float>& scores, uint32_t count) {
    if (tiling_.soft_cap <= 0) {
      AscendC::Muls(scores, scores, tiling_.scale, count);
      AscendC::PipeBarrier<PIPE_V>();
      return;
    }
    AscendC::Muls(scores, scores, tiling_.scale * 2 / tiling_.soft_cap, count);
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::Exp(scores, scores, count);
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::Adds(scores, scores, 1.0f, count);
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::Div(scores, dividend_.Get<float>(), scores, floats_per_repeat,
                 count / floats_per_repeat, AscendC::BinaryRepeatParams{1, 0, 1, 8, 0, 8});
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::Adds(scores, scores, tiling_.soft_cap, count);
    AscendC::PipeBarrier<PIPE_V>();
  }

  // Rows of all keys of a tile, whether a token sees them or not: an instruction takes as long to begin
  // as for 26 repeats, so few large ones are much faster than some for each row.
  __aicore__ inline void make_probabilities(const AttentionUnit& unit, uint32_t first,
                                            uint32_t rows, uint32_t tile) {
    const uint32_t count = rows * attention_key_tile;
    AscendC::LocalTensor<float> scores = load_scores(first, rows, unit.keys_of(tile), tile);
    const bool hides = !sees_all(unit, first, rows, tile);
    if (hides) hide(scores, unit, first, rows, tile);
    scale_scores(scores, count);
    // A soft cap made a finite score of what was hidden.
    if (hides && tiling_.soft_cap > 0) hide(scores, unit, first, rows, tile);
    AscendC::LocalTensor<float> folded = folded_.Get<float>();
    const AscendC::BinaryRepeatParams fold{1, 1, 1, 8, row_blocks, row_blocks};
    AscendC::Max(folded, scores, scores[floats_per_repeat], floats_per_repeat, rows, fold);
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::WholeReduceMax(largest_of_tile_, folded, floats_per_repeat, rows, 1, 1, 8,
                            AscendC::ReduceOrder::ORDER_ONLY_VALUE);
    AscendC::PipeBarrier<PIPE_V>();
    // What was summed up shrinks by exp(old largest - new largest).
    AscendC::Max(largest_of_tile_, largest_of_tile_, largest_, most_rows);
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::Sub(shrink_, largest_, largest_of_tile_, most_rows);
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::Exp(shrink_, shrink_, most_rows);
    AscendC::Adds(largest_, largest_of_tile_, 0.0f, most_rows);
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::LocalTensor<float> largest = blocks_.Get<float>();
    broadcast(largest, largest_);
    broadcast(shrink_of(tile), shrink_);
    AscendC::PipeBarrier<PIPE_V>();
    scale_rows<ByBlock::subtract>(scores, largest, {rows, attention_key_tile});
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::Exp(scores, scores, count);
    AscendC::LocalTensor<T> probabilities = probabilities_out_.template AllocTensor<T>();
    AscendC::PipeBarrier<PIPE_V>();
    for (uint32_t key = 0; key < attention_key_tile; key += floats_per_repeat) {
      AscendC::Cast(probabilities[key * column_pitch], scores[key], AscendC::RoundMode::CAST_RINT,
                    floats_per_repeat, rows,
                    AscendC::UnaryRepeatParams{column_pitch, 1, 1, row_blocks});
    }
    probabilities_out_.EnQue(probabilities);
    store_probabilities(first, rows, tile);
    AscendC::Add(folded, scores, scores[floats_per_repeat], floats_per_repeat, rows, fold);
    scores_in_.FreeTensor(scores);
    AscendC::Mul(total_, total_, shrink_, most_rows);
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::WholeReduceSum(total_of_tile_, folded, floats_per_repeat, rows, 1, 1, 8);
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::Add(total_, total_, total_of_tile_, most_rows);
    AscendC::PipeBarrier<PIPE_V>();
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

  // As columns of fractals, in which the cube core copies them fastest.
  __aicore__ inline void store_probabilities(uint32_t first, uint32_t rows, uint32_t tile) {
    AscendC::GlobalTensor<T> to;
    to.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(slots_.probabilities(done_ + tile)));
    AscendC::LocalTensor<T> probabilities = probabilities_out_.template DeQue<T>();
    AscendC::DataCopyParams params;
    params.blockCount = fractal_columns;
    params.blockLen = rows;
    params.srcStride = column_pitch - rows;
    params.dstStride = attention_rows - rows;
    AscendC::DataCopy(to[first * c0], probabilities, params);
    probabilities_out_.FreeTensor(probabilities);
  }

  // A block of 32 bytes for each row's value.
  __aicore__ inline void broadcast(const AscendC::LocalTensor<float>& blocks,
                                   const AscendC::LocalTensor<float>& values) {
    AscendC::Brcb(blocks, values, most_rows / floats_per_block, AscendC::BrcbRepeatParams{1, 8});
  }
  // Blocks of what sums shrink by once a tile's products come, when the next tile's is there too.
  __aicore__ inline AscendC::LocalTensor<float> shrink_of(uint32_t tile) {
    return blocks_.Get<float>()[(1 + tile % 2) * most_rows * floats_per_block];
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
      scale_rows<ByBlock::multiply>(sums, shrink_of(tile), {rows, columns});
      AscendC::PipeBarrier<PIPE_V>();
      AscendC::Add(sums, sums, products, rows * columns);
      AscendC::PipeBarrier<PIPE_V>();
      products_in_.FreeTensor(products);
    }
  }

  __aicore__ inline void finish(const AttentionUnit& unit, uint32_t first, uint32_t rows) {
    AscendC::LocalTensor<float> blocks = blocks_.Get<float>();
    broadcast(blocks, total_);
    AscendC::PipeBarrier<PIPE_V>();
    for (uint32_t column = 0; column < tiling_.value_dim; column += attention_chunk) {
      const uint32_t columns = columns_from(column);
      AscendC::LocalTensor<float> sums = sums_from(column);
      AscendC::LocalTensor<T> out = out_.template AllocTensor<T>();
      scale_rows<ByBlock::divide>(sums, blocks, {rows, columns});
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
  AscendC::TBuf<AscendC::TPosition::VECCALC> sums_, statistics_, folded_, blocks_, dividend_;
  // One float for each row, in statistics_.
  AscendC::LocalTensor<float> largest_, total_, largest_of_tile_, total_of_tile_, shrink_;
};

}  // namespace ridge::backend::ascend
