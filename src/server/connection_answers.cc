#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/post.hpp>
#include <boost/beast/http/parser.hpp>

#include "api/error_body.h"
#include "api/json_text.h"
#include "api/model_list.h"
#include "api/ollama_answer.h"
#include "api/openapi.h"
#include "api/responses_request.h"
#include "api/tokenize.h"
#include "api/usage_json.h"
#include "base/log.h"
#include "server/connection.h"
#include "server/metrics.h"
#include "server/preparation.h"

namespace ridge::server {
namespace {

constexpr auto as_result = asio::as_tuple(asio::use_awaitable);
constexpr std::size_t max_document_bytes = 256u << 20;  // of an answer that is sent in one piece
constexpr std::string_view plain_text = "text/plain; charset=utf-8";

// Of one HTTP request at a time: many embeddings take turns with others' requests, and find room in
// a queue that is bounded.
constexpr std::size_t max_requests_at_once = 64;

// Counts a request that an engine may be working on,
// so that a drain waits for its answer to be sent.
class RunningScope {
 public:
  explicit RunningScope(std::atomic<int>& count) : count_(count) { ++count_; }
  ~RunningScope() { --count_; }
  RunningScope(const RunningScope&) = delete;
  RunningScope& operator=(const RunningScope&) = delete;

 private:
  std::atomic<int>& count_;
};

// Nothing but the error itself may leave a coroutine's catch block, which cannot wait.
Error error_of(const std::exception_ptr& failure) {
  try {
    std::rethrow_exception(failure);
  } catch (const Error& error) {
    return error;
  } catch (const std::exception& other) {
    return Error(ErrorCode::internal, other.what());
  }
}

// Shapes what has come; nullopt while more is to come.
std::optional<AnswerEnd> collect(AnswerQueue& queue, api::Answer& answer, std::string& out) {
  for (AnswerEvent& event : queue.take()) {
    switch (event.kind) {
      case AnswerEvent::Kind::text:
        answer.add(event.choice, event.delta, out);
        break;
      case AnswerEvent::Kind::prompt:
        answer.add_prompt(event.choice, event.prompt, out);
        break;
      case AnswerEvent::Kind::embedding:
        answer.add_embedding(event.choice, std::move(event.embedding));
        break;
      case AnswerEvent::Kind::finished:
        if (engine::is_answer(event.reason)) answer.finish_choice(event.choice, event.reason, out);
        break;
    }
  }
  return queue.end();
}

std::string hello_text(const Service& service, const std::string& host) {
  std::string names;
  for (const api::ServedModel& model : service.models) names += "  " + model.name + "\n";
  return fmt::format(
      "Ridgeline serves an OpenAI-compatible API here.\n\n"
      "Models:\n{0}\n"
      "Base URL for OpenAI clients: http://{1}/v1 (any API key)\n\n"
      "curl http://{1}/v1/chat/completions -H 'Content-Type: application/json' \\\n"
      "  -d '{{\"model\": \"{2}\", \"messages\": [{{\"role\": \"user\", \"content\": "
      "\"Hello!\"}}]}}'\n\n"
      "Also: /v1/completions, /v1/embeddings, /v1/responses, /v1/models, /health, /metrics; "
      "/openapi.json has "
      "all\n"
      "For Anthropic clients: http://{1}, /v1/messages and /v1/messages/count_tokens\n"
      "For Ollama clients: http://{1}, /api/chat, /api/generate, /api/tags, /api/show\n",
      names, host, service.models.empty() ? "" : service.models.front().name);
}

}  // namespace

asio::awaitable<void> Connection::answer(std::string body) {
  std::exception_ptr failure;
  try {
    check_caller();
    if (exchange_.method == "OPTIONS" && service_.access.is_cors_origin(exchange_.origin)) {
      co_await send_preflight();
    } else if (exchange_.route.route == Route::unknown) {
      throw Error(ErrorCode::not_found, fmt::format("There is no {}; GET / says what there is.",
                                                    exchange_.target.substr(0, 200)));
    } else if (!allows_method(exchange_.route.route, exchange_.method)) {
      co_await send(
          405, api::error_body(405, "method_not_allowed",
                               fmt::format("{} is answered to {} only", name(exchange_.route.route),
                                           allowed_methods(exchange_.route.route)),
                               exchange_.error_style));
    } else if (exchange_.route.route == Route::answer_now) {
      co_await answer_now();
    } else if (exchange_.method == "POST") {
      co_await generate(std::move(body));
    } else {
      co_await answer_get();
    }
  } catch (...) {
    failure = std::current_exception();
  }
  if (!failure) co_return;
  const Error error = error_of(failure);
  if (exchange_.status == 0) {
    co_await send_error(error);
  } else {  // in the middle of an answer: all that is left is to end it short of its last chunk
    log::error("request {} failed: {}", exchange_.id, error.message());
    exchange_.keep_alive = false;
  }
}

void Connection::check_caller() const {
  if (exchange_.host.empty() && !exchange_.is_http_1_0) {
    throw Error(ErrorCode::invalid_argument, "the request needs exactly one Host header");
  }
  if (!exchange_.host.empty() && !service_.access.allows_host(exchange_.host)) {
    throw Error(
        ErrorCode::permission_denied,
        fmt::format("this server does not answer to the name '{}'; start it with --allow-host to "
                    "add one",
                    exchange_.host.substr(0, 200)));
  }
  if (!service_.access.allows_origin(exchange_.origin, exchange_.host)) {
    throw Error(
        ErrorCode::permission_denied,
        fmt::format("pages of '{}' may not call this server; start it with --cors-origin to allow "
                    "them",
                    exchange_.origin.substr(0, 200)));
  }
}

asio::awaitable<void> Connection::answer_get() {
  switch (exchange_.route.route) {
    case Route::models:
      co_await send(200, api::model_list_body(service_.models));
      break;
    case Route::model: {
      const api::ServedModel& model = api::find_model(service_.models, exchange_.route.argument);
      co_await send(200, api::model_body(model));
      break;
    }
    case Route::openapi:
      co_await send(200, api::openapi_text());
      break;
    case Route::tokenizer_info:
      co_await send(200, api::tokenizer_info(service_.models));
      break;
    case Route::metrics:
      co_await send(200, metrics_text(service_.models, service_.connections), metrics_content_type);
      break;
    case Route::response:
    case Route::response_items:
      co_await answer_stored();
      break;
    case Route::ollama_tags:
      co_await send(200, api::ollama_tags_body(service_.models));
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
  if (!stored) throw api::no_such_response(id);
  if (exchange_.method == "DELETE") {
    service_.responses.erase(exchange_.group, id);
    co_await send(200, api::deleted_response_body(id));
  } else if (exchange_.route.route == Route::response_items) {
    const std::size_t query = std::min(exchange_.target.find('?'), exchange_.target.size() - 1);
    co_await send(200, api::input_items_body(*stored, exchange_.target.substr(query + 1)));
  } else {
    co_await send(200, stored->body);
  }
}

ResponseHead Connection::head_of(int status) const {
  ResponseHead head;
  head.status = status;
  head.keep_alive = exchange_.keep_alive;
  head.is_http_1_0 = exchange_.is_http_1_0;
  head.headers.emplace_back("x-request-id", exchange_.id);
  if (status == 405) head.headers.emplace_back("Allow", allowed_methods(exchange_.route.route));
  if (service_.access.has_cors()) head.headers.emplace_back("Vary", "Origin");
  if (service_.access.is_cors_origin(exchange_.origin)) {
    head.headers.emplace_back("Access-Control-Allow-Origin", exchange_.origin);
    head.headers.emplace_back("Access-Control-Expose-Headers",
                              "x-request-id, retry-after, retry-after-ms");
  }
  return head;
}

asio::awaitable<void> Connection::send(int status, std::string_view body,
                                       std::string_view content_type) {
  exchange_.status = status;
  ResponseHead head = head_of(status);
  head.content_type = content_type;
  head.content_bytes = body.size();
  std::string bytes = to_bytes(head);
  if (exchange_.method != "HEAD") bytes += body;
  co_await write(bytes);
}

asio::awaitable<void> Connection::send_error(const Error& error, int retry_after_s) {
  const int status = api::status_of(error, exchange_.error_style);
  if (!api::is_public(error.code()))
    log::error("request {} failed: {}", exchange_.id, error.message());
  exchange_.status = status;
  const std::string body = api::error_body(error, exchange_.id, exchange_.error_style);
  ResponseHead head = head_of(status);
  head.content_bytes = body.size();
  // Clients repeat what timed out, though here a deadline of their own has passed.
  if (error.code() == ErrorCode::timed_out) head.headers.emplace_back("x-should-retry", "false");
  if (status == 429 || status == 503 || status == 529) {
    head.headers.emplace_back("Retry-After", std::to_string(retry_after_s));
    head.headers.emplace_back("retry-after-ms", std::to_string(retry_after_s * 1000));
  }
  std::string bytes = to_bytes(head);
  if (exchange_.method != "HEAD") bytes += body;
  co_await write(bytes);
}

asio::awaitable<void> Connection::send_preflight() {
  exchange_.status = 204;
  ResponseHead head = head_of(204);
  head.headers.emplace_back("Access-Control-Allow-Methods", "GET, POST, DELETE");
  head.headers.emplace_back(
      "Access-Control-Allow-Headers",
      "authorization, x-api-key, anthropic-version, anthropic-beta, "
      "anthropic-dangerous-direct-browser-access, content-type, x-request-id, x-stainless-arch, "
      "x-stainless-async, "
      "x-stainless-helper-method, x-stainless-lang, x-stainless-os, "
      "x-stainless-package-version, x-stainless-retry-count, x-stainless-runtime, "
      "x-stainless-runtime-version, x-stainless-timeout");
  head.headers.emplace_back("Access-Control-Max-Age", "600");
  co_await write(to_bytes(head));
}

asio::awaitable<void> Connection::send_hello() {
  const std::string host = exchange_.host.empty() ? "127.0.0.1" : exchange_.host;
  co_await send(200, hello_text(service_, host), plain_text);
}

asio::awaitable<void> Connection::send_health() {
  std::string body;
  bool alive = true;
  {
    std::lock_guard lock(service_.health_mutex);
    alive = service_.health.alive();
    body = service_.health.body(service_.clock.now(), service_.draining, service_.connections);
  }
  const bool needs_ready = exchange_.route.route != Route::live;
  const bool is_well = alive && !(needs_ready && service_.draining);
  co_await send(is_well ? 200 : 503, body);
}

asio::awaitable<void> Connection::answer_now() {
  const std::string& id = exchange_.route.argument;
  if (!service_.running_requests.end_thinking(id, exchange_.group)) {
    throw Error(ErrorCode::not_found,
                fmt::format("no request with the id '{}' is running", id.substr(0, 200)));
  }
  std::string body = "{\"id\":";
  api::append_json_string(body, id);
  body += ",\"object\":\"request.answer_now\"}";
  co_await send(200, body);
}

asio::awaitable<void> Connection::generate(std::string body) {
  if (service_.draining) throw Error(ErrorCode::unavailable, "the server is shutting down");
  const RunningScope running(service_.generations);
  start_watch();
  std::exception_ptr failure;
  const api::ServedModel* model = nullptr;
  try {
    const auto work = [this, &body] {
      const Asked asked{exchange_.route.route, exchange_.id, exchange_.group};
      return prepare_body(service_, asked, body);
    };
    Prepared prepared = co_await on_text_pool(service_, work);
    model = prepared.model;
    std::string().swap(body);  // it may be large, and the answer may take long
    if (prepared.rest) prepared = co_await on_grammar_pool(service_, std::move(prepared.rest));
    if (prepared.document) {
      co_await send(200, *prepared.document);
    } else if (!client_gone_) {
      co_await run(*model, std::move(prepared.requests), *prepared.answer, prepared.answer_id);
    }
  } catch (...) {
    failure = std::current_exception();
  }
  on_news_ = nullptr;
  co_await stop_watch();
  if (!failure) co_return;
  if (exchange_.status != 0) std::rethrow_exception(failure);
  int retry_after_s = 1;
  if (model != nullptr) {
    std::lock_guard lock(service_.health_mutex);
    retry_after_s = service_.health.retry_after_s(*model);
  }
  const Error error = error_of(failure);
  co_await send_error(error, retry_after_s);
}

asio::awaitable<void> Connection::run(const api::ServedModel& model,
                                      std::vector<engine::Request> requests, api::Answer& answer,
                                      const std::string& answer_id) {
  for (engine::Request& request : requests) request.group = exchange_.group;
  const bool streams = answer.streams();
  const std::size_t at_once = streams ? requests.size() : max_requests_at_once;
  AnswerEnd end;
  std::string document;
  if (!streams) answer.begin(document);
  int choices = 0;
  for (std::size_t first = 0; first < requests.size() && !client_gone_; first += at_once) {
    const std::span wave =
        std::span(requests).subspan(first, std::min(at_once, requests.size() - first));
    const auto queue = std::make_shared<AnswerQueue>(
        static_cast<int>(wave.size()),
        streams ? service_.options.max_unsent_bytes : max_document_bytes, streams, make_wake());
    const int first_choice = choices;
    for (const engine::Request& request : wave) choices += request.choices;
    Generation generation(model.engine,
                          {std::move_iterator(wave.begin()), std::move_iterator(wave.end())}, queue,
                          first_choice);
    const RunningRequests::Listing listing(service_.running_requests, exchange_.id, answer_id,
                                           exchange_.group, generation);
    on_news_ = [this, &generation, &queue = *queue] {
      if (client_gone_ || queue.overflowed()) generation.cancel();
    };
    AnswerEnd wave_end;
    if (streams) {
      wave_end = co_await stream_answer(*queue, answer);
    } else {
      wave_end = co_await collect_document(*queue, answer, document);
    }
    on_news_ = nullptr;
    api::add_usage(end.usage, wave_end.usage);
    end.error = wave_end.error;
    end.cancelled = wave_end.cancelled;
    if (end.error || end.cancelled) break;
  }
  if (!streams) co_await send_document(end, answer, document);
  note_end(model, end);
}

// Called on the engine's thread.
std::function<void()> Connection::make_wake() {
  return [weak = weak_from_this(), executor = socket_.get_executor()] {
    asio::post(executor, [weak] {
      if (const auto self = weak.lock()) self->notify();
    });
  };
}

void Connection::notify() {
  has_news_ = true;
  news_timer_.cancel();
  if (on_news_) on_news_();
}

asio::awaitable<bool> Connection::wait_for_news(std::chrono::milliseconds at_most) {
  if (!has_news_) {
    news_timer_.expires_after(at_most);
    co_await news_timer_.async_wait(as_result);
  }
  co_return std::exchange(has_news_, false);
}

// A client that went away is answered no more, but its request is followed to the end, for the log
// and the count of running requests.
asio::awaitable<AnswerEnd> Connection::stream_answer(AnswerQueue& queue, api::Answer& answer) {
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
    if (!client_gone_) co_await write(bytes);
    if (end) co_return *end;
    bytes.clear();
    events.clear();
    if (client_gone_) on_news_();  // the wait below is for the end then
    const bool has_news = co_await wait_for_news(service_.options.heartbeat);
    end = collect(queue, answer, events);
    if (end && (end->error || end->cancelled)) {
      answer.fail(failure_of(*end, queue), exchange_.id, events);
    } else if (end) {
      answer.finish(end->usage, events);
    } else if (!has_news) {
      events += answer.heartbeat();
    }
  }
}

asio::awaitable<AnswerEnd> Connection::collect_document(AnswerQueue& queue, api::Answer& answer,
                                                        std::string& document) {
  std::optional<AnswerEnd> end;
  while (!(end = collect(queue, answer, document))) {
    co_await wait_for_news(service_.options.heartbeat);
  }
  if (end->error || end->cancelled) end->error = failure_of(*end, queue);
  co_return *end;
}

asio::awaitable<void> Connection::send_document(const AnswerEnd& end, api::Answer& answer,
                                                std::string& document) {
  if (client_gone_) {
    exchange_.status = http_status(ErrorCode::cancelled);
  } else if (end.error) {
    co_await send_error(*end.error);
  } else {
    answer.finish(end.usage, document);
    co_await send(200, document);
  }
}

Error Connection::failure_of(const AnswerEnd& end, const AnswerQueue& queue) const {
  if (end.error) return *end.error;
  if (queue.overflowed()) {
    return Error(ErrorCode::cancelled,
                 "the answer was cut off, because the client reads it too slowly");
  }
  if (service_.draining) return Error(ErrorCode::unavailable, "the server is shutting down");
  return Error(ErrorCode::cancelled, "the request was cancelled");
}

void Connection::note_end(const api::ServedModel& model, const AnswerEnd& end) {
  exchange_.details = fmt::format(
      " model={} prompt_tokens={} cached_tokens={} completion_tokens={} "
      "queue_ms={:.1f} ttft_ms={:.1f}",
      model.name, end.usage.prompt_tokens, end.usage.cached_tokens, end.usage.completion_tokens,
      end.usage.queue_ms, end.usage.ttft_ms);
  if (end.error) {
    exchange_.details += fmt::format(" end={}", ridge::name(end.error->code()));
  } else if (end.cancelled) {
    exchange_.details += " end=cancelled";
  }
}

void Connection::log() const {
  const double duration_ms =
      std::chrono::duration<double, std::milli>(service_.clock.now() - exchange_.started_at)
          .count();
  const bool is_probe =
      exchange_.route.route == Route::health || exchange_.route.route == Route::live ||
      exchange_.route.route == Route::ready || exchange_.route.route == Route::metrics;
  const std::string line =
      fmt::format("{} {} {} id={}{} duration_ms={:.1f}{}", exchange_.method.substr(0, 16),
                  name(exchange_.route.route), exchange_.status, exchange_.id, exchange_.details,
                  duration_ms, client_gone_ ? " client_gone" : "");
  log::write(is_probe ? log::Level::debug : log::Level::info, line);
}

}  // namespace ridge::server
