#include "planner/model_shape.h"

#include <fmt/format.h>

#include "base/error.h"
#include "planner/built_in_data.h"
#include "toml/toml_reader.h"

namespace ridge::planner {
namespace {

ModelShape read_model(TomlReader& reader) {
  ModelShape shape;
  shape.name = reader.text("name");
  reader.call("model " + shape.name);
  reader.allow_only({"name", "aliases", "source", "vocab_size", "hidden", "layers", "feed_forward",
                     "heads", "kv_heads", "key_dim", "value_dim", "context_tokens",
                     "tied_embeddings", "latent", "experts", "draft_layers", "weights"});
  shape.source = reader.text("source");
  shape.weights = reader.text_or("weights", "");
  shape.vocab_size = reader.integer("vocab_size", 1, most_dimension);
  shape.hidden = reader.integer("hidden", 1, most_dimension);
  shape.layers = reader.integer("layers", 1, most_dimension);
  shape.feed_forward = reader.integer("feed_forward", 1, most_dimension);
  shape.heads = reader.integer("heads", 1, most_dimension);
  shape.kv_heads = reader.integer_or("kv_heads", shape.heads, 1, most_dimension);
  shape.key_dim = reader.integer("key_dim", 1, most_dimension);
  shape.value_dim = reader.integer_or("value_dim", shape.key_dim, 1, most_dimension);
  shape.context_tokens = reader.integer("context_tokens", 1, 1 << 28);
  shape.has_tied_embeddings = reader.flag_or("tied_embeddings", false);
  shape.draft_layers = reader.integer_or("draft_layers", 0, 0, 16);
  if (const auto latent = reader.table("latent")) {
    latent->allow_only({"query_rank", "rank", "rope_dim"});
    shape.latent = LatentShape{.query_rank = latent->integer_or("query_rank", 0, 0, most_dimension),
                               .rank = latent->integer("rank", 1, most_dimension),
                               .rope_dim = latent->integer("rope_dim", 1, most_dimension)};
  }
  if (const auto experts = reader.table("experts")) {
    experts->allow_only({"count", "used", "shared", "feed_forward", "dense_layers", "groups",
                         "groups_used"});
    shape.experts =
        ExpertShape{.count = experts->integer("count", 1, most_dimension),
                    .used = experts->integer("used", 1, most_dimension),
                    .shared = experts->integer_or("shared", 0, 0, most_dimension),
                    .feed_forward = experts->integer("feed_forward", 1, most_dimension),
                    .dense_layers = experts->integer_or("dense_layers", 0, 0, most_dimension),
                    .groups = experts->integer_or("groups", 0, 0, most_dimension),
                    .groups_used = experts->integer_or("groups_used", 0, 0, most_dimension)};
  }
  check(shape);
  return shape;
}

}  // namespace

double ModelShape::attention_weights() const {
  const double h = hidden;
  const double output = static_cast<double>(heads) * value_dim * h;
  if (!latent) {
    return h * heads * key_dim + h * kv_heads * (1.0 * key_dim + value_dim) + output;
  }
  const double queries = static_cast<double>(heads) * key_dim;
  const double query = latent->query_rank > 0 ? latent->query_rank * (h + queries) : h * queries;
  const double nope_dim = key_dim - latent->rope_dim;
  return query + h * (latent->rank + latent->rope_dim) +
         static_cast<double>(latent->rank) * heads * (nope_dim + value_dim) + output;
}

double ModelShape::feed_forward_weights() const { return 3.0 * hidden * feed_forward; }

double ModelShape::expert_weights() const {
  return experts ? 3.0 * hidden * experts->feed_forward : 0;
}

double ModelShape::shared_weights() const {
  return experts ? experts->shared * expert_weights() + static_cast<double>(hidden) * experts->count
                 : 0;
}

double ModelShape::head_weights() const { return static_cast<double>(hidden) * vocab_size; }

double ModelShape::draft_weights() const {
  return 2.0 * hidden * hidden + attention_weights() + (experts ? 0 : feed_forward_weights());
}

double ModelShape::parameters() const {
  return layers * attention_weights() + dense_layers() * feed_forward_weights() +
         expert_layers() * (experts ? shared_weights() + experts->count * expert_weights() : 0.0) +
         (has_tied_embeddings ? 1 : 2) * head_weights();
}

double ModelShape::active_parameters() const {
  return layers * attention_weights() + dense_layers() * feed_forward_weights() +
         expert_layers() * (experts ? shared_weights() + experts->used * expert_weights() : 0.0) +
         head_weights();
}

double ModelShape::cached_values() const {
  const double of_layer = latent ? 1.0 * latent->rank + latent->rope_dim
                                 : static_cast<double>(kv_heads) * (1.0 * key_dim + value_dim);
  return layers * of_layer;
}

double ModelShape::attention_multiplies(bool absorbed) const {
  if (absorbed && latent) {
    return static_cast<double>(heads) * (2.0 * latent->rank + latent->rope_dim);
  }
  return static_cast<double>(heads) * (key_dim + value_dim);
}

void check(const ModelShape& shape) {
  const auto refuse = [&](const std::string& message) {
    throw Error(ErrorCode::invalid_file, fmt::format("model {}: {}", shape.name, message));
  };
  for (const auto& [what, value] : {std::pair{"layers", shape.layers},
                                    {"hidden", shape.hidden},
                                    {"feed_forward", shape.feed_forward},
                                    {"heads", shape.heads},
                                    {"kv_heads", shape.kv_heads},
                                    {"key_dim", shape.key_dim},
                                    {"value_dim", shape.value_dim}}) {
    if (value < 1) refuse(fmt::format("{} is {}; at least 1 is expected", what, value));
  }
  if (shape.heads % shape.kv_heads != 0) {
    refuse(fmt::format("{} heads cannot share {} KV heads equally", shape.heads, shape.kv_heads));
  }
  if (shape.latent && shape.latent->rope_dim >= shape.key_dim) {
    refuse(fmt::format("rope_dim {} must be less than key_dim {}", shape.latent->rope_dim,
                       shape.key_dim));
  }
  if (!shape.experts) return;
  if (shape.experts->used > shape.experts->count) {
    refuse(fmt::format("a token uses {} of {} experts", shape.experts->used, shape.experts->count));
  }
  if (shape.experts->dense_layers >= shape.layers) {
    refuse(fmt::format("{} of {} layers are without experts", shape.experts->dense_layers,
                       shape.layers));
  }
}

ModelTable ModelTable::built_in() { return parse(built_in_models(), "data/plan-models.toml"); }

ModelTable ModelTable::parse(std::string_view text, std::string_view source) {
  const toml::table file = parse_toml(text, source);
  const TomlReader reader(file, std::string(source), "file");
  reader.allow_only({"model"});
  ModelTable table;
  reader.tables("model", [&](TomlReader model) {
    table.models_.push_back(read_model(model));
    for (const std::string& alias : model.texts("aliases")) {
      table.aliases_.emplace_back(alias, table.models_.back().name);
    }
  });
  return table;
}

const ModelShape* ModelTable::find(std::string_view name) const {
  std::string full(name);
  for (const auto& [alias, target] : aliases_) {
    if (alias == name) full = target;
  }
  for (const ModelShape& shape : models_) {
    if (shape.name == full) return &shape;
  }
  return nullptr;
}

}  // namespace ridge::planner
