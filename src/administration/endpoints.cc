// The operator's endpoints: names that clients put in `model`.
#include "platform/endpoints/endpoints.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "administration/fields.h"
#include "administration/records_json.h"
#include "api/model_list.h"
#include "platform/catalog.h"

namespace ridge::administration {
namespace {

using platform::Endpoint;
using platform::Endpoints;
using platform::EndpointVersion;

constexpr std::size_t most_url_bytes = 2048;
constexpr std::size_t most_shares = 16;  // of which one or two may be above 0

// What this server does next goes by the change.
void tell_server(const Call& call) {
  if (call.serving != nullptr && call.serving->endpoint_directory != nullptr) {
    call.serving->endpoint_directory->refresh();
  }
}

Answer changed(const Call& call, const Endpoint& endpoint, int status = 200) {
  tell_server(call);
  return json_answer(json_of(endpoint, EndpointView::whole), status);
}

EndpointView view_of(const Call& call) {
  return call.caller.is_at_least(platform::Role::admin) ? EndpointView::whole
                                                        : EndpointView::outline;
}

void check_name_is_free(const Call& call, const std::string& name) {
  if (call.serving != nullptr && api::serves(call.serving->models, name)) {
    throw Error(ErrorCode::already_exists,
                fmt::format("'{}' is the name of a model that is served here", name), "name");
  }
  static const platform::Catalog catalog = platform::Catalog::built_in();
  if (catalog.find(name)) {
    throw Error(ErrorCode::already_exists,
                fmt::format("'{}' is the name of a model in the catalog", name), "name");
  }
}

// Which models there are only a server knows.
void check_is_served(const Call& call, const std::string& model) {
  if (call.serving == nullptr || api::serves(call.serving->models, model)) return;
  std::string names;
  for (const api::ServedModel& each : call.serving->models) {
    names += (names.empty() ? "" : ", ") + each.name;
  }
  api::refuse("model", fmt::format("'model' is '{}', which is not served here; this server has {}",
                                   model, names));
}

EndpointVersion read_version(const Call& call, const api::Fields& fields) {
  EndpointVersion version{.model =
                              fields.required_string("model", platform::Identity::most_name_bytes)};
  check_is_served(call, version.model);
  version.system_prompt =
      fields.string("system_prompt", platform::most_system_prompt_bytes).value_or("");
  version.temperature = fields.number("temperature", 0, 2);
  version.top_p = fields.number("top_p", 0, 1, /*open_low=*/true);
  version.top_k = fields.integer("top_k", 0, platform::most_endpoint_top_k);
  version.min_p = fields.number("min_p", 0, 1);
  version.max_tokens = fields.integer("max_tokens", 1, platform::most_endpoint_tokens);
  return version;
}

}  // namespace

Answer list_endpoints(const Call& call) {
  Json data = Json::array();
  for (const Endpoint& endpoint : Endpoints(call.database).table().endpoints) {
    data.push_back(json_of(endpoint, view_of(call)));
  }
  return list_answer(std::move(data));
}

Answer show_endpoint(const Call& call) {
  return json_answer(json_of(Endpoints(call.database).get(call.argument), view_of(call)));
}

Answer create_endpoint(const Call& call) {
  const api::Fields fields(call.body, "");
  const std::string name = fields.required_string("name", platform::Identity::most_name_bytes);
  check_name_is_free(call, name);
  const EndpointVersion first = read_version(call, fields);
  const std::string url = fields.string("moderation_url", most_url_bytes).value_or("");
  return changed(call, Endpoints(call.database).create(name, first, url, call.caller.actor), 201);
}

Answer change_endpoint(const Call& call) {
  const api::Fields fields(call.body, "");
  platform::EndpointChange change{.is_enabled = fields.boolean("is_enabled")};
  if (call.body.contains("moderation_url")) {  // null takes it away
    change.moderation_url = fields.string("moderation_url", most_url_bytes).value_or("");
  }
  return changed(call, Endpoints(call.database).change(call.argument, change, call.caller.actor));
}

Answer add_endpoint_version(const Call& call) {
  const EndpointVersion version = read_version(call, api::Fields(call.body, ""));
  return changed(
      call, Endpoints(call.database).add_version(call.argument, version, call.caller.actor), 201);
}

Answer set_endpoint_shares(const Call& call) {
  const api::Fields fields(call.body, "");
  const Json* list = fields.array("shares", most_shares);
  if (list == nullptr) api::refuse_missing("shares");
  std::vector<platform::EndpointShare> shares;
  for (std::size_t i = 0; i < list->size(); ++i) {
    const api::Fields share((*list)[i], fmt::format("shares[{}]", i));
    const auto version = share.integer("version", 1, INT64_MAX);
    const auto percent = share.integer("percent", 0, 100);
    if (!version) api::refuse_missing(share.path_of("version"));
    if (!percent) api::refuse_missing(share.path_of("percent"));
    shares.push_back({.version = *version, .percent = static_cast<int>(*percent)});
  }
  return changed(
      call,
      Endpoints(call.database).set_shares(call.argument, std::move(shares), call.caller.actor));
}

Answer roll_back_endpoint(const Call& call) {
  return changed(call, Endpoints(call.database).roll_back(call.argument, call.caller.actor));
}

Answer delete_endpoint(const Call& call) {
  Endpoints(call.database).remove(call.argument, call.caller.actor);
  tell_server(call);
  return {.status = 204};
}

}  // namespace ridge::administration
