#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "format/gguf.h"
#include "tensor/dtype.h"
#include "tensor/shape.h"

namespace ridge::format {

// A named mix of types, such as Q4_K_M: most matrices in one type, those that suffer most in a
// finer one. The mixes are llama.cpp's for dense models, so that a name means the same file
// everywhere (source: llama.cpp's src/llama-quant.cpp).
struct QuantizationRecipe {
  std::string_view name;
  DType dtype;         // of most matrices, but experts of MXFP4_MOE
  uint32_t file_type;  // general.file_type, as llama.cpp numbers it
};

// general.quantization_version: of the layout of quantised blocks, as llama.cpp numbers it.
inline constexpr uint32_t quantization_version = 2;

// A boolean of ours: weights of Q8_0 with one scale for each row were made for activations that become
// int8 as they come, with a scale for each token.
inline constexpr std::string_view int8_activations_key = "quantize.int8_activations";

std::span<const QuantizationRecipe> quantization_recipes();
// Case does not count. Throws invalid_argument, listing the recipes, for another name.
const QuantizationRecipe& quantization_recipe(std::string_view name);

// What a recipe must know of a model.
struct ModelOutline {
  int layers = 0;
  int heads = 0;
  int kv_heads = 0;
  bool output_is_embedding = false;  // there is no output.weight: token_embd.weight does its work

  // Throws invalid_file where the metadata lack the number of layers or heads.
  static ModelOutline of(const GgufFile& file);
};

struct TensorChoice {
  DType dtype;
  // The type that the recipe asks for, where the rows are not whole blocks of it and `dtype` is its
  // stand-in.
  std::optional<DType> replaced;
};

// The type for a tensor; nullopt for one that is no matrix of weights and stays as it is: norms,
// biases, the router of an expert model.
std::optional<TensorChoice> choose_type(const QuantizationRecipe& recipe,
                                        const ModelOutline& outline, std::string_view tensor,
                                        const Shape& shape);

}  // namespace ridge::format
