#pragma once

#include "backend/ascend/kernels/read_tiling.h"
#include "backend/ascend/kernels/tiling_data.h"

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

// Where things are in a block's workspace: rows of scores and products in float32, columns of fractals of
// probabilities in 16 bits.
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

}  // namespace ridge::backend::ascend
