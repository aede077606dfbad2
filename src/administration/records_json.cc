#include "administration/records_json.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "base/utc_time.h"

namespace ridge::administration {
namespace {

using api::or_null;
using platform::UsageBy;

// Of CSV, in this order.
constexpr const char* record_columns[] = {
    "time",          "project",           "key",               "model",
    "endpoint",      "custom_endpoint",   "endpoint_version",  "prompt_tokens",
    "cached_tokens", "completion_tokens", "reasoning_tokens",  "total_tokens",
    "free_tokens",   "ttft_ms",           "duration_ms",       "finish_reason",
    "cost",          "request_id",        "id",                "at_ms"};

double money(int64_t micros) { return static_cast<double>(micros) / 1e6; }

std::string_view state_of(const platform::ApiKey& key, int64_t now_ms) {
  if (key.revoked_at_ms) return "revoked";
  if (!key.is_valid_at(now_ms)) return "expired";
  return key.rotated_to.empty() ? "active" : "ending";
}

const std::string& text_of(const platform::UsageRow& row, UsageBy by) {
  switch (by) {
    case UsageBy::day:
      return row.day;
    case UsageBy::project:
      return row.project;
    case UsageBy::key:
      return row.key;
    case UsageBy::model:
      return row.model;
    case UsageBy::custom_endpoint:
      return row.custom_endpoint;
    case UsageBy::endpoint_version:
      return row.endpoint_version;
    case UsageBy::finish_reason:
      return row.finish_reason;
    case UsageBy::endpoint:
      break;
  }
  return row.endpoint;
}

std::string csv_field(const Json& value) {
  if (!value.is_string()) return value.dump();
  std::string text = value.get<std::string>();
  if (!text.empty() && std::string_view("=+-@\t\r").find(text[0]) != std::string_view::npos) {
    text.insert(0, "'");
  }
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + "\"";
}

}  // namespace

Json json_of(const platform::Project& project) {
  return {{"id", project.id},
          {"name", project.name},
          {"weight", project.weight},
          {"created_at_ms", project.created_at_ms},
          {"keep_days", project.keep_days},
          {"kept_bytes", project.kept_bytes}};
}

Json json_of(const platform::Member& member) {
  return {{"user", member.user},
          {"role", platform::name(member.role)},
          {"user_role", platform::name(member.user_role)},
          {"added_at_ms", member.added_at_ms},
          {"disabled_at_ms", or_null(member.disabled_at_ms)}};
}

Json json_of(const platform::User& user) {
  Json projects = Json::array();
  for (const platform::Membership& each : user.memberships) {
    projects.push_back({{"project", each.project}, {"role", platform::name(each.role)}});
  }
  return {{"id", user.id},
          {"name", user.name},
          {"kind", platform::name(user.kind)},
          {"role", platform::name(user.role)},
          {"project", or_null(user.project)},
          {"projects", std::move(projects)},
          {"created_at_ms", user.created_at_ms},
          {"disabled_at_ms", or_null(user.disabled_at_ms)},
          {"oidc", user.oidc_subject.empty()
                       ? Json(nullptr)
                       : Json{{"issuer", user.oidc_issuer}, {"subject", user.oidc_subject}}}};
}

Json json_of(const platform::ApiKey& key, int64_t now_ms) {
  Json scopes = Json::array(), addresses = Json::array();
  for (const platform::Scope scope : key.rights.scopes) scopes.push_back(platform::name(scope));
  for (const auto& range : key.rights.addresses) addresses.push_back(range.text());
  return {{"id", key.id},
          {"name", key.name},
          {"hint", key.hint},
          {"project", key.project},
          {"user", or_null(key.user)},
          {"scopes", std::move(scopes)},
          {"models", key.rights.models},
          {"addresses", std::move(addresses)},
          {"state", state_of(key, now_ms)},
          {"created_at_ms", key.created_at_ms},
          {"expires_at_ms", or_null(key.expires_at_ms)},
          {"revoked_at_ms", or_null(key.revoked_at_ms)},
          {"rotated_to", or_null(key.rotated_to)}};
}

Json json_of(const platform::NamedLimit& named) {
  return {{"project", or_null(named.project)},
          {"key", or_null(named.key)},
          {"user", or_null(named.user)},
          {"model", or_null(named.limit.model)},
          {"kind", platform::name(named.limit.kind)},
          {"most", named.limit.most}};
}

Json json_of(const platform::ModelPrice& each) {
  return {{"model", each.model.empty() ? any_model : std::string_view(each.model)},
          {"prompt", money(each.price.prompt_micros)},
          {"cached", money(each.price.cached_micros)},
          {"completion", money(each.price.completion_micros)},
          {"free_tokens_per_month", each.price.free_tokens}};
}

Json json_of(const platform::Endpoint& endpoint, EndpointView view) {
  const bool is_whole = view == EndpointView::whole;
  Json versions = Json::array(), shares = Json::array();
  for (const platform::EndpointVersion& version : endpoint.versions) {
    versions.push_back({{"number", version.number},
                        {"model", version.model},
                        {"temperature", or_null(version.temperature)},
                        {"top_p", or_null(version.top_p)},
                        {"top_k", or_null(version.top_k)},
                        {"min_p", or_null(version.min_p)},
                        {"max_tokens", or_null(version.max_tokens)},
                        {"created_at_ms", version.created_at_ms}});
    if (is_whole) versions.back()["system_prompt"] = version.system_prompt;
  }
  for (const platform::EndpointShare& share : endpoint.shares) {
    shares.push_back({{"version", share.version}, {"percent", share.percent}});
  }
  Json document = {{"name", endpoint.name},
                   {"is_enabled", endpoint.is_enabled},
                   {"versions", std::move(versions)},
                   {"shares", std::move(shares)},
                   {"is_moderated", !endpoint.moderation_url.empty()},
                   {"created_at_ms", endpoint.created_at_ms},
                   {"updated_at_ms", endpoint.updated_at_ms}};
  if (is_whole) document["moderation_url"] = or_null(endpoint.moderation_url);
  return document;
}

Json json_of(const platform::AuditEvent& event) {
  Json details = Json::parse(event.details, nullptr, /*allow_exceptions=*/false);
  if (!details.is_object()) details = Json::object();
  return {{"number", event.number}, {"at_ms", event.at_ms},     {"actor", event.actor},
          {"action", event.action}, {"subject", event.subject}, {"details", std::move(details)}};
}

Json json_of(const platform::KeptRequest& request, KeptView view) {
  Json document = {{"number", request.number},
                   {"request_id", request.request_id},
                   {"project", request.project},
                   {"key", request.key},
                   {"model", request.model},
                   {"endpoint", request.endpoint},
                   {"at_ms", request.at_ms},
                   {"finish_reason", request.finish_reason},
                   {"bytes", request.bytes},
                   {"prompt_is_cut", request.prompt_is_cut},
                   {"answer_is_cut", request.answer_is_cut}};
  if (view == KeptView::outline) return document;
  Json prompt = request.prompt;  // of one that is cut: text that is no JSON any more
  if (!request.prompt_is_cut) {
    Json parsed = Json::parse(request.prompt, nullptr, /*allow_exceptions=*/false);
    if (!parsed.is_discarded()) prompt = std::move(parsed);
  }
  document["prompt"] = std::move(prompt);
  document["answer"] = Json::parse(request.answer, nullptr, /*allow_exceptions=*/false);
  return document;
}

Json json_of(const platform::UsageRow& row, const std::vector<UsageBy>& by) {
  Json json = Json::object();
  for (const UsageBy each : by) json[std::string(platform::name(each))] = text_of(row, each);
  json.update({{"requests", row.requests},
               {"failures", row.failures},
               {"prompt_tokens", row.prompt_tokens},
               {"cached_tokens", row.cached_tokens},
               {"completion_tokens", row.completion_tokens},
               {"reasoning_tokens", row.reasoning_tokens},
               {"total_tokens", row.prompt_tokens + row.completion_tokens},
               {"free_tokens", row.free_tokens},
               {"cost", money(row.micros)},
               {"mean_ttft_ms", row.ttft_ms}});
  return json;
}

Json json_of(const platform::UsageRecord& record) {
  return {{"id", record.id},
          {"request_id", record.request_id},
          {"time", utc_time(record.at_ms / 1000)},
          {"at_ms", record.at_ms},
          {"project", record.project},
          {"key", record.key},
          {"model", record.model},
          {"endpoint", record.endpoint},
          {"custom_endpoint", record.custom_endpoint},
          {"endpoint_version", record.endpoint_version},
          {"prompt_tokens", record.prompt_tokens},
          {"cached_tokens", record.cached_tokens},
          {"completion_tokens", record.completion_tokens},
          {"reasoning_tokens", record.reasoning_tokens},
          {"total_tokens", record.prompt_tokens + record.completion_tokens},
          {"free_tokens", record.free_tokens},
          {"ttft_ms", record.ttft_ms},
          {"duration_ms", record.duration_ms},
          {"finish_reason", record.finish_reason},
          {"cost", money(record.micros)}};
}

std::string usage_csv(const std::vector<platform::UsageRow>& rows, const std::vector<UsageBy>& by) {
  std::string text;
  const Json titles = json_of(platform::UsageRow{}, by);
  for (const auto& [name, value] : titles.get_ref<const Json::object_t&>()) {
    text += (text.empty() ? "" : ",") + name;
  }
  text += '\n';
  for (const platform::UsageRow& row : rows) {
    bool is_first = true;
    const Json fields = json_of(row, by);
    for (const auto& [name, value] : fields.get_ref<const Json::object_t&>()) {
      text += (std::exchange(is_first, false) ? "" : ",") + csv_field(value);
    }
    text += '\n';
  }
  return text;
}

std::string usage_record_titles() {
  std::string text;
  for (const char* column : record_columns) text += fmt::format("{}{}", text.empty() ? "" : ",", column);
  return text + "\n";
}

std::string usage_record_lines(const Json& records) {
  std::string text;
  for (const Json& record : records) {
    bool is_first = true;
    for (const char* column : record_columns) {
      const auto field = record.find(column);
      if (!std::exchange(is_first, false)) text += ',';
      if (field != record.end()) text += csv_field(*field);  // an older server may not have it
    }
    text += '\n';
  }
  return text;
}

}  // namespace ridge::administration
