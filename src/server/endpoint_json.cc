#include "server/endpoint_json.h"

#include <nlohmann/json.hpp>
#include <optional>

namespace ridge::server {

using api::Json;

namespace {

template <typename Value>
Json json_of(const std::optional<Value>& value) {
  return value ? Json(*value) : Json(nullptr);
}

}  // namespace

Json endpoint_json(const platform::Endpoint& endpoint, EndpointView view) {
  const bool is_whole = view == EndpointView::whole;
  Json versions = Json::array(), shares = Json::array();
  for (const platform::EndpointVersion& version : endpoint.versions) {
    versions.push_back({{"number", version.number},
                        {"model", version.model},
                        {"temperature", json_of(version.temperature)},
                        {"top_p", json_of(version.top_p)},
                        {"top_k", json_of(version.top_k)},
                        {"min_p", json_of(version.min_p)},
                        {"max_tokens", json_of(version.max_tokens)},
                        {"created_at_ms", version.created_at_ms}});
    if (is_whole) versions.back()["system_prompt"] = version.system_prompt;
  }
  for (const platform::EndpointShare& share : endpoint.shares) {
    shares.push_back({{"version", share.version}, {"percent", share.percent}});
  }
  const std::string& url = endpoint.moderation_url;
  Json document = {{"name", endpoint.name},
                   {"is_enabled", endpoint.is_enabled},
                   {"versions", std::move(versions)},
                   {"shares", std::move(shares)},
                   {"is_moderated", !url.empty()},
                   {"created_at_ms", endpoint.created_at_ms},
                   {"updated_at_ms", endpoint.updated_at_ms}};
  if (is_whole) document["moderation_url"] = url.empty() ? Json(nullptr) : Json(url);
  return document;
}

}  // namespace ridge::server
