#include "server/handler_route.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "administration/fields.h"
#include "base/error.h"
#include "server/service.h"

namespace ridge::server {
namespace {

Error no_database() {
  return Error(ErrorCode::unavailable, "this server has no database; its log says why");
}

Error no_supply() {
  return Error(ErrorCode::unavailable, "this server has no store of models");
}

}  // namespace

api::Json HandlerRequest::json() const {
  if (body.empty()) return api::Json::object();
  api::Json document = api::parse_json(body);
  if (document.is_object()) return document;
  throw Error(ErrorCode::invalid_argument, "the body must be a JSON object");
}

platform::Database& HandlerRequest::database() const {
  if (service.platform.database == nullptr) throw no_database();
  return *service.platform.database;
}

platform::Identity& HandlerRequest::identity() const {
  if (service.platform.identity == nullptr) throw no_database();
  return *service.platform.identity;
}

platform::Sessions& HandlerRequest::sessions() const {
  if (service.platform.sessions == nullptr) throw no_database();
  return *service.platform.sessions;
}

const ModelSupply& HandlerRequest::supply() const {
  if (!service.platform.supply) throw no_supply();
  return *service.platform.supply;
}

platform::Downloads& HandlerRequest::downloads() const {
  if (!service.downloads) throw no_supply();
  return *service.downloads;
}

platform::Files& HandlerRequest::files() const {
  if (service.platform.files == nullptr) {
    throw Error(ErrorCode::unavailable, "this server keeps no files; its log says why");
  }
  return *service.platform.files;
}

platform::Batches& HandlerRequest::batches() const {
  if (service.platform.batches == nullptr) {
    throw Error(ErrorCode::unavailable, "this server keeps no batches; its log says why");
  }
  return *service.platform.batches;
}

std::string HandlerRequest::project() const {
  if (!caller.project_id.empty()) return caller.project_id;
  return identity().default_project_id();
}

HandlerAnswer handler_answer(administration::Answer answer) {
  return {.status = answer.status,
          .body = std::move(answer.body),
          .content_type = std::string(answer.content_type),
          .more = std::move(answer.more)};
}

HandlerAnswer json_answer(const api::Json& document, int status) {
  return handler_answer(administration::json_answer(document, status));
}

HandlerAnswer list_answer(api::Json items) {
  return handler_answer(administration::list_answer(std::move(items)));
}

HandlerAnswer no_content() { return {.status = 204}; }

std::span<const HandlerRoute> handler_routes() {
  static const std::vector<HandlerRoute> all = [] {
    std::vector<HandlerRoute> routes;
    for (const auto table : {session_routes(), oidc_routes(), administration_routes(),
                             model_routes(), engine_routes(), workspace_routes(),
                             file_routes(), batch_routes()}) {
      routes.insert(routes.end(), table.begin(), table.end());
    }
    return routes;
  }();
  return all;
}

const HandlerRoute* find_handler(std::string_view path, std::string_view method) {
  const std::string_view wanted = method == "HEAD" ? "GET" : method;
  const auto found = std::ranges::find_if(handler_routes(), [&](const HandlerRoute& route) {
    return route.path == path && route.method == wanted;
  });
  return found == handler_routes().end() ? nullptr : &*found;
}

}  // namespace ridge::server
