#pragma once

#include <utility>

#include "backend/cpu/linear_kernel.h"
#include "backend/cpu/tile_block.h"
#include "backend/cpu/tile_dot_kernel.h"

// scaled.h's kernels, on AMX tiles.
namespace ridge::backend::cpu {
namespace {

// The nearest integer of |x| < 2^22, in a form that compilers turn into vectors.
inline int32_t nearest(float x) {
  constexpr float far = 12582912.0f;  // 1.5 · 2^23, whose last place is 1
  return std::bit_cast<int32_t>(x + far) - std::bit_cast<int32_t>(far);
}

template <class V>
void quantize_scaled(const float* x, int count, const ScaledToken& to) {
  auto most_of = V::zero(), flaw = V::zero();  // NaN where an x is not finite, else 0
  for (int k = 0; k < scaled_unit; k += V::lanes) {
    const auto part = V::load(x + k);
    most_of = V::max(most_of, V::abs(part));
    flaw = V::fma(part, V::zero(), flaw);
  }
  const float most = V::reduce_max(most_of);
  constexpr float largest = 127 * 128;
  const float step = most / largest + V::reduce_add(flaw);
  const float inverse = most > 1e-30f ? largest / most : 0;
  *to.step = step;
  for (int g = 0; g < scaled_groups; ++g) {
    int8_t* coarse = to.codes + g / 2 * scaled_planes * count * scaled_chunk + g % 2 * 32;
    int8_t* fine = coarse + count * scaled_chunk;
    int32_t sum = 0;
    for (int i = 0; i < 32; ++i) {
      const float value = x[g * 32 + i] * inverse;
      const int32_t code =
          nearest(value > -largest ? (value < largest ? value : largest) : -largest);
      const int32_t high = (code + 64) >> 7;
      coarse[i] = static_cast<int8_t>(high);
      fine[i] = static_cast<int8_t>(code - 128 * high);
      sum += code;
    }
    to.sums[g] = step * static_cast<float>(sum);
  }
}

template <class V, DType D>
struct ScaledWeight {
  static constexpr TileFormat format = tile_format(D);
  static constexpr int halves = 32 / format.group;
  using F = typename V::F;
  using I = typename V::I;
  using B = typename V::B;
  static_assert(format.super && format.unit_columns() == scaled_unit);
  // Otherwise a byte takes code · (scale & 7): 217 of Q5_K at most.
  static constexpr bool is_signed = !format.has_min;
  static constexpr float high_step = is_signed ? 256 : 8;
  static_assert(is_signed || (halves == 1 && format.bits <= 5));

  // The lines of a unit that are asked for while a chunk is unpacked, one with each quad: more at
  // once would hold up the loads behind them.
  static constexpr int fetched_lines =
      (format.unit_bytes() / 64 + scaled_chunks - 1) / scaled_chunks;
  static_assert(fetched_lines <= 16);

  // Columns [64 chunk, + 64) of a unit into to[scaled_chunk_bytes].
  //   fetch: another unit, of which a share is fetched meanwhile
  static void unpack(const std::byte* unit, int chunk, const std::byte* fetch, std::byte* to) {
    const std::byte* lines = fetch + chunk * fetched_lines * 64;
    for (int row = 0; row < strip_rows; row += V::lanes) {
      for (int g = 0; g < 2; ++g) {
        B quads[8];
        load_quads<V, D>(unit + format.codes_at() + (2 * chunk + g) * format.code_bytes() + 4 * row,
                         quads);
        const std::byte* scales =
            unit + format.scales_at() + (2 * chunk + g) * halves * strip_rows + row;
        for (int half = 0; half < halves; ++half) {
          const I scale = V::load_byte_ints(scales + half * strip_rows);
#pragma GCC unroll 8
          for (int quad = half * 4; quad < (half + 1) * (8 / halves); ++quad) {
            const int place = 8 * g + quad;
            if (row == 0 && place < fetched_lines) __builtin_prefetch(lines + 64 * place, 0, 2);
            scale_codes(quads[quad], scale, to + place * tile_row_bytes + 4 * row);
          }
        }
      }
    }
  }
  static void scale_codes(const B& codes, const I& scale, std::byte* to) {
    B low, high;
    if constexpr (is_signed) {
      V::scale_words(V::minus_bytes(codes, format.offset), scale, low, high);
    } else {
      low = V::scale_bytes(codes, V::masked_ints(scale, 7));
      high = V::scale_bytes(codes, V::template shifted_ints<3>(scale));
    }
    V::store_bytes(to, low);
    V::store_bytes(to + scaled_chunk_bytes / 2, high);
  }

  // out[count][16] += what a unit gives for tokens [first, last) of `count`, or = for a strip's
  // first unit.
  static void apply(const int32_t* sums, const std::byte* unit, int count, int first, int last,
                    const float* steps, const float* group_sums, bool begins, float* out) {
    const int64_t plane = static_cast<int64_t>(count) * strip_rows;
    for (int row = 0; row < strip_rows; row += V::lanes) {
      const typename QuantizedDot<V, D, 1>::Rows rows(unit, row);
      F mins[scaled_groups];
      if constexpr (format.has_min) {
        for (int g = 0; g < scaled_groups; ++g) mins[g] = rows.min(g);
      }
      for (int i = first; i < last; ++i) {
        const int32_t* at = sums + i * strip_rows + row;
        const auto sum = [&](int index) { return V::to_float(V::load_ints(at + index * plane)); };
        const F coarse = V::fma(sum(1), V::set1(high_step), sum(0));
        const F fine = V::fma(sum(3), V::set1(high_step), sum(2));
        const F both = V::fma(coarse, V::set1(128), fine);
        float* to = out + i * strip_rows + row;
        F acc = begins ? V::zero() : V::load(to);
        F other = V::mul(V::mul(rows.d, V::set1(steps[i])), both);
        if constexpr (format.has_min) {
          const float* x = group_sums + i * scaled_groups;
          for (int g = 0; g < scaled_groups; g += 2) {
            acc = V::fma(mins[g], V::set1(x[g]), acc);
            other = V::fma(mins[g + 1], V::set1(x[g + 1]), other);
          }
        }
        V::store(to, V::add(acc, other));
      }
    }
  }
};

// A job: while the tiles multiply one chunk of a unit, the vectors unpack one that comes later and
// add up what the tiles gave before.
template <class V, class Tiles, DType D>
class ScaledProduct {
 public:
  static void run(const ScaledJob& job) { ScaledProduct(job).multiply(); }

 private:
  using Weight = ScaledWeight<V, D>;
  using Block = TileBlock<Tiles, scaled_planes, scaled_planes>;  // scaled.h
  static constexpr int unit_bytes = Weight::format.unit_bytes();
  static constexpr int units_ahead = 3;  // from what is fetched to what is unpacked

  // A unit of a strip, in the order in which they pass.
  struct Place {
    int strip = 0;
    int64_t unit = 0;

    void advance(int strips) {
      if (++strip < strips) return;
      strip = 0;
      ++unit;
    }
  };

  explicit ScaledProduct(const ScaledJob& job)
      : job_(job),
        tokens_(*job.tokens),
        sums_(reinterpret_cast<int32_t*>(job.scratch + scaled_ring * scaled_chunk_bytes)) {
    for (int i = 0; i < units_ahead; ++i) fetched_.advance(job_.count);
  }

  void multiply() {
    for (int i = 0; i < lead; ++i) unpack_next();
    int slot = 0;
    for (Place at; at.unit < job_.units; at.advance(job_.count)) {
      const int8_t* tokens = tokens_.unit(at.unit);
      Block::zero_sums();
      for (int chunk = 0; chunk < scaled_chunks; ++chunk, tokens += tokens_.chunk_bytes()) {
        unpack_next();
        const std::byte* weights = job_.scratch + slot * scaled_chunk_bytes;
        Block::load_columns(weights, weights + scaled_chunk_bytes / 2, tile_row_bytes);
        Block::load_rows(tokens, tokens + tokens_.count * scaled_chunk, tile_row_bytes);
        Block::template dot_bytes<Weight::is_signed>();
        if (++slot == scaled_ring) slot = 0;
        apply(chunk);
      }
      const int64_t plane = int64_t{tokens_.count} * strip_rows;
      Block::store_sums({sums_, sums_ + plane, sums_ + 2 * plane, sums_ + 3 * plane},
                        tile_row_bytes);
      waiting_ = at;
      waits_ = true;
    }
    for (int chunk = 0; chunk < scaled_chunks; ++chunk) apply(chunk);
  }

  void unpack_next() {
    if (unpacked_.unit == job_.units) return;
    const std::byte* unit = job_.strips[unpacked_.strip] + unpacked_.unit * unit_bytes;
    Weight::unpack(unit, unpacked_chunk_, fetched(unit),
                   job_.scratch + unpacked_slot_ * scaled_chunk_bytes);
    if (++unpacked_slot_ == scaled_ring) unpacked_slot_ = 0;
    if (++unpacked_chunk_ < scaled_chunks) return;
    unpacked_chunk_ = 0;
    unpacked_.advance(job_.count);
    fetched_.advance(job_.count);
  }
  const std::byte* fetched(const std::byte* otherwise) const {
    if (fetched_.unit < job_.units) return job_.strips[fetched_.strip] + fetched_.unit * unit_bytes;
    return fetched_.strip < job_.next_count ? job_.next[fetched_.strip] : otherwise;
  }

  // A quarter of the tokens whose sums wait.
  void apply(int quarter) {
    if (!waits_) return;
    const int64_t row = waiting_.unit * tokens_.count;
    Weight::apply(sums_, job_.strips[waiting_.strip] + waiting_.unit * unit_bytes, tokens_.count,
                  quarter * tokens_.count / scaled_chunks,
                  (quarter + 1) * tokens_.count / scaled_chunks, tokens_.steps + row,
                  tokens_.sums + row * scaled_groups, waiting_.unit == 0,
                  job_.out + int64_t{waiting_.strip} * tokens_.count * strip_rows);
  }

  // Chunks between unpacking and multiplying: odd, for loads of one chunk wait for stores to
  // another where their addresses agree in their last 12 bits.
  static constexpr int lead = 3;
  static_assert(lead < scaled_ring && scaled_chunk_bytes == 2048);

  const ScaledJob& job_;
  const ScaledTokens& tokens_;
  int32_t* const sums_;
  Place unpacked_, fetched_;  // next
  int unpacked_chunk_ = 0, unpacked_slot_ = 0;
  Place waiting_;  // whose sums are not in `out` yet
  bool waits_ = false;
};

template <class V, class Tiles, DType... Super>
void fill_scaled_of(ScaledKernels& scaled) {
  ((scaled.multiply[static_cast<int>(Super)] = &ScaledProduct<V, Tiles, Super>::run), ...);
}

template <class V, class Tiles>
void fill_scaled(KernelTable& table) {
  using enum DType;
  ScaledKernels& scaled = table.scaled;
  scaled.min_tokens = 5;
  scaled.max_tokens = most_scaled_tokens;
  scaled.quantize = &quantize_scaled<V>;
  scaled.begin = &begin_tile_blocks<Tiles>;
  scaled.end = &Tiles::release;
  fill_scaled_of<V, Tiles, q3_k, q4_k, q5_k, q6_k, iq4_xs>(scaled);
}

}  // namespace
}  // namespace ridge::backend::cpu
