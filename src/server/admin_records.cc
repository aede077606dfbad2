// Projects, users, keys, limits, prices, usage and the audit log: each route of src/administration,
// which the command line shares, is one of this server.
#include <array>
#include <utility>

#include "administration/administration.h"
#include "server/handler_route.h"
#include "server/service.h"

namespace ridge::server {
namespace {

using administration::routes;

template <std::size_t at>
HandlerAnswer answer(HandlerRequest& request) {
  auto [status, body, content_type] =
      routes[at].operation({request.database(), request.identity(), request.caller,
                            request.argument, request.query, request.json()});
  if (routes[at].method != "GET") request.service.rights_have_changed();
  return {.status = status, .body = std::move(body), .content_type = std::string(content_type)};
}

template <std::size_t... at>
constexpr auto table_of(std::index_sequence<at...>) {
  return std::array{HandlerRoute{.method = routes[at].method,
                                 .path = routes[at].path,
                                 .access = {.least_role = routes[at].least_role},
                                 .handle = answer<at>}...};
}

constexpr auto table = table_of(std::make_index_sequence<std::size(routes)>());

}  // namespace

std::span<const HandlerRoute> administration_routes() { return table; }

}  // namespace ridge::server
