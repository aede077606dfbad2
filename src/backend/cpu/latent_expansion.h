#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/dtype.h"

// Keys and values of heads made from latents, for prompts: latent attention expanded. A product has
// what its lanes are, and the rows that every lane meets:
//
//             lanes: 16 tokens' latents, or            rows: of W_UK, each a dimension of the key, or
//                    16 rows of W_UV                         latents of tokens
//           ┌──────────────────────────────┐          ┌──────────────────────┐
//           │ l0: c0 c1 │ l1: c0 c1 │ … 16 │          │ r0: c0 c1 c2 c3 …    │
//           │ l0: c2 c3 │ l1: c2 c3 │ …    │          │ r1: …                │
//           └──────────────────────────────┘          └──────────────────────┘
//
// in pairs for bfloat16, singly for float32. So results come as KvGeometry has keys (lanes are tokens, two
// rows a group) and values (lanes are dimensions).
namespace ridge::backend::cpu {

struct KvGeometry;

// Latents of 16 tokens of a cache, as both operands and with their rotary keys.
struct LatentPart {
  const std::byte* block;  // of a latent cache (KvGeometry), of its KV head
  int offset;              // of the first token in the block, a multiple of 16
  std::byte* lanes;        // [rank / group][16][group]
  std::byte* rows;         // [16][rank]
  std::byte* rotary;       // [rotary / group][16][group]
};

struct LatentProduct {
  const std::byte* lanes;  // [vectors][rank / group][16][group]
  int vectors;
  const std::byte* rows;   // [count][rank]
  int count;               // a multiple of the group
  int rank;                // likewise
  std::byte* out;          // [count / group] of [vectors][16][group], out_step bytes apart
  int64_t out_step;
};

struct LatentKernels {
  DType dtype;        // of both operands and of what comes out: float32 or bfloat16
  int rank_multiple;  // of which ranks must be multiples, and counts of products:
  int count_multiple;
  // scratch: attention_scratch_bytes of a latent cache
  void (*take)(const LatentPart& part, const KvGeometry& kv, float* scratch);
  void (*multiply)(const LatentProduct& product);
};

}  // namespace ridge::backend::cpu
