#include "backend/cpu/latent_forms.h"

#include <algorithm>

#include "backend/cpu/linear_path.h"

namespace ridge::backend::cpu {

namespace {

// What a multiply-add takes, over that of the absorbed form's attention with a float16 cache: fitted to
// latent_benchmark (docs/performance.md), but exact_costs, which are of the instructions' rates.
constexpr double head_linear_cost = 2.3;  // of taking queries into the latents' space and values out of it
struct Costs {
  double attention, expansion;
};
constexpr Costs exact_costs = {1.1, 0.9};
constexpr Costs bf16_costs = {0.72, 0.45};
// Of so many tokens more: the matrices are read however short the context is.
constexpr double least_expansion = 16;

// Pairs of rows and columns must fill vectors.
bool fits(const LatentShape& s) { return s.rank % 16 == 0 && s.nope % 2 == 0 && s.rotary % 2 == 0; }

// Kernels of tiles take whole tiles alone.
const LatentKernels& kernels_for(const LatentShape& s, Precision precision,
                                 const KernelTable& kernels) {
  const LatentKernels& rounding = kernels.latents[1];
  const bool rounds = precision != Precision::full && s.rank % rounding.rank_multiple == 0 &&
                      s.nope % rounding.count_multiple == 0;
  return rounds ? rounding : kernels.latents[0];
}

}  // namespace

LatentForms::LatentForms(const LatentShape& shape, LatentForm form, Precision precision,
                         const KernelTable& kernels)
    : shape_(shape),
      kernels_(kernels_for(shape, precision, kernels)),
      form_(fits(shape) ? form : LatentForm::absorbed) {}

bool LatentForms::expands(const Run& run, int sequence) const {
  return expands(run.inputs.query_starts[sequence + 1] - run.inputs.query_starts[sequence],
                 run.inputs.context_lengths[sequence]);
}

bool LatentForms::expands(int tokens, int context) const {
  if (form_ != LatentForm::automatic) return form_ == LatentForm::expanded;
  const double pairs = static_cast<double>(tokens) * (context - 0.5 * (tokens - 1));
  const double up = static_cast<double>(shape_.rank) * (shape_.nope + shape_.value);
  const Costs costs = kernels_.dtype == DType::bf16 ? bf16_costs : exact_costs;
  const double absorbed = pairs * (2 * shape_.rank + shape_.rotary) + tokens * up * head_linear_cost;
  const double expanded = pairs * (shape_.nope + shape_.rotary + shape_.value) * costs.attention +
                          (context + least_expansion) * up * costs.expansion;
  return expanded < absorbed;
}

bool LatentForms::absorbs_token(const Run& run, int token) const {
  const int32_t* starts = run.inputs.query_starts;
  const auto after = std::upper_bound(starts, starts + run.shape.sequences + 1, token);
  return !expands(run, static_cast<int>(after - starts) - 1);
}

}  // namespace ridge::backend::cpu
