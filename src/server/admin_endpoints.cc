// The operator's endpoints: names that clients put in `model`.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "api/fields.h"
#include "api/model_list.h"
#include "base/error.h"
#include "platform/catalog.h"
#include "server/endpoint_json.h"
#include "server/handler_route.h"
#include "server/service.h"

namespace ridge::server {
namespace {

using api::Json;
using platform::Endpoint;
using platform::EndpointVersion;

constexpr std::size_t most_name_bytes = 100, most_url_bytes = 2048;
constexpr std::size_t most_shares = 16;  // of which one or two may be above 0
// A system prompt, each byte of it perhaps written as \u00ff.
constexpr std::size_t most_body_bytes = 6 * platform::most_system_prompt_bytes + (16u << 10);

// Of a change: what this server does next goes by it.
HandlerAnswer changed(const HandlerRequest& request, const Endpoint& endpoint, int status = 200) {
  request.service.platform.endpoint_directory->refresh();
  return json_answer(endpoint_json(endpoint, EndpointView::whole), status);
}

EndpointView view_of(const HandlerRequest& request) {
  return request.caller.is_at_least(platform::Role::admin) ? EndpointView::whole
                                                           : EndpointView::outline;
}

void check_name_is_free(const HandlerRequest& request, const std::string& name) {
  if (api::serves(*request.service.models.list(), name)) {
    throw Error(ErrorCode::already_exists,
                fmt::format("'{}' is the name of a model that is served here", name), "name");
  }
  static const platform::Catalog catalog = platform::Catalog::built_in();
  if (catalog.find(name)) {
    throw Error(ErrorCode::already_exists,
                fmt::format("'{}' is the name of a model in the catalog", name), "name");
  }
}

EndpointVersion read_version(const HandlerRequest& request, const api::Fields& fields) {
  EndpointVersion version{.model = fields.required_string("model", most_name_bytes)};
  const auto models = request.service.models.list();
  if (!api::serves(*models, version.model)) {
    std::string names;
    for (const api::ServedModel& model : *models) names += (names.empty() ? "" : ", ") + model.name;
    throw Error(ErrorCode::invalid_argument,
                fmt::format("'model' is '{}', which is not served here; this server has {}",
                            version.model, names),
                "model");
  }
  version.system_prompt =
      fields.string("system_prompt", platform::most_system_prompt_bytes).value_or("");
  version.temperature = fields.number("temperature", 0, 2);
  version.top_p = fields.number("top_p", 0, 1, /*open_low=*/true);
  version.top_k = fields.integer("top_k", 0, platform::most_endpoint_top_k);
  version.min_p = fields.number("min_p", 0, 1);
  version.max_tokens = fields.integer("max_tokens", 1, platform::most_endpoint_tokens);
  return version;
}

HandlerAnswer list_endpoints(HandlerRequest& request) {
  Json data = Json::array();
  for (const Endpoint& endpoint : request.endpoints().table().endpoints) {
    data.push_back(endpoint_json(endpoint, view_of(request)));
  }
  return json_answer({{"data", std::move(data)}});
}

HandlerAnswer show_endpoint(HandlerRequest& request) {
  return json_answer(endpoint_json(request.endpoints().get(request.argument), view_of(request)));
}

HandlerAnswer create_endpoint(HandlerRequest& request) {
  const Json body = request.json();
  const api::Fields fields(body, "");
  const std::string name = fields.required_string("name", most_name_bytes);
  check_name_is_free(request, name);
  const EndpointVersion first = read_version(request, fields);
  const std::string url = fields.string("moderation_url", most_url_bytes).value_or("");
  return changed(request, request.endpoints().create(name, first, url, request.caller.actor), 201);
}

HandlerAnswer change_endpoint(HandlerRequest& request) {
  const Json body = request.json();
  const api::Fields fields(body, "");
  platform::EndpointChange change{.is_enabled = fields.boolean("is_enabled")};
  if (body.contains("moderation_url")) {  // null takes it away
    change.moderation_url = fields.string("moderation_url", most_url_bytes).value_or("");
  }
  return changed(request,
                 request.endpoints().change(request.argument, change, request.caller.actor));
}

HandlerAnswer add_version(HandlerRequest& request) {
  const Json body = request.json();
  const EndpointVersion version = read_version(request, api::Fields(body, ""));
  return changed(request,
                 request.endpoints().add_version(request.argument, version, request.caller.actor),
                 201);
}

HandlerAnswer set_shares(HandlerRequest& request) {
  const Json body = request.json();
  const api::Fields fields(body, "");
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
  return changed(request, request.endpoints().set_shares(request.argument, std::move(shares),
                                                         request.caller.actor));
}

HandlerAnswer roll_back(HandlerRequest& request) {
  return changed(request, request.endpoints().roll_back(request.argument, request.caller.actor));
}

HandlerAnswer delete_endpoint(HandlerRequest& request) {
  request.endpoints().remove(request.argument, request.caller.actor);
  request.service.platform.endpoint_directory->refresh();
  return no_content();
}

constexpr HandlerRoute routes[] = {
    {"GET", "/api/v1/endpoints", viewer_access, list_endpoints},
    {"POST", "/api/v1/endpoints", admin_access, create_endpoint, most_body_bytes},
    {"GET", "/api/v1/endpoints/{id}", viewer_access, show_endpoint},
    {"PATCH", "/api/v1/endpoints/{id}", admin_access, change_endpoint},
    {"DELETE", "/api/v1/endpoints/{id}", admin_access, delete_endpoint},
    {"POST", "/api/v1/endpoints/{id}/versions", admin_access, add_version, most_body_bytes},
    {"PUT", "/api/v1/endpoints/{id}/shares", admin_access, set_shares},
    {"POST", "/api/v1/endpoints/{id}/rollback", admin_access, roll_back},
};

}  // namespace

std::span<const HandlerRoute> endpoint_routes() { return routes; }

}  // namespace ridge::server
