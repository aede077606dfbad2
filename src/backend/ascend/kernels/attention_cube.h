#pragma once

#include "backend/ascend/kernels/attention_units.h"
#include "backend/ascend/kernels/linear_tiles.h"

// What the cube core of a block does for ridge_attention_*: scores of queries with keys, and products
// of probabilities with values.
namespace ridge::backend::ascend {

template <typename T>
class AttentionCube {
 public:
  __aicore__ inline AttentionCube(AscendC::TPipe& pipe, const AttentionTiling& tiling,
                                  GM_ADDR workspace)
      : tiling_(tiling), slots_(workspace, tiling, AscendC::GetBlockIdx()) {
    const uint32_t key_dim = tiling.keys[0].dim + tiling.keys[1].dim;
    pipe.InitBuffer(q1_, 1, attention_rows * key_dim * sizeof(T));
    pipe.InitBuffer(p1_, 2, attention_rows * attention_key_tile * sizeof(T));
    pipe.InitBuffer(kv1_, 3, attention_key_tile * attention_chunk * sizeof(T));
    pipe.InitBuffer(a2_, 2, attention_rows * attention_chunk * sizeof(T));
    pipe.InitBuffer(b2_, 2, attention_key_tile * attention_chunk * sizeof(T));
    pipe.InitBuffer(c_, 2, attention_rows * attention_chunk * sizeof(float));
  }

  __aicore__ inline void open(const AttentionSources& from) {
    for (uint32_t part = 0; part < 2; ++part) {
      q_gm_[part].SetGlobalBuffer(reinterpret_cast<__gm__ T*>(from.q[part]));
      k_gm_[part].SetGlobalBuffer(reinterpret_cast<__gm__ T*>(from.keys[part]));
    }
    v_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(from.values));
    tables_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ int32_t*>(from.block_tables));
  }

  __aicore__ inline void run(const AttentionUnit& unit) {
    load_queries(unit);
    AscendC::LocalTensor<T> q = q1_.template DeQue<T>();
    compute_scores(q, unit, 0);
    for (uint32_t tile = 0; tile < unit.tiles(); ++tile) {
      if (tile + 1 < unit.tiles()) compute_scores(q, unit, tile + 1);
      compute_products(unit, tile);
    }
    q1_.FreeTensor(q);
    done_ += unit.tiles();
  }

 private:
  // A row is a head of a token; the heads of a token lie side by side. The parts of a query follow
  // each other in L1.
  __aicore__ inline void load_queries(const AttentionUnit& unit) {
    AscendC::LocalTensor<T> q = q1_.template AllocTensor<T>();
    const uint32_t padded = round_up(unit.rows(), c0);
    for (uint32_t part = 0; part < 2; ++part) {
      const AttentionKeys& keys = tiling_.keys[part];
      if (keys.dim == 0) continue;
      const uint64_t at = static_cast<uint64_t>(unit.first_row) * keys.q_stride +
                          unit.first_head * keys.dim;
      const uint32_t to = part * tiling_.keys[0].dim * padded;
      AscendC::Nd2NzParams params = to_fractals(unit.heads, keys.dim, keys.dim, padded);
      params.ndNum = unit.tokens;
      params.srcNdMatrixStride = unit.tokens == 1 ? 0 : keys.q_stride;
      params.dstNzMatrixStride = unit.tokens == 1 ? 0 : unit.heads * c0;
      AscendC::DataCopy(q[to], q_gm_[part][at], params);
      // The cube takes a single row for a vector, in another layout; so there are two of it.
      if (unit.rows() == 1) AscendC::DataCopy(q[to + c0], q_gm_[part][at], params);
    }
    q1_.EnQue(q);
  }

  // Some columns of a KV head's keys or values in the cache.
  struct Columns {
    uint32_t head_dim;
    uint32_t block_stride;
    uint32_t token_stride;
    uint32_t first;
    uint32_t count;
  };

  // Those of a tile, block by block, into [count / 16][keys up to 16][16].
  __aicore__ inline AscendC::LocalTensor<T> load_cached(const AscendC::GlobalTensor<T>& from,
                                                        const Columns& columns,
                                                        const AttentionUnit& unit, uint32_t tile) {
    AscendC::LocalTensor<T> to = kv1_.template AllocTensor<T>();
    const uint32_t keys = unit.keys_of(tile);
    const uint64_t table = static_cast<uint64_t>(unit.sequence) * tiling_.blocks_per_sequence;
    for (uint32_t key = 0; key < keys;) {
      const uint32_t position = unit.first_of(tile) + key;
      const uint32_t offset = position % tiling_.block_tokens;
      const uint32_t count = smaller(tiling_.block_tokens - offset, keys - key);
      const uint64_t block = tables_gm_.GetValue(table + position / tiling_.block_tokens);
      AscendC::DataCopy(to[key * c0],
                        from[block * columns.block_stride + offset * columns.token_stride +
                             unit.kv_head * columns.head_dim + columns.first],
                        to_fractals(count, columns.count, columns.token_stride,
                                    round_up(keys, c0)));
      key += count;
    }
    kv1_.EnQue(to);
    return kv1_.template DeQue<T>();
  }

  // Rows of fractals of L0A from columns of fractals of L1.
  __aicore__ inline void load_rows(const AscendC::LocalTensor<T>& from, uint32_t rows,
                                   uint32_t columns) {
    AscendC::LocalTensor<T> to = a2_.template AllocTensor<T>();
    const uint32_t row_fractals = (rows + c0 - 1) / c0;
    const uint32_t column_fractals = (columns + c0 - 1) / c0;
    for (uint32_t r = 0; r < row_fractals; ++r) {
      AscendC::LoadData(to[r * column_fractals * fractal], from,
                        AscendC::LoadData2DParams(r, column_fractals, row_fractals, 0, 0, false,
                                                  0));
    }
    a2_.EnQue(to);
  }

  // c[rows, n] (+)= L0A[rows, k] · L0B[k, n].
  __aicore__ inline void multiply(const AscendC::LocalTensor<float>& c, uint32_t rows, uint32_t n,
                                  uint32_t k, bool first) {
    AscendC::LocalTensor<T> a = a2_.template DeQue<T>();
    AscendC::LocalTensor<T> b = b2_.template DeQue<T>();
    AscendC::Mmad(c, a, b, AscendC::MmadParams(rows == 1 ? 2 : rows, n, k, 0, false, first));
    if ((rows + c0 - 1) / c0 * ((n + c0 - 1) / c0) < 10) AscendC::PipeBarrier<PIPE_M>();
    a2_.FreeTensor(a);
    b2_.FreeTensor(b);
  }

  // Accumulators to rows of `pitch` of global memory.
  __aicore__ inline void store_accumulators(GM_ADDR to, const AscendC::LocalTensor<float>& sums,
                                            uint32_t rows, uint32_t n, uint32_t pitch) {
    c_.EnQue(sums);
    AscendC::LocalTensor<float> c = c_.template DeQue<float>();
    AscendC::GlobalTensor<float> target;
    target.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(to));
    AscendC::FixpipeParamsV220 params;
    params.nSize = n;
    params.mSize = rows;
    params.srcStride = round_up(rows, c0);
    params.dstStride = pitch;
    params.quantPre = NoQuant;
    AscendC::Fixpipe<float, float, AscendC::CFG_ROW_MAJOR>(target, c, params);
    c_.FreeTensor(c);
  }

  __aicore__ inline void compute_scores(const AscendC::LocalTensor<T>& q,
                                        const AttentionUnit& unit, uint32_t tile) {
    const uint32_t keys = unit.keys_of(tile);
    AscendC::LocalTensor<float> c = c_.template AllocTensor<float>();
    for (uint32_t part = 0; part < 2; ++part) {
      const AttentionKeys& of = tiling_.keys[part];
      for (uint32_t column = 0; column < of.dim; column += attention_chunk) {
        const uint32_t count = smaller(attention_chunk, of.dim - column);
        AscendC::LocalTensor<T> k = load_cached(
            k_gm_[part], {of.dim, of.block_stride, of.token_stride, column, count}, unit, tile);
        const uint32_t before = part * tiling_.keys[0].dim + column;
        load_rows(q[before * round_up(unit.rows(), c0)], unit.rows(), count);
        // Keys are the rows of the weight, as in a linear: no transposition.
        AscendC::LocalTensor<T> b = b2_.template AllocTensor<T>();
        AscendC::LoadData(b, k,
                          AscendC::LoadData2DParams(0, count / c0 * ((keys + c0 - 1) / c0), 1, 0,
                                                    0, false, 0));
        b2_.EnQue(b);
        kv1_.FreeTensor(k);
        multiply(c, unit.rows(), keys, count, before == 0);
      }
    }
    store_accumulators(slots_.scores(done_ + tile), c, unit.rows(), keys, attention_key_tile);
    AscendC::CrossCoreSetFlag<2, PIPE_FIX>(scores_ready);
  }

  __aicore__ inline AscendC::LocalTensor<T> load_values(const AttentionUnit& unit, uint32_t tile,
                                                        uint32_t column) {
    return load_cached(v_gm_,
                       {tiling_.value_dim, tiling_.value_block_stride, tiling_.value_token_stride,
                        column, smaller(attention_chunk, tiling_.value_dim - column)},
                       unit, tile);
  }

  // In the workspace they are columns of fractals of attention_rows rows.
  __aicore__ inline AscendC::LocalTensor<T> load_probabilities(uint32_t rows, uint32_t keys,
                                                               uint32_t tile) {
    AscendC::GlobalTensor<T> from;
    from.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(slots_.probabilities(done_ + tile)));
    AscendC::LocalTensor<T> p = p1_.template AllocTensor<T>();
    AscendC::DataCopyParams params;
    params.blockCount = (keys + c0 - 1) / c0;
    params.blockLen = rows;
    params.srcStride = attention_rows - rows;
    params.dstStride = round_up(rows, c0) - rows;
    AscendC::DataCopy(p, from, params);
    if (rows == 1) AscendC::DataCopy(p[c0], from, params);
    p1_.EnQue(p);
    return p1_.template DeQue<T>();
  }

  __aicore__ inline void compute_products(const AttentionUnit& unit, uint32_t tile) {
    const uint32_t keys = unit.keys_of(tile);
    const uint32_t rows = unit.rows();
    // The first values come while the vector cores still make probabilities.
    AscendC::LocalTensor<T> v = load_values(unit, tile, 0);
    AscendC::CrossCoreWaitFlag(probabilities_ready);
    AscendC::LocalTensor<T> p = load_probabilities(rows, keys, tile);
    for (uint32_t column = 0; column < tiling_.value_dim; column += attention_chunk) {
      const uint32_t count = smaller(attention_chunk, tiling_.value_dim - column);
      if (column > 0) v = load_values(unit, tile, column);
      load_rows(p, rows, keys);
      // Values have keys as rows where L0B wants them as columns: each fractal is transposed.
      AscendC::LocalTensor<T> b = b2_.template AllocTensor<T>();
      const uint32_t key_fractals = (keys + c0 - 1) / c0;
      for (uint32_t f = 0; f < key_fractals; ++f) {
        AscendC::LoadData(b[f * (count / c0) * fractal], v,
                          AscendC::LoadData2DParams(f, count / c0, key_fractals, 0, 0, true, 0));
      }
      b2_.EnQue(b);
      kv1_.FreeTensor(v);
      AscendC::LocalTensor<float> c = c_.template AllocTensor<float>();
      multiply(c, rows, count, keys, /*first=*/true);
      store_accumulators(slots_.products(done_ + tile) + column * sizeof(float), c, rows, count,
                         tiling_.value_dim);
    }
    p1_.FreeTensor(p);
    AscendC::CrossCoreSetFlag<2, PIPE_FIX>(products_ready);
  }

  const AttentionTiling tiling_;
  const AttentionSlots slots_;
  uint32_t done_ = 0;  // tiles of units before
  AscendC::GlobalTensor<T> q_gm_[2], k_gm_[2], v_gm_;
  AscendC::GlobalTensor<int32_t> tables_gm_;
  AscendC::TQue<AscendC::TPosition::A1, 2> q1_, p1_;
  AscendC::TQue<AscendC::TPosition::B1, 3> kv1_;
  AscendC::TQue<AscendC::TPosition::A2, 2> a2_;
  AscendC::TQue<AscendC::TPosition::B2, 2> b2_;
  AscendC::TQue<AscendC::TPosition::CO1, 2> c_;
};

}  // namespace ridge::backend::ascend
