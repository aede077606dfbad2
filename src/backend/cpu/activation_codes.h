#pragma once

// How activations are rounded where they keep 15 bits: in groups of 32 columns, x ≈ scale ·
// code. Kernels for few tokens take a code as two planes of int8, those for many as one int16
// (word_panel.h); both sum the same integers, and scale sums alike, so that results are the same to
// the last bit.
namespace ridge::backend::cpu {

inline constexpr int activation_group = 32;

// code = plane_steps · the first plane + the second. An odd number, so that both planes reach as
// far down as up: no int8 is -128, whose negative is none.
inline constexpr int plane_steps = 255;
// Two planes could hold 127 more; why these are not used is in
// docs/adr/0051-the-same-bits-for-few-tokens-and-many.md.
inline constexpr int most_fine_code = 127 * 254;
static_assert(most_fine_code <= 127 * plane_steps + plane_steps / 2);

// Of a group whose largest number is `largest`: numbers times this are its codes. Finite also where
// all numbers are near zero.
inline float fine_code_factor(float largest) {
  return largest > 1e-30f ? most_fine_code / largest : 0;
}
inline float fine_code_scale(float largest) { return largest * (1.0f / most_fine_code); }

}  // namespace ridge::backend::cpu
