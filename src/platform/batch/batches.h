#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "platform/batch/batch_mark.h"
#include "platform/batch/files.h"
#include "platform/database/database.h"

namespace ridge::platform {

enum class BatchStatus {
  validating,
  in_progress,
  finalizing,  // all lines that will have a result have it; the files are written
  cancelling,
  completed,
  failed,  // before any line began: what was wrong is in its errors; or as its key is of no use
  expired,
  cancelled,
};

std::string_view name(BatchStatus status);
// Whether it is over, and its status final.
bool has_ended(BatchStatus status);

// Why a batch failed.
struct BatchError {
  std::string code, message;
  std::string param;  // may be empty
  int64_t line = 0;   // of the input, from 1; 0: of none
};

// Times are milliseconds since 1970; 0 has not come.
struct Batch {
  std::string id;  // "batch_..."
  std::string project_id;
  std::string key_id;      // of whom it was made by; empty where nobody is asked
  bool is_person = false;  // then it is a user's id
  std::string endpoint;    // "/v1/chat/completions"
  std::string input_file_id, output_file_id, error_file_id;  // the latter two empty without a file
  int64_t output_lifetime_ms = 0;                            // of both
  std::string metadata;                                      // JSON, or empty
  BatchStatus status = BatchStatus::validating;
  std::vector<BatchError> errors;
  std::string waits_code, waits_message;  // why it does not go on at the moment; empty: it does
  int64_t total = 0, completed = 0, failed = 0;  // lines
  int64_t created_at_ms = 0, expires_at_ms = 0, in_progress_at_ms = 0, finalizing_at_ms = 0,
          completed_at_ms = 0, failed_at_ms = 0, expired_at_ms = 0, cancelling_at_ms = 0,
          cancelled_at_ms = 0;
};

struct BatchPage {
  std::vector<Batch> batches;
  bool has_more = false;
};

// The batches of all projects; each is one project's, and to all others as if it were not there.
// Any thread. Throws as Database, and what is said. (ADR 0032)
class Batches {
 public:
  static constexpr int64_t window_ms = 24 * 3'600'000;
  static constexpr int64_t lease_ms = 60'000;
  static constexpr int64_t most_open = 100;  // of a project, that have not ended
  static constexpr int64_t kept_ms = int64_t{90} * 24 * 3'600'000;  // those that have

  // The files must outlive it.
  Batches(Database& database, Files& files, Identity::NowMs now_ms = {});

  // For clients. `wanted` has project, key, endpoint, input file, lifetime and metadata. Throws
  // not_found for a file that is not the project's, invalid_argument for one of another purpose or
  // where the project has most_open already.
  Batch create(Batch wanted, std::string_view actor = "server");
  Batch find(const std::string& project_id, const std::string& id);
  // The newest first, behind `after` where it is not empty. Throws not_found.
  BatchPage list(const std::string& project_id, const std::string& after, std::size_t limit);
  // Throws invalid_argument where it has ended, or is about to.
  Batch cancel(const std::string& project_id, const std::string& id,
               std::string_view actor = "server");

  // For the server that runs them.
  // Those that have not ended and are now this server's, for the length of a lease: those that
  // already were, and up to `most` in all of those that are nobody's, the two oldest of each
  // project.
  std::vector<Batch> claim(const std::string& server, std::size_t most);
  // From validating.
  void begin(const std::string& id, int64_t total);
  void fail(const std::string& id, const std::vector<BatchError>& errors);
  // Empty: it goes on.
  void set_waiting(const std::string& id, const std::string& code, const std::string& message);
  // As insert_mark().
  void mark(const BatchMark& mark);
  // In the order of lines.
  std::vector<BatchMark> marks(const std::string& id);
  // From in_progress; one that is cancelled keeps its status. Gives it ids for its files, the same
  // at each call.
  Batch begin_finalizing(const std::string& id);
  // Records the files, which are on the disk, with their bytes; 0: there is none. The marks go.
  void finish(const Batch& batch, BatchStatus status, int64_t output_bytes, int64_t error_bytes);

  // Forgets batches that ended long ago, and those of removed projects once they have.
  int sweep();

 private:
  Database& database_;
  Files& files_;
  const Identity::NowMs now_ms_, least_now_ms_;
};

}  // namespace ridge::platform
