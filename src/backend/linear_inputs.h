#pragma once

#include <vector>

#include "backend/ops.h"

namespace ridge::backend {

// What an op of a recording multiplies by a weight.
struct LinearInput {
  const Weight* weight = nullptr;  // null for the latents that a cache takes in
  int layer = -1;                  // of those latents
  Value x;                         // of a linear, head_linear or expert_linear: as the op has it
  Value ids;                       // of an expert_linear
};

// The inputs of all weights of a recording, and the latents of latent attention, which some files
// know as the input of one matrix for keys and values. Each still stands in its storage when the
// pass is over, if the storage is kept as an output: that no later op writes there is asserted.
std::vector<LinearInput> linear_inputs(const Recording& recording);

}  // namespace ridge::backend
