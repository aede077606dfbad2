#pragma once

#include "format/gguf.h"
#include "planner/model_shape.h"
#include "tensor/dtype.h"

namespace ridge::planner {

// A model file of that shape whose weights are zeros that take no memory: what can be loaded,
// recorded and counted where no file of the model is. Matrices have `weights`, the rest float32.
// Routers and experts' biases are float32 too. A DeepSeek V2 or V3 where attention is over latents, else a gpt-oss, a
// Qwen3 with or without experts, a Qwen2 or a Llama, by what its name and source say; drafts are left
// out. Throws unsupported where rows are no whole blocks of `weights`.
format::GgufFile outline_model(const ModelShape& shape, DType weights);

}  // namespace ridge::planner
