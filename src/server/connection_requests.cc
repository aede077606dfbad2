// What is told of requests that run or ran, one by one and in sum, and what is kept of the one in
// hand.
#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "api/json_text.h"
#include "api/url_query.h"
#include "base/error.h"
#include "server/connection.h"
#include "server/metrics.h"

namespace ridge::server {
namespace {

// As OpenTelemetry's conventions name what is done; "" for what no engine works on.
std::string_view operation_of(Route route) {
  switch (route) {
    case Route::chat_completions:
    case Route::messages:
    case Route::responses:
    case Route::ollama_chat:
      return "chat";
    case Route::completions:
    case Route::ollama_generate:
      return "text_completion";
    case Route::embeddings:
      return "embeddings";
    case Route::rerank:
      return "rerank";
    case Route::score:
      return "score";
    default:
      return "";
  }
}

}  // namespace

asio::awaitable<void> Connection::answer_now() {
  const std::string& id = exchange_.route.argument;
  const auto may_use = [this](const std::string& model) { return this->may_use(model); };
  if (!service_.running_requests.end_thinking(id, exchange_.group, may_use)) {
    throw Error(ErrorCode::not_found,
                fmt::format("no request with the id '{}' is running", id.substr(0, 200)));
  }
  std::string body = "{\"id\":";
  api::append_json_string(body, id);
  body += ",\"object\":\"request.answer_now\"}";
  co_await send(200, body);
}

asio::awaitable<void> Connection::answer_requests() {
  const Clock::TimePoint now = service_.clock.now();
  if (exchange_.route.route == Route::requests) {
    auto records = service_.records.list(exchange_.group);
    std::erase_if(records, [this](const auto& record) { return !may_see(*record); });
    co_await send(200, api::request_list_body(records, api::query_of(exchange_.target), now));
    co_return;
  }
  const std::string& id = exchange_.route.argument;
  const auto record = service_.records.find(exchange_.group, id);
  if (!record || !may_see(*record)) {
    throw Error(ErrorCode::not_found,
                fmt::format("no recent request has the id '{}'; ids are those of x-request-id and "
                            "of answers, and only the latest requests are kept",
                            id.substr(0, 200)));
  }
  co_await send(200, api::request_body(*record, now));
}

// Of its project's requests, a key for some models only sees those of these.
bool Connection::may_see(const api::RequestRecord& record) const {
  const std::string model = record.model();
  return model.empty() || may_use(model);
}

bool Connection::may_use(const std::string& model) const {
  return !exchange_.principal || exchange_.principal->rights.allows_model(model);
}

asio::awaitable<void> Connection::send_metrics() {
  ServerFigures figures{.connections = service_.connections,
                        .by_request = service_.gen_ai_metrics.collect()};
  if (service_.meter) {
    std::ranges::move(service_.usage_metrics.collect(), std::back_inserter(figures.by_request));
    figures.usage_waits = service_.meter->waits_for_database();
  }
  if (service_.exporter) figures.exports = service_.exporter->counts();
  co_await send(200, metrics_text(*service_.models.list(), figures), metrics_content_type);
}

void Connection::begin_record() {
  const std::string_view operation = operation_of(exchange_.route.route);
  if (operation.empty()) return;
  const platform::Principal* const principal = exchange_.principal.get();
  std::string project, key;
  if (principal != nullptr) {
    project = principal->project_name;
    key = principal->is_session ? principal->user_name : principal->key_name;
  }
  exchange_.record = std::make_shared<api::RequestRecord>(
      api::RequestRecord::Origin{.id = exchange_.id,
                                 .group = exchange_.group,
                                 .project = std::move(project),
                                 .key = std::move(key),
                                 .endpoint = name(exchange_.route),
                                 .operation = operation,
                                 .context = exchange_.context,
                                 .arrived = exchange_.started_at,
                                 .arrived_at = exchange_.started_at_wall});
  service_.records.add(exchange_.record);
}

// No engine had to work for it.
void Connection::drop_record() {
  if (exchange_.record) service_.records.remove(exchange_.record);
  exchange_.record = nullptr;
}

void Connection::record_requests(Prepared& prepared) {
  std::vector<engine::Request>& requests = prepared.requests;
  if (!exchange_.record || requests.empty()) return;
  const engine::Request& first = requests.front();
  int64_t prompt_tokens = 0;
  for (const engine::Request& request : requests) {
    prompt_tokens += static_cast<int64_t>(request.prompt_tokens.size());
  }
  exchange_.record->prepared(prepared.model->name, prepared.answer_id,
                             {.prompts = static_cast<int>(requests.size()),
                              .choices = first.choices,
                              .max_tokens = first.max_tokens,
                              .prompt_tokens = prompt_tokens,
                              .sampling = first.sampling,
                              .streams = prepared.answer->streams()});
  for (engine::Request& request : requests) request.trace = exchange_.record->add_trace();
}

// Before the client knows of the end, so that whoever asks then is told of it.
void Connection::end_record() {
  const auto record = std::move(exchange_.record);
  if (!record) return;
  if (exchange_.status == 0) {  // nobody was there to be told anything
    exchange_.status = http_status(ErrorCode::cancelled);
    exchange_.error = ridge::name(ErrorCode::cancelled);
  }
  record->ended(exchange_.status, exchange_.error, exchange_.usage, service_.clock.now());
  service_.gen_ai_metrics.observe(*record);
  if (service_.exporter && exchange_.context.sampled) service_.exporter->push(record);
}

}  // namespace ridge::server
