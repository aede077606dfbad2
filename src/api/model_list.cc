#include "api/model_list.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>

#include "api/fields.h"
#include "api/json_text.h"
#include "api/url_query.h"
#include "base/error.h"
#include "base/utc_time.h"
#include "text/chat_template.h"
#include "text/reasoning.h"

namespace ridge::api {
namespace {

std::string names_of(std::span<const ServedModel> models) {
  std::string names;
  for (const ServedModel& model : models) {
    if (!names.empty()) names += ", ";
    names += model.name;
  }
  return names;
}

Json anthropic_model(const ServedModel& model) {
  return {{"type", "model"},
          {"id", model.name},
          {"display_name", model.name},
          {"created_at", utc_time(model.created_s)}};
}

std::size_t place_of(std::span<const ServedModel> models, const std::string& name,
                     const std::string& param) {
  const auto found = std::ranges::find(models, name, &ServedModel::name);
  if (found == models.end()) {
    api::refuse(param, fmt::format("'{}' names no model: \"{}\"", param, name.substr(0, 200)));
  }
  return static_cast<std::size_t>(found - models.begin());
}

}  // namespace

std::string model_body(const ServedModel& model) {
  std::string out = "{\"id\":";
  append_json_string(out, model.name);
  fmt::format_to(std::back_inserter(out),
                 ",\"object\":\"model\",\"created\":{},\"owned_by\":\"ridgeline\",\"context_"
                 "length\":{},\"root\":",
                 model.created_s, model.engine->model_info().context_tokens);
  append_json_string(out, model.is_adapter() ? model.parent : model.name);
  out += ",\"parent\":";
  if (model.is_adapter()) {
    append_json_string(out, model.parent);
  } else {
    out += "null";
  }
  out += '}';
  return out;
}

std::string model_list_body(std::span<const ServedModel> models) {
  std::string out = "{\"object\":\"list\",\"data\":[";
  for (const ServedModel& model : models) {
    if (&model != &models.front()) out += ',';
    out += model_body(model);
  }
  out += "]}";
  return out;
}

std::string anthropic_model_body(const ServedModel& model) {
  return to_text(anthropic_model(model));
}

std::string anthropic_model_list_body(std::span<const ServedModel> models, std::string_view query) {
  constexpr int64_t most = 1000, otherwise = 20;
  const auto limit =
      static_cast<std::size_t>(query_number(query, "limit", 1, most).value_or(otherwise));
  const auto after = query_value(query, "after_id"), before = query_value(query, "before_id");
  if (after && before) api::refuse("before_id", "'after_id' and 'before_id' exclude each other");
  std::size_t first = 0, last = models.size();
  if (after) first = place_of(models, *after, "after_id") + 1;
  if (before) last = place_of(models, *before, "before_id");
  const bool has_more = last - first > limit;
  if (has_more) (before ? first : last) = before ? last - limit : first + limit;
  Json data = Json::array();
  for (const ServedModel& model : models.subspan(first, last - first)) {
    data.push_back(anthropic_model(model));
  }
  const Json first_id = data.empty() ? Json(nullptr) : data.front()["id"];
  const Json last_id = data.empty() ? Json(nullptr) : data.back()["id"];
  return to_text({{"data", std::move(data)},
                  {"has_more", has_more},
                  {"first_id", first_id},
                  {"last_id", last_id}});
}

std::vector<std::string_view> capabilities_of(const ServedModel& model) {
  const text::ChatTemplate& chat_template = model.engine->chat_template();
  std::vector<std::string_view> capabilities = {"completion", "tools"};
  const bool thinks = model.is_harmony() || chat_template.opens_reasoning() ||
                      chat_template.source().find(text::think_open_tag) != std::string::npos;
  if (thinks) capabilities.emplace_back("thinking");
  return capabilities;
}

bool serves(std::span<const ServedModel> models, std::string_view name) {
  return std::ranges::any_of(models, [&](const ServedModel& model) { return model.name == name; });
}

const ServedModel& find_model(std::span<const ServedModel> models, const std::string& name) {
  if (name.empty()) {
    const auto is_base = [](const ServedModel& model) {
      return !model.is_adapter() && !model.is_added;
    };
    if (std::ranges::count_if(models, is_base) == 1) {
      return *std::ranges::find_if(models, is_base);
    }
    throw Error(ErrorCode::invalid_argument,
                fmt::format("'model' is missing; this server has {}", names_of(models)), "model");
  }
  for (const ServedModel& model : models) {
    if (model.name == name) return model;
  }
  throw Error(ErrorCode::not_found,
              fmt::format("The model '{}' is not served here; this server has {}.",
                          name.substr(0, 200), names_of(models)),
              "model");
}

}  // namespace ridge::api
