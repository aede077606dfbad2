#include "backend/ascend/kernels/row_math.h"
#include "backend/ascend/kernels/tiling_data.h"

// out = f(gate) · up, where f(g) = a(g) · sigmoid(z(g)): SwiGLU has a = z = g, GeGLU in its tanh form
// a = g and z = 2 sqrt(2 / pi) (g + 0.044715 g³), gpt-oss a = min(g, 7), z = 1.702 a and up + 1.
namespace ridge::backend::ascend {

template <typename T>
class GatedActivation {
 public:
  __aicore__ inline GatedActivation(AscendC::TPipe& pipe, const GatedActivationTiling& tiling)
      : tiling_(tiling), pitch_(row_pitch<T>(tiling.columns_per_step)) {
    const uint32_t step = tiling.runs_per_step * pitch_;
    pipe.InitBuffer(gate_in_, buffers, step * sizeof(T));
    pipe.InitBuffer(up_in_, buffers, step * sizeof(T));
    pipe.InitBuffer(out_, buffers, step * sizeof(T));
    pipe.InitBuffer(gate_, step * sizeof(float));
    pipe.InitBuffer(up_, step * sizeof(float));
    pipe.InitBuffer(exponent_, step * sizeof(float));
  }

  __aicore__ inline void run(GM_ADDR x, GM_ADDR out) {
    x_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(x));
    out_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(out));
    const uint32_t first = AscendC::GetBlockIdx() * tiling_.runs_per_core;
    const uint32_t last = smaller(first + tiling_.runs_per_core, tiling_.runs);
    for (uint32_t run = first; run < last; run += tiling_.runs_per_step) {
      const uint32_t runs = smaller(tiling_.runs_per_step, last - run);
      for (uint32_t column = 0; column < tiling_.columns; column += tiling_.columns_per_step) {
        const uint32_t columns = smaller(tiling_.columns_per_step, tiling_.columns - column);
        copy_in(run, runs, column, columns);
        compute(runs, columns);
        copy_out(run, runs, column, columns);
      }
    }
  }

 private:
  static constexpr uint32_t buffers = 2;

  __aicore__ inline uint64_t place(uint32_t run, uint32_t row_stride, uint32_t width) const {
    return static_cast<uint64_t>(run / tiling_.groups) * row_stride + run % tiling_.groups * width;
  }
  // From one run to the next, where a step has several.
  __aicore__ inline uint32_t distance(uint32_t row_stride, uint32_t width) const {
    return tiling_.groups == 1 ? row_stride : width;
  }

  __aicore__ inline void copy_in(uint32_t run, uint32_t runs, uint32_t column, uint32_t columns) {
    const AscendC::DataCopyExtParams shape = rows_in<T>(
        {runs, columns, distance(tiling_.x_stride, 2 * tiling_.columns), pitch_});
    const AscendC::DataCopyPadExtParams<T> no_padding{false, 0, 0, 0};
    const uint64_t at = place(run, tiling_.x_stride, 2 * tiling_.columns) + column;
    AscendC::LocalTensor<T> gate = gate_in_.template AllocTensor<T>();
    AscendC::DataCopyPad(gate, x_gm_[at], shape, no_padding);
    gate_in_.EnQue(gate);
    AscendC::LocalTensor<T> up = up_in_.template AllocTensor<T>();
    AscendC::DataCopyPad(up, x_gm_[at + tiling_.columns], shape, no_padding);
    up_in_.EnQue(up);
  }

  // z into `z`; `gate` becomes a, `up` what it is multiplied by.
  __aicore__ inline void shape_sigmoid(const AscendC::LocalTensor<float>& z,
                                       const AscendC::LocalTensor<float>& gate,
                                       const AscendC::LocalTensor<float>& up, uint32_t count) {
    if (tiling_.kind == GatedActivationTiling::silu) {
      AscendC::Muls(z, gate, -1.0f, count);
    } else if (tiling_.kind == GatedActivationTiling::gelu_tanh) {
      const float twice_root = 1.5957691216057308f;  // 2 sqrt(2 / pi)
      AscendC::Mul(z, gate, gate, count);
      AscendC::PipeBarrier<PIPE_V>();
      AscendC::Muls(z, z, -0.044715f * twice_root, count);
      AscendC::PipeBarrier<PIPE_V>();
      AscendC::Adds(z, z, -twice_root, count);
      AscendC::PipeBarrier<PIPE_V>();
      AscendC::Mul(z, z, gate, count);
    } else {
      AscendC::Mins(gate, gate, 7.0f, count);
      AscendC::Mins(up, up, 7.0f, count);
      AscendC::PipeBarrier<PIPE_V>();
      AscendC::Maxs(up, up, -7.0f, count);
      AscendC::Muls(z, gate, -1.702f, count);
      AscendC::PipeBarrier<PIPE_V>();
      AscendC::Adds(up, up, 1.0f, count);
    }
  }

  __aicore__ inline void compute(uint32_t runs, uint32_t columns) {
    AscendC::LocalTensor<T> gate_in = gate_in_.template DeQue<T>();
    AscendC::LocalTensor<T> up_in = up_in_.template DeQue<T>();
    AscendC::LocalTensor<T> out = out_.template AllocTensor<T>();
    for (uint32_t r = 0; r < runs; ++r) {
      const uint32_t at = r * pitch_;
      AscendC::LocalTensor<float> gate = gate_.Get<float>()[at];
      AscendC::LocalTensor<float> up = up_.Get<float>()[at];
      AscendC::LocalTensor<float> z = exponent_.Get<float>()[at];
      widen(gate, gate_in[at], columns);
      widen(up, up_in[at], columns);
      AscendC::PipeBarrier<PIPE_V>();
      shape_sigmoid(z, gate, up, columns);
      AscendC::PipeBarrier<PIPE_V>();
      AscendC::Exp(z, z, columns);
      AscendC::Mul(gate, gate, up, columns);
      AscendC::PipeBarrier<PIPE_V>();
      AscendC::Adds(z, z, 1.0f, columns);
      AscendC::PipeBarrier<PIPE_V>();
      AscendC::Div(gate, gate, z, columns);
      AscendC::PipeBarrier<PIPE_V>();
      narrow(out[at], gate, columns);
    }
    AscendC::PipeBarrier<PIPE_V>();
    gate_in_.FreeTensor(gate_in);
    up_in_.FreeTensor(up_in);
    out_.EnQue(out);
  }

  __aicore__ inline void copy_out(uint32_t run, uint32_t runs, uint32_t column, uint32_t columns) {
    AscendC::LocalTensor<T> out = out_.template DeQue<T>();
    AscendC::DataCopyPad(
        out_gm_[place(run, tiling_.out_stride, tiling_.columns) + column], out,
        rows_out<T>({runs, columns, distance(tiling_.out_stride, tiling_.columns), pitch_}));
    out_.FreeTensor(out);
  }

  const GatedActivationTiling tiling_;
  const uint32_t pitch_;
  AscendC::GlobalTensor<T> x_gm_, out_gm_;
  AscendC::TQue<AscendC::TPosition::VECIN, buffers> gate_in_, up_in_;
  AscendC::TQue<AscendC::TPosition::VECOUT, buffers> out_;
  AscendC::TBuf<AscendC::TPosition::VECCALC> gate_, up_, exponent_;
};

template <typename T>
__aicore__ inline void gated_activation(GM_ADDR x, GM_ADDR out, GM_ADDR tiling) {
  AscendC::TPipe pipe;
  GatedActivation<T> activation(pipe, read_tiling<GatedActivationTiling>(tiling));
  activation.run(x, out);
}

}  // namespace ridge::backend::ascend

#define RIDGE_GATED_ACTIVATION(suffix, T)                                                  \
  extern "C" __global__ __aicore__ void ridge_gated_activation_##suffix(GM_ADDR x,         \
                                                                        GM_ADDR out,       \
                                                                        GM_ADDR tiling) {  \
    KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_AIV_ONLY);                                        \
    ridge::backend::ascend::gated_activation<T>(x, out, tiling);                           \
  }

RIDGE_GATED_ACTIVATION(f16, half)
RIDGE_GATED_ACTIVATION(bf16, bfloat16_t)
RIDGE_GATED_ACTIVATION(f32, float)
