#pragma once

#include "format/gguf.h"
#include "planner/model_shape.h"
#include "tensor/dtype.h"

namespace ridge::planner {

// A model file of that shape whose weights are zeros that take no memory: what can be loaded,
// recorded and counted where no file of the model is. Matrices have `weights`, the rest float32.
// A Qwen2, a Qwen3 or a Llama, by what its name and source say. Throws unsupported for models with
// experts or latent attention, and where rows are no whole blocks of `weights`.
format::GgufFile outline_model(const ModelShape& shape, DType weights);

}  // namespace ridge::planner
