#pragma once

#include "backend/ops.h"
#include "model/config.h"

namespace ridge::model {

// The frequencies of a family's RoPE, worked out in double and rounded once. With d = rotary_dim,
// pair i turns by f_i = θ^(-2i/d) a position (Su et al. 2021), and
//   linear: f_i / factor;
//   llama3: wavelengths beyond original / low are divided by `factor`, those below original / high
//     kept, those between blended (Meta's llama-models, `apply_scaling`); or, as files have it, all
//     f_i divided by the tensor `rope_freqs.weight`;
//   yarn: pairs that turn less than beta_slow times over the original context are divided by
//     `factor`, those of more than beta_fast kept, with a linear ramp between, whose ends are whole
//     pairs where rounds_pairs; sine and cosine are
//     times attention_factor · (0.1 ln(factor) + 1) (Peng et al. 2023, arXiv 2309.00071), or times
//     attention_factor alone where scores grow instead (log_multiplier).
backend::RopeTable make_rope_table(const RopeConfig& config);

// What attention's scale is multiplied by: (log_multiplier · ln(factor) + 1)², as DeepSeek-V2 and V3
// have it (transformers, modeling_deepseek_v3.py).
float score_magnitude(const RopeConfig& config);

}  // namespace ridge::model
