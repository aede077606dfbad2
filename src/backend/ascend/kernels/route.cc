#include "backend/ascend/kernels/row_math.h"
#include "backend/ascend/kernels/tiling_data.h"

// The experts of each token and their weights. Scores are the vector unit's work; which groups are kept
// and which experts are taken the scalar unit decides, as it reads the few numbers that this needs.
// Equal scores go to the smaller index.
namespace ridge::backend::ascend {

template <typename T>
class Route {
 public:
  __aicore__ inline Route(AscendC::TPipe& pipe, const RouteTiling& tiling) : tiling_(tiling) {
    const uint32_t pitch = round_up(tiling.experts, floats_per_repeat);
    pipe.InitBuffer(in_, 2, pitch * sizeof(T));
    pipe.InitBuffer(scores_, pitch * sizeof(float));
    pipe.InitBuffer(choice_, pitch * sizeof(float));
    pipe.InitBuffer(bias_, pitch * sizeof(float));
    pipe.InitBuffer(ones_, pitch * sizeof(float));
    // Of ReduceMax with an index: two numbers for each 256 bytes.
    pipe.InitBuffer(work_, round_up(2 * (pitch / floats_per_repeat + 1), floats_per_block) * 4);
    pipe.InitBuffer(largest_, floats_per_block * sizeof(float));
    pipe.InitBuffer(groups_, round_up(tiling.groups, floats_per_block) * sizeof(float));
    pipe.InitBuffer(ids_, round_up(tiling.top_k, floats_per_block) * sizeof(int32_t));
    pipe.InitBuffer(weights_, round_up(tiling.top_k, floats_per_block) * sizeof(float));
  }

  __aicore__ inline void run(GM_ADDR logits, GM_ADDR bias, GM_ADDR ids, GM_ADDR weights) {
    logits_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(logits));
    ids_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ int32_t*>(ids));
    weights_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(weights));
    AscendC::Duplicate(ones_.Get<float>(), 1.0f, tiling_.experts);
    if (tiling_.has_bias) load_bias(bias);
    AscendC::PipeBarrier<PIPE_V>();
    for (uint32_t row = AscendC::GetBlockIdx(); row < tiling_.rows;
         row += AscendC::GetBlockNum()) {
      find_scores(row);
      order<AscendC::HardEvent::V_S>();
      if (tiling_.groups > 1) keep_best_groups();
      take_best();
      store(row);
    }
  }

 private:
  static constexpr float nothing = -3.0e38f;  // less than any score

  __aicore__ inline void load_bias(GM_ADDR bias) {
    AscendC::GlobalTensor<float> from;
    from.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(bias), tiling_.experts);
    AscendC::DataCopyPad(bias_.Get<float>(), from,
                         AscendC::DataCopyExtParams{1, tiling_.experts * 4, 0, 0, 0},
                         AscendC::DataCopyPadExtParams<float>{false, 0, 0, 0.0f});
    order<AscendC::HardEvent::MTE2_V>();
  }

  // Leaves scores_ and choice_, which is what is compared.
  __aicore__ inline void find_scores(uint32_t row) {
    const uint32_t experts = tiling_.experts;
    const uint32_t bytes = experts * sizeof(T);
    AscendC::LocalTensor<T> in = in_.template AllocTensor<T>();
    AscendC::DataCopyPad(in, logits_gm_[static_cast<uint64_t>(row) * tiling_.logits_stride],
                         AscendC::DataCopyExtParams{1, bytes, 0, 0, 0},
                         AscendC::DataCopyPadExtParams<T>{false, 0, 0, 0});
    in_.EnQue(in);
    in = in_.template DeQue<T>();
    AscendC::LocalTensor<float> scores = scores_.Get<float>();
    widen(scores, in, experts);
    AscendC::PipeBarrier<PIPE_V>();
    in_.FreeTensor(in);
    if (tiling_.scoring == RouteTiling::softmax) {
      AscendC::LocalTensor<float> largest = largest_.Get<float>();
      AscendC::ReduceMax(largest, scores, work_.Get<float>(), experts);
      order<AscendC::HardEvent::V_S>();
      const float most = largest.GetValue(0);
      order<AscendC::HardEvent::S_V>();
      AscendC::Adds(scores, scores, -most, experts);
      AscendC::PipeBarrier<PIPE_V>();
      AscendC::Exp(scores, scores, experts);
      AscendC::PipeBarrier<PIPE_V>();
      AscendC::ReduceSum(largest, scores, work_.Get<float>(), experts);
      order<AscendC::HardEvent::V_S>();
      const float sum = largest.GetValue(0);
      order<AscendC::HardEvent::S_V>();
      AscendC::Duplicate(choice_.Get<float>(), sum, experts);
      AscendC::PipeBarrier<PIPE_V>();
      AscendC::Div(scores, scores, choice_.Get<float>(), experts);
    } else {
      AscendC::Muls(scores, scores, -1.0f, experts);
      AscendC::PipeBarrier<PIPE_V>();
      AscendC::Exp(scores, scores, experts);
      AscendC::PipeBarrier<PIPE_V>();
      AscendC::Adds(scores, scores, 1.0f, experts);
      AscendC::PipeBarrier<PIPE_V>();
      AscendC::Div(scores, ones_.Get<float>(), scores, experts);
    }
    AscendC::PipeBarrier<PIPE_V>();
    if (tiling_.has_bias) {
      AscendC::Add(choice_.Get<float>(), scores, bias_.Get<float>(), experts);
    } else {
      AscendC::Adds(choice_.Get<float>(), scores, 0.0f, experts);
    }
  }

  // Of sigmoids a group counts by the sum of its two best, of softmaxes by its best.
  __aicore__ inline void keep_best_groups() {
    AscendC::LocalTensor<float> choice = choice_.Get<float>();
    AscendC::LocalTensor<float> groups = groups_.Get<float>();
    const uint32_t size = tiling_.experts / tiling_.groups;
    for (uint32_t g = 0; g < tiling_.groups; ++g) {
      float best = nothing;
      float second = nothing;
      for (uint32_t e = g * size; e < (g + 1) * size; ++e) {
        const float score = choice.GetValue(e);
        if (score > best) {
          second = best;
          best = score;
        } else if (score > second) {
          second = score;
        }
      }
      const bool counts_two = tiling_.scoring == RouteTiling::sigmoid && size > 1;
      groups.SetValue(g, counts_two ? best + second : best);
    }
    for (uint32_t kept = 0; kept < tiling_.top_groups; ++kept) {
      uint32_t best = 0;
      for (uint32_t g = 1; g < tiling_.groups; ++g) {
        if (groups.GetValue(g) > groups.GetValue(best)) best = g;
      }
      groups.SetValue(best, nothing);
    }
    for (uint32_t e = 0; e < tiling_.experts; ++e) {
      if (groups.GetValue(e / size) > nothing) choice.SetValue(e, nothing);
    }
  }

  __aicore__ inline void take_best() {
    AscendC::LocalTensor<float> choice = choice_.Get<float>();
    AscendC::LocalTensor<float> largest = largest_.Get<float>();
    AscendC::LocalTensor<float> weights = weights_.Get<float>();
    float sum = 0;
    for (uint32_t j = 0; j < tiling_.top_k; ++j) {
      order<AscendC::HardEvent::S_V>();
      AscendC::ReduceMax(largest, choice, work_.Get<float>(), tiling_.experts, true);
      order<AscendC::HardEvent::V_S>();
      const uint32_t expert = largest.template ReinterpretCast<uint32_t>().GetValue(1);
      const float score = scores_.Get<float>().GetValue(expert);
      ids_.Get<int32_t>().SetValue(j, static_cast<int32_t>(expert));
      weights.SetValue(j, score);
      choice.SetValue(expert, nothing);
      sum += score;
    }
    const float divisor = tiling_.normalizes ? sum + 1e-20f : 1.0f;
    for (uint32_t j = 0; j < tiling_.top_k; ++j) {
      weights.SetValue(j, weights.GetValue(j) / divisor * tiling_.scale);
    }
    // The next row's scores.
    order<AscendC::HardEvent::S_V>();
  }

  __aicore__ inline void store(uint32_t row) {
    const AscendC::DataCopyExtParams chosen{1, tiling_.top_k * 4, 0, 0, 0};
    order<AscendC::HardEvent::S_MTE3>();
    AscendC::DataCopyPad(ids_gm_[static_cast<uint64_t>(row) * tiling_.ids_stride],
                         ids_.Get<int32_t>(), chosen);
    AscendC::DataCopyPad(weights_gm_[static_cast<uint64_t>(row) * tiling_.weights_stride],
                         weights_.Get<float>(), chosen);
    order<AscendC::HardEvent::MTE3_S>();
  }

  const RouteTiling tiling_;
  AscendC::GlobalTensor<T> logits_gm_;
  AscendC::GlobalTensor<int32_t> ids_gm_;
  AscendC::GlobalTensor<float> weights_gm_;
  AscendC::TQue<AscendC::TPosition::VECIN, 2> in_;
  AscendC::TBuf<AscendC::TPosition::VECCALC> scores_, choice_, bias_, ones_, work_, largest_, groups_,
      ids_, weights_;
};

}  // namespace ridge::backend::ascend

#define RIDGE_ROUTE(suffix, T)                                                                    \
  extern "C" __global__ __aicore__ void ridge_route_##suffix(                                     \
      GM_ADDR logits, GM_ADDR bias, GM_ADDR ids, GM_ADDR weights, GM_ADDR tiling) {               \
    KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_AIV_ONLY);                                               \
    using namespace ridge::backend::ascend;                                                       \
    AscendC::TPipe pipe;                                                                          \
    Route<T> route(pipe, read_tiling<RouteTiling>(tiling));                                       \
    route.run(logits, bias, ids, weights);                                                        \
  }

RIDGE_ROUTE(f16, half)
RIDGE_ROUTE(bf16, bfloat16_t)
RIDGE_ROUTE(f32, float)
