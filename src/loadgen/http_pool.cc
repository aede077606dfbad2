#include "loadgen/http_pool.h"

#include <curl/curl.h>
#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdlib>

#include "base/error.h"
#include "platform/url.h"

namespace ridge::loadgen {
namespace {

constexpr long kept_connections = 4096;
constexpr size_t largest_document_bytes = 16u << 20;

// Each stream takes a descriptor, and many systems start programs with 1,024.
void allow_many_descriptors() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, 65536);
  setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

struct HttpPool::Exchange {
  Exchange(Id exchange_id, HttpListener& heard_by) : id(exchange_id), listener(heard_by) {}
  ~Exchange() {
    curl_slist_free_all(headers);
    curl_easy_cleanup(easy);
  }
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;

  void add_header(const std::string& line) {
    curl_slist* longer = curl_slist_append(headers, line.c_str());
    if (longer == nullptr) throw Error(ErrorCode::io, "no memory for a request");
    headers = longer;
  }

  void tell_head() {
    if (head_told) return;
    head_told = true;
    long status = 0;
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    curl_off_t wait_s = 0;
    curl_easy_getinfo(easy, CURLINFO_RETRY_AFTER, &wait_s);
    listener.on_head(static_cast<int>(status),
                     wait_s > 0 ? std::optional(static_cast<double>(wait_s)) : std::nullopt);
  }

  static size_t take(char* bytes, size_t size, size_t count, void* self_pointer) {
    auto& self = *static_cast<Exchange*>(self_pointer);
    const Clock::TimePoint now = SteadyClock().now();
    self.tell_head();
    self.refused = !self.listener.on_bytes({bytes, size * count}, now);
    return self.refused ? 0 : size * count;
  }

  const Id id;
  HttpListener& listener;
  CURL* easy = nullptr;
  curl_slist* headers = nullptr;
  bool head_told = false;
  bool refused = false;
};

HttpPool::HttpPool() {
  allow_many_descriptors();
  curl_global_init(CURL_GLOBAL_DEFAULT);
  multi_ = curl_multi_init();
  if (multi_ == nullptr) throw Error(ErrorCode::io, "libcurl cannot start");
  curl_multi_setopt(static_cast<CURLM*>(multi_), CURLMOPT_MAXCONNECTS, kept_connections);
}

HttpPool::~HttpPool() {
  for (auto& [id, exchange] : exchanges_) {
    curl_multi_remove_handle(static_cast<CURLM*>(multi_), exchange->easy);
  }
  exchanges_.clear();
  curl_multi_cleanup(static_cast<CURLM*>(multi_));
}

HttpPool::Id HttpPool::start(const HttpAsk& ask, HttpListener& listener) {
  auto exchange = std::make_unique<Exchange>(next_id_++, listener);
  CURL* easy = exchange->easy = curl_easy_init();
  if (easy == nullptr) throw Error(ErrorCode::io, "libcurl cannot make a request");
  curl_easy_setopt(easy, CURLOPT_URL, ask.url.c_str());
  curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, static_cast<long>(ask.timeout.count()));
  if (platform::Url::parse(ask.url).is_this_machine()) {
    curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
  }
  curl_easy_setopt(easy, CURLOPT_PRIVATE, exchange.get());
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, &Exchange::take);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, exchange.get());
  if (!ask.body.empty()) {
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(ask.body.size()));
    curl_easy_setopt(easy, CURLOPT_COPYPOSTFIELDS, ask.body.c_str());
    exchange->add_header("Content-Type: application/json");
    // Waiting for leave to send a large body would count as the server's time.
    exchange->add_header("Expect:");
  }
  if (!ask.api_key.empty()) exchange->add_header("Authorization: Bearer " + ask.api_key);
  curl_easy_setopt(easy, CURLOPT_HTTPHEADER, exchange->headers);
  const CURLMcode failure = curl_multi_add_handle(static_cast<CURLM*>(multi_), easy);
  if (failure != CURLM_OK) throw Error(ErrorCode::io, curl_multi_strerror(failure));
  const Id id = exchange->id;
  exchanges_.emplace(id, std::move(exchange));
  return id;
}

void HttpPool::close(Id id) {
  const auto found = exchanges_.find(id);
  RIDGE_ASSERT(found != exchanges_.end());
  curl_multi_remove_handle(static_cast<CURLM*>(multi_), found->second->easy);
  exchanges_.erase(found);
}

void HttpPool::finish(Exchange& exchange, int result) {
  const Clock::TimePoint now = SteadyClock().now();
  HttpListener& listener = exchange.listener;
  const bool refused = exchange.refused;
  if (result == CURLE_OK) exchange.tell_head();
  const std::string failure =
      result == CURLE_OK ? "" : curl_easy_strerror(static_cast<CURLcode>(result));
  close(exchange.id);
  if (!refused) listener.on_end(failure, now);
}

void HttpPool::poll(Clock::Duration longest) {
  auto* multi = static_cast<CURLM*>(multi_);
  int running = 0;
  CURLMcode failure = curl_multi_perform(multi, &running);
  // Up, so that a wait for a time of day does not spin through its last millisecond.
  const auto wait = std::chrono::ceil<std::chrono::milliseconds>(longest);
  if (failure == CURLM_OK && wait.count() > 0) {
    failure = curl_multi_poll(multi, nullptr, 0, static_cast<int>(wait.count()), nullptr);
    if (failure == CURLM_OK) failure = curl_multi_perform(multi, &running);
  }
  if (failure != CURLM_OK) throw Error(ErrorCode::io, curl_multi_strerror(failure));
  int left = 0;
  while (const CURLMsg* message = curl_multi_info_read(multi, &left)) {
    if (message->msg != CURLMSG_DONE) continue;
    Exchange* exchange = nullptr;
    curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &exchange);
    finish(*exchange, message->data.result);
  }
}

HttpAnswer ask_once(HttpPool& pool, const HttpAsk& ask) {
  struct Waiting final : HttpListener {
    void on_head(int status, std::optional<double>) override { answer.status = status; }
    bool on_bytes(std::string_view bytes, Clock::TimePoint) override {
      answer.body += bytes;
      ended = answer.body.size() > largest_document_bytes;
      return !ended;
    }
    void on_end(std::string_view why, Clock::TimePoint) override {
      failure = why;
      ended = true;
    }
    HttpAnswer answer;
    std::string failure;
    bool ended = false;
  } waiting;
  pool.start(ask, waiting);
  while (!waiting.ended) pool.poll(std::chrono::milliseconds(100));
  if (waiting.answer.body.size() > largest_document_bytes) {
    throw Error(ErrorCode::io, fmt::format("the answer of {} is larger than 16 MiB", ask.url));
  }
  if (!waiting.failure.empty()) {
    throw Error(ErrorCode::io, fmt::format("cannot talk to {}: {}", ask.url, waiting.failure));
  }
  return waiting.answer;
}

}  // namespace ridge::loadgen
