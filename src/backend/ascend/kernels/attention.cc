#include "backend/ascend/kernels/linear_tiles.h"
#include "backend/ascend/kernels/row_math.h"

// Causal attention of each sequence's tokens over its paged cache, for grouped heads: decode and
// prompts alike. Softmax runs along with the keys (Milakov & Gimelshein 2018; Dao et al. 2022).
//
// For each tile of keys the cube core multiplies q by the keys (scores, float32), the vector cores
// turn scores into probabilities, the cube core multiplies these by the values (products, float32),
// and the vector cores add them up. What they pass each other lies in slots of global memory, two of
// each kind, so that the next scores are computed while the last are made into probabilities. Each of
// the two vector cores has half of the rows.
namespace ridge::backend::ascend {

inline constexpr uint16_t scores_ready = 1;
inline constexpr uint16_t probabilities_ready = 2;
inline constexpr uint16_t products_ready = 3;

// Where things are in a block's workspace.
class AttentionSlots {
 public:
  __aicore__ inline AttentionSlots(GM_ADDR workspace, uint32_t block)
      : base_(workspace + static_cast<uint64_t>(block) * attention_workspace_bytes) {}
  __aicore__ inline GM_ADDR scores(uint32_t tile) const {
    return base_ + tile % attention_slots * attention_rows * attention_key_tile * 4;
  }
  __aicore__ inline GM_ADDR probabilities(uint32_t tile) const {
    return base_ + attention_slots * attention_rows * attention_key_tile * 4 +
           tile % attention_slots * attention_rows * attention_key_tile * 2;
  }
  __aicore__ inline GM_ADDR products(uint32_t tile) const {
    return base_ + attention_slots * attention_rows * attention_key_tile * 6 +
           tile % attention_slots * attention_rows * attention_head_dim * 4;
  }

 private:
  GM_ADDR base_;
};

// Some tokens of one sequence, for one KV head.
struct AttentionUnit {
  uint32_t sequence;
  uint32_t kv_head;
  uint32_t first_row;      // token row of q and out
  uint32_t tokens;
  uint32_t first_visible;  // keys that the first of the tokens sees; each next sees one more
  uint32_t keys;           // that the last one sees

  __aicore__ inline uint32_t tiles() const {
    return (keys + attention_key_tile - 1) / attention_key_tile;
  }
  __aicore__ inline uint32_t keys_of(uint32_t tile) const {
    return smaller(attention_key_tile, keys - tile * attention_key_tile);
  }
};

// Calls visit(unit) for each of a block's units, in the same order on all its cores.
template <typename Visit>
__aicore__ inline void for_each_unit(const AttentionTiling& tiling, uint32_t block,
                                     GM_ADDR query_starts, GM_ADDR context_lengths, Visit& visit) {
  AscendC::GlobalTensor<int32_t> starts, lengths;
  starts.SetGlobalBuffer(reinterpret_cast<__gm__ int32_t*>(query_starts), tiling.sequences + 1);
  lengths.SetGlobalBuffer(reinterpret_cast<__gm__ int32_t*>(context_lengths), tiling.sequences);
  uint32_t number = 0;
  for (uint32_t sequence = 0; sequence < tiling.sequences; ++sequence) {
    const uint32_t start = starts.GetValue(sequence);
    const uint32_t count = starts.GetValue(sequence + 1) - start;
    const uint32_t before = lengths.GetValue(sequence) - count;
    for (uint32_t token = 0; token < count; token += tiling.q_tokens) {
      for (uint32_t head = 0; head < tiling.kv_heads; ++head, ++number) {
        if (number % AscendC::GetBlockNum() != block) continue;
        const uint32_t tokens = smaller(tiling.q_tokens, count - token);
        visit.run(AttentionUnit{sequence, head, start + token, tokens, before + token + 1,
                                before + token + tokens});
      }
    }
  }
}

template <typename T>
class AttentionCube {
 public:
  __aicore__ inline AttentionCube(AscendC::TPipe& pipe, const AttentionTiling& tiling,
                                  GM_ADDR workspace)
      : tiling_(tiling), slots_(workspace, AscendC::GetBlockIdx()) {
    constexpr uint32_t longest = attention_key_tile > attention_head_dim ? attention_key_tile
                                                                         : attention_head_dim;
    pipe.InitBuffer(q1_, 1, attention_rows * attention_head_dim * sizeof(T));
    pipe.InitBuffer(p1_, 2, attention_rows * attention_key_tile * sizeof(T));
    pipe.InitBuffer(kv1_, 3, attention_key_tile * attention_head_dim * sizeof(T));
    pipe.InitBuffer(a2_, 2, attention_rows * longest * sizeof(T));
    pipe.InitBuffer(b2_, 2, attention_key_tile * attention_head_dim * sizeof(T));
    pipe.InitBuffer(c_, 2, attention_rows * longest * sizeof(float));
  }

  __aicore__ inline void open(GM_ADDR q, GM_ADDR k_cache, GM_ADDR v_cache, GM_ADDR block_tables) {
    q_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(q));
    k_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(k_cache));
    v_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(v_cache));
    tables_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ int32_t*>(block_tables));
  }

  __aicore__ inline void run(const AttentionUnit& unit) {
    const uint32_t rows = unit.tokens * tiling_.group;
    load_queries(unit, rows);
    AscendC::LocalTensor<T> q = q1_.template DeQue<T>();
    compute_scores(q, unit, rows, 0);
    for (uint32_t tile = 0; tile < unit.tiles(); ++tile) {
      if (tile + 1 < unit.tiles()) compute_scores(q, unit, rows, tile + 1);
      AscendC::CrossCoreWaitFlag(probabilities_ready);
      compute_products(unit, rows, tile);
    }
    q1_.FreeTensor(q);
    done_ += unit.tiles();
  }

 private:
  // A row is a head of a token; the heads of a token lie side by side.
  __aicore__ inline void load_queries(const AttentionUnit& unit, uint32_t rows) {
    AscendC::LocalTensor<T> q = q1_.template AllocTensor<T>();
    const uint64_t at = static_cast<uint64_t>(unit.first_row) * tiling_.q_stride +
                        unit.kv_head * tiling_.group * tiling_.head_dim;
    AscendC::Nd2NzParams params =
        to_fractals(tiling_.group, tiling_.head_dim, tiling_.head_dim, round_up(rows, c0));
    params.ndNum = unit.tokens;
    params.srcNdMatrixStride = unit.tokens == 1 ? 0 : tiling_.q_stride;
    params.dstNzMatrixStride = unit.tokens == 1 ? 0 : tiling_.group * c0;
    AscendC::DataCopy(q, q_gm_[at], params);
    // The cube takes a single row for a vector, in another layout; so there are two of it.
    if (rows == 1) AscendC::DataCopy(q[c0], q_gm_[at], params);
    q1_.EnQue(q);
  }

  // Keys or values of a tile, block by block, into [head_dim / 16][keys up to 16][16].
  __aicore__ inline AscendC::LocalTensor<T> load_cached(const AscendC::GlobalTensor<T>& from,
                                                        const AttentionUnit& unit, uint32_t tile) {
    AscendC::LocalTensor<T> to = kv1_.template AllocTensor<T>();
    const uint32_t keys = unit.keys_of(tile);
    const uint64_t table = static_cast<uint64_t>(unit.sequence) * tiling_.blocks_per_sequence;
    for (uint32_t key = 0; key < keys;) {
      const uint32_t position = tile * attention_key_tile + key;
      const uint32_t offset = position % tiling_.block_tokens;
      const uint32_t count = smaller(tiling_.block_tokens - offset, keys - key);
      const uint64_t block = tables_gm_.GetValue(table + position / tiling_.block_tokens);
      AscendC::DataCopy(to[key * c0],
                        from[block * tiling_.block_stride + offset * tiling_.token_stride +
                             unit.kv_head * tiling_.head_dim],
                        to_fractals(count, tiling_.head_dim, tiling_.token_stride,
                                    round_up(keys, c0)));
      key += count;
    }
    kv1_.EnQue(to);
    return kv1_.template DeQue<T>();
  }

  // Rows of fractals of L0A from columns of fractals of L1.
  __aicore__ inline void load_left(const AscendC::LocalTensor<T>& from, uint32_t rows,
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

  // c[rows, n] = L0A[rows, k] · L0B[k, n], to global memory in rows of `pitch`.
  __aicore__ inline void multiply(GM_ADDR to, uint32_t rows, uint32_t n, uint32_t k,
                                  uint32_t pitch) {
    AscendC::LocalTensor<T> a = a2_.template DeQue<T>();
    AscendC::LocalTensor<T> b = b2_.template DeQue<T>();
    AscendC::LocalTensor<float> c = c_.template AllocTensor<float>();
    AscendC::Mmad(c, a, b, AscendC::MmadParams(rows == 1 ? 2 : rows, n, k, 0, false, true));
    a2_.FreeTensor(a);
    b2_.FreeTensor(b);
    c_.EnQue(c);
    c = c_.template DeQue<float>();
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
                                        const AttentionUnit& unit, uint32_t rows, uint32_t tile) {
    const uint32_t keys = unit.keys_of(tile);
    AscendC::LocalTensor<T> k = load_cached(k_gm_, unit, tile);
    load_left(q, rows, tiling_.head_dim);
    // Keys are the rows of the weight, as in a linear: no transposition.
    AscendC::LocalTensor<T> b = b2_.template AllocTensor<T>();
    AscendC::LoadData(b, k,
                      AscendC::LoadData2DParams(0, tiling_.head_dim / c0 * ((keys + c0 - 1) / c0),
                                                1, 0, 0, false, 0));
    b2_.EnQue(b);
    kv1_.FreeTensor(k);
    multiply(slots_.scores(done_ + tile), rows, keys, tiling_.head_dim, attention_key_tile);
    AscendC::CrossCoreSetFlag<2, PIPE_FIX>(scores_ready);
  }

  __aicore__ inline void compute_products(const AttentionUnit& unit, uint32_t rows,
                                          uint32_t tile) {
    const uint32_t keys = unit.keys_of(tile);
    AscendC::GlobalTensor<T> from;
    from.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(slots_.probabilities(done_ + tile)));
    AscendC::LocalTensor<T> p = p1_.template AllocTensor<T>();
    const auto params = to_fractals(rows, keys, attention_key_tile, round_up(rows, c0));
    AscendC::DataCopy(p, from, params);
    if (rows == 1) AscendC::DataCopy(p[c0], from, params);
    p1_.EnQue(p);
    AscendC::LocalTensor<T> v = load_cached(v_gm_, unit, tile);
    p = p1_.template DeQue<T>();
    load_left(p, rows, keys);
    p1_.FreeTensor(p);
    // Values have keys as rows where L0B wants them as columns: each fractal is transposed.
    AscendC::LocalTensor<T> b = b2_.template AllocTensor<T>();
    const uint32_t key_fractals = (keys + c0 - 1) / c0;
    const uint32_t head_fractals = tiling_.head_dim / c0;
    for (uint32_t f = 0; f < key_fractals; ++f) {
      AscendC::LoadData(b[f * head_fractals * fractal], v,
                        AscendC::LoadData2DParams(f, head_fractals, key_fractals, 0, 0, true, 0));
    }
    b2_.EnQue(b);
    kv1_.FreeTensor(v);
    multiply(slots_.products(done_ + tile), rows, tiling_.head_dim, keys, tiling_.head_dim);
    AscendC::CrossCoreSetFlag<2, PIPE_FIX>(products_ready);
  }

  const AttentionTiling tiling_;
  const AttentionSlots slots_;
  uint32_t done_ = 0;  // tiles of units before
  AscendC::GlobalTensor<T> q_gm_, k_gm_, v_gm_;
  AscendC::GlobalTensor<int32_t> tables_gm_;
  AscendC::TQue<AscendC::TPosition::A1, 2> q1_, p1_;
  AscendC::TQue<AscendC::TPosition::B1, 3> kv1_;
  AscendC::TQue<AscendC::TPosition::A2, 2> a2_;
  AscendC::TQue<AscendC::TPosition::B2, 2> b2_;
  AscendC::TQue<AscendC::TPosition::CO1, 2> c_;
};

template <typename T>
class AttentionVector {
 public:
  __aicore__ inline AttentionVector(AscendC::TPipe& pipe, const AttentionTiling& tiling,
                                    GM_ADDR workspace)
      : tiling_(tiling), slots_(workspace, AscendC::GetBlockIdx() / 2) {
    pipe.InitBuffer(scores_in_, 1, most_rows * attention_key_tile * sizeof(float));
    pipe.InitBuffer(probabilities_out_, 1, most_rows * attention_key_tile * sizeof(T));
    pipe.InitBuffer(products_in_, 1, most_rows * attention_head_dim * sizeof(float));
    pipe.InitBuffer(out_, 1, most_rows * attention_head_dim * sizeof(T));
    pipe.InitBuffer(sums_, most_rows * attention_head_dim * sizeof(float));
    pipe.InitBuffer(statistics_, 5 * most_rows * sizeof(float));
    pipe.InitBuffer(blocks_, most_rows * floats_per_block * sizeof(float));
    pipe.InitBuffer(work_, floats_per_block * sizeof(float));
  }

  __aicore__ inline void open(GM_ADDR out) {
    out_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(out));
    AscendC::LocalTensor<float> all = statistics_.Get<float>();
    largest_ = all;
    total_ = all[most_rows];
    largest_of_tile_ = all[2 * most_rows];
    total_of_tile_ = all[3 * most_rows];
    shrink_ = all[4 * most_rows];
  }

  __aicore__ inline void run(const AttentionUnit& unit) {
    const uint32_t all_rows = unit.tokens * tiling_.group;
    const uint32_t first_half = (all_rows + 1) / 2;
    const bool second = AscendC::GetSubBlockIdx() != 0;
    const uint32_t first = second ? first_half : 0;
    const uint32_t rows = second ? all_rows - first_half : first_half;
    if (rows > 0) begin(rows);
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

  __aicore__ inline void begin(uint32_t rows) {
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::Duplicate(largest_, nothing, most_rows);
    AscendC::Duplicate(total_, 0.0f, most_rows);
    AscendC::Duplicate(sums_.Get<float>(), 0.0f, rows * tiling_.head_dim);
    AscendC::PipeBarrier<PIPE_V>();
  }

  // Keys of the tile that the row's token sees.
  __aicore__ inline uint32_t visible(const AttentionUnit& unit, uint32_t row, uint32_t tile) const {
    const uint32_t seen = unit.first_visible + row / tiling_.group;
    const uint32_t before = tile * attention_key_tile;
    return seen <= before ? 0 : smaller(seen - before, unit.keys_of(tile));
  }

  __aicore__ inline void make_probabilities(const AttentionUnit& unit, uint32_t first,
                                            uint32_t rows, uint32_t tile) {
    AscendC::LocalTensor<float> scores = load_scores(first, rows, unit.keys_of(tile), tile);
    AscendC::Duplicate(largest_of_tile_, nothing, most_rows);
    AscendC::Duplicate(total_of_tile_, 0.0f, most_rows);
    AscendC::PipeBarrier<PIPE_V>();
    for (uint32_t r = 0; r < rows; ++r) {
      const uint32_t keys = visible(unit, first + r, tile);
      if (keys == 0) continue;
      AscendC::LocalTensor<float> row = scores[r * attention_key_tile];
      AscendC::Muls(row, row, tiling_.scale, keys);
      AscendC::PipeBarrier<PIPE_V>();
      AscendC::ReduceMax(largest_of_tile_[r], row, work_.Get<float>(), keys);
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
      const uint32_t keys = visible(unit, first + r, tile);
      if (keys == 0) continue;
      AscendC::LocalTensor<float> row = scores[r * attention_key_tile];
      scale_row<ByBlock::subtract>(row, row, blocks[r * floats_per_block], keys);
      AscendC::PipeBarrier<PIPE_V>();
      AscendC::Exp(row, row, keys);
      AscendC::PipeBarrier<PIPE_V>();
      narrow(probabilities[r * attention_key_tile], row, keys);
      AscendC::ReduceSum(total_of_tile_[r], row, work_.Get<float>(), keys);
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

  __aicore__ inline void add_products(uint32_t first, uint32_t rows, uint32_t tile) {
    AscendC::GlobalTensor<float> from;
    from.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(slots_.products(done_ + tile)));
    AscendC::LocalTensor<float> products = products_in_.template AllocTensor<float>();
    AscendC::DataCopy(products, from[first * tiling_.head_dim], rows * tiling_.head_dim);
    products_in_.EnQue(products);
    products = products_in_.template DeQue<float>();
    AscendC::LocalTensor<float> sums = sums_.Get<float>();
    AscendC::LocalTensor<float> blocks = blocks_.Get<float>();
    AscendC::Brcb(blocks, shrink_, most_rows / floats_per_block, AscendC::BrcbRepeatParams{1, 8});
    AscendC::PipeBarrier<PIPE_V>();
    for (uint32_t r = 0; r < rows; ++r) {
      AscendC::LocalTensor<float> row = sums[r * tiling_.head_dim];
      scale_row<ByBlock::multiply>(row, row, blocks[r * floats_per_block], tiling_.head_dim);
    }
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::Add(sums, sums, products, rows * tiling_.head_dim);
    AscendC::PipeBarrier<PIPE_V>();
    products_in_.FreeTensor(products);
  }

  __aicore__ inline void finish(const AttentionUnit& unit, uint32_t first, uint32_t rows) {
    AscendC::LocalTensor<float> sums = sums_.Get<float>();
    AscendC::LocalTensor<float> blocks = blocks_.Get<float>();
    AscendC::Brcb(blocks, total_, most_rows / floats_per_block, AscendC::BrcbRepeatParams{1, 8});
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::LocalTensor<T> out = out_.template AllocTensor<T>();
    for (uint32_t r = 0; r < rows; ++r) {
      AscendC::LocalTensor<float> row = sums[r * tiling_.head_dim];
      scale_row<ByBlock::divide>(row, row, blocks[r * floats_per_block], tiling_.head_dim);
    }
    AscendC::PipeBarrier<PIPE_V>();
    narrow(out, sums, rows * tiling_.head_dim);
    out_.EnQue(out);
    out = out_.template DeQue<T>();
    for (uint32_t r = 0; r < rows; ++r) {
      const uint32_t row = first + r;
      const uint64_t token = unit.first_row + row / tiling_.group;
      const uint32_t head = unit.kv_head * tiling_.group + row % tiling_.group;
      AscendC::DataCopy(out_gm_[token * tiling_.out_stride + head * tiling_.head_dim],
                        out[r * tiling_.head_dim], tiling_.head_dim);
    }
    out_.FreeTensor(out);
  }

  const AttentionTiling tiling_;
  const AttentionSlots slots_;
  uint32_t done_ = 0;
  AscendC::GlobalTensor<T> out_gm_;
  AscendC::TQue<AscendC::TPosition::VECIN, 1> scores_in_, products_in_;
  AscendC::TQue<AscendC::TPosition::VECOUT, 1> probabilities_out_, out_;
  AscendC::TBuf<AscendC::TPosition::VECCALC> sums_, statistics_, blocks_, work_;
  // One float for each row, in statistics_.
  AscendC::LocalTensor<float> largest_, total_, largest_of_tile_, total_of_tile_, shrink_;
};

template <typename T>
__aicore__ inline void attention(GM_ADDR q, GM_ADDR k_cache, GM_ADDR v_cache, GM_ADDR query_starts,
                                 GM_ADDR context_lengths, GM_ADDR block_tables, GM_ADDR out,
                                 GM_ADDR workspace, GM_ADDR tiling_address) {
  const AttentionTiling tiling = read_tiling<AttentionTiling>(tiling_address);
  AscendC::TPipe pipe;
  if ASCEND_IS_AIC {
    AttentionCube<T> cube(pipe, tiling, workspace);
    cube.open(q, k_cache, v_cache, block_tables);
    for_each_unit(tiling, AscendC::GetBlockIdx(), query_starts, context_lengths, cube);
  }
  if ASCEND_IS_AIV {
    AttentionVector<T> vector(pipe, tiling, workspace);
    vector.open(out);
    for_each_unit(tiling, AscendC::GetBlockIdx() / 2, query_starts, context_lengths, vector);
  }
}

}  // namespace ridge::backend::ascend

#define RIDGE_ATTENTION(suffix, T)                                                              \
  extern "C" __global__ __aicore__ void ridge_attention_##suffix(                               \
      GM_ADDR q, GM_ADDR k_cache, GM_ADDR v_cache, GM_ADDR query_starts,                        \
      GM_ADDR context_lengths, GM_ADDR block_tables, GM_ADDR out, GM_ADDR workspace,            \
      GM_ADDR tiling) {                                                                         \
    KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_MIX_AIC_1_2);                                          \
    ridge::backend::ascend::attention<T>(q, k_cache, v_cache, query_starts, context_lengths,    \
                                         block_tables, out, workspace, tiling);                 \
  }

RIDGE_ATTENTION(f16, half)
RIDGE_ATTENTION(bf16, bfloat16_t)
