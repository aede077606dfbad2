#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <nlohmann/json.hpp>
#include <span>

#include "api/usage_json.h"
#include "server/answering.h"
#include "server/as_result.h"
#include "server/preparation.h"

namespace ridge::server {
namespace {

constexpr std::size_t max_document_bytes = 256u << 20;  // of an answer that is sent in one piece

// Of one HTTP request at a time: many embeddings take turns with others' requests, and find room in
// a queue that is bounded.
constexpr std::size_t max_requests_at_once = 64;
constexpr std::chrono::milliseconds room_poll{50};  // while others have filled the queue

// What is shaped at once; more would keep the other connections of a network thread waiting.
constexpr std::size_t max_inline_bytes = 64u << 10;

// Runs `work` on what the engine has said, here or, where that is much, on a text thread.
template <typename Work>
asio::awaitable<void> shape(Service& service, const std::string& group, std::size_t bytes,
                            Work work) {
  if (bytes <= max_inline_bytes) {
    work();
  } else {
    co_await on_pool(service.text_pool, group, std::move(work));
  }
}

// Returns the tokens that it was told of.
int add_news(AnswerQueue& queue, api::Answer& answer, KeptExchange* kept, std::string& out) {
  int tokens = 0;
  for (AnswerEvent& event : queue.take()) {
    if (kept != nullptr) kept->add(event);
    switch (event.kind) {
      case AnswerEvent::Kind::text:
        answer.add(event.choice, event.delta, out);
        tokens += event.delta.token_count;
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
  return tokens;
}

// Scored prompts come at once and are bounded when they are read, so that a stream has room for
// them beside what its client may leave behind.
std::size_t prompt_bytes(std::span<const engine::Request> requests) {
  std::size_t bytes = 0;
  for (const engine::Request& request : requests) {
    if (request.prompt_logprobs < 0) continue;
    bytes += request.prompt_tokens.size() *
             (sizeof(engine::TokenInfo) +
              static_cast<std::size_t>(request.prompt_logprobs) * sizeof(engine::TokenLogprob));
  }
  return bytes;
}

}  // namespace

asio::awaitable<void> Answering::generate(std::string body) {
  if (service_.draining) throw Error(ErrorCode::unavailable, "the server is shutting down");
  const RunningScope running(service_.generations);
  if (exchange_.is_recorded) begin_record();
  start_watch();
  std::exception_ptr failure;
  std::shared_ptr<const CallableModels::List> models;  // which hold the next
  const api::ServedModel* model = nullptr;
  try {
    const auto work = [this, &body, &models] {
      check_client();
      const api::Json document = api::parse_json(body);
      models = models_for(document);
      const auto is_callable = [this](const std::string& name) {
        return callable_models().has(name);
      };
      const Asked asked{exchange_.route.route, exchange_.id, exchange_.group, *models, is_callable};
      return prepare_body(service_, asked, document);
    };
    Prepared prepared = co_await on_pool(service_.text_pool, exchange_.group, work);
    model = prepared.model;
    if (!prepared.document) begin_keeping(*model, std::move(body));
    std::string().swap(body);  // it may be large, and the answer may take long
    if (prepared.rest) {
      const auto keep_loaded = prepared.keep_loaded;
      const auto rest = [this, &prepared] {
        check_client();
        return prepared.rest();
      };
      prepared = co_await on_pool(service_.grammar_pool, exchange_.group, rest);
      prepared.keep_loaded = keep_loaded;
    }
    if (prepared.document) {
      // Nothing but this is asked; beside a prompt, the wish counts for what it may.
      if (prepared.keep_loaded && !is_administrator()) {
        throw Error(ErrorCode::permission_denied,
                    "this API key lacks the scope 'admin', which unloading a model needs");
      }
      keep_loaded(*model, prepared.keep_loaded);
      drop_record();
      co_await send(200, *prepared.document);
    } else if (!client_gone_) {
      co_await run(std::move(prepared));
    }
  } catch (...) {
    failure = std::current_exception();
  }
  on_news_ = nullptr;
  co_await known_refusal();   // whose headers go with what failed before
  exchange_.metered.reset();  // which settles what came to no end
  keep("failed");             // the same
  co_await stop_watch();
  if (!failure) co_return;
  if (exchange_.status != 0) std::rethrow_exception(failure);
  const Error error = error_of(failure, exchange_.id);
  int retry_after_s = 1;
  if (model != nullptr && error.code() == ErrorCode::queue_full) {
    const std::lock_guard lock(service_.health_mutex);
    retry_after_s = service_.health.retry_after_s(*model, exchange_.group, service_.clock.now());
  }
  co_await send_error(error, retry_after_s);
}

// From the end of a request on, and before its client learns of that.
void Answering::keep_loaded(const api::ServedModel& model,
                            std::optional<Clock::Duration> unused_for) const {
  if (!unused_for) return;
  using engine::WhoAsks;
  model.engine->keep_loaded(*unused_for,
                            is_administrator() ? WhoAsks::administrator : WhoAsks::caller);
}

// Later than others anybody may be; earlier, who may do to all what all notice.
void Answering::check_priority(const engine::Request& request) const {
  if (request.priority <= 0 || is_administrator()) return;
  throw Error(ErrorCode::permission_denied,
              "'priority' is below 0, before the requests of others: this API key lacks the scope "
              "'admin', which that needs",
              "priority");
}

asio::awaitable<void> Answering::run(Prepared prepared) {
  for (const engine::Request& request : prepared.requests) check_priority(request);
  const bool may_begin = co_await reserve(prepared);
  if (!may_begin) co_return;
  const bool may_be_asked = co_await moderate(prepared);
  if (!may_be_asked) co_return;
  std::vector<engine::Request>& requests = prepared.requests;
  for (engine::Request& request : requests) {
    if (exchange_.priority) request.priority = *exchange_.priority;
    if (exchange_.principal) request.group_weight = exchange_.principal->project_weight;
  }
  record_requests(prepared);
  Making making{.model = *prepared.model,
                .answer = *prepared.answer,
                .id = prepared.answer_id,
                .keep_loaded = prepared.keep_loaded};
  const bool streams = making.answer.streams();
  const std::size_t at_once = streams ? requests.size() : max_requests_at_once;
  AnswerEnd end;
  if (!streams) making.answer.begin(making.document);
  for (std::size_t first = 0; first < requests.size() && !client_gone_; first += at_once) {
    const auto wave =
        std::span(requests).subspan(first, std::min(at_once, requests.size() - first));
    const std::optional<AnswerEnd> wave_end = co_await run_wave(making, wave);
    if (!wave_end) co_return;
    api::add_usage(end.usage, wave_end->usage);
    if (!end.reason) end.reason = wave_end->reason;
    if (exchange_.metered && !streams) {
      exchange_.metered->note(end.usage.prompt_tokens, end.usage.completion_tokens);
    }
    end.error = wave_end->error;
    end.cancelled = wave_end->cancelled;
    if (end.error || end.cancelled) break;
  }
  if (!streams) {
    keep_loaded(making.model, making.keep_loaded);
    co_await finish_document(making, end);
    co_await before_settlement(making, end);
    const std::optional<Error> unrecorded = co_await settle(end);
    if (unrecorded) end.error = unrecorded;
    note_end(making.model, end);
    co_await send_document(making, end);
  }
}

asio::awaitable<std::optional<AnswerEnd>> Answering::run_wave(Making& making,
                                                              std::span<engine::Request> wave) {
  const bool streams = making.answer.streams();
  const auto queue = std::make_shared<AnswerQueue>(
      static_cast<int>(wave.size()),
      streams ? service_.options.max_unsent_bytes + prompt_bytes(wave) : max_document_bytes,
      streams, make_wake());
  Generation generation(making.model.engine, queue, making.choices);
  on_news_ = [this, &generation, &queue = *queue] {
    if (client_gone_ || queue.overflowed()) generation.cancel();
  };
  const bool is_first = making.choices == 0;
  for (const engine::Request& request : wave) {
    co_await submit(generation, request, /*waits_for_room=*/!is_first);
    making.choices += request.choices;
    making.prompt_tokens += static_cast<int64_t>(request.prompt_tokens.size());
    if (exchange_.metered) exchange_.metered->begin();
    if (exchange_.kept) exchange_.kept->begin();
  }
  const RunningRequests::Listing listing(service_.running_requests, exchange_.id, making.id,
                                         exchange_.group, making.model.name,
                                         exchange_.is_recorded ? exchange_.principal : nullptr,
                                         generation);  // (batches look after their rights)
  // The engine works meanwhile, and nobody sees of what before it is known to be counted.
  const platform::Refusal* refusal = co_await known_refusal();
  if (refusal != nullptr) {
    on_news_ = nullptr;
    generation.cancel();
    co_await send_refusal(*refusal);
    co_return std::nullopt;
  }
  AnswerEnd end;
  if (streams) {
    end = co_await stream_answer(*queue, making);
  } else {
    end = co_await collect_document(*queue, making);
  }
  on_news_ = nullptr;
  co_return end;
}

// What an answer began with was admitted; where others have filled the queue since, the rest waits,
// or the work on its beginning would be lost.
asio::awaitable<void> Answering::submit(Generation& generation, const engine::Request& request,
                                        bool waits_for_room) {
  while (true) {
    engine::Request submitted = request;
    if (request.deadline) submitted.deadline = rest_of_deadline(*request.deadline);
    try {
      generation.submit(std::move(submitted));
      co_return;
    } catch (const Error& error) {
      if (!waits_for_room || error.code() != ErrorCode::queue_full) throw;
    }
    co_await wait_for_news(room_poll);
    check_client();
  }
}

// Whoever left while its request waited for its turn takes none.
void Answering::check_client() const {
  if (client_gone_) throw Error(ErrorCode::cancelled, "the client went away");
}

// Deadlines count from the arrival of the request, those of engines from the submission.
Clock::Duration Answering::rest_of_deadline(Clock::Duration deadline) const {
  const Clock::Duration rest = deadline - (service_.clock.now() - exchange_.started_at);
  if (rest > Clock::Duration::zero()) return rest;
  throw Error(ErrorCode::timed_out, "the request's deadline passed before all of it was begun");
}

// Called on the engine's thread.
std::function<void()> Answering::make_wake() {
  return [weak = weak_from_this(), executor = executor_] {
    asio::post(executor, [weak] {
      if (const auto self = weak.lock()) self->notify();
    });
  };
}

void Answering::notify() {
  has_news_ = true;
  news_timer_.cancel();
  if (on_news_) on_news_();
}

asio::awaitable<bool> Answering::wait_for_news(std::chrono::milliseconds at_most) {
  if (!has_news_) {
    news_timer_.expires_after(at_most);
    co_await news_timer_.async_wait(as_result);
  }
  co_return std::exchange(has_news_, false);
}

asio::awaitable<void> Answering::take_news(AnswerQueue& queue, Making& making, std::string& out) {
  const auto add = [&] {
    making.told_tokens += add_news(queue, making.answer, exchange_.kept.get(), out);
  };
  co_await shape(service_, exchange_.group, queue.bytes(), add);
  if (exchange_.metered) exchange_.metered->note(making.prompt_tokens, making.told_tokens);
}

asio::awaitable<AnswerEnd> Answering::collect_document(AnswerQueue& queue, Making& making) {
  while (!queue.has_ended()) co_await wait_for_news(service_.options.heartbeat);
  making.bytes += queue.bytes();
  const auto add = [&] { add_news(queue, making.answer, exchange_.kept.get(), making.document); };
  co_await shape(service_, exchange_.group, queue.bytes(), add);
  AnswerEnd end = *queue.end();
  if (end.error || end.cancelled) end.error = failure_of(end, queue);
  co_return end;
}

asio::awaitable<void> Answering::finish_document(Making& making, AnswerEnd& end) {
  if (client_gone_ || end.error) co_return;
  const auto finish = [&] { making.answer.finish(end.usage, making.document); };
  co_await shape(service_, exchange_.group, making.bytes, finish);
}

asio::awaitable<void> Answering::send_document(Making& making, const AnswerEnd& end) {
  if (client_gone_) {
    exchange_.status = http_status(ErrorCode::cancelled);
  } else if (end.error) {
    co_await send_error(*end.error);
  } else {
    co_await send(200, making.document);
  }
}

Error Answering::failure_of(const AnswerEnd& end, const AnswerQueue& queue) const {
  if (end.error) return *end.error;
  if (queue.overflowed()) {
    return Error(ErrorCode::cancelled,
                 "the answer was cut off, because the client reads it too slowly");
  }
  if (service_.draining) return Error(ErrorCode::unavailable, "the server is shutting down");
  return Error(ErrorCode::cancelled, "the request was cancelled");
}

void Answering::note_end(const api::ServedModel& model, const AnswerEnd& end) {
  exchange_.usage = end.usage;
  std::string behind;
  if (model.is_endpoint()) {
    behind = fmt::format(" endpoint_model={} endpoint_version={}", model.endpoint_model,
                         model.endpoint_version);
  }
  exchange_.details = fmt::format(
      " model={}{} prompt_tokens={} cached_tokens={} completion_tokens={} "
      "queue_ms={:.1f} ttft_ms={:.1f}",
      model.name, behind, end.usage.prompt_tokens, end.usage.cached_tokens,
      end.usage.completion_tokens, end.usage.queue_ms, end.usage.ttft_ms);
  if (end.error) {
    exchange_.error = ridge::name(end.error->code());
  } else if (end.cancelled) {
    exchange_.error = ridge::name(ErrorCode::cancelled);
  }
  if (!exchange_.error.empty()) exchange_.details += " end=" + exchange_.error;
}

}  // namespace ridge::server
