#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "api/served_model.h"

namespace ridge::api {

// GET /v1/models/{id}: {"id","object":"model","created","owned_by"}, and what OpenAI lacks and
// clients look for: `context_length` (tokens), `root` and `parent`, which for an adapter are its
// model, as they were for OpenAI's fine-tunes; for a model itself and null.
std::string model_body(const ServedModel& model);
// GET /v1/models.
std::string model_list_body(std::span<const ServedModel> models);

// The same in Anthropic's form: {"type":"model","id","display_name","created_at"}.
std::string anthropic_model_body(const ServedModel& model);
// Likewise: {"data","has_more","first_id","last_id"}. `query` is what stands behind "?": limit (1 to
// 1000, else 20), and after_id or before_id, the name of a model. Throws Error(invalid_argument)
// naming what is wrong with it.
std::string anthropic_model_list_body(std::span<const ServedModel> models, std::string_view query);

// The model that a request names. An empty name is the only model that the server was started with,
// where there is one only and however many adapters: it still is when others have been added.
// Throws Error(not_found) with the names that there are, Error(invalid_argument) for an empty name
// among several models.
const ServedModel& find_model(std::span<const ServedModel> models, const std::string& name);
// What it can do, in Ollama's words: "completion", "tools", "thinking".
std::vector<std::string_view> capabilities_of(const ServedModel& model);

// Whether one of them has this name.
bool serves(std::span<const ServedModel> models, std::string_view name);

}  // namespace ridge::api
