#pragma once

#include "backend/ascend/kernels/few_rows_space.h"

namespace ridge::backend::ascend {

// Puts products together; each of a block's vector cores has half of a tile's columns.
template <typename Code>
class ProductScaler {
  using D = Digits<Code>;
  using P = typename Product<Code>::type;

 public:
  __aicore__ inline ProductScaler(AscendC::TPipe& pipe, const QuantizedLinearTiling& tiling,
                                  const FewRowsSpace<Code>& space)
      : tiling_(tiling),
        space_(space),
        parts_(D::fractal_k / tiling.format.group),
        most_groups_(tiling.chunk / tiling.format.group),
        digit_pitch_(tiling.linear.m * most_groups_ * (tiling.linear.n_tile / 2) + digit_gap),
        group_scales_(pipe, tiling, most_groups_, tiling.linear.n_tile / 2) {
    const uint32_t of_row = most_groups_ * (tiling.linear.n_tile / 2) * sizeof(float);
    pipe.InitBuffer(products_in_, 2, D::count * digit_pitch_ * sizeof(P) + bank_skew_bytes);
    pipe.InitBuffer(values_, D::count * digit_pitch_ * sizeof(float) + bank_skew_bytes);
    pipe.InitBuffer(totals_, tiling.linear.m * of_row + bank_skew_bytes);
    if (tiling.format.has_minimum) pipe.InitBuffer(shares_, of_row + bank_skew_bytes);
    pipe.InitBuffer(x_statistics_in_, 1, 2 * tiling.statistic_bytes + bank_skew_bytes);
    pipe.InitBuffer(blocks_, most_groups_ * floats_per_block * sizeof(float) + bank_skew_bytes);
    pipe.InitBuffer(out_, 2, tiling.linear.n_tile / 2 * sizeof(float));
  }

  __aicore__ inline void run(GM_ADDR scales, GM_ADDR out) {
    group_scales_.open(scales, tiling_.linear.k);
    out_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ half*>(out));
    sums_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(out));
    clear_products();
    x_scales_ = load_x_statistics();
    uint32_t load = 0;
    for (LinearTiles tile(tiling_.linear, AscendC::GetBlockIdx() / 2); !tile.done(); tile.next()) {
      const uint32_t columns = round_up(tile.columns(), quantized_columns);
      const uint32_t n = tile.n() + AscendC::GetSubBlockIdx() * (columns / 2);
      AscendC::Duplicate(totals_.Get<float>(), 0.0f,
                         tiling_.linear.m * most_groups_ * (columns / 2));
      AscendC::PipeBarrier<PIPE_V>();
      for (uint32_t k = 0; k < tiling_.linear.k; k += tiling_.chunk, ++load) {
        const uint32_t groups = space_.fractals(k) * parts_;
        group_scales_.load(k / tiling_.format.group, groups, n, columns / 2);
        AscendC::CrossCoreWaitFlag(products_full);
        load_products(load, columns, space_.fractals(k));
        if (space_.frees_slot(load)) AscendC::CrossCoreSetFlag<2, PIPE_MTE2>(products_taken);
        group_scales_.compute(groups, columns / 2);
        add_products(groups, columns / 2, k);
      }
      finish(n, columns / 2);
    }
    x_statistics_in_.FreeTensor(x_scales_);
  }

 private:
  // Elements between digits, so that two are not in the same banks.
  static constexpr uint32_t digit_gap = 16;

  __aicore__ inline uint32_t groups_of_token() const {
    return round_up(tiling_.linear.k, tiling_.chunk) / tiling_.format.group;
  }

  // All digits are cast at once, gaps and all.
  __aicore__ inline void clear_products() {
    AscendC::LocalTensor<P> both[2];
    for (AscendC::LocalTensor<P>& products : both) {
      products = products_in_.template AllocTensor<P>();
      AscendC::Duplicate(products, P(0), D::count * digit_pitch_);
    }
    for (AscendC::LocalTensor<P>& products : both) products_in_.FreeTensor(products);
  }

  // x's scales, and behind them its sums.
  __aicore__ inline AscendC::LocalTensor<float> load_x_statistics() {
    AscendC::GlobalTensor<float> scales, sums;
    scales.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(space_.scales()));
    sums.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(space_.sums()));
    AscendC::LocalTensor<float> to = x_statistics_in_.template AllocTensor<float>();
    const uint32_t count = tiling_.linear.m * groups_of_token();
    AscendC::DataCopy(to, scales, count);
    AscendC::DataCopy(to[count], sums, count);
    x_statistics_in_.EnQue(to);
    return x_statistics_in_.template DeQue<float>();
  }

  // Into [digits][m][groups][columns], digits digit_pitch_ apart: the parts of a column of fractals lie side by side.
  __aicore__ inline void load_products(uint32_t load, uint32_t columns, uint32_t fractals) {
    AscendC::GlobalTensor<P> from;
    from.SetGlobalBuffer(reinterpret_cast<__gm__ P*>(space_.products(load)));
    AscendC::LocalTensor<P> to = products_in_.template AllocTensor<P>();
    const uint32_t half_columns = columns / 2;
    const uint32_t first = AscendC::GetSubBlockIdx() * half_columns;
    AscendC::DataCopyParams params;
    params.blockCount = fractals;
    params.blockLen = half_columns * sizeof(P) / 32;
    params.srcStride = params.blockLen;
    params.dstStride = (parts_ - 1) * params.blockLen;
    const uint32_t rows_of_digit = tiling_.linear.m * parts_;
    for (uint32_t row = 0; row < tiling_.digit_rows; ++row) {
      const uint32_t token = row % rows_of_digit / parts_;
      const uint32_t at = row / rows_of_digit * digit_pitch_ +
                          (token * fractals * parts_ + row % parts_) * half_columns;
      AscendC::DataCopy(to[at], from[row * space_.product_pitch() + first], params);
    }
    products_in_.EnQue(to);
  }

  __aicore__ inline void add_products(uint32_t groups, uint32_t columns, uint32_t k) {
    const uint32_t of_token = groups * columns;
    const uint32_t of_digit = tiling_.linear.m * of_token;
    AscendC::LocalTensor<P> products = products_in_.template DeQue<P>();
    AscendC::LocalTensor<float> values = values_.Get<float>();
    AscendC::Cast(values, products, AscendC::RoundMode::CAST_NONE,
                  (D::count - 1) * digit_pitch_ + of_digit);
    AscendC::PipeBarrier<PIPE_V>();
    products_in_.FreeTensor(products);
    for (uint32_t d = D::count - 1; d-- > 0;) {
      AscendC::Axpy(values[d * digit_pitch_], values[(d + 1) * digit_pitch_], D::base, of_digit);
      AscendC::PipeBarrier<PIPE_V>();
    }
    for (uint32_t token = 0; token < tiling_.linear.m; ++token) {
      const uint32_t first_group = token * groups_of_token() + k / tiling_.format.group;
      AscendC::LocalTensor<float> total = totals_.Get<float>()[token * most_groups_ * columns];
      AscendC::LocalTensor<float> number = values[token * of_token];
      AscendC::Mul(number, number, group_scales_.scales(), of_token);
      spread(x_scales_[first_group], groups);
      multiply_by_blocks(number, number, blocks_.Get<float>(), groups, columns);
      AscendC::PipeBarrier<PIPE_V>();
      AscendC::Add(total, total, number, of_token);
      AscendC::PipeBarrier<PIPE_V>();
      if (!tiling_.format.has_minimum) continue;
      AscendC::LocalTensor<float> shares = shares_.Get<float>();
      spread(x_scales_[tiling_.linear.m * groups_of_token() + first_group], groups);
      multiply_by_blocks(shares, group_scales_.scales()[of_token], blocks_.Get<float>(), groups, columns);
      AscendC::PipeBarrier<PIPE_V>();
      AscendC::Add(total, total, shares, of_token);
      AscendC::PipeBarrier<PIPE_V>();
    }
  }

  __aicore__ inline void spread(const AscendC::LocalTensor<float>& numbers, uint32_t groups) {
    AscendC::Brcb(blocks_.Get<float>(), numbers,
                  (groups + floats_per_block - 1) / floats_per_block,
                  AscendC::BrcbRepeatParams{1, 8});
    AscendC::PipeBarrier<PIPE_V>();
  }

  // Sums over the groups of a chunk, of which there are a power of two.
  __aicore__ inline void finish(uint32_t n, uint32_t columns) {
    const uint32_t there = n < tiling_.linear.n ? smaller(columns, tiling_.linear.n - n) : 0;
    for (uint32_t token = 0; token < tiling_.linear.m; ++token) {
      AscendC::LocalTensor<float> total = totals_.Get<float>()[token * most_groups_ * columns];
      for (uint32_t groups = most_groups_ / 2; groups > 0; groups /= 2) {
        AscendC::Add(total, total, total[groups * columns], groups * columns);
        AscendC::PipeBarrier<PIPE_V>();
      }
      if (there == 0) continue;
      const uint64_t at = static_cast<uint64_t>(token) * tiling_.linear.out_stride + n;
      if (tiling_.linear.out_floats) {
        store(sums_gm_[at], total, there);
      } else {
        store(out_gm_[at], total, there);
      }
    }
  }
  template <typename T>
  __aicore__ inline void store(const AscendC::GlobalTensor<T>& to,
                               const AscendC::LocalTensor<float>& from, uint32_t count) {
    const uint32_t bytes = count * sizeof(T);
    AscendC::LocalTensor<T> out = out_.template AllocTensor<T>();
    narrow(out, from, count);
    AscendC::PipeBarrier<PIPE_V>();
    out_.EnQue(out);
    out = out_.template DeQue<T>();
    AscendC::DataCopyPad(to, out, AscendC::DataCopyExtParams{1, bytes, 0, 0, 0});
    out_.FreeTensor(out);
  }

  const QuantizedLinearTiling tiling_;
  const FewRowsSpace<Code>& space_;
  const uint32_t parts_;
  const uint32_t most_groups_;  // of a chunk
  const uint32_t digit_pitch_;  // of products and values
  GroupScales group_scales_;
  AscendC::GlobalTensor<half> out_gm_;
  AscendC::GlobalTensor<float> sums_gm_;
  AscendC::TQue<AscendC::TPosition::VECIN, 2> products_in_;
  AscendC::TQue<AscendC::TPosition::VECIN, 1> x_statistics_in_;
  AscendC::TQue<AscendC::TPosition::VECOUT, 2> out_;
  AscendC::TBuf<AscendC::TPosition::VECCALC> values_, totals_, shares_, blocks_;
  AscendC::LocalTensor<float> x_scales_;
};

}  // namespace ridge::backend::ascend
