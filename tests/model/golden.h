#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <numeric>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "backend/registry.h"
#include "format/gguf.h"
#include "tensor/dequantize.h"

namespace ridge::model {

inline const std::filesystem::path goldens =
    std::filesystem::path(RIDGE_SOURCE_DIR) / "tests/goldens";

// The values of a tensor of any type.
inline std::vector<float> floats_of(const format::GgufFile& file, const format::GgufTensor& tensor) {
  const TensorView& view = tensor.view;
  file.ready(view);
  std::vector<float> values(static_cast<size_t>(view.shape.elements()));
  const auto columns = static_cast<size_t>(view.shape.columns());
  for (int64_t row = 0; row < view.shape.rows(); ++row) {
    dequantize_row(view.dtype, view.row(row),
                   std::span(values).subspan(static_cast<size_t>(row) * columns, columns));
  }
  return values;
}

// What an independent implementation computed: tests/goldens/NAME.golden.gguf.
struct Golden {
  explicit Golden(const std::string& name)
      : truth(format::GgufFile::open(goldens / (name + ".golden.gguf"))) {
    tokens = values<int32_t>(truth.tensor("tokens").view);
    const std::vector<float> all = values<float>(truth.tensor("logits").view);
    const size_t vocab = all.size() / tokens.size();
    for (size_t i = 0; i < tokens.size(); ++i) {
      logits.emplace_back(all.begin() + i * vocab, all.begin() + (i + 1) * vocab);
    }
  }
  template <typename T>
  static std::vector<T> values(const TensorView& view) {
    std::vector<T> result(view.shape.elements());
    std::memcpy(result.data(), view.bytes.data(), view.bytes.size());
    return result;
  }

  format::GgufFile truth;
  std::vector<int32_t> tokens;
  std::vector<std::vector<float>> logits;  // [tokens][vocab]
};

// transformers' own float32 run lies up to 3e-5 from its float64 run on these models (their key
// golden.float64_max_difference), whose logits are of size 5. Ours sums in double and rounds each
// value that it stores, and may err by about as much again.
inline constexpr double reference_tolerance = 5e-5;

inline void expect_near(const std::vector<float>& truth, const std::vector<float>& got,
                        size_t position) {
  ASSERT_EQ(truth.size(), got.size());
  for (size_t i = 0; i < truth.size(); ++i) {
    ASSERT_NEAR(truth[i], got[i], reference_tolerance) << "position " << position << " id " << i;
  }
}

// Kullback-Leibler divergence of the next-token distributions, natural logarithm: [tokens].
inline std::vector<double> divergences(const std::vector<std::vector<float>>& truth,
                              const std::vector<std::vector<float>>& got) {
  const auto log_probabilities = [](const std::vector<float>& logits) {
    double sum = 0;
    for (float x : logits) sum += std::exp(static_cast<double>(x));
    std::vector<double> result;
    for (float x : logits) result.push_back(x - std::log(sum));
    return result;
  };
  std::vector<double> all;
  for (size_t t = 0; t < truth.size(); ++t) {
    const auto p = log_probabilities(truth[t]);
    const auto q = log_probabilities(got[t]);
    double sum = 0;
    for (size_t i = 0; i < p.size(); ++i) sum += std::exp(p[i]) * (p[i] - q[i]);
    all.push_back(sum);
  }
  return all;
}

inline double mean_divergence(const std::vector<std::vector<float>>& truth,
                              const std::vector<std::vector<float>>& got) {
  const std::vector<double> all = divergences(truth, got);
  return std::accumulate(all.begin(), all.end(), 0.0) / static_cast<double>(all.size());
}

// Mixed precision rounds what many tokens at once multiply by weights that are no codes on AMX
// alone, where both become bfloat16 (src/backend/cpu/panel.h). That turns choices of experts that
// are all but ties, and then no bound holds (docs/adr/0033); so it is not judged, and said, where a
// golden does not claim to have none (clear_score, clear_logit).
inline bool turns_choices(const format::GgufFile& file, const Golden& golden,
                          const std::string& isa, size_t tokens) {
  if (!isa.starts_with("amx") || tokens < 16) return false;
  const bool has_experts = std::ranges::any_of(
      file.tensors(), [](const auto& tensor) { return tensor.name.ends_with("_exps.weight"); });
  if (!has_experts || golden.truth.metadata().optional_float32("golden.choice_margin").has_value())
    return false;
  std::cout
      << "NOT CHECKED: mixed precision in chunks of " << tokens << " on " << isa
      << ", as plain weights of experts are rounded there and the golden's choices may be close\n";
  return true;
}

// Weights are exact and activations good to 15 bits, so that little more than the rounding of the
// f16 cache remains, whatever the file's dtypes.
inline constexpr double declared_divergence = 1e-5;
// Where a device multiplies halves: weights, rows, queries and probabilities each round to 11 bits, by
// 2e-4 of a value in the root mean square. Some ten of them in a row make 1e-3 of a logit, whose size
// here is 5, and half the square of that is what it costs.
inline constexpr double declared_half_divergence = 5e-5;
// There a logit errs by the root of twice that, 0.01. So two whose distance is four times what both err
// by may change places.
inline constexpr float declared_half_tie = 0.056f;
// Logits of routers err by less, as they are smaller and come earlier: the probabilities that deepseek-v2-f32
// makes of them by 0.0009 at most. So experts nearer than this may change places.
inline constexpr float declared_half_choice = 0.01f;
// Mixed precision may round activations to int8. The bound is what llama.cpp's rounding costs on
// SmolLM2 (docs/performance.md).
inline constexpr double declared_mixed_divergence = 3.1e-3;
// At any one position: ten times the bound of the mean. An expert that is chosen instead of another
// costs more, as a rule.
inline constexpr double declared_largest_mixed_divergence = 3.1e-2;
// How clearly goldens of experts choose them: the distance between one that is chosen and one that is
// not, in biased sigmoids or in logits (tools/goldens/model_specs.py).
inline constexpr float clear_score = 0.03f;
inline constexpr float clear_logit = 0.1f;

// Each device of the build but the reference, at each instruction set.
inline std::vector<std::pair<std::string, std::string>> device_choices() {
  std::vector<std::pair<std::string, std::string>> choices;
  for (const std::string& device : backend::device_names()) {
    if (device == "reference") continue;
    std::vector<std::string> isas = backend::device_isas(device);
    if (isas.empty()) isas.emplace_back();
    for (const std::string& isa : isas) choices.emplace_back(device, isa);
  }
  return choices;
}

}  // namespace ridge::model
