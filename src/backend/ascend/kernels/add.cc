#include "backend/ascend/kernels/row_math.h"
#include "backend/ascend/kernels/tiling_data.h"

// out = a + b for each row. out may be a.
namespace ridge::backend::ascend {

template <typename T>
class Add {
 public:
  __aicore__ inline Add(AscendC::TPipe& pipe, const AddTiling& tiling)
      : tiling_(tiling), pitch_(row_pitch<T>(tiling.columns_per_step)) {
    const uint32_t step = tiling.rows_per_step * pitch_;
    pipe.InitBuffer(a_in_, buffers, step * sizeof(T));
    pipe.InitBuffer(b_in_, buffers, step * sizeof(T));
    pipe.InitBuffer(out_, buffers, step * sizeof(T));
    pipe.InitBuffer(left_, pitch_ * sizeof(float));
    pipe.InitBuffer(right_, pitch_ * sizeof(float));
  }

  __aicore__ inline void run(GM_ADDR a, GM_ADDR b, GM_ADDR out) {
    a_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(a));
    b_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(b));
    out_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(out));
    const uint32_t first = AscendC::GetBlockIdx() * tiling_.rows_per_core;
    const uint32_t last = smaller(first + tiling_.rows_per_core, tiling_.rows);
    for (uint32_t row = first; row < last; row += tiling_.rows_per_step) {
      const uint32_t rows = smaller(tiling_.rows_per_step, last - row);
      for (uint32_t column = 0; column < tiling_.columns; column += tiling_.columns_per_step) {
        const uint32_t columns = smaller(tiling_.columns_per_step, tiling_.columns - column);
        copy_in(a_in_, a_gm_[place(row, tiling_.a_stride, column)], rows, columns,
                tiling_.a_stride);
        copy_in(b_in_, b_gm_[place(row, tiling_.b_stride, column)], rows, columns,
                tiling_.b_stride);
        compute(rows, columns);
        copy_out(place(row, tiling_.out_stride, column), rows, columns);
      }
    }
  }

 private:
  static constexpr uint32_t buffers = 2;

  __aicore__ inline uint64_t place(uint32_t row, uint32_t stride, uint32_t column) const {
    return static_cast<uint64_t>(row) * stride + column;
  }

  template <typename Queue>
  __aicore__ inline void copy_in(Queue& queue, const AscendC::GlobalTensor<T>& from, uint32_t rows,
                                 uint32_t columns, uint32_t stride) {
    AscendC::LocalTensor<T> to = queue.template AllocTensor<T>();
    AscendC::DataCopyPad(to, from, rows_in<T>({rows, columns, stride, pitch_}),
                         AscendC::DataCopyPadExtParams<T>{false, 0, 0, 0});
    queue.EnQue(to);
  }

  __aicore__ inline void compute(uint32_t rows, uint32_t columns) {
    AscendC::LocalTensor<T> a = a_in_.template DeQue<T>();
    AscendC::LocalTensor<T> b = b_in_.template DeQue<T>();
    AscendC::LocalTensor<T> out = out_.template AllocTensor<T>();
    AscendC::LocalTensor<float> left = left_.Get<float>();
    AscendC::LocalTensor<float> right = right_.Get<float>();
    for (uint32_t r = 0; r < rows; ++r) {
      widen(left, a[r * pitch_], columns);
      widen(right, b[r * pitch_], columns);
      AscendC::PipeBarrier<PIPE_V>();
      AscendC::Add(left, left, right, columns);
      AscendC::PipeBarrier<PIPE_V>();
      narrow(out[r * pitch_], left, columns);
      AscendC::PipeBarrier<PIPE_V>();
    }
    a_in_.FreeTensor(a);
    b_in_.FreeTensor(b);
    out_.EnQue(out);
  }

  __aicore__ inline void copy_out(uint64_t at, uint32_t rows, uint32_t columns) {
    AscendC::LocalTensor<T> out = out_.template DeQue<T>();
    AscendC::DataCopyPad(out_gm_[at], out,
                         rows_out<T>({rows, columns, tiling_.out_stride, pitch_}));
    out_.FreeTensor(out);
  }

  const AddTiling tiling_;
  const uint32_t pitch_;
  AscendC::GlobalTensor<T> a_gm_, b_gm_, out_gm_;
  AscendC::TQue<AscendC::TPosition::VECIN, buffers> a_in_, b_in_;
  AscendC::TQue<AscendC::TPosition::VECOUT, buffers> out_;
  AscendC::TBuf<AscendC::TPosition::VECCALC> left_, right_;
};

}  // namespace ridge::backend::ascend

#define RIDGE_ADD(suffix, T)                                                                  \
  extern "C" __global__ __aicore__ void ridge_add_##suffix(GM_ADDR a, GM_ADDR b, GM_ADDR out, \
                                                           GM_ADDR tiling) {                  \
    KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_AIV_ONLY);                                           \
    using namespace ridge::backend::ascend;                                                   \
    AscendC::TPipe pipe;                                                                      \
    Add<T> sum(pipe, read_tiling<AddTiling>(tiling));                                         \
    sum.run(a, b, out);                                                                       \
  }

RIDGE_ADD(f16, half)
RIDGE_ADD(bf16, bfloat16_t)
RIDGE_ADD(f32, float)
