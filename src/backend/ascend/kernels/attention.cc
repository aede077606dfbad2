#include "backend/ascend/kernels/linear_tiles.h"
#include "backend/ascend/kernels/row_math.h"

// Causal attention of each sequence's tokens over its paged cache, for grouped heads and for MLA's
// latent: decode and prompts alike. Softmax runs along with the keys (Milakov & Gimelshein 2018; Dao et
// al. 2022). Keys and values wider than attention_chunk come to the cube core in chunks of columns,
// whose scores are summed in its accumulators.
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

// Where things are in a block's workspace: scores and products in float32, probabilities in 16 bits.
class AttentionSlots {
 public:
  __aicore__ inline AttentionSlots(GM_ADDR workspace, const AttentionTiling& tiling,
                                   uint32_t block)
      : product_bytes_(attention_rows * tiling.value_dim * 4),
        base_(workspace + static_cast<uint64_t>(block) * attention_slots *
                              (score_bytes + probability_bytes + product_bytes_)) {}
  __aicore__ inline GM_ADDR scores(uint32_t tile) const {
    return base_ + tile % attention_slots * score_bytes;
  }
  __aicore__ inline GM_ADDR probabilities(uint32_t tile) const {
    return base_ + attention_slots * score_bytes + tile % attention_slots * probability_bytes;
  }
  __aicore__ inline GM_ADDR products(uint32_t tile) const {
    return base_ + attention_slots * (score_bytes + probability_bytes) +
           tile % attention_slots * product_bytes_;
  }

 private:
  static constexpr uint32_t score_bytes = attention_rows * attention_key_tile * 4;
  static constexpr uint32_t probability_bytes = attention_rows * attention_key_tile * 2;
  uint32_t product_bytes_;
  GM_ADDR base_;
};

// Some tokens of one sequence, for some query heads of one KV head.
struct AttentionUnit {
  uint32_t sequence;
  uint32_t kv_head;
  uint32_t first_head;     // of q and out
  uint32_t heads;
  uint32_t first_row;      // token row of q and out
  uint32_t tokens;
  uint32_t first_key;      // before it no token of the unit sees any
  uint32_t first_visible;  // keys up to the first of the tokens; each next sees one more
  uint32_t keys;           // up to the last one

  __aicore__ inline uint32_t rows() const { return tokens * heads; }
  __aicore__ inline uint32_t tiles() const {
    return (keys - first_key + attention_key_tile - 1) / attention_key_tile;
  }
  __aicore__ inline uint32_t first_of(uint32_t tile) const {
    return first_key + tile * attention_key_tile;
  }
  __aicore__ inline uint32_t keys_of(uint32_t tile) const {
    return smaller(attention_key_tile, keys - first_of(tile));
  }
};

// Calls visit(unit) for each of a block's units, in the same order on all its cores.
template <typename Visit>
__aicore__ inline void for_each_unit(const AttentionTiling& tiling, uint32_t block,
                                     GM_ADDR query_starts, GM_ADDR context_lengths, Visit& visit) {
  AscendC::GlobalTensor<int32_t> starts, lengths;
  starts.SetGlobalBuffer(reinterpret_cast<__gm__ int32_t*>(query_starts), tiling.sequences + 1);
  lengths.SetGlobalBuffer(reinterpret_cast<__gm__ int32_t*>(context_lengths), tiling.sequences);
  const uint32_t parts = (tiling.group + tiling.heads_per_unit - 1) / tiling.heads_per_unit;
  uint32_t number = 0;
  for (uint32_t sequence = 0; sequence < tiling.sequences; ++sequence) {
    const uint32_t start = starts.GetValue(sequence);
    const uint32_t count = starts.GetValue(sequence + 1) - start;
    const uint32_t before = lengths.GetValue(sequence) - count;
    for (uint32_t token = 0; token < count; token += tiling.q_tokens) {
      const uint32_t tokens = smaller(tiling.q_tokens, count - token);
      const uint32_t visible = before + token + 1;
      const uint32_t first_key =
          tiling.window > 0 && visible > tiling.window ? visible - tiling.window : 0;
      for (uint32_t i = 0; i < tiling.kv_heads * parts; ++i, ++number) {
        if (number % AscendC::GetBlockNum() != block) continue;
        const uint32_t head = i % parts * tiling.heads_per_unit;
        visit.run(AttentionUnit{sequence, i / parts, i / parts * tiling.group + head,
                                smaller(tiling.heads_per_unit, tiling.group - head),
                                start + token, tokens, first_key, visible,
                                before + token + tokens});
      }
    }
  }
}

// Device addresses of what the cube core reads.
struct AttentionSources {
  GM_ADDR q[2];
  GM_ADDR keys[2];
  GM_ADDR values;
  GM_ADDR block_tables;
};

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
      AscendC::CrossCoreWaitFlag(probabilities_ready);
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

  __aicore__ inline void compute_products(const AttentionUnit& unit, uint32_t tile) {
    const uint32_t keys = unit.keys_of(tile);
    const uint32_t rows = unit.rows();
    AscendC::GlobalTensor<T> from;
    from.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(slots_.probabilities(done_ + tile)));
    AscendC::LocalTensor<T> p = p1_.template AllocTensor<T>();
    const auto params = to_fractals(rows, keys, attention_key_tile, round_up(rows, c0));
    AscendC::DataCopy(p, from, params);
    if (rows == 1) AscendC::DataCopy(p[c0], from, params);
    p1_.EnQue(p);
    p = p1_.template DeQue<T>();
    for (uint32_t column = 0; column < tiling_.value_dim; column += attention_chunk) {
      const uint32_t count = smaller(attention_chunk, tiling_.value_dim - column);
      AscendC::LocalTensor<T> v =
          load_cached(v_gm_,
                      {tiling_.value_dim, tiling_.value_block_stride, tiling_.value_token_stride,
                       column, count},
                      unit, tile);
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
    const auto filled = AscendC::GetTPipePtr()->FetchEventID(AscendC::HardEvent::V_S);
    AscendC::SetFlag<AscendC::HardEvent::V_S>(filled);
    AscendC::WaitFlag<AscendC::HardEvent::V_S>(filled);
    for (uint32_t r = 0; r < rows; ++r) {
      largest_.SetValue(r, sinks_gm_.GetValue(unit.first_head + (first + r) % unit.heads));
    }
    const auto set = AscendC::GetTPipePtr()->FetchEventID(AscendC::HardEvent::S_V);
    AscendC::SetFlag<AscendC::HardEvent::S_V>(set);
    AscendC::WaitFlag<AscendC::HardEvent::S_V>(set);
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

template <typename T>
__aicore__ inline void attention(const AttentionSources& from, GM_ADDR query_starts,
                                 GM_ADDR context_lengths, GM_ADDR sinks, GM_ADDR out,
                                 GM_ADDR workspace, GM_ADDR tiling_address) {
  const AttentionTiling tiling = read_tiling<AttentionTiling>(tiling_address);
  AscendC::TPipe pipe;
  if ASCEND_IS_AIC {
    AttentionCube<T> cube(pipe, tiling, workspace);
    cube.open(from);
    for_each_unit(tiling, AscendC::GetBlockIdx(), query_starts, context_lengths, cube);
  }
  if ASCEND_IS_AIV {
    AttentionVector<T> vector(pipe, tiling, workspace);
    vector.open(sinks, out);
    for_each_unit(tiling, AscendC::GetBlockIdx() / 2, query_starts, context_lengths, vector);
  }
}

}  // namespace ridge::backend::ascend

#define RIDGE_ATTENTION(suffix, T)                                                               \
  extern "C" __global__ __aicore__ void ridge_attention_##suffix(                                \
      GM_ADDR q, GM_ADDR k_cache, GM_ADDR v_cache, GM_ADDR query_starts,                         \
      GM_ADDR context_lengths, GM_ADDR block_tables, GM_ADDR sinks, GM_ADDR out,                 \
      GM_ADDR workspace, GM_ADDR tiling) {                                                       \
    KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_MIX_AIC_1_2);                                           \
    ridge::backend::ascend::attention<T>({{q, q}, {k_cache, k_cache}, v_cache, block_tables},    \
                                         query_starts, context_lengths, sinks, out, workspace,   \
                                         tiling);                                                \
  }                                                                                              \
  extern "C" __global__ __aicore__ void ridge_mla_attention_##suffix(                            \
      GM_ADDR q_latent, GM_ADDR q_rope, GM_ADDR latents, GM_ADDR rotary_keys,                    \
      GM_ADDR query_starts, GM_ADDR context_lengths, GM_ADDR block_tables, GM_ADDR out,          \
      GM_ADDR workspace, GM_ADDR tiling) {                                                       \
    KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_MIX_AIC_1_2);                                           \
    ridge::backend::ascend::attention<T>(                                                        \
        {{q_latent, q_rope}, {latents, rotary_keys}, latents, block_tables}, query_starts,       \
        context_lengths, nullptr, out, workspace, tiling);                                       \
  }

RIDGE_ATTENTION(f16, half)
RIDGE_ATTENTION(bf16, bfloat16_t)
