// Adapters as llama.cpp's convert_lora_to_gguf.py writes them and its llama-adapter.cpp reads them:
// `adapter.type` lora, one `adapter.lora.alpha`, and for each linear NAME.weight.lora_a [r, K] and
// NAME.weight.lora_b [N, r], rows in the order of the model's file.
#include <fmt/format.h>

#include <cmath>
#include <cstring>
#include <optional>

#include "base/error.h"
#include "format/gguf.h"
#include "format/gguf_types.h"
#include "model/adapter_file.h"
#include "tensor/dequantize.h"

namespace ridge::model {

namespace {

using format::quoted_name;

[[noreturn]] void refuse(ErrorCode code, const AdapterFile& adapter, const std::string& reason) {
  throw Error(code, fmt::format("{}: {}", adapter.source, reason));
}

// "blk.3.attn_q".
std::optional<AdapterPlace> place_of_stem(std::string_view stem) {
  if (!stem.starts_with("blk.")) return std::nullopt;
  return adapter_place(stem.substr(4), &name);
}

void read_metadata(AdapterFile& adapter, const format::GgufFile& file) {
  const format::GgufMetadata& metadata = file.metadata();
  const auto type = metadata.optional_string("general.type");
  if (!type || *type != "adapter") {
    refuse(ErrorCode::invalid_file, adapter,
           fmt::format("general.type is {}; 'adapter' is expected, so this is no adapter",
                       type ? quoted_name(*type) : "missing"));
  }
  const std::string_view kind = metadata.string("adapter.type");
  if (kind != "lora") {
    refuse(ErrorCode::unsupported, adapter,
           fmt::format("adapter.type is {}; this build knows 'lora'", quoted_name(kind)));
  }
  if (metadata.contains("adapter.alora.invocation_tokens")) {
    refuse(ErrorCode::unsupported, adapter,
           "it is an activated LoRA (adapter.alora.invocation_tokens), which is not supported");
  }
  adapter.architecture = file.architecture();
  adapter.base_model = metadata.optional_string("general.base_model.0.name").value_or("");
}

// Adapters are small: those that were quantised are computed with in float32.
TensorView plain(AdapterFile& adapter, const format::GgufTensor& tensor) {
  const TensorView& view = tensor.view;
  if (view.dtype == DType::f32 || view.dtype == DType::f16 || view.dtype == DType::bf16) {
    return view;
  }
  if (!is_quantized(view.dtype)) {
    refuse(ErrorCode::unsupported, adapter,
           fmt::format("{} is {}; F32, F16, BF16 or a quantised type is expected",
                       quoted_name(tensor.name), ridge::name(view.dtype)));
  }
  const auto columns = static_cast<size_t>(view.shape.columns());
  std::vector<std::byte>& bytes =
      adapter.owned.emplace_back(static_cast<size_t>(view.shape.elements()) * sizeof(float));
  std::vector<float> row(columns);
  for (int64_t r = 0; r < view.shape.rows(); ++r) {
    dequantize_row(view.dtype, view.row(r), row);
    std::memcpy(bytes.data() + static_cast<size_t>(r) * columns * sizeof(float), row.data(),
                columns * sizeof(float));
  }
  return {DType::f32, view.shape, bytes};
}

}  // namespace

AdapterFile read_gguf_adapter(const std::filesystem::path& path) {
  AdapterFile adapter;
  adapter.source = path.filename().string();
  adapter.format = "GGUF";
  const auto file = std::make_shared<const format::GgufFile>(format::GgufFile::open(path));
  adapter.mapped = file;
  read_metadata(adapter, *file);
  if (!file->unsupported_tensors().empty()) {
    const format::GgufUnsupportedTensor& first = file->unsupported_tensors().front();
    refuse(ErrorCode::unsupported, adapter,
           fmt::format("{} is stored as {}, which is not supported", quoted_name(first.name),
                       first.type));
  }
  constexpr std::string_view down_ending = ".weight.lora_a";
  constexpr std::string_view up_ending = ".weight.lora_b";
  PairCollector collector(adapter.source);
  for (const format::GgufTensor& tensor : file->tensors()) {
    const std::string_view name = tensor.name;
    const bool is_down = name.ends_with(down_ending);
    if (!is_down && !name.ends_with(up_ending)) {
      refuse(
          ErrorCode::unsupported, adapter,
          fmt::format("{} is no A or B of a linear (NAME.weight.lora_a, .lora_b); whole weights, "
                      "norms and biases of an adapter are not supported",
                      quoted_name(name)));
    }
    const auto place = place_of_stem(name.substr(0, name.size() - down_ending.size()));
    if (!place) {
      refuse(
          ErrorCode::unsupported, adapter,
          fmt::format("{} changes another weight than the linears of attention and feed-forward; "
                      "adapters of embeddings, output heads and experts are not supported",
                      quoted_name(name)));
    }
    const TensorView view = plain(adapter, tensor);
    if (is_down) {
      collector.add_down(place->layer, place->linear, tensor.name, view);
    } else {
      collector.add_up(place->layer, place->linear, tensor.name, view);
    }
  }
  adapter.pairs = collector.take();
  // Without an alpha, or with 0, llama.cpp takes B(A x) as it is.
  const float alpha = file->metadata().optional_float32("adapter.lora.alpha").value_or(0);
  if (!std::isfinite(alpha)) {
    refuse(ErrorCode::invalid_file, adapter, "adapter.lora.alpha is no finite number");
  }
  for (AdapterPair& pair : adapter.pairs) {
    pair.scale = alpha == 0 ? 1.0f : alpha / static_cast<float>(pair.down.shape[0]);
  }
  return adapter;
}

}  // namespace ridge::model
