#include "backend/ascend/kernels/row_math.h"
#include "backend/ascend/kernels/tiling_data.h"

// Rotates the heads of q and k in place, and writes k and v of each token to its slot of the paged
// cache; of MLA, the rotary key and the latent, which are one k and one v. A rotation is x · cosine + partner · sine for each element: `rotations` has for each
// position the cosines and the sines (with the sign of the element), `partners` the byte of each
// element's partner, so that both ways to pair elements are the same to the kernel.
namespace ridge::backend::ascend {

// Rows of T; the cache has Cached, which is T or, for rows of float32, a type of 16 bits.
template <typename T, typename Cached>
class RopeStoreKv {
 public:
  __aicore__ inline RopeStoreKv(AscendC::TPipe& pipe, const RopeStoreKvTiling& tiling)
      : tiling_(tiling),
        pitch_(row_pitch<T>(tiling.head_dim)),
        value_pitch_(row_pitch<T>(tiling.value_dim)),
        rotary_pitch_(round_up(tiling.rotary_dim, floats_per_block)) {
    const uint32_t step = tiling.heads_per_step * pitch_;
    const uint32_t widest = tiling.heads_per_step * (pitch_ > value_pitch_ ? pitch_ : value_pitch_);
    if constexpr (narrows) {
      const uint32_t widest_head =
          tiling.head_dim > tiling.value_dim ? tiling.head_dim : tiling.value_dim;
      pipe.InitBuffer(in_, buffers, widest * sizeof(T));
      pipe.InitBuffer(narrowed_, buffers,
                      tiling.heads_per_step * row_pitch<Cached>(widest_head) * sizeof(Cached));
    } else {
      pipe.InitBuffer(copies_, buffers, widest * sizeof(T));
    }
    if (tiling.rotary_dim == 0) return;
    if constexpr (!narrows) pipe.InitBuffer(in_, buffers, step * sizeof(T));
    pipe.InitBuffer(out_, buffers, step * sizeof(T));
    pipe.InitBuffer(rotations_, buffers, 2 * rotary_pitch_ * sizeof(float));
    if constexpr (sizeof(T) < sizeof(float)) pipe.InitBuffer(values_, step * sizeof(float));
    pipe.InitBuffer(partner_, tiling.heads_per_step * rotary_pitch_ * sizeof(float));
    pipe.InitBuffer(partners_, tiling.heads_per_step * rotary_pitch_ * sizeof(uint32_t));
  }

  __aicore__ inline void run(GM_ADDR q, GM_ADDR k, GM_ADDR v, GM_ADDR positions, GM_ADDR slots,
                             GM_ADDR rotations, GM_ADDR partners, GM_ADDR k_cache,
                             GM_ADDR v_cache) {
    q_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(q));
    k_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(k));
    v_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(v));
    k_cache_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ Cached*>(k_cache));
    v_cache_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ Cached*>(v_cache));
    positions_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ int32_t*>(positions), tiling_.tokens);
    slots_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ int32_t*>(slots), tiling_.tokens);
    rotations_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(rotations));
    if (tiling_.rotary_dim > 0) load_partners(partners);
    const uint32_t q_units = (tiling_.heads + tiling_.heads_per_step - 1) / tiling_.heads_per_step;
    const uint32_t kv_units =
        (tiling_.kv_heads + tiling_.heads_per_step - 1) / tiling_.heads_per_step;
    const uint32_t of_token = q_units + (1 + tiling_.stores) * kv_units;
    const uint32_t first = AscendC::GetBlockIdx() * tiling_.units_per_core;
    const uint32_t last = smaller(first + tiling_.units_per_core, tiling_.tokens * of_token);
    for (uint32_t unit = first; unit < last; ++unit) {
      const uint32_t token = unit / of_token;
      const uint32_t part = unit % of_token;
      if (part < q_units) {
        do_query(token, part * tiling_.heads_per_step);
      } else if (part < q_units + kv_units) {
        do_key(token, (part - q_units) * tiling_.heads_per_step);
      } else {
        do_value(token, (part - q_units - kv_units) * tiling_.heads_per_step);
      }
    }
  }

 private:
  static constexpr uint32_t buffers = 2;
  static constexpr bool narrows = sizeof(Cached) < sizeof(T);

  __aicore__ inline void load_partners(GM_ADDR partners) {
    AscendC::GlobalTensor<uint32_t> from;
    from.SetGlobalBuffer(reinterpret_cast<__gm__ uint32_t*>(partners), tiling_.rotary_dim);
    AscendC::DataCopyPad(partners_.Get<uint32_t>(), from,
                         AscendC::DataCopyExtParams{1, tiling_.rotary_dim * 4, 0, 0, 0},
                         AscendC::DataCopyPadExtParams<uint32_t>{false, 0, 0, 0});
    order<AscendC::HardEvent::MTE2_V>();
    // Those of later heads lie as much further on; behind a head's last there may be a few numbers
    // without a partner, which take the first.
    AscendC::LocalTensor<int32_t> first = partners_.Get<int32_t>();
    if (rotary_pitch_ > tiling_.rotary_dim) {
      const uint32_t whole = tiling_.rotary_dim / floats_per_block * floats_per_block;
      const uint64_t behind = 0xff & ~((1ULL << (tiling_.rotary_dim - whole)) - 1);
      uint64_t mask[2] = {behind, 0};
      AscendC::Duplicate(first[whole], 0, mask, 1, 1, 8);
      AscendC::PipeBarrier<PIPE_V>();
    }
    for (uint32_t head = 1; head < tiling_.heads_per_step; ++head) {
      AscendC::Adds(first[head * rotary_pitch_], first,
                    static_cast<int32_t>(head * pitch_ * sizeof(float)), rotary_pitch_);
    }
    AscendC::PipeBarrier<PIPE_V>();
  }

  // Heads that lie close in UB are one run of numbers, others a run each.
  __aicore__ inline uint32_t runs_of(uint32_t heads) const {
    return pitch_ == tiling_.head_dim ? 1 : heads;
  }
  __aicore__ inline uint32_t run_of(uint32_t heads) const {
    return pitch_ == tiling_.head_dim ? heads * tiling_.head_dim : tiling_.head_dim;
  }

  // Heads lie side by side in global memory.
  __aicore__ inline RowCopy copy_of(uint32_t heads) const {
    return {heads, tiling_.head_dim, tiling_.head_dim, pitch_};
  }
  __aicore__ inline RowCopy values_of(uint32_t heads) const {
    return {heads, tiling_.value_dim, tiling_.value_dim, value_pitch_};
  }
  __aicore__ inline uint64_t cache_place(uint32_t token, uint32_t head, uint32_t head_dim,
                                         uint32_t block_stride, uint32_t token_stride) {
    const uint32_t slot = slots_gm_.GetValue(token);
    return static_cast<uint64_t>(slot / tiling_.block_tokens) * block_stride +
           static_cast<uint64_t>(slot % tiling_.block_tokens) * token_stride + head * head_dim;
  }
  __aicore__ inline uint64_t key_place(uint32_t token, uint32_t head) {
    return cache_place(token, head, tiling_.head_dim, tiling_.k_block_stride,
                       tiling_.k_token_stride);
  }

  __aicore__ inline void do_query(uint32_t token, uint32_t head) {
    if (tiling_.rotary_dim == 0) return;
    const uint32_t heads = smaller(tiling_.heads_per_step, tiling_.heads - head);
    const uint64_t at =
        static_cast<uint64_t>(token) * tiling_.q_stride + head * tiling_.head_dim;
    rotate(q_gm_[at], token, heads);
    AscendC::LocalTensor<T> out = out_.template DeQue<T>();
    AscendC::DataCopyPad(q_gm_[at], out, rows_out<T>(copy_of(heads)));
    out_.FreeTensor(out);
  }

  __aicore__ inline void do_key(uint32_t token, uint32_t head) {
    const uint32_t heads = smaller(tiling_.heads_per_step, tiling_.kv_heads - head);
    const uint64_t at =
        static_cast<uint64_t>(token) * tiling_.k_stride + head * tiling_.head_dim;
    if (tiling_.rotary_dim == 0) {
      if (tiling_.stores) copy(k_cache_gm_[key_place(token, head)], k_gm_[at], copy_of(heads));
      return;
    }
    rotate(k_gm_[at], token, heads);
    AscendC::LocalTensor<T> out = out_.template DeQue<T>();
    AscendC::DataCopyPad(k_gm_[at], out, rows_out<T>(copy_of(heads)));
    if (tiling_.stores) {
      if constexpr (narrows) {
        narrow_to(k_cache_gm_[key_place(token, head)], out, copy_of(heads));
      } else {
        AscendC::DataCopyPad(k_cache_gm_[key_place(token, head)], out,
                             rows_out<T>(copy_of(heads)));
      }
    }
    out_.FreeTensor(out);
  }

  __aicore__ inline void do_value(uint32_t token, uint32_t head) {
    const uint32_t heads = smaller(tiling_.heads_per_step, tiling_.kv_heads - head);
    const uint64_t to = cache_place(token, head, tiling_.value_dim, tiling_.v_block_stride,
                                    tiling_.v_token_stride);
    copy(v_cache_gm_[to],
         v_gm_[static_cast<uint64_t>(token) * tiling_.v_stride + head * tiling_.value_dim],
         values_of(heads));
  }

  __aicore__ inline void copy(const AscendC::GlobalTensor<Cached>& to,
                              const AscendC::GlobalTensor<T>& from, const RowCopy& heads) {
    if constexpr (narrows) {
      AscendC::LocalTensor<T> row = load(from, heads);
      narrow_to(to, row, heads);
      in_.FreeTensor(row);
    } else {
      AscendC::LocalTensor<T> row = copies_.template AllocTensor<T>();
      AscendC::DataCopyPad(row, from, rows_in<T>(heads),
                           AscendC::DataCopyPadExtParams<T>{false, 0, 0, 0});
      copies_.EnQue(row);
      row = copies_.template DeQue<T>();
      AscendC::DataCopyPad(to, row, rows_out<T>(heads));
      copies_.FreeTensor(row);
    }
  }

  __aicore__ inline AscendC::LocalTensor<T> load(const AscendC::GlobalTensor<T>& from,
                                                 const RowCopy& heads) {
    AscendC::LocalTensor<T> in = in_.template AllocTensor<T>();
    AscendC::DataCopyPad(in, from, rows_in<T>(heads),
                         AscendC::DataCopyPadExtParams<T>{false, 0, 0, 0});
    in_.EnQue(in);
    return in_.template DeQue<T>();
  }

  __aicore__ inline void narrow_to(const AscendC::GlobalTensor<Cached>& to,
                                   const AscendC::LocalTensor<T>& from, const RowCopy& heads) {
    const uint32_t pitch = row_pitch<Cached>(heads.columns);
    AscendC::LocalTensor<Cached> row = narrowed_.template AllocTensor<Cached>();
    if (pitch == heads.columns && heads.pitch == heads.columns) {
      narrow(row, from, heads.rows * heads.columns);
    } else {
      for (uint32_t h = 0; h < heads.rows; ++h) {
        narrow(row[h * pitch], from[h * heads.pitch], heads.columns);
      }
    }
    narrowed_.EnQue(row);
    row = narrowed_.template DeQue<Cached>();
    AscendC::DataCopyPad(to, row,
                         rows_out<Cached>({heads.rows, heads.columns, heads.stride, pitch}));
    narrowed_.FreeTensor(row);
  }

  // As float32, in place where they are.
  __aicore__ inline AscendC::LocalTensor<float> widened(const AscendC::LocalTensor<T>& in,
                                                        uint32_t heads) {
    if constexpr (sizeof(T) == sizeof(float)) {
      return in;
    } else {
      AscendC::LocalTensor<float> values = values_.Get<float>();
      for (uint32_t run = 0; run < runs_of(heads); ++run) {
        widen(values[run * pitch_], in[run * pitch_], run_of(heads));
      }
      AscendC::PipeBarrier<PIPE_V>();
      return values;
    }
  }

  // Leaves the rotated heads in out_.
  __aicore__ inline void rotate(const AscendC::GlobalTensor<T>& from, uint32_t token,
                                uint32_t heads) {
    AscendC::LocalTensor<float> rotation = rotations_.template AllocTensor<float>();
    const uint64_t position = positions_gm_.GetValue(token);
    AscendC::DataCopyPad(rotation, rotations_gm_[position * 2 * tiling_.rotary_dim],
                         rows_in<float>({2, tiling_.rotary_dim, tiling_.rotary_dim, rotary_pitch_}),
                         AscendC::DataCopyPadExtParams<float>{false, 0, 0, 0});
    rotations_.EnQue(rotation);

    AscendC::LocalTensor<T> in = load(from, copy_of(heads));
    rotation = rotations_.template DeQue<float>();
    AscendC::LocalTensor<T> out = out_.template AllocTensor<T>();
    AscendC::LocalTensor<float> values = widened(in, heads);
    AscendC::LocalTensor<float> partner = partner_.Get<float>();
    AscendC::Gather(partner, values, partners_.Get<uint32_t>(), 0, heads * rotary_pitch_);
    AscendC::PipeBarrier<PIPE_V>();
    const auto pitch = static_cast<uint8_t>(pitch_ / floats_per_block);
    const auto rotary_pitch = static_cast<uint8_t>(rotary_pitch_ / floats_per_block);
    for (uint32_t at = 0; at < tiling_.rotary_dim; at += floats_per_repeat) {
      const uint64_t mask = smaller(floats_per_repeat, tiling_.rotary_dim - at);
      // All heads of a token turn by the same angles: a stride of 0.
      AscendC::Mul(partner[at], partner[at], rotation[rotary_pitch_ + at], mask, heads,
                   AscendC::BinaryRepeatParams{1, 1, 1, rotary_pitch, rotary_pitch, 0});
      AscendC::Mul(values[at], values[at], rotation[at], mask, heads,
                   AscendC::BinaryRepeatParams{1, 1, 1, pitch, pitch, 0});
      AscendC::PipeBarrier<PIPE_V>();
      AscendC::Add(values[at], values[at], partner[at], mask, heads,
                   AscendC::BinaryRepeatParams{1, 1, 1, pitch, pitch, rotary_pitch});
    }
    AscendC::PipeBarrier<PIPE_V>();
    for (uint32_t run = 0; run < runs_of(heads); ++run) {
      narrow(out[run * pitch_], values[run * pitch_], run_of(heads));
    }
    AscendC::PipeBarrier<PIPE_V>();
    in_.FreeTensor(in);
    rotations_.FreeTensor(rotation);
    out_.EnQue(out);
  }

  const RopeStoreKvTiling tiling_;
  const uint32_t pitch_;        // of q and k
  const uint32_t value_pitch_;  // of v
  const uint32_t rotary_pitch_;
  AscendC::GlobalTensor<T> q_gm_, k_gm_, v_gm_;
  AscendC::GlobalTensor<Cached> k_cache_gm_, v_cache_gm_;
  AscendC::GlobalTensor<int32_t> positions_gm_, slots_gm_;
  AscendC::GlobalTensor<float> rotations_gm_;
  AscendC::TQueBind<AscendC::TPosition::VECIN, AscendC::TPosition::VECOUT, buffers> copies_;
  AscendC::TQue<AscendC::TPosition::VECIN, buffers> in_, rotations_;
  AscendC::TQue<AscendC::TPosition::VECOUT, buffers> out_, narrowed_;
  AscendC::TBuf<AscendC::TPosition::VECCALC> values_, partner_, partners_;
};

}  // namespace ridge::backend::ascend

#define RIDGE_ROPE_STORE_KV(suffix, T, Cached)                                                  \
  extern "C" __global__ __aicore__ void ridge_rope_store_kv_##suffix(                           \
      GM_ADDR q, GM_ADDR k, GM_ADDR v, GM_ADDR positions, GM_ADDR slots, GM_ADDR rotations,     \
      GM_ADDR partners, GM_ADDR k_cache, GM_ADDR v_cache, GM_ADDR tiling) {                     \
    KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_AIV_ONLY);                                             \
    using namespace ridge::backend::ascend;                                                     \
    AscendC::TPipe pipe;                                                                        \
    RopeStoreKv<T, Cached> rope(pipe, read_tiling<RopeStoreKvTiling>(tiling));                  \
    rope.run(q, k, v, positions, slots, rotations, partners, k_cache, v_cache);                 \
  }

RIDGE_ROPE_STORE_KV(f16, half, half)
RIDGE_ROPE_STORE_KV(bf16, bfloat16_t, bfloat16_t)
RIDGE_ROPE_STORE_KV(f32, float, float)
RIDGE_ROPE_STORE_KV(f32_f16, float, half)
RIDGE_ROPE_STORE_KV(f32_bf16, float, bfloat16_t)
