#include "backend/ascend/kernels/largest.h"
#include "backend/ascend/kernels/tiling_data.h"

// One token for each row of float32 logits: temperature, top-k, top-p of what top-k left, min-p, and a draw
// by Philox4x32-10 (Salmon et al., SC 2011) whose key is the seed and whose counter the token's number and
// its choice. It is what sampling::Sampler picks, bit for bit where Div divides as it should: each step of
// float32 is one of the same rounding, and weights of tokens are whole numbers, 2^40 for the best, in four
// digits of ten bits, whose sums float32 holds exactly.
//
// Top-p without top-k looks at the most_top_k best alone; where these are not enough, the id is -1.
namespace ridge::backend::ascend {

// The upper half of a product of 64 bits each.
__aicore__ inline uint64_t upper_product(uint64_t a, uint64_t b) {
  const uint64_t a0 = a & 0xffffffffu, a1 = a >> 32, b0 = b & 0xffffffffu, b1 = b >> 32;
  const uint64_t middle = a1 * b0 + (a0 * b0 >> 32);
  return a1 * b1 + (middle >> 32) + (((middle & 0xffffffffu) + a0 * b1) >> 32);
}

__aicore__ inline uint32_t bits_in(uint64_t value) {
  uint32_t bits = 0;
  for (; value > 0; value >>= 1) ++bits;
  return bits;
}

// To the nearest multiple of 2^drop, ties to an even one, as a double of 53 bits would be.
__aicore__ inline uint64_t rounded(uint64_t value, uint32_t drop) {
  if (drop == 0) return value;
  const uint64_t rest = value & ((uint64_t{1} << drop) - 1), half = uint64_t{1} << (drop - 1);
  const bool is_odd = ((value >> drop) & 1) != 0;
  const bool is_up = rest > half || (rest == half && is_odd);
  return value - rest + (is_up ? uint64_t{1} << drop : 0);
}

// The least sum of weights that a nucleus has: top-p · total, each a double as on the host, and the next
// whole number. total is 2^40 at least.
__aicore__ inline uint64_t least_sum(const SamplingRow& row, uint64_t total) {
  constexpr uint32_t mantissa_bits = 53;
  if (row.top_p_shift > 60) return 0;  // less than the best token alone
  const uint32_t bits = bits_in(total);
  if (bits > mantissa_bits) total = rounded(total, bits - mantissa_bits);
  // 82 bits at most, and 64 at least: what is rounded away stands in the lower 32.
  const uint64_t middle = (total & 0xffffffffu) * row.top_p_mantissa;
  uint64_t upper = (total >> 32) * row.top_p_mantissa + (middle >> 32);
  uint64_t lower = rounded(middle & 0xffffffffu, bits_in(upper) + 32 - mantissa_bits);
  upper += lower >> 32;
  lower &= 0xffffffffu;
  const uint32_t shift = row.top_p_shift;  // 24 at least
  if (shift >= 32) {
    const uint64_t rest = (upper & ((uint64_t{1} << (shift - 32)) - 1)) | lower;
    return (upper >> (shift - 32)) + (rest != 0 ? 1 : 0);
  }
  const uint64_t rest = lower & ((uint64_t{1} << shift) - 1);
  return (upper << (32 - shift)) + (lower >> shift) + (rest != 0 ? 1 : 0);
}

__aicore__ inline uint64_t random_bits_of(const SamplingRow& row) {
  uint32_t counter[4] = {row.token[0], row.token[1], row.choice, 0};
  uint32_t key[2] = {row.seed[0], row.seed[1]};
  for (int round = 0; round < 10; ++round) {
    const uint64_t first = uint64_t{0xD2511F53u} * counter[0];
    const uint64_t second = uint64_t{0xCD9E8D57u} * counter[2];
    counter[0] = static_cast<uint32_t>(second >> 32) ^ counter[1] ^ key[0];
    counter[1] = static_cast<uint32_t>(second);
    counter[2] = static_cast<uint32_t>(first >> 32) ^ counter[3] ^ key[1];
    counter[3] = static_cast<uint32_t>(first);
    key[0] += 0x9E3779B9u;
    key[1] += 0xBB67AE85u;
  }
  return static_cast<uint64_t>(counter[1]) << 32 | counter[0];
}

class SampleRows {
 public:
  __aicore__ inline SampleRows(AscendC::TPipe& pipe, const SampleRowsTiling& tiling)
      : tiling_(tiling), largest_(pipe, most_top_k, tiling.columns_per_step) {
    const uint32_t pitch = round_up(tiling.columns_per_step, floats_per_repeat);
    pipe.InitBuffer(in_, 2, pitch * sizeof(float));
    pipe.InitBuffer(x_, pitch * sizeof(float));
    pipe.InitBuffer(power_, pitch * sizeof(float));
    pipe.InitBuffer(spare_, pitch * sizeof(float));
    pipe.InitBuffer(whole_, pitch * sizeof(float));
    for (uint32_t d = 0; d < digits; ++d) pipe.InitBuffer(digits_[d], pitch * sizeof(int32_t));
    pipe.InitBuffer(work_, round_up(pitch / floats_per_repeat + 1, floats_per_block) * 4);
    pipe.InitBuffer(temperature_, floats_per_block * sizeof(float));
    pipe.InitBuffer(sums_, 2 * digits * floats_per_block * sizeof(float));
    pipe.InitBuffer(id_, floats_per_block * sizeof(int32_t));
  }

  __aicore__ inline void run(GM_ADDR logits, GM_ADDR rows, GM_ADDR ids) {
    logits_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(logits));
    ids_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ int32_t*>(ids));
    for (uint32_t row = AscendC::GetBlockIdx(); row < tiling_.rows; row += AscendC::GetBlockNum()) {
      row_ = read_tiling<SamplingRow>(rows + row * sizeof(SamplingRow));
      at_ = static_cast<uint64_t>(row) * tiling_.stride;
      id_.Get<int32_t>().SetValue(0, choose());
      order<AscendC::HardEvent::S_MTE3>();
      AscendC::DataCopyPad(ids_gm_[row], id_.Get<int32_t>(),
                           AscendC::DataCopyExtParams{1, sizeof(int32_t), 0, 0, 0});
      // The next row writes it anew.
      order<AscendC::HardEvent::MTE3_S>();
    }
  }

 private:
  static constexpr uint32_t digits = 4;
  static constexpr float weight_one = 1099511627776.0f;  // 2^40

  __aicore__ inline int32_t choose() {
    const bool cuts_k = row_.top_k > 0 && row_.top_k < tiling_.columns;
    const bool cuts_p = row_.top_p_mantissa > 0;
    const bool is_greedy = row_.temperature == 0;
    uint32_t k = 1;  // the best is needed in any case
    if (!is_greedy && cuts_k) k = row_.top_k;
    if (!is_greedy && !cuts_k && cuts_p) k = smaller(most_top_k, tiling_.columns);
    find_largest(k);
    if (is_greedy) return largest_.ids().GetValue(0);
    best_ = largest_.values().GetValue(0);
    AscendC::Duplicate(temperature_.Get<float>(), row_.temperature, floats_per_block);
    AscendC::PipeBarrier<PIPE_V>();
    const uint64_t bits = random_bits_of(row_);
    if (!cuts_k && !cuts_p) return walk_all(upper_product(bits, sum_of_all()));
    const uint64_t total = cuts_k ? 0 : sum_of_all();
    return choose_of_list(k, total, bits);
  }

  __aicore__ inline void load(uint32_t column, uint32_t columns) {
    AscendC::LocalTensor<float> in = in_.AllocTensor<float>();
    const uint32_t bytes = columns * sizeof(float);
    AscendC::DataCopyPad(in, logits_gm_[at_ + column], AscendC::DataCopyExtParams{1, bytes, 0, 0, 0},
                         AscendC::DataCopyPadExtParams<float>{false, 0, 0, 0});
    in_.EnQue(in);
    in = in_.DeQue<float>();
    AscendC::Adds(x_.Get<float>(), in, 0.0f, columns);
    AscendC::PipeBarrier<PIPE_V>();
    in_.FreeTensor(in);
  }

  __aicore__ inline void find_largest(uint32_t k) {
    largest_.begin(k);
    for (uint32_t column = 0; column < tiling_.columns; column += tiling_.columns_per_step) {
      const uint32_t columns = smaller(tiling_.columns_per_step, tiling_.columns - column);
      load(column, columns);
      largest_.take(x_.Get<float>(), column, columns);
    }
    largest_.fill_up();
  }

  // power = e^((x - best) / temperature), as exp_non_positive of src/sampling has it; below e^-87, whose
  // weight is none, it is that.
  __aicore__ inline void raise(uint32_t count) {
    const AscendC::LocalTensor<float> x = x_.Get<float>(), power = power_.Get<float>();
    const AscendC::LocalTensor<float> n = whole_.Get<float>(), product = spare_.Get<float>();
    constexpr float round_to_integer = 12582912.0f;  // 1.5 · 2^23
    AscendC::Adds(x, x, -best_, count);
    AscendC::PipeBarrier<PIPE_V>();
    scale_row<ByBlock::divide>(x, x, temperature_.Get<float>(), count);
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::Maxs(x, x, -87.0f, count);
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::Muls(n, x, 1.44269504f, count);  // log2 e
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::Adds(n, n, round_to_integer, count);
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::Adds(n, n, -round_to_integer, count);
    AscendC::PipeBarrier<PIPE_V>();
    // ln 2 in two parts.
    subtract_product(x, n, 0.693359375f, count);
    subtract_product(x, n, -2.12194440e-4f, count);
    AscendC::Muls(power, x, 1.0f / 5040, count);
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::Adds(power, power, 1.0f / 720, count);
    AscendC::PipeBarrier<PIPE_V>();
    multiply_add(power, x, 1.0f / 120, count);
    multiply_add(power, x, 1.0f / 24, count);
    multiply_add(power, x, 1.0f / 6, count);
    multiply_add(power, x, 0.5f, count);
    multiply_add(power, x, 1.0f, count);
    multiply_add(power, x, 1.0f, count);
    // 2^n by its bits, which a float holds as a whole number.
    AscendC::Adds(n, n, 127.0f, count);
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::Muls(n, n, 8388608.0f, count);
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::Cast(product.ReinterpretCast<int32_t>(), n, AscendC::RoundMode::CAST_RINT, count);
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::Mul(power, power, product, count);
    AscendC::PipeBarrier<PIPE_V>();
  }

  // x -= n · factor, each rounded.
  __aicore__ inline void subtract_product(const AscendC::LocalTensor<float>& x,
                                          const AscendC::LocalTensor<float>& n, float factor,
                                          uint32_t count) {
    AscendC::Muls(spare_.Get<float>(), n, factor, count);
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::Sub(x, x, spare_.Get<float>(), count);
    AscendC::PipeBarrier<PIPE_V>();
  }
  // power = power · x + addend, each rounded.
  __aicore__ inline void multiply_add(const AscendC::LocalTensor<float>& power,
                                      const AscendC::LocalTensor<float>& x, float addend,
                                      uint32_t count) {
    AscendC::Mul(power, power, x, count);
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::Adds(power, power, addend, count);
    AscendC::PipeBarrier<PIPE_V>();
  }

  // power = 0 where the weight is less than min-p says. The distance of two floats is 2^-24 of them at
  // least, so that its product with 2^60 is beyond 1.
  __aicore__ inline void drop_small(uint32_t count) {
    const AscendC::LocalTensor<float> power = power_.Get<float>(), kept = spare_.Get<float>();
    AscendC::Muls(kept, power, weight_one, count);
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::Adds(kept, kept, -row_.least, count);
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::Muls(kept, kept, 1152921504606846976.0f, count);
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::Adds(kept, kept, 1.0f, count);
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::Maxs(kept, kept, 0.0f, count);
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::Mins(kept, kept, 1.0f, count);
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::Mul(power, power, kept, count);
    AscendC::PipeBarrier<PIPE_V>();
  }

  // The digits of power's weights as whole numbers, and the sum of all. power is used up.
  __aicore__ inline uint64_t take_digits(uint32_t count) {
    const AscendC::LocalTensor<float> power = power_.Get<float>(), digit = spare_.Get<float>();
    const AscendC::LocalTensor<float> sums = sums_.Get<float>();
    const AscendC::LocalTensor<int32_t> whole =
        sums[digits * floats_per_block].ReinterpretCast<int32_t>();
    AscendC::Duplicate(sums, 0.0f, digits * floats_per_block);
    AscendC::PipeBarrier<PIPE_V>();
    for (uint32_t d = 0; d < digits; ++d) {
      AscendC::Muls(power, power, 1024.0f, count);
      AscendC::PipeBarrier<PIPE_V>();
      AscendC::Cast(digit, power, AscendC::RoundMode::CAST_FLOOR, count);
      AscendC::PipeBarrier<PIPE_V>();
      AscendC::Sub(power, power, digit, count);
      AscendC::PipeBarrier<PIPE_V>();
      AscendC::Cast(digits_[d].Get<int32_t>(), digit, AscendC::RoundMode::CAST_RINT, count);
      AscendC::PipeBarrier<PIPE_V>();
      AscendC::ReduceSum(sums[d * floats_per_block], digit, work_.Get<float>(), count);
      AscendC::PipeBarrier<PIPE_V>();
    }
    AscendC::Cast(whole, sums, AscendC::RoundMode::CAST_RINT, digits * floats_per_block);
    order<AscendC::HardEvent::V_S>();
    uint64_t sum = 0;
    for (uint32_t d = 0; d < digits; ++d) {
      sum = (sum << 10) + static_cast<uint32_t>(whole.GetValue(d * floats_per_block));
    }
    return sum;
  }
  // What the scalar unit read is written anew.
  __aicore__ inline void release_digits() { order<AscendC::HardEvent::S_V>(); }

  __aicore__ inline uint64_t weight(uint32_t i) {
    uint64_t value = 0;
    for (uint32_t d = 0; d < digits; ++d) {
      value = (value << 10) + static_cast<uint32_t>(digits_[d].Get<int32_t>().GetValue(i));
    }
    return value;
  }

  __aicore__ inline uint64_t weigh(uint32_t column, uint32_t columns, bool drops) {
    load(column, columns);
    raise(columns);
    if (drops) drop_small(columns);
    return take_digits(columns);
  }

  // What min-p drops is not in the sum, unless top-p is to be taken of it.
  __aicore__ inline uint64_t sum_of_all() {
    const bool drops = row_.least > 0 && row_.top_p_mantissa == 0;
    uint64_t total = 0;
    for (uint32_t column = 0; column < tiling_.columns; column += tiling_.columns_per_step) {
      total += weigh(column, smaller(tiling_.columns_per_step, tiling_.columns - column), drops);
      release_digits();
    }
    return total;
  }

  // The token on which a draw below the sum of all falls.
  __aicore__ inline int32_t walk_all(uint64_t drawn) {
    int32_t id = -1;
    for (uint32_t column = 0; id < 0 && column < tiling_.columns;
         column += tiling_.columns_per_step) {
      const uint32_t columns = smaller(tiling_.columns_per_step, tiling_.columns - column);
      const uint64_t sum = weigh(column, columns, row_.least > 0);
      if (drawn >= sum) {
        drawn -= sum;
      } else {
        uint32_t i = 0;
        for (uint64_t each = weight(i); drawn >= each; each = weight(++i)) drawn -= each;
        id = static_cast<int32_t>(column + i);
      }
      release_digits();
    }
    return id;
  }

  // Of the k best; total is that of all tokens, or 0 for that of these.
  __aicore__ inline int32_t choose_of_list(uint32_t k, uint64_t total, uint64_t bits) {
    order<AscendC::HardEvent::S_V>();
    AscendC::Adds(x_.Get<float>(), largest_.values(), 0.0f, k);
    AscendC::PipeBarrier<PIPE_V>();
    raise(k);
    const uint64_t of_list = take_digits(k);
    const int32_t id = walk_list(k, total > 0 ? total : of_list, bits);
    release_digits();
    return id;
  }

  __aicore__ inline int32_t walk_list(uint32_t k, uint64_t total, uint64_t bits) {
    const AscendC::LocalTensor<int32_t> ids = largest_.ids();
    const bool cuts_p = row_.top_p_mantissa > 0;
    const uint64_t needed = cuts_p ? least_sum(row_, total) : 0;
    uint64_t kept = 0;
    uint32_t count = 0;  // of the first that stay, but for those that min-p drops
    for (bool is_enough = false; count < k && !is_enough; ++count) {
      const uint64_t each = weight(count);
      if (each < least_weight()) continue;
      kept += each;
      is_enough = cuts_p && kept >= needed;
    }
    if (cuts_p && kept < needed && may_miss_some(k)) return -1;
    // In the order of ids, as on the host.
    uint64_t drawn = upper_product(bits, kept);
    for (int32_t last = -1;;) {
      uint32_t next = count;
      for (uint32_t i = 0; i < count; ++i) {
        const int32_t id = ids.GetValue(i);
        if (id > last && weight(i) >= least_weight() &&
            (next == count || id < ids.GetValue(next))) {
          next = i;
        }
      }
      last = ids.GetValue(next);
      const uint64_t each = weight(next);
      if (drawn < each) return last;
      drawn -= each;
    }
  }
  // Whether behind the list's k there may be tokens that neither top-k nor min-p drops. Of tokens that
  // rank lower, weights may be larger by the last bits of a power.
  __aicore__ inline bool may_miss_some(uint32_t k) {
    const bool cuts_k = row_.top_k > 0 && row_.top_k < tiling_.columns;
    const uint64_t last = weight(k - 1);
    return !cuts_k && k < tiling_.columns && last + (last >> 20) >= least_weight();
  }
  // A token without a weight is never drawn.
  __aicore__ inline uint64_t least_weight() {
    const uint64_t least = static_cast<uint64_t>(row_.least_weight[1]) << 32 | row_.least_weight[0];
    return least > 0 ? least : 1;
  }

  const SampleRowsTiling tiling_;
  Largest largest_;
  SamplingRow row_;
  uint64_t at_ = 0;
  float best_ = 0;
  AscendC::GlobalTensor<float> logits_gm_;
  AscendC::GlobalTensor<int32_t> ids_gm_;
  AscendC::TQue<AscendC::TPosition::VECIN, 2> in_;
  AscendC::TBuf<AscendC::TPosition::VECCALC> x_, power_, spare_, whole_, work_, temperature_, sums_, id_;
  AscendC::TBuf<AscendC::TPosition::VECCALC> digits_[digits];
};

}  // namespace ridge::backend::ascend

extern "C" __global__ __aicore__ void ridge_sample_rows(GM_ADDR logits, GM_ADDR rows, GM_ADDR ids,
                                                        GM_ADDR tiling) {
  KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_AIV_ONLY);
  using namespace ridge::backend::ascend;
  AscendC::TPipe pipe;
  SampleRows sample(pipe, read_tiling<SampleRowsTiling>(tiling));
  sample.run(logits, rows, ids);
}
