// Adapters as Hugging Face's peft saves them: adapter_config.json says how A and B were trained,
// and adapter_model.safetensors holds base_model.model.MODULE.lora_A.weight [r, K] and
// .lora_B.weight [N, r] (source: peft 0.17, tuners/lora and utils/save_and_load.py).
#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "format/gguf_types.h"
#include "format/mapped_file.h"
#include "format/safetensors.h"
#include "model/adapter_file.h"

namespace ridge::model {

namespace {

using format::quoted_name;
using Json = nlohmann::ordered_json;

constexpr size_t config_bytes_max = 1 << 20;
constexpr const char* config_name = "adapter_config.json";
constexpr const char* tensors_name = "adapter_model.safetensors";

class PeftConfig {
 public:
  PeftConfig(const std::filesystem::path& folder, const std::string& source)
      : source_(fmt::format("{}/{}", source, config_name)) {
    const format::MappedFile file = format::MappedFile::open(folder / config_name);
    if (file.bytes().size() > config_bytes_max) {
      refuse(ErrorCode::invalid_file, fmt::format("it has {} bytes; at most {} are read",
                                                  file.bytes().size(), config_bytes_max));
    }
    const std::string_view text(reinterpret_cast<const char*>(file.bytes().data()),
                                file.bytes().size());
    json_ = Json::parse(text, /*cb=*/nullptr, /*allow_exceptions=*/false);
    if (!json_.is_object()) refuse(ErrorCode::invalid_file, "it is no JSON object");
    check_supported();
    rank_ = rank_of("r", json_.value("r", Json()));
    alpha_ = number_of("lora_alpha", json_.value("lora_alpha", Json()));
    is_rank_stabilised_ = is_true("use_rslora");
    check_patterns("rank_pattern");
    check_patterns("alpha_pattern");
  }

  std::string base_model() const {
    const Json name = json_.value("base_model_name_or_path", Json());
    return name.is_string() ? name.get<std::string>() : "";
  }

  // Of the module "model.layers.0.self_attn.q_proj".
  int rank(std::string_view module) const {
    const Json* own = find_pattern("rank_pattern", module);
    return own == nullptr ? rank_ : rank_of("rank_pattern", *own);
  }
  float scale(std::string_view module) const {
    const Json* own = find_pattern("alpha_pattern", module);
    const double alpha = own == nullptr ? alpha_ : number_of("alpha_pattern", *own);
    const double r = rank(module);
    return static_cast<float>(alpha / (is_rank_stabilised_ ? std::sqrt(r) : r));
  }

 private:
  [[noreturn]] void refuse(ErrorCode code, const std::string& reason) const {
    throw Error(code, fmt::format("{}: {}", source_, reason));
  }

  bool is_true(const std::string& key) const {
    const auto found = json_.find(key);
    return found != json_.end() && found->is_boolean() && found->get<bool>();
  }
  // Neither absent, null, false nor empty.
  bool is_set(const std::string& key) const {
    const auto found = json_.find(key);
    if (found == json_.end() || found->is_null()) return false;
    if (found->is_boolean()) return found->get<bool>();
    return !found->empty();
  }

  void check_supported() const {
    const auto kind = json_.find("peft_type");
    if (kind == json_.end() || !kind->is_string()) {
      refuse(ErrorCode::invalid_file, "peft_type is missing; \"LORA\" is expected");
    }
    if (*kind != "LORA") {
      refuse(ErrorCode::unsupported, fmt::format("peft_type is {}; this build knows \"LORA\"",
                                                 quoted_name(kind->get<std::string>())));
    }
    const auto bias = json_.find("bias");
    if (bias != json_.end() && *bias != "none" && !bias->is_null()) {
      refuse(ErrorCode::unsupported, "bias is not \"none\": trained biases are not supported");
    }
    struct Feature {
      const char* key;
      const char* what;
    };
    constexpr Feature features[] = {
        {"use_dora", "DoRA"},
        {"modules_to_save", "modules that were trained whole"},
        {"trainable_token_indices", "trained embeddings"},
        {"lora_bias", "biases of B"},
        {"fan_in_fan_out", "transposed weights"},
        {"layer_replication", "repeated layers"},
        {"target_parameters", "adapters of bare parameters, such as experts,"},
        {"alora_invocation_tokens", "activated LoRA"},
    };
    for (const auto& [key, what] : features) {
      if (is_set(key)) {
        refuse(ErrorCode::unsupported, fmt::format("{} is set: {} are not supported", key, what));
      }
    }
    // Whatever variant comes next: to leave it out would give wrong answers without a word.
    for (const auto& [key, value] : json_.items()) {
      if (key.starts_with("use_") && key != "use_rslora" && is_set(key)) {
        refuse(ErrorCode::unsupported,
               fmt::format("{} is set, which this build does not know", quoted_name(key)));
      }
    }
    const auto init = json_.find("init_lora_weights");
    if (init != json_.end() && init->is_string() && *init != "gaussian" && *init != "eva" &&
        *init != "orthogonal") {
      refuse(ErrorCode::unsupported,
             fmt::format("init_lora_weights is {}, which changes the base model's weights too; "
                         "convert it to a plain LoRA adapter (save_pretrained with "
                         "path_initial_model_for_weight_conversion)",
                         quoted_name(init->get<std::string>())));
    }
  }

  int rank_of(const char* key, const Json& value) const {
    if (!value.is_number_integer() || value < 1 || value > adapter_rank_max) {
      refuse(ErrorCode::invalid_file,
             fmt::format("{} has no whole number from 1 to {}", key, adapter_rank_max));
    }
    return value.get<int>();
  }
  double number_of(const char* key, const Json& value) const {
    if (!value.is_number() || !(std::abs(value.get<double>()) <= 1e9)) {
      refuse(ErrorCode::invalid_file, fmt::format("{} has no number up to 1e9", key));
    }
    return value.get<double>();
  }

  // peft takes the keys as regular expressions. Names are all that is needed here, and an
  // expression from a stranger's file may take any time.
  void check_patterns(const char* key) const {
    const auto patterns = json_.find(key);
    if (patterns == json_.end() || patterns->is_null()) return;
    if (!patterns->is_object())
      refuse(ErrorCode::invalid_file, fmt::format("{} is no object", key));
    for (const auto& [pattern, value] : patterns->items()) {
      std::string_view name = pattern;
      if (name.starts_with('^')) name.remove_prefix(1);
      if (name.empty() || name.find_first_of("\\^$*+?()[]{}|") != std::string_view::npos) {
        refuse(ErrorCode::unsupported,
               fmt::format("{} has the key {}; names of modules are supported, other regular "
                           "expressions are not",
                           key, quoted_name(pattern)));
      }
    }
  }

  // The first key that is the module's name, or its end from a dot on.
  const Json* find_pattern(const char* key, std::string_view module) const {
    const auto patterns = json_.find(key);
    if (patterns == json_.end() || patterns->is_null()) return nullptr;
    for (const auto& [pattern, value] : patterns->items()) {
      std::string_view name = pattern;
      const bool is_whole = name.starts_with('^');
      if (is_whole) name.remove_prefix(1);
      const bool is_end = !is_whole && module.ends_with(name) && module.size() > name.size() &&
                          module[module.size() - name.size() - 1] == '.';
      if (module == name || is_end) return &value;
    }
    return nullptr;
  }

  std::string source_;
  Json json_;
  int rank_ = 0;
  double alpha_ = 0;
  bool is_rank_stabilised_ = false;
};

std::string_view module_name(AdaptedLinear linear) {
  constexpr std::string_view names[adapted_linears] = {
      "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
      "mlp.gate_proj",    "mlp.up_proj",      "mlp.down_proj"};
  return names[static_cast<int>(linear)];
}

// "model.layers.3.self_attn.q_proj", or without "model." where the base had no output head.
std::optional<AdapterPlace> place_of(std::string_view module) {
  if (module.starts_with("model.")) module.remove_prefix(6);
  if (!module.starts_with("layers.")) return std::nullopt;
  return adapter_place(module.substr(7), &module_name);
}

constexpr std::string_view prefix = "base_model.model.";
constexpr std::string_view down_ending = ".lora_A.weight";
constexpr std::string_view up_ending = ".lora_B.weight";

// What a tensor is that no A or B of a linear is.
std::string_view strange(std::string_view name) {
  if (name.find("lora_magnitude_vector") != std::string_view::npos) return "DoRA";
  if (name.find("lora_embedding_") != std::string_view::npos) return "adapters of embeddings";
  if (name.ends_with(".bias")) return "trained biases";
  return "modules that were trained whole";
}

}  // namespace

AdapterFile read_peft_adapter(const std::filesystem::path& folder) {
  AdapterFile adapter;
  adapter.source = (folder.has_filename() ? folder : folder.parent_path()).filename().string();
  adapter.format = "PEFT";
  adapter.rotates_halves = true;
  const PeftConfig config(folder, adapter.source);
  adapter.base_model = config.base_model();
  if (!std::filesystem::exists(folder / tensors_name) &&
      std::filesystem::exists(folder / "adapter_model.bin")) {
    throw Error(
        ErrorCode::unsupported,
        fmt::format("{}: adapter_model.bin is a pickle, whose reading may run any code; save "
                    "the adapter as {}",
                    adapter.source, tensors_name));
  }
  const auto file = std::make_shared<const format::SafetensorsFile>(
      format::SafetensorsFile::open(folder / tensors_name));
  adapter.mapped = file;
  const auto refuse = [&](ErrorCode code, std::string_view tensor, const std::string& reason) {
    throw Error(code, fmt::format("{}/{}: {}: {}", adapter.source, tensors_name,
                                  quoted_name(tensor), reason));
  };
  for (const format::SafetensorsUnsupportedTensor& tensor : file->unsupported_tensors()) {
    refuse(ErrorCode::unsupported, tensor.name,
           fmt::format("its type is {}; F32, F16 or BF16 is expected", tensor.type));
  }
  PairCollector collector(fmt::format("{}/{}", adapter.source, tensors_name));
  for (const format::SafetensorsTensor& tensor : file->tensors()) {
    const std::string_view name = tensor.name;
    const bool is_down = name.ends_with(down_ending);
    if (!is_down && !name.ends_with(up_ending)) {
      refuse(ErrorCode::unsupported, name, fmt::format("{} are not supported", strange(name)));
    }
    const std::string_view path = name.substr(0, name.size() - down_ending.size());
    const auto place =
        path.starts_with(prefix) ? place_of(path.substr(prefix.size())) : std::nullopt;
    if (!place) {
      refuse(
          ErrorCode::unsupported, name,
          "it changes another weight than the linears of attention and feed-forward; adapters of "
          "embeddings, output heads and experts are not supported");
    }
    if (is_down) {
      collector.add_down(place->layer, place->linear, std::string(path), tensor.view);
    } else {
      collector.add_up(place->layer, place->linear, std::string(path), tensor.view);
    }
  }
  adapter.pairs = collector.take();
  for (AdapterPair& pair : adapter.pairs) {
    const std::string_view module = std::string_view(pair.name).substr(prefix.size());
    const int rank = config.rank(module);
    if (pair.down.shape[0] != rank) {
      refuse(ErrorCode::invalid_file, pair.name,
             fmt::format("A has {} rows, but {} says a rank of {}", pair.down.shape[0], config_name,
                         rank));
    }
    pair.scale = config.scale(module);
  }
  return adapter;
}

}  // namespace ridge::model
