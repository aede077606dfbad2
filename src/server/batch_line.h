#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "platform/batch/batch_mark.h"
#include "server/answering.h"
#include "server/batch_input.h"
#include "server/batch_results.h"

namespace ridge::server {

// On whose behalf the lines of a batch are answered.
struct BatchOrigin {
  std::string batch_id, endpoint, group;
  std::shared_ptr<const platform::Principal> principal;  // null where nobody is asked
};

// What has become of a line.
struct LineOutcome {
  BatchRequest request;
  int status = 0;               // 0: it was cut off
  std::string code, message;    // of a refusal
  int64_t retry_after_ms = 0;   // of one that waiting may help
  bool may_try_again = false;   // it has no result, and should get one
  std::string text;             // else the line of the output or error file
  platform::BatchMark mark;     // where that stands, if it is on the disk
  bool is_marked = false;       // and the batch knows of it
};

// A request of a batch while it is answered, as one that came over a connection is. In the
// scheduler it stands behind all of these.
class BatchLine final : public Answering {
 public:
  BatchLine(Service& service, BatchOrigin origin, BatchRequest request,
            std::shared_ptr<BatchResults> results);

  // Once only, on executor(). Does not throw.
  asio::awaitable<LineOutcome> run();
  // From any thread: it is cut off, and what it has used is settled.
  void abort();

 private:
  asio::awaitable<void> send(int status, std::string_view body, std::string_view content_type,
                             HeaderFields headers) override;
  asio::awaitable<void> send_failure(int status, std::string_view body, int64_t retry_after_ms,
                                     bool has_timed_out) override;
  asio::awaitable<AnswerEnd> stream_answer(AnswerQueue& queue, Making& making) override;
  asio::awaitable<void> before_settlement(const Making& making, const AnswerEnd& end) override;
  std::string line_of(int status, std::string_view body) const;

  const BatchOrigin origin_;
  BatchRequest request_;
  const std::shared_ptr<BatchResults> results_;
  LineOutcome outcome_;
};

}  // namespace ridge::server
