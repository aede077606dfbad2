// What is told of requests that run or ran, one by one and in sum.
#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <optional>

#include "api/json_text.h"
#include "api/stored_response.h"
#include "api/url_query.h"
#include "base/error.h"
#include "server/batch_runner.h"
#include "server/connection.h"
#include "server/metrics.h"

namespace ridge::server {

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

// Of a response that is being made, whose client then hears of it.
asio::awaitable<void> Connection::cancel_response() {
  const std::string& id = exchange_.route.argument;
  const auto may_use = [this](const std::string& model) { return this->may_use(model); };
  std::optional<std::string> model;
  if (id.starts_with("resp_")) {  // other things that run have other ids
    model = service_.running_requests.cancel(
        id, exchange_.group, may_use, Error(ErrorCode::cancelled, "the response was cancelled"));
  }
  if (!model) {
    const auto stored = service_.responses.find(exchange_.group, id);
    if (!stored || !callable_models().has(stored->model)) throw api::no_such_response(id);
    throw Error(ErrorCode::invalid_argument,
                fmt::format("Response '{}' has ended already; there is nothing to cancel.",
                            id.substr(0, 200)));
  }
  co_await send(200, api::cancelled_response_body(id, *model));
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

asio::awaitable<void> Connection::send_metrics() {
  ServerFigures figures{.connections = service_.connections,
                        .by_request = service_.gen_ai_metrics.collect()};
  const platform::Principal* const who = exchange_.principal.get();
  const bool sees_all = who == nullptr || who->sees_all_projects;
  if (service_.meter) {
    const auto project = sees_all ? std::nullopt : std::optional(who->project_name);
    std::ranges::move(service_.usage_metrics.collect(project),
                      std::back_inserter(figures.by_request));
    figures.usage_waits = service_.meter->waits_for_database();
  }
  if (service_.batch_runner) {
    std::ranges::move(service_.batch_runner->metrics().collect(),
                      std::back_inserter(figures.by_request));
  }
  if (service_.platform.keeper && sees_all) figures.kept = service_.platform.keeper->counts();
  if (service_.exporter) figures.exports = service_.exporter->counts();
  co_await send(200, metrics_text(*service_.models.list(), figures), metrics_content_type);
}

}  // namespace ridge::server
