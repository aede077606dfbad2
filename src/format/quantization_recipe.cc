#include "format/quantization_recipe.h"

#include <fmt/format.h>
#include <strings.h>

#include <algorithm>
#include <charconv>

#include "base/error.h"
#include "format/gguf_types.h"

namespace ridge::format {

namespace {

constexpr QuantizationRecipe recipes[] = {
    {"Q4_0", DType::q4_0, 2},    {"Q4_1", DType::q4_1, 3},      {"Q5_0", DType::q5_0, 8},
    {"Q5_1", DType::q5_1, 9},    {"Q8_0", DType::q8_0, 7},      {"Q4_K_S", DType::q4_k, 14},
    {"Q4_K_M", DType::q4_k, 15}, {"Q5_K_S", DType::q5_k, 16},   {"Q5_K_M", DType::q5_k, 17},
    {"Q6_K", DType::q6_k, 18},   {"IQ4_NL", DType::iq4_nl, 25}, {"IQ4_XS", DType::iq4_xs, 30},
    {"F16", DType::f16, 1},      {"BF16", DType::bf16, 32},     {"F32", DType::f32, 0},
    {"MXFP4_MOE", DType::q8_0, 38},  // but for experts
};

// "ffn_down.weight" and 3 of "blk.3.ffn_down.weight"; the whole name and -1 of any other.
struct TensorRole {
  std::string_view role;
  int layer = -1;
};

TensorRole role_of(std::string_view tensor) {
  constexpr std::string_view prefix = "blk.";
  if (!tensor.starts_with(prefix)) return {tensor};
  int layer = -1;
  const char* begin = tensor.data() + prefix.size();
  const char* end = tensor.data() + tensor.size();
  const auto [rest, failure] = std::from_chars(begin, end, layer);
  if (failure != std::errc() || layer < 0 || rest == end || *rest != '.') return {tensor};
  return {std::string_view(rest + 1, static_cast<size_t>(end - rest - 1)), layer};
}

bool is_matrix_of_weights(std::string_view tensor, const Shape& shape) {
  return shape.rank() >= 2 && tensor.ends_with("weight") && !tensor.ends_with("_norm.weight") &&
         tensor.find("ffn_gate_inp") == std::string_view::npos;
}

// The first and the last eighth of the layers, and every third between them.
bool has_more_bits(int layer, int layers) {
  return layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
}

bool is_any_of(std::string_view name, std::initializer_list<std::string_view> names) {
  return std::ranges::find(names, name) != names.end();
}

DType wanted_for_values(const QuantizationRecipe& recipe, const ModelOutline& outline, int layer) {
  if (is_any_of(recipe.name, {"Q4_K_M", "Q5_K_M"}) && has_more_bits(layer, outline.layers)) {
    return DType::q6_k;
  }
  if (recipe.name == "Q4_K_S" && layer < 4) return DType::q5_k;
  // Values shared by four heads or more are small, and an error in them is felt by all.
  if (is_any_of(recipe.name, {"IQ4_NL", "IQ4_XS"}) && outline.heads >= 4 * outline.kv_heads) {
    return DType::q5_k;
  }
  constexpr int layers_of_70b = 80;
  if (recipe.dtype == DType::q4_k && outline.layers == layers_of_70b &&
      outline.kv_heads < outline.heads) {
    return DType::q5_k;
  }
  return recipe.dtype;
}

DType wanted_for_down(const QuantizationRecipe& recipe, const ModelOutline& outline, int layer) {
  if (is_any_of(recipe.name, {"Q4_K_M", "Q5_K_M"}) && has_more_bits(layer, outline.layers)) {
    return DType::q6_k;
  }
  if (is_any_of(recipe.name, {"Q4_K_S", "IQ4_NL", "IQ4_XS"}) && layer < outline.layers / 8) {
    return DType::q5_k;
  }
  return recipe.dtype;
}

DType wanted(const QuantizationRecipe& recipe, const ModelOutline& outline,
             std::string_view tensor) {
  if (!is_quantized(recipe.dtype)) return recipe.dtype;
  const auto [role, layer] = role_of(tensor);
  if (is_any_of(role, {"output.weight", "nextn.shared_head_head.weight"}) ||
      (role == "token_embd.weight" && outline.output_is_embedding)) {
    return recipe.dtype == DType::q8_0 ? DType::q8_0 : DType::q6_k;
  }
  if (is_any_of(role, {"attn_v.weight", "attn_qkv.weight", "attn_kv_b.weight"})) {
    return wanted_for_values(recipe, outline, layer);
  }
  if (recipe.name == "MXFP4_MOE" && role.ends_with("_exps.weight")) return DType::mxfp4;
  if (role.starts_with("ffn_down")) return wanted_for_down(recipe, outline, layer);
  return recipe.dtype;
}

// A type of blocks of 32 with at least the bits of a type of super-blocks.
DType stand_in(DType dtype) {
  switch (dtype) {
    case DType::iq4_xs:
      return DType::iq4_nl;
    case DType::q4_k:
      return DType::q5_0;
    case DType::q5_k:
      return DType::q5_1;
    case DType::q6_k:
      return DType::q8_0;
    default:
      return DType::f16;
  }
}

}  // namespace

std::span<const QuantizationRecipe> quantization_recipes() { return recipes; }

const QuantizationRecipe& quantization_recipe(std::string_view name) {
  std::string known;
  for (const QuantizationRecipe& recipe : recipes) {
    if (name.size() == recipe.name.size() &&
        strncasecmp(name.data(), recipe.name.data(), name.size()) == 0) {
      return recipe;
    }
    known += fmt::format("{}{}", known.empty() ? "" : ", ", recipe.name);
  }
  throw Error(ErrorCode::invalid_argument,
              fmt::format("{} is no type that models can be quantised to; there are {}",
                          quoted_name(name), known));
}

ModelOutline ModelOutline::of(const GgufFile& file) {
  const GgufMetadata& metadata = file.metadata();
  const std::string architecture(file.architecture());
  ModelOutline outline;
  outline.layers = static_cast<int>(metadata.uint32(architecture + ".block_count"));
  outline.heads = static_cast<int>(metadata.uint32(architecture + ".attention.head_count"));
  outline.kv_heads = static_cast<int>(
      metadata.optional_uint32(architecture + ".attention.head_count_kv").value_or(outline.heads));
  outline.output_is_embedding = file.find("output.weight") == nullptr;
  return outline;
}

std::optional<TensorChoice> choose_type(const QuantizationRecipe& recipe,
                                        const ModelOutline& outline, std::string_view tensor,
                                        const Shape& shape) {
  if (!is_matrix_of_weights(tensor, shape)) return std::nullopt;
  const DType asked = wanted(recipe, outline, tensor);
  DType dtype = asked;
  while (shape.columns() % traits(dtype).block_elements != 0) dtype = stand_in(dtype);
  if (dtype == asked) return TensorChoice{dtype, std::nullopt};
  return TensorChoice{dtype, asked};
}

}  // namespace ridge::format
