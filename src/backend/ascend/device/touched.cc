#include "backend/ascend/device/touched.h"

namespace ridge::backend::ascend {

namespace {

struct ValuesOf {
  Touched operator()(const Embed& op) const { return {{}, {op.out}}; }
  Touched operator()(const RmsNorm& op) const { return {{op.x}, {op.out}}; }
  Touched operator()(const AddRmsNorm& op) const {
    return {{op.x, op.residual}, {op.residual, op.out}};
  }
  Touched operator()(const QuantizeRows& op) const { return {{op.x}, {op.codes, op.scales}}; }
  Touched operator()(const Linear& op) const { return {{op.x}, {op.out}}; }
  Touched operator()(const HeadLinear& op) const { return {{op.x}, {op.out}}; }
  Touched operator()(const LoraLinear& op) const { return {{op.x, op.out}, {op.out}}; }
  Touched operator()(const GatedActivation& op) const { return {{op.x}, {op.out}}; }
  Touched operator()(const Rope& op) const {
    if (!op.k.valid()) return {{op.q}, {op.q}};
    return {{op.q, op.k}, {op.q, op.k}};
  }
  Touched operator()(const StoreKv& op) const { return {{op.k, op.v}, {}}; }
  Touched operator()(const StoreLatent& op) const { return {{op.latent, op.rotary_key}, {}}; }
  Touched operator()(const Attention& op) const { return {{op.q}, {op.out}}; }
  Touched operator()(const MlaAttention& op) const { return {{op.q_latent, op.q_rope}, {op.out}}; }
  Touched operator()(const Route& op) const { return {{op.logits}, {op.ids, op.weights}}; }
  Touched operator()(const ExpertLinear& op) const {
    if (!op.weights.valid()) return {{op.x, op.ids}, {op.out}};
    return {{op.x, op.ids, op.weights}, {op.out}};
  }
  Touched operator()(const Add& op) const { return {{op.a, op.b}, {op.out}}; }
  Touched operator()(const Scale& op) const { return {{op.x}, {op.out}}; }
  Touched operator()(const GatherRows& op) const { return {{op.x}, {op.out}}; }
  Touched operator()(const CopyBlocks&) const { return {}; }
  Touched operator()(const TopK& op) const { return {{op.logits}, {op.values, op.ids}}; }
  Touched operator()(const Sample& op) const { return {{op.logits}, {op.ids}}; }
  Touched operator()(const Communicate& op) const { return {{op.x}, {op.out}}; }
};

}  // namespace

Touched touched_by(const Op& op) { return std::visit(ValuesOf{}, op); }

}  // namespace ridge::backend::ascend
