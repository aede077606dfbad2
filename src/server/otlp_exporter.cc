#include "server/otlp_exporter.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
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

constexpr platform::HttpLimits limits{.connect = std::chrono::seconds(5),
                                      .stall = std::chrono::seconds(10)};
constexpr int64_t max_answer_bytes = 64 << 10;
constexpr std::chrono::seconds longest_retry_after{30};

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
  int64_t bytes = 0;
  void operator()(std::span<const std::byte> piece) {
    bytes += static_cast<int64_t>(piece.size());
    if (bytes > max_answer_bytes) throw Error(ErrorCode::io, "the collector says too much");
  }
};

// The statuses after which OTLP/HTTP lets a client send the same again.
bool may_retry(const platform::HttpError& error) {
  switch (error.status) {
    case 0:
    case 429:
    case 502:
    case 503:
    case 504:
      return error.may_pass;
  }
  return false;
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

// False where there is no more time.
bool OtlpExporter::wait_to_retry(std::chrono::milliseconds time) {
  std::unique_lock lock(mutex_);
  const auto until = steady_clock::now() + time;
  changed_.wait_until(lock, until, [this] { return stopping_; });
  // At the end there is no time for patience.
  return !stopping_ && steady_clock::now() < over_at_;
}

void OtlpExporter::send(const Batch& batch) {
  std::string failure;
  try {
    platform::HttpClient client(limits, [this] { return is_over(); });
    platform::HttpRequest request;
    request.url = options_.url;
    request.content_type = "application/json";
    request.body = api::otlp_body(batch);
    std::chrono::milliseconds pause = options_.first_retry;
    for (int tries = 1;; ++tries) {
      try {
        client.get(request, {}, Bounded());
        break;
      } catch (const platform::HttpError& error) {
        if (tries == options_.tries || !may_retry(error)) throw;
        const std::chrono::seconds wanted(error.retry_after_s.value_or(0));
        const auto asked = std::min(wanted, longest_retry_after);
        if (!wait_to_retry(std::max<std::chrono::milliseconds>(pause, asked))) throw;
        pause *= 2;
      }
    }
  } catch (const std::exception& error) {
    failure = error.what();
  }
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

}  // namespace ridge::server
