#include "server/otlp_exporter.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <functional>
#include <span>
#include <utility>

#include "api/otlp_spans.h"
#include "base/error.h"
#include "base/log.h"
#include "platform/http_client.h"
#include "platform/url.h"

namespace ridge::server {
namespace {

using std::chrono::steady_clock;

constexpr platform::HttpLimits export_limits{.connect = std::chrono::seconds(5),
                                             .stall = std::chrono::seconds(10)};
constexpr std::size_t max_answer_bytes = 64 << 10;
constexpr std::chrono::minutes rejections_told_each{1};

OtlpOptions with_path(OtlpOptions options) {
  try {
    platform::Url::parse(options.url);
  } catch (const Error& error) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("otlp-traces: {}; give a collector's address, such as "
                            "http://127.0.0.1:4318",
                            error.message()),
                "otlp_traces");
  }
  const std::size_t authority = options.url.find("://") + 3;
  const std::size_t path = options.url.find('/', authority);
  if (path == std::string::npos) options.url += '/';
  if (path == std::string::npos || path + 1 == options.url.size()) options.url += "v1/traces";
  return options;
}

// Reads what a collector says, but not without end.
struct Bounded {
  std::string text;
  void operator()(std::span<const std::byte> piece) {
    if (text.size() + piece.size() > max_answer_bytes) {
      throw Error(ErrorCode::io, "the collector says too much");
    }
    text.append(reinterpret_cast<const char*>(piece.data()), piece.size());
  }
};

// The statuses after which OTLP/HTTP lets a client send the same again.
bool may_retry(int status) {
  return status == 0 || status == 429 || status == 502 || status == 503 || status == 504;
}

}  // namespace

OtlpExporter::OtlpExporter(OtlpOptions options) : options_(with_path(std::move(options))) {
  thread_ = std::thread([this] { serve(); });
}

OtlpExporter::~OtlpExporter() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    over_at_ = steady_clock::now() + options_.farewell;
  }
  changed_.notify_one();
  thread_.join();
}

void OtlpExporter::push(std::shared_ptr<const api::RequestRecord> record) {
  bool is_full;
  {
    std::lock_guard lock(mutex_);
    if (waiting_.size() >= options_.max_waiting) {
      ++counts_.dropped;
      return;
    }
    waiting_.push_back(std::move(record));
    is_full = waiting_.size() >= options_.max_batch;
  }
  if (is_full) changed_.notify_one();
}

OtlpExporter::Counts OtlpExporter::counts() const {
  std::lock_guard lock(mutex_);
  return counts_;
}

bool OtlpExporter::is_stopping() const {
  std::lock_guard lock(mutex_);
  return stopping_;
}

bool OtlpExporter::is_over() const {
  std::lock_guard lock(mutex_);
  return steady_clock::now() >= over_at_;
}

// False when it is stopping and nothing is left.
bool OtlpExporter::wait_for_batch(Batch& batch) {
  std::unique_lock lock(mutex_);
  const auto is_due = [this] { return stopping_ || waiting_.size() >= options_.max_batch; };
  while (!changed_.wait_for(lock, options_.delay, is_due) && waiting_.empty()) {
  }
  if (waiting_.empty()) return false;
  const auto count = static_cast<ptrdiff_t>(std::min(waiting_.size(), options_.max_batch));
  batch.assign(std::move_iterator(waiting_.begin()), std::move_iterator(waiting_.begin() + count));
  waiting_.erase(waiting_.begin(), waiting_.begin() + count);
  return true;
}

void OtlpExporter::serve() {
  Batch batch;
  while (wait_for_batch(batch)) send(batch);
}

// What the collector says.
std::string OtlpExporter::post(const Batch& batch) {
  platform::HttpClient client(export_limits, [this] { return is_over(); });
  platform::HttpRequest request;
  request.url = options_.url;
  request.content_type = "application/json";
  request.body = api::otlp_body(batch);
  const auto attempt = [&] {
    Bounded answer;
    try {
      client.send(request, {}, std::ref(answer));
    } catch (platform::HttpError& error) {
      error.may_pass = error.may_pass && may_retry(error.status);
      throw;
    }
    return answer.text;
  };
  return platform::with_retries(platform::Retries(options_.retry, [this] { return is_stopping(); }),
                                attempt);
}

void OtlpExporter::send(const Batch& batch) {
  std::string failure, answer;
  try {
    answer = post(batch);
  } catch (const std::exception& error) {
    failure = error.what();
  }
  if (failure.empty()) note_rejection(answer);
  std::lock_guard lock(mutex_);
  (failure.empty() ? counts_.exported : counts_.failed) += batch.size();
  const bool was_failing = std::exchange(failing_, !failure.empty());
  if (failing_ && !was_failing) {
    log::warning("traces of {} requests could not be exported, and more may be lost: {}",
                 batch.size(), failure);
  } else if (was_failing && !failing_) {
    log::info("traces are exported again");
  }
}

void OtlpExporter::note_rejection(std::string_view answer) {
  const api::OtlpRejection rejection = api::otlp_rejection(answer);
  if (rejection.is_empty()) return;
  const auto now = steady_clock::now();
  std::lock_guard lock(mutex_);
  counts_.rejected_spans += static_cast<uint64_t>(rejection.spans);
  const bool was_told = rejection_told_at_ != steady_clock::time_point{};
  if (was_told && now - rejection_told_at_ < rejections_told_each) return;
  rejection_told_at_ = now;
  log::warning("the collector of traces took an export but for {} spans ({} since the start): {}",
               rejection.spans, counts_.rejected_spans,
               rejection.message.empty() ? "it says not why" : rejection.message);
}

}  // namespace ridge::server
