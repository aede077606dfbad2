// Projects, users, keys, limits, prices, endpoints, usage, kept prompts and the audit log: each
// route of src/administration, which the command line shares, is one of this server.
#include <array>
#include <utility>

#include "administration/administration.h"
#include "server/handler_route.h"
#include "server/service.h"

namespace ridge::server {
namespace {

template <std::size_t at>
HandlerAnswer answer(HandlerRequest& request) {
  const auto models = request.service.models.list();
  const administration::Serving serving{
      .models = *models, .endpoint_directory = request.service.platform.endpoint_directory.get()};
  HandlerAnswer answer = handler_answer(administration::routes[at].operation(
      {request.database(), request.identity(), request.caller, request.argument, request.query,
       request.json(), &serving}));
  if (administration::routes[at].method != "GET") request.service.rights_have_changed();
  return answer;
}

template <std::size_t... at>
constexpr auto table_of(std::index_sequence<at...>) {
  return std::array{HandlerRoute{.method = administration::routes[at].method,
                                 .path = administration::routes[at].path,
                                 .access = {.least_role = administration::routes[at].least_role},
                                 .handle = answer<at>,
                                 .most_body_bytes = administration::routes[at].most_body_bytes}...};
}

constexpr auto table = table_of(std::make_index_sequence<std::size(administration::routes)>());

}  // namespace

std::span<const HandlerRoute> administration_routes() { return table; }

}  // namespace ridge::server
