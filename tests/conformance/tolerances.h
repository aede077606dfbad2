#pragma once

#include <algorithm>
#include <cmath>
#include <string_view>

#include "backend/precision.h"
#include "tensor/dtype.h"

// How far a back end may lie from `reference`: all in one place, each with its reason. Errors are
// over the root mean square of the reference's output in all steps of a case, so they are relative
// to its size.
namespace ridge::conformance {

struct Tolerance {
  double rms;    // root mean square of the errors of all steps
  double worst;  // of any single value
  // That an output comes of, one after the other: what each rounds, the next takes over.
  int linears = 1;
};

// Copies and choices: not one bit may change.
inline constexpr Tolerance exact = {0, 0};

// Codes of quantised activations: a quotient that lies on a half rounds either way where scales
// differ in the last bit. That is rare, and never more than one step.
struct CodeTolerance {
  int largest;             // difference of any code
  double differing_share;  // of all codes of a case
};
inline constexpr CodeTolerance rounded_codes = {1, 1e-3};

// One rounding to float32 for each value, and sums of hundreds of terms in float32 in any order,
// each good to about 2^-24 · sqrt(terms); exponentials by polynomials good to a few units in the
// last place.
inline constexpr Tolerance float32_sums = {2e-6, 2e-5};

// The same where a value is the small difference of large ones, or where sums run over thousands.
inline constexpr Tolerance long_float32_sums = {1e-5, 1e-4};

// Scores and probabilities in float32, but probabilities may be rounded to the cache's 16 bits
// (2^-11 or, for bfloat16, 2^-9) before they weigh the values.
inline constexpr Tolerance attention_scores = {2e-3, 1e-2};

// Weights are exact, but each row of activations is quantised in groups of 32 to integers up to
// 127 · 254, which two int8 planes hold. For normal values the largest of 32 is about 2.1
// deviations, so a step is 2.1 / 127 / 254 = 6.5e-5 of one and the rounding error 6.5e-5 / sqrt(12)
// = 1.9e-5, which a dot product keeps; minima and offsets, larger than what remains of them, raise
// it a few times.
inline constexpr Tolerance int8_planes = {1e-4, 1e-3};

// Precision::bf16: weights and activations rounded to bfloat16, as AMX multiplies them; sums in
// float32. Rounding to 8 bits errs by at most 2^-8 of a value and, over a binade, by 2^-8 / sqrt(3)
// · 0.72 = 1.6e-3 of it in the root mean square. Two independent factors make 2.3e-3 of each
// product, which a dot product keeps; short ones stray from it. The worst single value is a product
// that is itself several times the output's size.
inline constexpr Tolerance bf16_products = {3.5e-3, 5e-2};

// Precision::int8: one plane of the two. A step is 2.1 / 127 of a deviation then, and the rounding
// error 4.8e-3 of one.
inline constexpr Tolerance int8_codes = {8e-3, 8e-2};

inline Tolerance linear_tolerance(DType weight_dtype,
                                  backend::Precision precision = backend::Precision::full) {
  switch (precision) {
    // Weights that are no more precise than float32 products need no quantised activations.
    case backend::Precision::full:
      return is_quantized(weight_dtype) ? int8_planes : long_float32_sums;
    case backend::Precision::bf16:
      return bf16_products;
    case backend::Precision::int8:
      return is_quantized(weight_dtype) ? int8_codes : bf16_products;
  }
  return exact;
}

// A whole layer: the errors of four linears in a row, each taken over by the next.
inline constexpr Tolerance whole_layer = {2e-3, 1e-2};
// The same with the roundings of mixed precision: those of four linears in int8_codes, whose
// measured errors lie near 7e-3.
inline constexpr Tolerance whole_layer_mixed = {1.5e-2, 2e-1};

// How near the two best logits of a greedy token must be, over the root mean square of the logits,
// for other company, other chunks, a cached prefix or guesses to change it, where batch_invariant
// does not keep one order of sums. Company and chunks change sums of attention in float32, and
// where these move an activation across a half, its code in int8_planes: two logits by what one
// linear may err at worst. Of the goldens, the logprobs of those with float32 weights move by 7e-7
// at most, of those with quantised ones by 2e-4. With mixed precision, a code is 254 times as
// coarse, and experts keep it: 1e-2 was seen, of which three times as much is allowed.
inline constexpr double near_tie = 2 * int8_planes.worst;
inline constexpr double near_tie_mixed = 3e-2;
// On AMX many rows meet panels in bfloat16 and few rows int8 codes, so that with mixed precision company and
// chunks change not some codes but how all activations round. Two logits each err by whole_layer_mixed's root mean
// square both times, which makes twice that of their distance; three times as much is allowed. 6.4e-2 was seen.
inline constexpr double near_tie_mixed_on_tiles = 3 * 2 * whole_layer_mixed.rms;

// Ascend's cube multiplies halves: rows of activations, scaled to their range, and dequantised
// weights each round to 11 bits, by 2^-11 / sqrt(3) · 0.72 = 2e-4 of a value in the root mean
// square. Codes times scales round twice where they are not halves themselves.
inline constexpr Tolerance half_products = {5e-4, 5e-3};

// There queries, probabilities and outputs of attention are of the cache's 16 bits. Those of
// bfloat16 round by 1.6e-3 each in the root mean square, the worst value being again several times
// the output's size.
inline constexpr Tolerance bf16_attention = {4e-3, 6e-2};
// A score s of halves errs by about 2e-4 s, and a probability by as much of itself: 0.1 at scores
// of some hundreds, where two keys are about as near.
inline constexpr Tolerance large_half_scores = {4e-3, 1e-1};

// What a device is allowed in a case beyond what is declared for all.
inline Tolerance tolerance_on(std::string_view device, std::string_view case_name,
                              const Tolerance& declared) {
  if (!device.starts_with("ascend") || declared.worst == 0) return declared;
  const auto has = [&](std::string_view word) { return case_name.find(word) != case_name.npos; };
  const auto at_least = [&](const Tolerance& other) {
    return Tolerance{std::max(declared.rms, other.rms), std::max(declared.worst, other.worst)};
  };
  const bool attends = has("attention");
  if (attends && has("large")) return at_least(large_half_scores);
  if (attends && has("BF16")) return at_least(bf16_attention);
  if (has("linear") || has("rms_norm of heads") || has("layer")) {
    const double grown = std::sqrt(static_cast<double>(declared.linears));
    return at_least({half_products.rms * grown, half_products.worst * grown});
  }
  return declared;
}

}  // namespace ridge::conformance
