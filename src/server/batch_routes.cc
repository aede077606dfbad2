// Batches of requests, as OpenAI's API has them.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "api/fields.h"
#include "api/url_query.h"
#include "base/error.h"
#include "platform/batch/batches.h"
#include "server/batch_runner.h"
#include "server/handler_route.h"
#include "server/service.h"

namespace ridge::server {
namespace {

using api::Json;
using api::or_null;

constexpr std::string_view endpoints[] = {"/v1/chat/completions", "/v1/completions",
                                          "/v1/embeddings", "/v1/responses"};
constexpr std::string_view window = "24h";
constexpr std::size_t most_metadata = 16, most_key_bytes = 64, most_value_bytes = 512;
constexpr std::size_t most_id_bytes = 100;

Json time_or_null(int64_t at_ms) { return at_ms == 0 ? Json() : Json(at_ms / 1000); }

Json json_of_errors(const std::vector<platform::BatchError>& errors) {
  if (errors.empty()) return nullptr;
  Json data = Json::array();
  for (const platform::BatchError& error : errors) {
    data.push_back({{"code", error.code},
                    {"message", error.message},
                    {"param", or_null(error.param)},
                    {"line", error.line == 0 ? Json() : Json(error.line)}});
  }
  return {{"object", "list"}, {"data", std::move(data)}};
}

Json json_of(const platform::Batch& batch) {
  // Ids that are set aside are no files before these are there.
  const bool has_files = platform::has_ended(batch.status);
  Json json = {{"id", batch.id},
               {"object", "batch"},
               {"endpoint", batch.endpoint},
               {"errors", json_of_errors(batch.errors)},
               {"input_file_id", batch.input_file_id},
               {"completion_window", window},
               {"status", platform::name(batch.status)}};
  json["output_file_id"] = has_files ? or_null(batch.output_file_id) : Json();
  json["error_file_id"] = has_files ? or_null(batch.error_file_id) : Json();
  json["created_at"] = batch.created_at_ms / 1000;
  json["in_progress_at"] = time_or_null(batch.in_progress_at_ms);
  json["expires_at"] = batch.expires_at_ms / 1000;
  json["finalizing_at"] = time_or_null(batch.finalizing_at_ms);
  json["completed_at"] = time_or_null(batch.completed_at_ms);
  json["failed_at"] = time_or_null(batch.failed_at_ms);
  json["expired_at"] = time_or_null(batch.expired_at_ms);
  json["cancelling_at"] = time_or_null(batch.cancelling_at_ms);
  json["cancelled_at"] = time_or_null(batch.cancelled_at_ms);
  json["request_counts"] = {
      {"total", batch.total}, {"completed", batch.completed}, {"failed", batch.failed}};
  json["metadata"] = batch.metadata.empty() ? Json() : Json::parse(batch.metadata);
  json["waiting"] = batch.waits_code.empty() || has_files
                        ? Json()
                        : Json{{"code", batch.waits_code}, {"message", batch.waits_message}};
  return json;
}

std::string endpoint_in(const api::Fields& fields) {
  const std::string endpoint = fields.required_string("endpoint", most_id_bytes);
  if (std::ranges::find(endpoints, endpoint) != std::end(endpoints)) return endpoint;
  api::refuse("endpoint", fmt::format("'endpoint' is '{}'; it must be one of {}", endpoint,
                                      fmt::join(endpoints, ", ")));
}

std::string metadata_in(const api::Fields& fields) {
  const Json* metadata = fields.find("metadata");
  if (metadata == nullptr) return {};
  const auto is_good = [](const auto& item) {
    return item.key().size() <= most_key_bytes && item.value().is_string() &&
           item.value().template get_ref<const std::string&>().size() <= most_value_bytes;
  };
  bool is_valid = metadata->is_object() && metadata->size() <= most_metadata;
  if (is_valid) {
    for (const auto& item : metadata->items()) is_valid &= is_good(item);
  }
  if (!is_valid) {
    api::refuse("metadata",
                fmt::format("'metadata' must be an object of at most {} strings, with names of at "
                            "most {} and values of at most {} bytes",
                            most_metadata, most_key_bytes, most_value_bytes));
  }
  return api::to_text(*metadata);
}

int64_t lifetime_in(const api::Fields& fields) {
  const auto after = fields.object("output_expires_after");
  if (!after) return platform::most_file_lifetime_s * 1000;
  if (after->required_string("anchor", most_id_bytes) != "created_at") {
    api::refuse("output_expires_after.anchor",
                "'output_expires_after.anchor' must be 'created_at'");
  }
  const auto seconds =
      after->integer("seconds", platform::least_file_lifetime_s, platform::most_file_lifetime_s);
  if (!seconds) api::refuse_missing("output_expires_after.seconds");
  return *seconds * 1000;
}

HandlerAnswer create_batch(HandlerRequest& request) {
  const Json body = request.json();
  const api::Fields fields(body, "");
  platform::Batch wanted{.project_id = request.project(),
                         .key_id = request.caller.key_id,
                         .is_person = request.caller.is_session};
  wanted.input_file_id = fields.required_string("input_file_id", most_id_bytes);
  wanted.endpoint = endpoint_in(fields);
  if (fields.required_string("completion_window", most_id_bytes) != window) {
    api::refuse("completion_window", "'completion_window' must be '24h'");
  }
  wanted.metadata = metadata_in(fields);
  wanted.output_lifetime_ms = lifetime_in(fields);
  const platform::Batch made = request.batches().create(std::move(wanted), request.caller.actor);
  if (auto& runner = request.service.batch_runner) runner->wake();
  return json_answer(json_of(made));
}

HandlerAnswer list_batches(HandlerRequest& request) {
  const platform::BatchPage page = request.batches().list(
      request.project(), api::query_value(request.query, "after").value_or(""),
      api::query_limit(request.query));
  Json data = Json::array();
  for (const platform::Batch& batch : page.batches) data.push_back(json_of(batch));
  Json list = {{"object", "list"}, {"data", std::move(data)}, {"has_more", page.has_more}};
  list["first_id"] = page.batches.empty() ? Json() : Json(page.batches.front().id);
  list["last_id"] = page.batches.empty() ? Json() : Json(page.batches.back().id);
  return json_answer(list);
}

HandlerAnswer show_batch(HandlerRequest& request) {
  return json_answer(json_of(request.batches().find(request.project(), request.argument)));
}

HandlerAnswer cancel_batch(HandlerRequest& request) {
  const platform::Batch batch =
      request.batches().cancel(request.project(), request.argument, request.caller.actor);
  if (auto& runner = request.service.batch_runner) runner->wake();
  return json_answer(json_of(batch));
}

constexpr HandlerRoute routes[] = {
    {.method = "GET", .path = "/v1/batches", .access = inference_access, .handle = list_batches},
    {.method = "POST", .path = "/v1/batches", .access = inference_access, .handle = create_batch},
    {.method = "GET", .path = "/v1/batches/{id}", .access = inference_access, .handle = show_batch},
    {.method = "POST",
     .path = "/v1/batches/{id}/cancel",
     .access = inference_access,
     .handle = cancel_batch},
};

}  // namespace

std::span<const HandlerRoute> batch_routes() { return routes; }

}  // namespace ridge::server
