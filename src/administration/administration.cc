#include "administration/administration.h"

#include <algorithm>

namespace ridge::administration {

const Route* find_route(std::string_view method, std::string_view path) {
  const auto found = std::ranges::find_if(
      routes, [&](const Route& route) { return route.method == method && route.path == path; });
  return found == std::end(routes) ? nullptr : found;
}

}  // namespace ridge::administration
