#pragma once

#include <array>
#include <cstdint>

#include "tensor/blocks.h"
#include "tensor/float_formats.h"

// The searches for a group's scale. Four groups go side by side, one in each lane of a vector, so
// that every sum runs in the order of the group's own elements: the result is the same to the bit
// whatever the compiler makes of it. Only quantize.cc includes this.
namespace ridge {
namespace {

constexpr int lanes = 4;
using Floats = float __attribute__((vector_size(4 * lanes)));
using Masks = int32_t __attribute__((vector_size(4 * lanes)));

inline Floats all(float value) { return Floats{value, value, value, value}; }
inline Floats smaller(Floats a, Floats b) { return a < b ? a : b; }
inline Floats greater(Floats a, Floats b) { return a > b ? a : b; }
inline Floats magnitude(Floats a) { return greater(a, -a); }
inline Floats bounded(Floats a, float low, float high) {
  return smaller(greater(a, all(low)), all(high));
}
// To the nearest integer, ties to even, for magnitudes below 2^22: adding 1.5 · 2^23 leaves no room
// for a fraction.
inline Floats rounded(Floats a) { return (a + 12582912.0f) - 12582912.0f; }
// 1 / a, and 0 for 0.
inline Floats inverse(Floats a) {
  const Masks zero = a == 0.0f;
  return zero ? all(0) : 1.0f / (zero ? all(1) : a);
}

inline Floats square_root(Floats a) {
  for (int lane = 0; lane < lanes; ++lane) a[lane] = __builtin_sqrtf(a[lane]);
  return a;
}

// A scale as files hold it. Below 2^-14 an F16 has few bits left, and one rounded down would cut
// the group's ends off, so that there the next one up is taken.
inline f16_bits stored_scale(float scale) {
  f16_bits bits = f32_to_f16(scale);
  const float stored = __builtin_fabsf(f16_to_f32(bits));
  if (stored < __builtin_fabsf(scale) * 0.995f) ++bits;
  return bits;
}

inline Floats stored(Floats scales, std::array<f16_bits, lanes>& bits) {
  for (int lane = 0; lane < lanes; ++lane) {
    bits[lane] = stored_scale(scales[lane]);
    scales[lane] = f16_to_f32(bits[lane]);
  }
  return scales;
}

// Four groups of N elements; x[i][lane] is element i of group `lane`.
template <int N>
struct Groups {
  Floats x[N];
  Floats weight[N];

  // Group `lane` begins at values[lane * N]. Groups from `count` on become zeros.
  void load(const float* values, int count = lanes) {
    for (int i = 0; i < N; ++i) {
      for (int lane = 0; lane < lanes; ++lane) x[i][lane] = lane < count ? values[lane * N + i] : 0;
    }
  }

  // As load, of the columns' weights; nullptr: none are known.
  void weigh(const float* weights, int count = lanes) {
    if (weights == nullptr) return weigh_by_values();
    for (int i = 0; i < N; ++i) {
      for (int lane = 0; lane < lanes; ++lane) {
        weight[i][lane] = lane < count ? weights[lane * N + i] : 0;
      }
    }
  }

  void weigh_by_values() {
    Floats squares = all(0);
    for (int i = 0; i < N; ++i) squares += x[i] * x[i];
    const Floats rms = square_root(squares / static_cast<float>(N));
    for (int i = 0; i < N; ++i) weight[i] = rms + magnitude(x[i]);
  }

  // The element of the greatest magnitude, with its sign.
  Floats peak() const {
    Floats result = x[0];
    for (int i = 1; i < N; ++i) result = magnitude(x[i]) > magnitude(result) ? x[i] : result;
    return result;
  }
};

// How the multiples of a group's reach are tried: from `first` in `count` steps of `step`, in units
// of one code.
struct Trials {
  float first;
  float step;
  int count;
};

// The best scale among trials: x ≈ scale · value, where nearest(x / scale) gives the value.
struct ScaleSearch {
  Floats scale = all(0);
  Floats gain = all(0);  // what the scale takes off the error of all zeros

  // `reciprocal`: of the scale that the codes are chosen for; the scale kept is the best for them.
  template <int N, typename Nearest>
  void attempt(const Groups<N>& groups, Floats reciprocal, Nearest nearest) {
    Floats products = all(0);  // Σ w · x · q
    Floats squares = all(0);   // Σ w · q²
    for (int i = 0; i < N; ++i) {
      const Floats q = nearest(groups.x[i] * reciprocal);
      const Floats weighted = groups.weight[i] * q;
      products += weighted * groups.x[i];
      squares += weighted * q;
    }
    const Floats best = products * inverse(squares);
    const Floats best_gain = best * products;
    const Masks better = best_gain > gain;
    scale = better ? best : scale;
    gain = better ? best_gain : gain;
  }
};

// Integer codes from `low` to `high`, where -low is the greater: x ≈ scale · q.
template <int N>
Floats search_scale(const Groups<N>& groups, float low, float high, Trials trials) {
  const auto nearest = [=](Floats value) { return rounded(bounded(value, low, high)); };
  const Floats peak_inverse = inverse(groups.peak());
  ScaleSearch search;
  for (int k = 0; k < trials.count; ++k) {
    const float reach = low - trials.first - trials.step * static_cast<float>(k);
    search.attempt(groups, peak_inverse * reach, nearest);
  }
  // From the best codes to the best scale and back, as Lloyd's method does.
  for (int k = 0; k < 2; ++k) search.attempt(groups, inverse(search.scale), nearest);
  return search.scale;
}

// The nearest value of iq4_codebook, and its code, for half-integers from -128 to 127.5.
struct CodebookTable {
  std::array<float, 512> value;
  std::array<uint8_t, 512> code;
};

constexpr CodebookTable make_codebook_table() {
  CodebookTable table{};
  for (int k = 0; k < 512; ++k) {
    const int doubled = k - 256;
    int code = 0;
    // All midpoints are half-integers, so half-integers decide every case.
    while (code < 15 && doubled >= iq4_codebook[code] + iq4_codebook[code + 1]) ++code;
    table.value[k] = iq4_codebook[code];
    table.code[k] = static_cast<uint8_t>(code);
  }
  return table;
}

constexpr CodebookTable codebook_table = make_codebook_table();

inline Masks codebook_places(Floats value) {
  // Truncating a positive number is the floor that half-integers need.
  return __builtin_convertvector(bounded(value, -128, 127.5f) * 2.0f + 256.0f, Masks);
}

inline Floats nearest_codebook_value(Floats value) {
  const Masks places = codebook_places(value);
  return Floats{codebook_table.value[places[0]], codebook_table.value[places[1]],
                codebook_table.value[places[2]], codebook_table.value[places[3]]};
}

// x ≈ scale · iq4_codebook[code].
template <int N>
Floats search_codebook_scale(const Groups<N>& groups) {
  const Floats peak_inverse = inverse(groups.peak());
  ScaleSearch search;
  // The peak may fall on either end of the codebook, which is not symmetric, or a little outside.
  for (float end : {-127.0f, 113.0f}) {
    for (int k = -5; k <= 5; ++k) {
      search.attempt(groups, peak_inverse * (end * (1.0f + 0.03f * static_cast<float>(k))),
                     nearest_codebook_value);
    }
  }
  for (int k = 0; k < 2; ++k) {
    search.attempt(groups, inverse(search.scale), nearest_codebook_value);
  }
  return search.scale;
}

struct ScaleAndMinimum {
  Floats scale;    // 0 or above
  Floats minimum;  // x ≈ scale · q + minimum
};

// Codes from 0 to `high`: x ≈ scale · q + minimum. `minimum_max` bounds the minimum from above:
// 0 for the K formats, which store its negative without a sign.
template <int N>
class AffineSearch {
 public:
  AffineSearch(const Groups<N>& groups, float high, float minimum_max)
      : groups_(groups), high_(high), minimum_max_(all(minimum_max)) {
    base_ = groups.x[0];
    Floats top = groups.x[0];
    for (int i = 1; i < N; ++i) {
      base_ = smaller(base_, groups.x[i]);
      top = greater(top, groups.x[i]);
    }
    base_ = smaller(base_, minimum_max_);
    range_ = top - base_;
    for (int i = 0; i < N; ++i) {
      const Floats x = groups.x[i] - base_;
      weights_ += groups.weight[i];
      sums_ += groups.weight[i] * x;
      squares_ += groups.weight[i] * x * x;
    }
    // With one code for all: the whole range lies in the minimum.
    best_ = {all(0), base_};
    error_ = squares_;
  }

  ScaleAndMinimum search(Trials trials) {
    const Floats range_inverse = inverse(range_);
    for (int k = 0; k < trials.count; ++k) {
      attempt(range_inverse * (high_ + trials.first + trials.step * static_cast<float>(k)), base_);
    }
    for (int k = 0; k < 2; ++k) attempt(inverse(best_.scale), best_.minimum);
    return best_;
  }

 private:
  // Codes are chosen for x ≈ q / reciprocal + minimum; kept is what fits these codes best.
  void attempt(Floats reciprocal, Floats minimum) {
    Floats codes = all(0);         // Σ w · q
    Floats code_squares = all(0);  // Σ w · q²
    Floats products = all(0);      // Σ w · q · (x - base)
    for (int i = 0; i < N; ++i) {
      const Floats q = rounded(bounded((groups_.x[i] - minimum) * reciprocal, 0, high_));
      const Floats weighted = groups_.weight[i] * q;
      codes += weighted;
      code_squares += weighted * q;
      products += weighted * (groups_.x[i] - base_);
    }
    const Floats determinant = weights_ * code_squares - codes * codes;
    const Floats divisor = inverse(determinant);
    Floats scale = (weights_ * products - sums_ * codes) * divisor;
    Floats above = (code_squares * sums_ - codes * products) * divisor;  // minimum - base
    // A minimum that may not be stored gives way to the bound, and one that equal codes leave open
    // to the base; the scale follows.
    const Floats above_max = minimum_max_ - base_;
    const Masks open = determinant <= 1e-5f * weights_ * code_squares;
    const Masks beyond = above > above_max;
    above = open ? all(0) : beyond ? above_max : above;
    scale = open | beyond ? (products - above * codes) * inverse(code_squares) : scale;
    const Floats error = squares_ + scale * scale * code_squares + above * above * weights_ +
                         2.0f * (scale * above * codes - scale * products - above * sums_);
    const Masks better = (scale > 0.0f) & (error < error_);
    best_.scale = better ? scale : best_.scale;
    best_.minimum = better ? base_ + above : best_.minimum;
    error_ = better ? error : error_;
  }

  const Groups<N>& groups_;
  const float high_;
  const Floats minimum_max_;
  Floats base_;   // what is taken off x first, so that the sums do not cancel
  Floats range_;  // from base to the greatest element
  Floats weights_ = all(0);
  Floats sums_ = all(0);     // Σ w · (x - base)
  Floats squares_ = all(0);  // Σ w · (x - base)²
  ScaleAndMinimum best_;
  Floats error_;
};

}  // namespace
}  // namespace ridge
