#include "api/openapi.h"

#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "server/route.h"

namespace ridge::server::openapi_test {
namespace {

std::string in_openapi(std::string_view allowed) {
  std::string methods;
  for (const char* method : {"GET", "POST", "PUT", "PATCH", "DELETE"}) {
    const bool is_allowed =
        (", " + std::string(allowed) + ", ").find(", " + std::string(method) + ", ") !=
        std::string::npos;
    if (is_allowed) methods += std::string(method) + " ";
  }
  return methods;
}

TEST(OpenApi, DescribesEveryRouteAndNothingElse) {
  const auto document = nlohmann::json::parse(api::openapi_text());
  EXPECT_TRUE(document.at("openapi").get<std::string>().starts_with("3.1."));
  std::map<std::string, std::string> described, served;
  for (const auto& [path, item] : document.at("paths").items()) {
    std::string& methods = described[path];
    for (const char* method : {"GET", "POST", "PUT", "PATCH", "DELETE"}) {
      std::string key = method;
      for (char& letter : key) letter = static_cast<char>(letter - 'A' + 'a');
      if (item.contains(key)) methods += std::string(method) + " ";
    }
  }
  for (const RoutePath& known : route_paths()) {
    served[std::string(known.path)] = in_openapi(known.methods);
  }
  EXPECT_EQ(described, served);
}

TEST(OpenApi, NamesEachOperationOnce) {
  const auto document = nlohmann::json::parse(api::openapi_text());
  std::set<std::string> names;
  for (const auto& [path, item] : document.at("paths").items()) {
    for (const auto& [method, operation] : item.items()) {
      const std::string id = operation.at("operationId");
      EXPECT_TRUE(names.insert(id).second) << id;
    }
  }
}

TEST(Route, MatchesEachOfItsPaths) {
  for (const RoutePath& known : route_paths()) {
    std::string target(known.path);
    const std::size_t at = target.find("{id}");
    if (at != std::string::npos) target.replace(at, 4, "a%3Ab");
    const RouteMatch match = match_route(target);
    EXPECT_EQ(match.route, known.route) << target;
    EXPECT_EQ(match.argument, at == std::string::npos ? "" : "a:b");
    EXPECT_EQ(allowed_methods(match), known.methods) << target;
  }
}

}  // namespace
}  // namespace ridge::server::openapi_test
