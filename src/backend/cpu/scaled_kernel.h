#pragma once

#include <utility>

#include "backend/cpu/linear_kernel.h"
#include "backend/cpu/tile_block.h"
#include "backend/cpu/tile_dot_kernel.h"

// scaled.h's kernels, on AMX tiles.
namespace ridge::backend::cpu {
namespace {

// to[scaled_sum_width]: the sums of a unit's groups, in parts.
template <class V>
void store_sums(const float* sums, uint16_t* to) {
  static_assert(scaled_groups == 8 && V::lanes <= 16);
  alignas(64) float rest[16] = {};
  alignas(64) uint16_t part[16];
  __builtin_memset(to, 0, sizeof(*to) * scaled_sum_width);
  __builtin_memcpy(rest, sums, sizeof(*sums) * scaled_groups);
  for (int p = 0; p < scaled_sum_parts; ++p, to += scaled_groups) {
    for (int i = 0; i < scaled_groups; i += V::lanes) {
      const typename V::F whole = V::load(rest + i);
      V::store_bf16(part + i, whole);
      V::store(rest + i, V::sub(whole, V::load_bf16(part + i)));
    }
    __builtin_memcpy(to, part, sizeof(*part) * scaled_groups);
  }
}

template <class V>
void quantize_scaled(const float* x, int count, const ScaledToken& to) {
  using F = typename V::F;
  F most_of = V::zero(), flaw = V::zero();  // NaN where an x is not finite, else 0
  for (int k = 0; k < scaled_unit; k += V::lanes) {
    const F part = V::load(x + k);
    most_of = V::max(most_of, V::abs(part));
    flaw = V::fma(part, V::zero(), flaw);
  }
  const float most = V::reduce_max(most_of);
  constexpr float largest = 127 * 128;
  const float step = most / largest + V::reduce_add(flaw);
  const float inverse = most > 1e-30f ? largest / most : 0;
  *to.step = step;
  const auto clipped = [](const F& value) {
    return V::min(V::max(value, V::set1(-largest)), V::set1(largest));
  };
  float sums[scaled_groups];
  for (int g = 0; g < scaled_groups; ++g) {
    int8_t* coarse = to.codes + g / 2 * scaled_planes * count * scaled_chunk + g % 2 * 32;
    int8_t* fine = coarse + count * scaled_chunk;
    F sum = V::zero();  // of whole numbers below 2^24
    for (int i = 0; i < 32; i += V::lanes) {
      const F code = V::round(clipped(V::mul(V::load(x + g * 32 + i), V::set1(inverse))));
      const F high = V::round(V::mul(code, V::set1(1.0f / 128)));
      V::store_codes(coarse + i, high);
      V::store_codes(fine + i, V::fnma(high, V::set1(128), code));
      sum = V::add(sum, code);
    }
    sums[g] = step * V::reduce_add(sum);
  }
  store_sums<V>(sums, to.sums);
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

  // A unit's mins into to[scaled_mins_bytes], for each part of the sums; what follows is untouched.
  static void unpack_mins(const std::byte* unit, std::byte* to) {
    constexpr int part_bytes = scaled_groups / 2 * tile_row_bytes;
    for (int g = 0; g < scaled_groups; g += 2, to += tile_row_bytes) {
      for (int row = 0; row < strip_rows; row += V::lanes) {
        const std::byte* mins = unit + format.mins_at() + g * strip_rows + row;
        const B pairs =
            V::bf16_pairs(V::load_byte_ints(mins), V::load_byte_ints(mins + strip_rows));
        for (int part = 0; part < scaled_sum_parts; ++part) {
          V::store_bytes(to + part * part_bytes + 4 * row, pairs);
        }
      }
    }
  }

  // out[count][16] += what a unit gives for tokens [first, last) of `count`, or = for a strip's
  // first unit.
  //   mins: Σ min · x, [count][16]
  static void apply(const int32_t* sums, const float* mins, const std::byte* unit, int count,
                    int first, int last, const float* steps, bool begins, float* out) {
    const int64_t plane = static_cast<int64_t>(count) * strip_rows;
    for (int row = 0; row < strip_rows; row += V::lanes) {
      const typename QuantizedDot<V, D, 1>::Rows rows(unit, row);
      for (int i = first; i < last; ++i) {
        const int32_t* at = sums + i * strip_rows + row;
        const auto sum = [&](int index) { return V::to_float(V::load_ints(at + index * plane)); };
        const F coarse = V::fma(sum(1), V::set1(high_step), sum(0));
        const F fine = V::fma(sum(3), V::set1(high_step), sum(2));
        const F both = V::fma(coarse, V::set1(128), fine);
        float* to = out + i * strip_rows + row;
        F acc = begins ? V::zero() : V::load(to);
        if constexpr (format.has_min) {
          acc = V::fnma(rows.dmin, V::load(mins + i * strip_rows + row), acc);
        }
        V::store(to, V::fma(V::mul(rows.d, V::set1(steps[i])), both, acc));
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
  static constexpr bool has_min = Weight::format.has_min;
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
        mins_(job.scratch + scaled_ring * scaled_chunk_bytes),
        sums_(reinterpret_cast<int32_t*>(mins_ + scaled_min_slots * scaled_mins_bytes)),
        min_sums_(reinterpret_cast<float*>(sums_ + scaled_sums)) {
    // What lies past the parts of the sums meets zeros, and must be numbers.
    if (has_min) __builtin_memset(mins_, 0, scaled_min_slots * scaled_mins_bytes);
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
      if constexpr (has_min) multiply_mins(at.unit);
      waiting_ = at;
      waits_ = true;
    }
    for (int chunk = 0; chunk < scaled_chunks; ++chunk) apply(chunk);
  }

  void multiply_mins(int64_t unit) {
    using Mins = TileBlock<Tiles, 1, 1>;
    Mins::zero_sums();
    Mins::load_rows(tokens_.sums + unit * tokens_.count * scaled_sum_width, nullptr,
                    tile_row_bytes);
    Mins::load_columns(mins_ + multiplied_mins_ * scaled_mins_bytes, nullptr, tile_row_bytes);
    Mins::dot();
    Mins::store_sums({min_sums_}, tile_row_bytes);
    multiplied_mins_ ^= 1;
  }

  void unpack_next() {
    if (unpacked_.unit == job_.units) return;
    const std::byte* unit = job_.strips[unpacked_.strip] + unpacked_.unit * unit_bytes;
    if (has_min && unpacked_chunk_ == 0) {
      Weight::unpack_mins(unit, mins_ + unpacked_mins_ * scaled_mins_bytes);
      unpacked_mins_ ^= 1;
    }
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
    Weight::apply(sums_, min_sums_, job_.strips[waiting_.strip] + waiting_.unit * unit_bytes,
                  tokens_.count, quarter * tokens_.count / scaled_chunks,
                  (quarter + 1) * tokens_.count / scaled_chunks, tokens_.steps + row,
                  waiting_.unit == 0,
                  job_.out + int64_t{waiting_.strip} * tokens_.count * strip_rows);
  }

  // Chunks between unpacking and multiplying: odd, for loads of one chunk wait for stores to
  // another where their addresses agree in their last 12 bits.
  static constexpr int lead = 3;
  static_assert(lead < scaled_ring && scaled_chunk_bytes == 2048);
  static_assert(lead < scaled_chunks);  // or mins would need more slots

  const ScaledJob& job_;
  const ScaledTokens& tokens_;
  std::byte* const mins_;  // [scaled_min_slots]
  int32_t* const sums_;    // of a unit, in tiles
  float* const min_sums_;  // what its mins give
  Place unpacked_, fetched_;  // next
  int unpacked_chunk_ = 0, unpacked_slot_ = 0;
  int unpacked_mins_ = 0, multiplied_mins_ = 0;  // slots
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
