#include "format/stored_scheme.h"

#include <fmt/format.h>

#include <algorithm>

namespace ridge::format {

namespace {

using SchemeKind = StoredScheme::Kind;

void require_bits(const FolderJson& scheme, const char* key, std::initializer_list<int> known) {
  const int bits = scheme.integer(key, 1, 64);
  if (std::ranges::find(known, bits) == known.end()) {
    scheme.unsupported(fmt::format("'{}' is {}, which this build does not read", key, bits));
  }
}

int64_t read_group(const FolderJson& scheme) {
  const int group = scheme.integer("group_size", -1, 1 << 20);
  if (group == 0) scheme.refuse("'group_size' must be -1 or above 0");
  return std::max(group, 0);
}

// Rows and columns of a block, where `key` says.
void read_blocks(const FolderJson& scheme, const char* key, StoredScheme& read) {
  const auto* blocks = scheme.find(key);
  if (blocks == nullptr) return;
  const auto is_extent = [](const nlohmann::json& value) {
    return value.is_number_unsigned() && value.get<uint64_t>() >= 1 &&
           value.get<uint64_t>() <= 1 << 20;
  };
  if (!blocks->is_array() || blocks->size() != 2 || !is_extent((*blocks)[0]) ||
      !is_extent((*blocks)[1])) {
    scheme.refuse(fmt::format("'{}' must be two whole numbers above 0", key));
  }
  read.block_rows = (*blocks)[0].get<int64_t>();
  read.block_columns = (*blocks)[1].get<int64_t>();
}

StoredScheme read_fp8(const FolderJson& scheme) {
  StoredScheme read{.kind = SchemeKind::fp8};
  const std::string form = scheme.text_or("fmt", "e4m3");
  if (form != "e4m3") {
    scheme.unsupported(fmt::format("'fmt' is '{}'; this build reads e4m3", form.substr(0, 40)));
  }
  read_blocks(scheme, "weight_block_size", read);
  return read;
}

StoredScheme read_awq(const FolderJson& scheme) {
  require_bits(scheme, "bits", {4});
  std::string version = scheme.text_or("version", "gemm");
  std::ranges::transform(version, version.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  });
  if (version != "gemm" || !scheme.flag_or("zero_point", true)) {
    scheme.unsupported("this build reads AWQ of the version 'gemm' with zero points");
  }
  return {.kind = SchemeKind::awq, .group = read_group(scheme), .is_symmetric = false};
}

StoredScheme read_gptq(const FolderJson& scheme) {
  require_bits(scheme, "bits", {4});
  const std::string form = scheme.text_or("checkpoint_format", "gptq");
  if (form != "gptq" && form != "gptq_v2") {
    scheme.unsupported(fmt::format("'checkpoint_format' is '{}'; this build reads gptq and gptq_v2",
                                   form.substr(0, 40)));
  }
  return {.kind = SchemeKind::gptq,
          .group = read_group(scheme),
          .is_symmetric = scheme.flag_or("sym", true),
          .zero_offset = form == "gptq" ? 1 : 0};
}

// Its one group of layers.
FolderJson compressed_group(const FolderJson& scheme) {
  const auto groups = scheme.object("config_groups");
  if (!groups || groups->body().empty()) scheme.refuse("'config_groups' is missing");
  if (groups->body().size() > 1) {
    scheme.unsupported("'config_groups' has several groups; this build reads folders of one");
  }
  const auto group = groups->object(groups->body().begin().key());
  if (!group || !group->object("weights")) groups->refuse("'weights' is missing");
  return *group;
}

// A scale for each token, from what its numbers are, and zero in the middle of the codes.
bool has_dynamic_int8(const FolderJson& group) {
  const auto x = group.object("input_activations");
  if (!x) return false;
  return x->integer_or("num_bits", 0, 1, 64) == 8 && x->text_or("type", "int") == "int" &&
         x->flag_or("dynamic", false) && x->flag_or("symmetric", true) &&
         x->text_or("strategy", "tensor") == "token";
}

StoredScheme read_compressed(const FolderJson& scheme) {
  const FolderJson group = compressed_group(scheme);
  const FolderJson weights = *group.object("weights");
  const std::string form = scheme.text_or("format", "");
  const std::string strategy = weights.text_or("strategy", "tensor");
  StoredScheme read;
  read.is_symmetric = weights.flag_or("symmetric", true);
  if (strategy == "group") {
    read.group = read_group(weights);
  } else if (strategy != "channel" && strategy != "tensor" && strategy != "block") {
    weights.unsupported(
        fmt::format("'strategy' is '{}', which this build does not read", strategy.substr(0, 40)));
  }
  if (form == "float-quantized") {
    require_bits(weights, "num_bits", {8});
    read.kind = SchemeKind::fp8;
    if (strategy == "group") weights.unsupported("'strategy' is 'group' for floats");
    if (strategy == "block") read_blocks(weights, "block_structure", read);
    return read;
  }
  const bool is_packed = form == "pack-quantized";
  if (!is_packed && form != "int-quantized") {
    scheme.unsupported(
        fmt::format("'format' is '{}'; this build reads int-quantized, "
                    "pack-quantized and float-quantized",
                    form.substr(0, 40)));
  }
  if (strategy == "block") weights.unsupported("'strategy' is 'block' for integers");
  read.kind = is_packed ? SchemeKind::packed : SchemeKind::integers;
  if (is_packed) {
    require_bits(weights, "num_bits", {4, 8});
  } else {
    require_bits(weights, "num_bits", {8});
  }
  read.bits = weights.integer("num_bits", 1, 8);
  if (read.bits == 8 && !read.is_symmetric) {
    weights.unsupported("'symmetric' is false for codes of eight bits");
  }
  read.has_int8_activations =
      read.kind == SchemeKind::integers && read.group == 0 && has_dynamic_int8(group);
  return read;
}

}  // namespace

StoredScheme read_stored_scheme(const FolderJson& config) {
  const auto scheme = config.object("quantization_config");
  if (!scheme) return {};
  const std::string method = scheme->text_or("quant_method", "");
  if (method == "fp8") return read_fp8(*scheme);
  if (method == "awq") return read_awq(*scheme);
  if (method == "gptq") return read_gptq(*scheme);
  if (method == "compressed-tensors") return read_compressed(*scheme);
  if (method == "mxfp4") return {.kind = SchemeKind::mxfp4};
  scheme->unsupported(
      fmt::format("'quant_method' is '{}'; this build reads fp8, awq, gptq, "
                  "mxfp4 and compressed-tensors",
                  method.substr(0, 40)));
}

}  // namespace ridge::format
