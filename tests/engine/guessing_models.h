#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/temporary_folder.h"
#include "format/gguf.h"
#include "format/gguf_writer.h"

namespace ridge::engine {

// Models whose layer for multi-token prediction is right by its weights, made of the tensors of
// tests/goldens/deepseek-v3-mtp-f32.gguf, written to a file that goes with the object.
class GuessingModel {
 public:
  enum class Kind {
    // A token's successor hangs on that token alone, for model and layer alike: attention and experts
    // add nothing, the rows of the embedding stand apart, and those of the head are the same, moved
    // on by one. All guesses are right.
    chain,
    // One layer of experts, and the same layer again for multi-token prediction, which sees the
    // embedding of the next token and a little of the hidden state: it lacks the first token alone,
    // and is mostly right.
    echo,
  };

  explicit GuessingModel(Kind kind) {
    const auto golden = format::GgufFile::open(std::string(RIDGE_SOURCE_DIR) +
                                               "/tests/goldens/deepseek-v3-mtp-f32.gguf");
    format::GgufWriter out;
    for (const format::GgufEntry& entry : golden.metadata().entries()) {
      if (entry.key == "deepseek2.block_count") {
        out.set_uint32(entry.key, 2);
      } else if (entry.key == "deepseek2.leading_dense_block_count") {
        out.set_uint32(entry.key, 0);
      } else {
        out.set_value(entry.key, entry.value);
      }
    }
    for (auto& [name, tensor] : tensors_of(golden, kind)) {
      out.add_tensor(name, DType::f32, tensor.shape,
                     std::as_bytes(std::span<const float>(tensor.values)));
      kept_.push_back(std::move(tensor.values));
    }
    out.write(path_);
  }

  const std::filesystem::path& path() const { return path_; }

 private:
  struct Tensor {
    Shape shape;
    std::vector<float> values;
  };

  static std::map<std::string, Tensor> tensors_of(const format::GgufFile& golden, Kind kind) {
    std::map<std::string, Tensor> tensors;
    const auto copy = [&](const std::string& from) {
      const TensorView& view = golden.tensor(from).view;
      Tensor tensor{view.shape, std::vector<float>(static_cast<size_t>(view.shape.elements()))};
      std::memcpy(tensor.values.data(), view.bytes.data(), view.bytes.size());
      return tensor;
    };
    for (const char* name : {"token_embd.weight", "output.weight", "output_norm.weight"}) {
      tensors[name] = copy(name);
    }
    // The first layer that has experts, twice.
    for (const format::GgufTensor& tensor : golden.tensors()) {
      if (!tensor.name.starts_with("blk.1.")) continue;
      const std::string role = tensor.name.substr(6);
      tensors["blk.0." + role] = copy(tensor.name);
      tensors["blk.1." + role] = copy(tensor.name);
    }
    Tensor& embedding = tensors["token_embd.weight"];
    const auto hidden = static_cast<size_t>(embedding.shape.columns());
    const auto vocab = static_cast<size_t>(embedding.shape.rows());
    const Shape vector{static_cast<int64_t>(hidden)};
    // Rows whose norm is the row itself.
    for (size_t row = 0; row < vocab; ++row) {
      const auto values = std::span(embedding.values).subspan(row * hidden, hidden);
      double squares = 0;
      for (const float value : values) squares += double{value} * value;
      const auto rms = static_cast<float>(std::sqrt(squares / static_cast<double>(hidden)));
      for (float& value : values) value /= rms;
    }
    for (const char* name : {"blk.1.nextn.enorm.weight", "blk.1.nextn.hnorm.weight"}) {
      tensors[name] = {vector, std::vector<float>(hidden, 1.0f)};
    }
    Tensor join = {Shape{vector[0], 2 * vector[0]}, std::vector<float>(2 * hidden * hidden)};
    const Tensor drawn = copy("blk.2.nextn.eh_proj.weight");
    for (size_t row = 0; row < hidden; ++row) {
      join.values[row * 2 * hidden + row] = 1;
      for (size_t column = hidden; column < 2 * hidden && kind == Kind::echo; ++column) {
        join.values[row * 2 * hidden + column] = 0.1f * drawn.values[row * 2 * hidden + column];
      }
    }
    tensors["blk.1.nextn.eh_proj.weight"] = std::move(join);
    if (kind == Kind::chain) cut_to_chain(tensors, hidden, vocab);
    return tensors;
  }

  static void cut_to_chain(std::map<std::string, Tensor>& tensors, size_t hidden, size_t vocab) {
    for (const char* layer : {"blk.0.", "blk.1."}) {
      for (const char* role : {"attn_output", "ffn_down_exps", "ffn_down_shexp"}) {
        std::vector<float>& values = tensors.at(std::string(layer) + role + ".weight").values;
        values.assign(values.size(), 0.0f);
      }
    }
    std::vector<float>& norm = tensors["output_norm.weight"].values;
    norm.assign(norm.size(), 1.0f);
    const std::vector<float>& embedding = tensors["token_embd.weight"].values;
    std::vector<float>& output = tensors["output.weight"].values;
    for (size_t row = 0; row < vocab; ++row) {
      const auto from = embedding.begin() + static_cast<ptrdiff_t>(row * hidden);
      // Past the special tokens, or the chain would end.
      const size_t next = row + 1 < vocab ? row + 1 : 40;
      if (next < 40) continue;
      std::copy(from, from + static_cast<ptrdiff_t>(hidden),
                output.begin() + static_cast<ptrdiff_t>(next * hidden));
    }
  }

  TemporaryFolder folder_;
  std::filesystem::path path_ = folder_ / "guessing.gguf";
  std::vector<std::vector<float>> kept_;
};

}  // namespace ridge::engine
