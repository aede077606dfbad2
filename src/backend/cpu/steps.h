#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "backend/cpu/kv_cache.h"
#include "backend/cpu/latent_forms.h"
#include "backend/cpu/schedule.h"
#include "backend/cpu/weight.h"

// The kinds of steps that make_schedule chooses from. Each is one op of the contract or a run of
// them.
namespace ridge::backend::cpu {

// [norm →] linear [→ activation | → += residual].
struct LinearPlan {
  Value x;
  Rows rows = Rows::tokens;
  const CpuWeight* norm = nullptr;  // rms_norm of x first
  float eps = 0;
  const CpuWeight* weight = nullptr;
  const CpuWeight* bias = nullptr;
  std::optional<Activation> activation;  // of the weight's two halves of rows
  bool accumulate = false;               // out += instead of out =
  Precision precision = Precision::full;
  Value out;
  // Where all_take_panels(), x comes packed from the linear before, or out is left packed for the
  // one after, in the place of the floats.
  bool x_packed = false, out_packed = false;
};
std::unique_ptr<Step> make_linear_step(const LinearPlan& plan, const StepLimits& limits,
                                       int members, const KernelTable& kernels);

// A linear whose rows meet one of several matrices each: those of the chosen experts, or of every
// head.
struct ExpertPlan {
  Value x;  // [rows, K], or [rows, choices · K]
  Rows rows = Rows::tokens;
  const CpuWeight* weight = nullptr;     // [E, N, K]
  Value ids;                             // [rows, choices]; invalid: choice j is matrix j
  Value weights;                         // [rows, choices], of a sum over them; may be invalid
  const CpuWeight* bias = nullptr;       // [E · N]
  std::optional<Activation> activation;  // of each matrix's two halves of rows; without `weights`
  Precision precision = Precision::full;
  Value out;
  // Where they are a part of latent attention: rows of expanded sequences are left out.
  std::shared_ptr<const LatentForms> forms;
  // Of experts that the same choice goes on to: where they are paged, reading may begin.
  std::vector<const CpuWeight*> followers;
};
std::unique_ptr<Step> make_expert_step(const ExpertPlan& plan, const StepLimits& limits,
                                       const KernelTable& kernels);
std::unique_ptr<Step> make_route_step(const Route& op, Rows rows);
std::unique_ptr<Step> make_lora_step(const LoraLinear& op, Rows rows, const StepLimits& limits,
                                     const KernelTable& kernels);

// cos and sin of every position of a run, [T][rotary_dim / 2][2], shared by all layers.
class RopeAngles {
 public:
  explicit RopeAngles(const RopeTable& table) : table_(table) {}
  const RopeTable& table() const { return table_; }
  int rotary_dim() const { return static_cast<int>(table_.inverse_frequencies.size()) * 2; }
  void resize(int tokens) { values_.resize(static_cast<size_t>(tokens) * rotary_dim()); }
  void compute(int token, int position);
  const float* row(int token) const {
    return values_.data() + static_cast<size_t>(token) * rotary_dim();
  }

 private:
  RopeTable table_;
  std::vector<float> values_;
};
using RopeTables = std::vector<std::shared_ptr<RopeAngles>>;
std::unique_ptr<Step> make_rope_angles_step(RopeTables tables);

// [RoPE → store →] attention; also RoPE or store alone. Latent attention is attention whose keys are
// the rotary keys and whose values are the latents, which have queries too.
struct AttentionPlan {
  std::optional<Rope> rope;
  std::shared_ptr<RopeAngles> angles;
  std::optional<StoreKv> store;
  std::optional<Attention> attention;
  Value q_latent;  // invalid where attention is not latent
  std::shared_ptr<const LatentForms> forms;  // expanded sequences are rotated and stored only
};
std::unique_ptr<Step> make_attention_step(const AttentionPlan& plan, const StepLimits& limits,
                                          const KernelTable& kernels);

// Attention of the expanded sequences, with what takes queries and values through latents' space.
struct ExpandedLatentPlan {
  Value q_nope;    // [T, heads · nope]
  Value q_rotary;  // [T, heads · rotary], rotated
  const CpuWeight* key_up = nullptr;    // [heads, rank, nope]
  const CpuWeight* value_up = nullptr;  // [heads, value, rank]
  KvCache* cache = nullptr;
  int layer = 0;
  float scale = 0;
  Value out;  // [T, heads · value]
  std::shared_ptr<const LatentForms> forms;
};
std::unique_ptr<Step> make_expanded_latent_step(const ExpandedLatentPlan& plan,
                                                const StepLimits& limits,
                                                const KernelTable& kernels);

// The ops that work on single rows.
std::unique_ptr<Step> make_embed_step(const Embed& op);
std::unique_ptr<Step> make_rms_norm_step(const RmsNorm& op, Rows rows);
std::unique_ptr<Step> make_add_rms_norm_step(const AddRmsNorm& op, Rows rows);
std::unique_ptr<Step> make_quantize_rows_step(const QuantizeRows& op, Rows rows);
std::unique_ptr<Step> make_gated_activation_step(const GatedActivation& op, Rows rows);
std::unique_ptr<Step> make_add_step(Value a, Value b, Value out, Rows rows);
std::unique_ptr<Step> make_scale_step(const Scale& op, Rows rows);
std::unique_ptr<Step> make_gather_rows_step(const GatherRows& op);
std::unique_ptr<Step> make_copy_blocks_step(const CopyBlocks& op);
std::unique_ptr<Step> make_top_k_step(const TopK& op, Rows rows);
std::unique_ptr<Step> make_sample_step(const Sample& op, Rows rows);
std::unique_ptr<Step> make_copy_step(Value x, Value out, Rows rows);

// Of several ranks, as many as the op names. The communicator must outlive the step.
std::unique_ptr<Step> make_all_gather_step(const Communicate& op, Rows rows,
                                           const StepLimits& limits, Communicator& communicator);

}  // namespace ridge::backend::cpu
