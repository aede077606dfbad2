#pragma once

namespace ridge::backend {

// How far a back end may round the operands of a linear; it may always be more exact.
//   full: with quantised weights, activations to 15 bits or so, else not at all; weights never. The
//         weights' own quantisation is then the only error that counts;
//   bf16: both to bfloat16;
//   int8: that, or with quantised weights activations to int8 codes with a scale for at most 32
//         columns.
enum class Precision { full, bf16, int8 };

}  // namespace ridge::backend
