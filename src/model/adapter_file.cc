#include "model/adapter_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <tuple>

#include "base/error.h"
#include "format/gguf_types.h"

namespace ridge::model {

using format::quoted_name;

namespace {

struct Extents {
  int64_t rows;
  int64_t columns;
};

Extents extents_of(AdaptedLinear linear, const ModelConfig& c) {
  switch (linear) {
    case AdaptedLinear::query:
      return {int64_t{c.heads} * c.key_dim, c.hidden};
    case AdaptedLinear::key:
      return {int64_t{c.kv_heads} * c.key_dim, c.hidden};
    case AdaptedLinear::value:
      return {int64_t{c.kv_heads} * c.value_dim, c.hidden};
    case AdaptedLinear::attention_output:
      return {c.hidden, int64_t{c.heads} * c.value_dim};
    case AdaptedLinear::gate:
    case AdaptedLinear::up:
      return {c.feed_forward, c.hidden};
    case AdaptedLinear::down:
      return {c.hidden, c.feed_forward};
  }
  return {};
}

// Rows (i, i + head_dim / 2) of a head become its rows (2i, 2i + 1), which GGUF's llama files
// rotate instead.
std::vector<std::byte> halves_to_pairs(const TensorView& view, int heads) {
  const int64_t head_rows = view.shape.rows() / heads;
  const size_t row = row_bytes(view.dtype, view.shape.columns());
  std::vector<std::byte> result(view.bytes.size());
  for (int64_t to = 0; to < view.shape.rows(); ++to) {
    const int64_t in_head = to % head_rows;
    const int64_t from = to - in_head + in_head % 2 * (head_rows / 2) + in_head / 2;
    std::memcpy(result.data() + static_cast<size_t>(to) * row, view.row(from).data(), row);
  }
  return result;
}

void check_fits(const AdapterFile& adapter, const AdapterPair& pair, const ModelConfig& base) {
  const auto refuse = [&](const std::string& reason) {
    throw Error(ErrorCode::invalid_file,
                fmt::format("{}: {}: {}", adapter.source, quoted_name(pair.name), reason));
  };
  if (pair.layer >= base.layers) {
    refuse(fmt::format("the model has {} layers; it is none for this adapter", base.layers));
  }
  const bool is_feed_forward = pair.linear == AdaptedLinear::gate ||
                               pair.linear == AdaptedLinear::up ||
                               pair.linear == AdaptedLinear::down;
  if (base.experts && is_feed_forward) {
    throw Error(ErrorCode::unsupported,
                fmt::format("{}: {}: the model has experts, which take no adapters in this build",
                            adapter.source, quoted_name(pair.name)));
  }
  const auto [rows, columns] = extents_of(pair.linear, base);
  const int64_t rank = pair.down.shape[0];
  if (pair.down.shape[1] != columns) {
    refuse(
        fmt::format("A has shape {}, but the model's {} takes {} columns; it is another model's "
                    "adapter",
                    to_string(pair.down.shape), name(pair.linear), columns));
  }
  if (pair.up.shape[0] != rows) {
    refuse(
        fmt::format("B has shape {}, but the model's {} wants [{}, {}]; it is another model's "
                    "adapter",
                    to_string(pair.up.shape), name(pair.linear), rows, rank));
  }
}

}  // namespace

std::optional<AdapterPlace> adapter_place(std::string_view text,
                                          std::string_view (*name_of)(AdaptedLinear)) {
  int layer = -1;
  const auto [rest, failure] = std::from_chars(text.data(), text.data() + text.size(), layer);
  if (failure != std::errc() || layer < 0) return std::nullopt;
  const std::string_view role = text.substr(static_cast<size_t>(rest - text.data()));
  for (int i = 0; i < adapted_linears; ++i) {
    const auto linear = static_cast<AdaptedLinear>(i);
    if (role.starts_with('.') && role.substr(1) == name_of(linear)) {
      return AdapterPlace{layer, linear};
    }
  }
  return std::nullopt;
}

std::string_view name(AdaptedLinear linear) {
  constexpr std::array<std::string_view, adapted_linears> names = {
      "attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"};
  return names[static_cast<size_t>(linear)];
}

uint64_t AdapterFile::bytes() const {
  uint64_t total = 0;
  for (const AdapterPair& pair : pairs) total += pair.down.bytes.size() + pair.up.bytes.size();
  return total;
}

AdapterFile read_adapter(const std::filesystem::path& path) {
  if (std::filesystem::is_directory(path)) return read_peft_adapter(path);
  if (path.extension() == ".safetensors" || path.filename() == "adapter_config.json") {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("{}: an adapter in PEFT's form is named by its folder, which holds "
                            "adapter_config.json and adapter_model.safetensors",
                            path.string()));
  }
  return read_gguf_adapter(path);
}

void fit_adapter(AdapterFile& adapter, const ModelConfig& base) {
  if (!adapter.architecture.empty() && adapter.architecture != base.architecture) {
    throw Error(ErrorCode::invalid_file,
                fmt::format("{}: the adapter is for the architecture '{}', but the model is '{}'",
                            adapter.source, adapter.architecture.substr(0, 40), base.architecture));
  }
  if (base.latent) {
    throw Error(ErrorCode::unsupported,
                fmt::format("{}: models with latent attention take no adapters in this build",
                            adapter.source));
  }
  for (AdapterPair& pair : adapter.pairs) {
    check_fits(adapter, pair, base);
    const bool is_rotated =
        pair.linear == AdaptedLinear::query || pair.linear == AdaptedLinear::key;
    if (!adapter.rotates_halves || !is_rotated ||
        base.rope.pairs != backend::RopePairs::interleaved) {
      continue;
    }
    if (base.key_dim % 2 != 0) {
      throw Error(
          ErrorCode::unsupported,
          fmt::format("{}: the model's heads have {} dimensions; an even number is expected",
                      adapter.source, base.key_dim));
    }
    const int heads = pair.linear == AdaptedLinear::query ? base.heads : base.kv_heads;
    adapter.owned.push_back(halves_to_pairs(pair.up, heads));
    pair.up.bytes = adapter.owned.back();
  }
  adapter.rotates_halves = false;
}

void PairCollector::add_down(int layer, AdaptedLinear linear, std::string name,
                             const TensorView& view) {
  add({layer, linear, /*is_up=*/false, std::move(name), view});
}

void PairCollector::add_up(int layer, AdaptedLinear linear, std::string name,
                           const TensorView& view) {
  add({layer, linear, /*is_up=*/true, std::move(name), view});
}

void PairCollector::add(Half half) {
  const Shape& shape = half.view.shape;
  if (shape.rank() != 2 || shape.elements() == 0) {
    throw Error(ErrorCode::invalid_file,
                fmt::format("{}: {} has shape {}; {} is expected", source_, quoted_name(half.name),
                            to_string(shape), half.is_up ? "[outputs, rank]" : "[rank, inputs]"));
  }
  halves_.push_back(std::move(half));
}

std::vector<AdapterPair> PairCollector::take() {
  const auto refuse = [&](const Half& half, const std::string& reason) {
    throw Error(ErrorCode::invalid_file,
                fmt::format("{}: {}: {}", source_, quoted_name(half.name), reason));
  };
  if (halves_.empty()) {
    throw Error(ErrorCode::invalid_file,
                fmt::format("{}: it holds no tensor of a LoRA adapter", source_));
  }
  std::ranges::stable_sort(halves_, {}, [](const Half& half) {
    return std::tuple(half.layer, half.linear, half.is_up);
  });
  std::vector<AdapterPair> pairs;
  for (size_t i = 0; i < halves_.size(); i += 2) {
    const Half& down = halves_[i];
    const bool has_next = i + 1 < halves_.size() && halves_[i + 1].layer == down.layer &&
                          halves_[i + 1].linear == down.linear;
    if (down.is_up) refuse(down, "its A is missing");
    if (!has_next) refuse(down, "its B is missing");
    const Half& up = halves_[i + 1];
    if (!up.is_up) refuse(up, "the same linear has another A");
    const bool has_third = i + 2 < halves_.size() && halves_[i + 2].layer == down.layer &&
                           halves_[i + 2].linear == down.linear;
    if (has_third) refuse(halves_[i + 2], "the same linear has another B");
    const int64_t rank = down.view.shape[0];
    if (rank > adapter_rank_max) {
      refuse(down, fmt::format("its rank is {}; at most {} is read", rank, adapter_rank_max));
    }
    if (up.view.shape[1] != rank) {
      refuse(up, fmt::format("it has shape {}, but its A has {} rows; both must be the rank",
                             to_string(up.view.shape), rank));
    }
    pairs.push_back({.layer = down.layer,
                     .linear = down.linear,
                     .name = down.name,
                     .down = down.view,
                     .up = up.view});
  }
  return pairs;
}

}  // namespace ridge::model
