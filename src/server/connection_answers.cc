#include <algorithm>
#include <iterator>

#include "api/error_body.h"
#include "api/model_list.h"
#include "api/ollama_answer.h"
#include "api/openapi.h"
#include "api/stored_response.h"
#include "api/tokenize.h"
#include "api/url_query.h"
#include "base/log.h"
#include "server/connection.h"
#include "server/handler_route.h"

namespace ridge::server {
namespace {

constexpr std::string_view plain_text = "text/plain; charset=utf-8";

std::string hello_text(const std::vector<api::ServedModel>& models, const std::string& host,
                       std::string_view scheme, bool asks_for_keys) {
  std::string names;
  for (const api::ServedModel& model : models) names += "  " + model.name + "\n";
  return fmt::format(
      "Ridgeline serves an OpenAI-compatible API here.\n\n"
      "Models:\n{0}\n"
      "Base URL for OpenAI clients: {5}://{1}/v1 ({3})\n\n"
      "curl {5}://{1}/v1/chat/completions -H 'Content-Type: application/json' \\\n{4}"
      "  -d '{{\"model\": \"{2}\", \"messages\": [{{\"role\": \"user\", \"content\": "
      "\"Hello!\"}}]}}'\n\n"
      "Also: /v1/completions, /v1/embeddings, /v1/responses, /v1/models, /health, /metrics; "
      "/openapi.json has "
      "all\n"
      "For Anthropic clients: {5}://{1}, /v1/messages and /v1/messages/count_tokens\n"
      "For Ollama clients: {5}://{1}, /api/chat, /api/generate, /api/embed, /api/tags, /api/show\n",
      names, host, models.empty() ? "" : models.front().name,
      asks_for_keys ? "with your API key" : "any API key",
      asks_for_keys ? "  -H \"Authorization: Bearer $RIDGE_API_KEY\" \\\n" : "", scheme);
}

// What pages of other origins may read of an answer.
std::string exposed_headers(const HeaderFields& rate_headers) {
  std::string names = "x-request-id, request-id, traceparent, retry-after, retry-after-ms";
  for (const auto& [name, value] : rate_headers) names += fmt::format(", {}", name);
  return names;
}

}  // namespace

asio::awaitable<void> Connection::answer(std::string body) {
  std::exception_ptr failure;
  try {
    if (!api::is_text(exchange_.route.argument)) {
      throw Error(
          ErrorCode::invalid_argument,
          fmt::format("{} is asked for something whose name is no UTF-8, or holds a zero byte",
                      name(exchange_.route)));
    }
    if (exchange_.method == "OPTIONS" && service_.access.is_cors_origin(exchange_.origin)) {
      co_await send_preflight();
    } else if (exchange_.route.route == Route::unknown) {
      throw Error(ErrorCode::not_found, fmt::format("There is no {}; GET / says what there is.",
                                                    exchange_.target.substr(0, 200)));
    } else if (!allows_method(*exchange_.route.path, exchange_.method)) {
      co_await send(405,
                    api::error_body(405, "method_not_allowed",
                                    fmt::format("{} is answered to {} only", name(exchange_.route),
                                                allowed_methods(exchange_.route)),
                                    exchange_.id, exchange_.error_style));
    } else if (exchange_.route.route == Route::answer_now) {
      co_await answer_now();
    } else if (exchange_.route.route == Route::response_cancel) {
      co_await cancel_response();
    } else if (exchange_.page.wanted) {
      co_await send_console();
    } else if (exchange_.route.route == Route::handled) {
      const std::string_view path = exchange_.route.path->path;
      co_await answer_by_handler(*find_handler(path, exchange_.method), std::move(body));
    } else if (exchange_.method == "POST") {
      co_await generate(std::move(body));
    } else {
      co_await answer_get();
    }
  } catch (...) {
    failure = std::current_exception();
  }
  if (failure) {
    const Error error = error_of(failure, exchange_.id);
    if (exchange_.status == 0) {
      co_await send_error(error);
    } else {  // in the middle of an answer: all that is left is to end it short of its last chunk
      log::error("request {} failed: {}", exchange_.id, error.message());
      exchange_.error = ridge::name(error.code());
      exchange_.keep_alive = false;
    }
  }
  end_record();  // of one whose answer nobody has waited for, or that broke off
}

asio::awaitable<void> Connection::answer_get() {
  const bool is_for_anthropic = exchange_.error_style == api::ErrorStyle::anthropic;
  switch (exchange_.route.route) {
    case Route::models: {
      const CallableModels::List models = callable_models().all();
      const std::string body =
          is_for_anthropic ? api::anthropic_model_list_body(models, api::query_of(exchange_.target))
                           : api::model_list_body(models);
      co_await send(200, body);
      break;
    }
    case Route::model: {
      const CallableModels::List models = callable_models().all();
      const api::ServedModel& model = api::find_model(models, exchange_.route.argument);
      const std::string body =
          is_for_anthropic ? api::anthropic_model_body(model) : api::model_body(model);
      co_await send(200, body);
      break;
    }
    case Route::openapi:
      co_await send(200, api::openapi_text());
      break;
    case Route::tokenizer_info:
      co_await send(200, api::tokenizer_info(visible_models()));
      break;
    case Route::metrics:
      co_await send_metrics();
      break;
    case Route::requests:
    case Route::request:
      co_await answer_requests();
      break;
    case Route::response:
    case Route::response_items:
      co_await answer_stored();
      break;
    case Route::ollama_tags:
      co_await send(200, api::ollama_tags_body(callable_models().all()));
      break;
    case Route::ollama_ps:
      co_await send(200, api::ollama_ps_body(callable_models().all()));
      break;
    case Route::ollama_version:
      co_await send(200, api::ollama_version_body());
      break;
    case Route::hello:
      co_await send_hello();
      break;
    default:
      co_await send_health();
      break;
  }
}

asio::awaitable<void> Connection::answer_stored() {
  const std::string& id = exchange_.route.argument;
  const auto stored = service_.responses.find(exchange_.group, id);
  if (!stored || !callable_models().has(stored->model)) throw api::no_such_response(id);
  const std::string_view query = api::query_of(exchange_.target);
  if (exchange_.method == "DELETE") {
    service_.responses.erase(exchange_.group, id);
    co_await send(200, api::deleted_response_body(id));
  } else if (exchange_.route.route == Route::response_items) {
    co_await send(200, api::input_items_body(*stored, query));
  } else {
    const api::ResponseBody body = api::response_body(*stored, query);
    co_await send(200, body.text, body.content_type);
  }
}

ResponseHead Connection::head_of(int status) const {
  ResponseHead head;
  head.status = status;
  head.keep_alive = exchange_.keep_alive;
  head.is_http_1_0 = exchange_.is_http_1_0;
  head.headers.emplace_back("x-request-id", exchange_.id);
  head.headers.emplace_back("traceparent", api::traceparent(exchange_.context));
  if (exchange_.error_style == api::ErrorStyle::anthropic) {
    head.headers.emplace_back("request-id", exchange_.id);
  }
  if (status == 405) head.headers.emplace_back("Allow", allowed_methods(exchange_.route));
  for (const auto& field : exchange_.rate_headers) head.headers.push_back(field);
  if (service_.access.has_cors()) head.headers.emplace_back("Vary", "Origin");
  if (service_.access.is_cors_origin(exchange_.origin)) {
    head.headers.emplace_back("Access-Control-Allow-Origin", exchange_.origin);
    head.headers.emplace_back("Access-Control-Expose-Headers",
                              exposed_headers(exchange_.rate_headers));
  }
  return head;
}

asio::awaitable<void> Connection::send(int status, std::string_view body,
                                       std::string_view content_type, HeaderFields headers) {
  exchange_.status = status;
  end_record();
  ResponseHead head = head_of(status);
  std::ranges::move(headers, std::back_inserter(head.headers));
  head.content_type = content_type;
  head.content_bytes = body.size();
  std::string bytes = to_bytes(head);
  if (exchange_.method != "HEAD") bytes += body;
  co_await write(bytes);
}

asio::awaitable<void> Connection::send_failure(int status, std::string_view body,
                                               int64_t retry_after_ms, bool has_timed_out) {
  exchange_.status = status;
  ResponseHead head = head_of(status);
  head.content_bytes = body.size();
  // Clients repeat what timed out, though here a deadline of their own has passed.
  if (has_timed_out) head.headers.emplace_back("x-should-retry", "false");
  if (status == 401) head.headers.emplace_back("WWW-Authenticate", "Bearer");
  if (status == 429 || status == 503 || status == 529) {
    head.headers.emplace_back("Retry-After", std::to_string((retry_after_ms + 999) / 1000));
    head.headers.emplace_back("retry-after-ms", std::to_string(retry_after_ms));
  }
  std::string bytes = to_bytes(head);
  if (exchange_.method != "HEAD") bytes += body;
  co_await write(bytes);
}

// A client that went away is answered no more, but its request is followed to the end, for the log
// and the count of running requests.
asio::awaitable<AnswerEnd> Connection::stream_answer(AnswerQueue& queue, Making& making) {
  api::Answer& answer = making.answer;
  exchange_.status = 200;
  if (exchange_.is_http_1_0) exchange_.keep_alive = false;
  ResponseHead head = head_of(200);
  head.content_type = answer.stream_type();
  head.headers.emplace_back("X-Accel-Buffering", "no");  // or nginx would hold the stream back
  std::string bytes = to_bytes(head);
  std::string events;
  answer.begin(events);
  std::optional<AnswerEnd> end;
  while (true) {
    if (exchange_.is_http_1_0) {
      bytes += events;
    } else {
      append_chunk(bytes, events);
      if (end) bytes += last_chunk;
    }
    if (end) {
      keep_loaded(making.model, making.keep_loaded);
      note_end(making.model, *end);
      end_record();
    }
    if (!client_gone_) co_await write(bytes);
    if (end) co_return *end;
    bytes.clear();
    events.clear();
    if (client_gone_) on_news_();  // the wait below is for the end then
    const bool has_news = co_await wait_for_news(service_.options.heartbeat);
    co_await take_news(queue, making, events);
    end = queue.end();
    if (end) {
      const std::optional<Error> unrecorded = co_await settle(*end);
      if (unrecorded) end->error = unrecorded;
    }
    if (end && (end->error || end->cancelled)) {
      answer.fail(failure_of(*end, queue), exchange_.id, events);
    } else if (end) {
      answer.finish(end->usage, events);
    } else if (!has_news) {
      events += answer.heartbeat();
    }
  }
}

asio::awaitable<void> Connection::send_preflight() {
  exchange_.status = 204;
  ResponseHead head = head_of(204);
  head.headers.emplace_back("Access-Control-Allow-Methods", "GET, POST, PUT, PATCH, DELETE");
  head.headers.emplace_back(
      "Access-Control-Allow-Headers",
      "authorization, x-api-key, anthropic-version, anthropic-beta, "
      "anthropic-dangerous-direct-browser-access, content-type, x-request-id, traceparent, "
      "tracestate, x-stainless-arch, "
      "x-stainless-async, "
      "x-stainless-helper-method, x-stainless-lang, x-stainless-os, "
      "x-stainless-package-version, x-stainless-retry-count, x-stainless-runtime, "
      "x-stainless-runtime-version, x-stainless-timeout");
  head.headers.emplace_back("Access-Control-Max-Age", "600");
  co_await write(to_bytes(head));
}

asio::awaitable<void> Connection::send_hello() {
  const std::string host = exchange_.host.empty() ? "127.0.0.1" : exchange_.host;
  co_await send(200,
                hello_text(callable_models().all(), host, stream_.is_tls() ? "https" : "http",
                           service_.authenticator != nullptr),
                plain_text);
}

asio::awaitable<void> Connection::send_health() {
  std::string body;
  bool alive = true;
  {
    std::lock_guard lock(service_.health_mutex);
    alive = service_.health.alive();
    body = exchange_.is_stranger
               ? service_.health.status_body(service_.draining)
               : service_.health.body(*service_.models.list(), service_.clock.now(),
                                      service_.draining, service_.connections);
  }
  const bool needs_ready = exchange_.route.route != Route::live;
  const bool is_well = alive && !(needs_ready && service_.draining);
  co_await send(is_well ? 200 : 503, body);
}

void Connection::log() const {
  const double duration_ms = ridge::milliseconds(service_.clock.now() - exchange_.started_at);
  const bool is_probe =
      exchange_.route.route == Route::health || exchange_.route.route == Route::live ||
      exchange_.route.route == Route::ready || exchange_.route.route == Route::metrics;
  const std::string line =
      fmt::format("{} {} {} id={}{} duration_ms={:.1f}{}", exchange_.method.substr(0, 16),
                  name(exchange_.route), exchange_.status, exchange_.id, exchange_.details,
                  duration_ms, client_gone_ ? " client_gone" : "");
  log::write(is_probe ? log::Level::debug : log::Level::info, line);
}

}  // namespace ridge::server
