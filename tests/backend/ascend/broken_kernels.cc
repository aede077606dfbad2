#include "backend/ascend/broken_kernels.h"

#include "backend/ascend/kernel_steps.h"

using namespace AscendC;
using ridge::backend::ascend::pass;

namespace {

constexpr uint32_t count = 256;

GlobalTensor<half> global(GM_ADDR at) { return ridge::backend::ascend::global<half>(at); }

// The steps of a kernel that works, for each broken one to leave out what it likes.
struct Buffers {
  TPipe pipe;
  TBuf<TPosition::VECCALC> in, out;
  LocalTensor<half> x, y;
  GlobalTensor<half> from, to;

  Buffers(GM_ADDR x_address, GM_ADDR out_address) {
    pipe.InitBuffer(in, count * sizeof(half));
    pipe.InitBuffer(out, count * sizeof(half));
    x = in.Get<half>();
    y = out.Get<half>();
    from = global(x_address);
    to = global(out_address);
  }
};

}  // namespace

void broken_whole(GM_ADDR x, GM_ADDR out) {
  Buffers b(x, out);
  DataCopy(b.x, b.from, count);
  pass<HardEvent::MTE2_V>();
  Adds(b.y, b.x, half(1), count);
  pass<HardEvent::V_MTE3>();
  DataCopy(b.to, b.y, count);
}

void broken_removed_wait(GM_ADDR x, GM_ADDR out) {
  Buffers b(x, out);
  Duplicate(b.x, half(0), count);
  pass<HardEvent::V_MTE2>();
  DataCopy(b.x, b.from, count);
  PipeBarrier<PIPE_V>();
  Adds(b.y, b.x, half(1), count);  // fault
  pass<HardEvent::V_MTE3>();
  DataCopy(b.to, b.y, count);
}

void broken_removed_wait_for_the_store(GM_ADDR x, GM_ADDR out) {
  Buffers b(x, out);
  DataCopy(b.x, b.from, count);
  pass<HardEvent::MTE2_V>();
  Adds(b.y, b.x, half(1), count);
  pass<HardEvent::V_MTE3>();
  DataCopy(b.to, b.y, count);
  PipeBarrier<PIPE_V>();
  Duplicate(b.y, half(0), count);  // fault
}

void broken_removed_barrier(GM_ADDR x, GM_ADDR out) {
  Buffers b(x, out);
  DataCopy(b.x, b.from, count);
  pass<HardEvent::MTE2_V>();
  Duplicate(b.y, half(0), count);
  PipeBarrier<PIPE_V>();
  Adds(b.y, b.x, half(3), count);
  Adds(b.y, b.y, half(-2), count);  // fault
  pass<HardEvent::V_MTE3>();
  DataCopy(b.to, b.y, count);
}

void broken_small_buffer(GM_ADDR x, GM_ADDR) {
  TPipe pipe;
  TBuf<TPosition::VECCALC> small, next;
  pipe.InitBuffer(small, count * sizeof(half) - 32);
  pipe.InitBuffer(next, count * sizeof(half));
  DataCopy(small.Get<half>(), global(x), count);  // fault
}

void broken_unaligned_copy(GM_ADDR x, GM_ADDR out) {
  Buffers b(x, out);
  DataCopy(b.x, b.from, 20);  // fault
}

void broken_unaligned_operand(GM_ADDR x, GM_ADDR out) {
  Buffers b(x, out);
  DataCopy(b.x, b.from, count);
  pass<HardEvent::MTE2_V>();
  Adds(b.y, b.x[4], half(1), 64);  // fault
}

void broken_unmatched_flag(GM_ADDR x, GM_ADDR out) {
  Buffers b(x, out);
  DataCopy(b.x, b.from, count);
  pass<HardEvent::MTE2_V>();
  Adds(b.y, b.x, half(1), count);
  pass<HardEvent::V_MTE3>();
  DataCopy(b.to, b.y, count);
  SetFlag<HardEvent::MTE3_V>(3);  // fault
}

void broken_flag_set_twice(GM_ADDR x, GM_ADDR out) {
  Buffers b(x, out);
  DataCopy(b.x, b.from, count);
  SetFlag<HardEvent::MTE2_V>(0);
  SetFlag<HardEvent::MTE2_V>(0);  // fault
  WaitFlag<HardEvent::MTE2_V>(0);
  WaitFlag<HardEvent::MTE2_V>(0);
}

void broken_wait_without_flag(GM_ADDR x, GM_ADDR out) {
  Buffers b(x, out);
  DataCopy(b.x, b.from, count);
  WaitFlag<HardEvent::MTE2_V>(0);  // fault
  Adds(b.y, b.x, half(1), count);
}

void broken_undefined_read(GM_ADDR x, GM_ADDR out) {
  Buffers b(x, out);
  DataCopy(b.x, b.from, count / 2);
  pass<HardEvent::MTE2_V>();
  Adds(b.y, b.x, half(1), count);  // fault
  pass<HardEvent::V_MTE3>();
  DataCopy(b.to, b.y, count);
}

void broken_padding_read(GM_ADDR x, GM_ADDR out) {
  Buffers b(x, out);
  DataCopyPad(b.x, b.from, DataCopyExtParams{1, 10, 0, 0, 0},
              DataCopyPadExtParams<half>{false, 0, 0, 0});
  pass<HardEvent::MTE2_V>();
  Adds(b.y, b.x, half(1), 16);  // fault
}

void broken_beyond_allocation(GM_ADDR x, GM_ADDR out) {
  Buffers b(x, out);
  DataCopy(b.x, b.from[16], count);  // fault
}

void broken_too_many_buffers(GM_ADDR, GM_ADDR) {
  TPipe pipe;
  TQue<TPosition::VECIN, 2> a;
  pipe.InitBuffer(a, 2, 96 * 1024);  // fault
}

void broken_tensor_not_freed(GM_ADDR x, GM_ADDR) {
  TPipe pipe;
  TQue<TPosition::VECIN, 2> queue;
  pipe.InitBuffer(queue, 2, count * sizeof(half));
  LocalTensor<half> tensor = queue.AllocTensor<half>();
  DataCopy(tensor, global(x), count);
  queue.EnQue(tensor);
  tensor = queue.DeQue<half>();  // fault
}

void broken_no_free_buffer(GM_ADDR, GM_ADDR) {
  TPipe pipe;
  TQue<TPosition::VECIN, 1> queue;
  pipe.InitBuffer(queue, 1, count * sizeof(half));
  queue.AllocTensor<half>();
  queue.AllocTensor<half>();  // fault
}

void broken_wrong_type(GM_ADDR x, GM_ADDR out) {
  Buffers b(x, out);
  LocalTensor<bfloat16_t> wide = b.x.ReinterpretCast<bfloat16_t>();
  Add(wide, wide, wide, count);  // fault
}

void broken_overlap(GM_ADDR x, GM_ADDR out) {
  Buffers b(x, out);
  DataCopy(b.x, b.from, count);
  pass<HardEvent::MTE2_V>();
  Adds(b.x[16], b.x, half(1), count - 16);  // fault
}

// Loads are complete when they return; stores need a flag.
void broken_scalar_in_between(GM_ADDR x, GM_ADDR out) {
  Buffers b(x, out);
  DataCopy(b.x, b.from, count);
  pass<HardEvent::MTE2_V>();
  Duplicate(b.y, half(0), count);
  pass<HardEvent::V_S>();
  const float zero = b.y.GetValue(0);
  Adds(b.y, b.x, half(zero + 1), count);
  pass<HardEvent::V_MTE3>();
  DataCopy(b.to, b.y, count);
}

void broken_scalar_store_without_flag(GM_ADDR x, GM_ADDR out) {
  Buffers b(x, out);
  DataCopy(b.x, b.from, count);
  pass<HardEvent::MTE2_S>();
  b.x.SetValue(0, half(1));
  pass<HardEvent::MTE2_V>();
  Adds(b.y, b.x, half(1), count);  // fault
}

void broken_scalar_before_vector(GM_ADDR x, GM_ADDR out) {
  Buffers b(x, out);
  DataCopy(b.x, b.from, count);
  pass<HardEvent::MTE2_V>();
  Adds(b.y, b.x, half(1), count);
  const float first = b.y.GetValue(0);  // fault
  Adds(b.x, b.x, half(first), count);
}

void broken_cache_not_cleaned(GM_ADDR, GM_ADDR out) {
  global(out).SetValue(0, half(1));  // fault
}

void broken_two_cores_one_place(GM_ADDR x, GM_ADDR out) {
  Buffers b(x, out);
  DataCopy(b.x, b.from, count);
  pass<HardEvent::MTE2_MTE3>();
  DataCopy(b.to, b.x, count);  // fault
}

void broken_other_cores(GM_ADDR, GM_ADDR) {
  KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_MIX_AIC_1_2);  // fault
}

namespace {

// x is one row of 16 halves and 16 rows of weights; out is one row of 16.
struct Matrices {
  TPipe pipe;
  TQue<TPosition::A1, 1> a1;
  TQue<TPosition::B1, 1> b1;
  TQue<TPosition::A2, 1> a2;
  TQue<TPosition::B2, 1> b2;
  TQue<TPosition::CO1, 1> c1;
  LocalTensor<half> a, b;
  LocalTensor<float> c;

  explicit Matrices(GM_ADDR x, uint16_t width) {
    pipe.InitBuffer(a1, 1, 16 * 32 * 2);
    pipe.InitBuffer(b1, 1, 16 * 32 * 2);
    pipe.InitBuffer(a2, 1, 16 * 32 * 2);
    pipe.InitBuffer(b2, 1, 16 * 32 * 2);
    pipe.InitBuffer(c1, 1, 16 * 16 * 4);
    LocalTensor<half> tile = a1.AllocTensor<half>();
    DataCopy(tile, global(x), rows(1, width));
    a1.EnQue(tile);
    tile = b1.AllocTensor<half>();
    DataCopy(tile, global(x)[32], rows(16, width / 2));
    b1.EnQue(tile);
    const uint8_t fractals = width / 16;
    load(a1, a2, fractals);
    load(b1, b2, fractals);
    a = a2.DeQue<half>();
    b = b2.DeQue<half>();
    c = c1.AllocTensor<float>();
  }
  static Nd2NzParams rows(uint16_t count, uint16_t width) {
    Nd2NzParams params;
    params.ndNum = 1;
    params.nValue = count;
    params.dValue = width;
    params.srcDValue = width;
    params.dstNzC0Stride = 16;
    params.dstNzNStride = 1;
    return params;
  }
  template <typename From, typename To>
  void load(From& from, To& to, uint8_t fractals) {
    LocalTensor<half> source = from.template DeQue<half>();
    LocalTensor<half> target = to.template AllocTensor<half>();
    LoadData(target, source, LoadData2DParams(0, fractals, 1, 0, 0, false, 0));
    to.EnQue(target);
    from.FreeTensor(source);
  }
  void finish() {
    a2.FreeTensor(a);
    b2.FreeTensor(b);
    c1.EnQue(c);
    c = c1.DeQue<float>();
    c1.FreeTensor(c);
  }
};

}  // namespace

void broken_row_as_vector(GM_ADDR x, GM_ADDR) {
  Matrices t(x, 32);
  Mmad(t.c, t.a, t.b, MmadParams(1, 16, 32, 0, false, true));  // fault
  t.finish();
}

void broken_accumulate_without_barrier(GM_ADDR x, GM_ADDR) {
  Matrices t(x, 32);
  Mmad(t.c, t.a, t.b, MmadParams(1, 16, 16, 0, false, true));
  Mmad(t.c, t.a, t.b, MmadParams(1, 16, 16, 0, false, false));  // fault
  t.finish();
}

namespace {

// The vector cores write halves of `out`, the cube core reads them.
void vector_part(GM_ADDR out) {
  TPipe pipe;
  TBuf<TPosition::VECCALC> buffer;
  pipe.InitBuffer(buffer, count);
  LocalTensor<half> values = buffer.Get<half>();
  Duplicate(values, half(2), count / 2);
  pass<HardEvent::V_MTE3>();
  DataCopy(global(out)[GetSubBlockIdx() * (count / 2)], values, count / 2);
}

struct CubePart {
  TPipe pipe;
  TBuf<TPosition::A1> buffer;
  CubePart() { pipe.InitBuffer(buffer, count * sizeof(half)); }
};

}  // namespace

void broken_cores_without_flag(GM_ADDR, GM_ADDR out) {
  if ASCEND_IS_AIV {
    vector_part(out);
    CrossCoreSetFlag<2, PIPE_MTE3>(1);
  }
  if ASCEND_IS_AIC {
    CubePart cube;
    DataCopy(cube.buffer.Get<half>(), global(out), count);  // fault
    CrossCoreWaitFlag(1);
  }
}

void broken_cross_flag_left(GM_ADDR, GM_ADDR out) {
  if ASCEND_IS_AIV {
    vector_part(out);
    CrossCoreSetFlag<2, PIPE_MTE3>(1);  // fault
  }
}

void broken_cores_that_wait(GM_ADDR, GM_ADDR out) {
  if ASCEND_IS_AIV {
    vector_part(out);
  }
  if ASCEND_IS_AIC {
    CrossCoreWaitFlag(1);  // fault
  }
}

void broken_cores_with_flag(GM_ADDR, GM_ADDR out) {
  if ASCEND_IS_AIV {
    vector_part(out);
    CrossCoreSetFlag<2, PIPE_MTE3>(1);
  }
  if ASCEND_IS_AIC {
    CubePart cube;
    CrossCoreWaitFlag(1);
    DataCopy(cube.buffer.Get<half>(), global(out), count);
  }
}
