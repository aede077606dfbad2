#include "server/batch_results.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "base/log.h"
#include "platform/batch/files.h"

namespace ridge::server {

BatchResults::BatchResults(const platform::Folder& folder, const std::string& batch_id,
                           std::string server)
    : batch_id_(batch_id),
      server_(std::move(server)),
      file_(folder.open(file_name(batch_id_, server_), O_WRONLY | O_CREAT | O_APPEND, 0600)),
      bytes_(platform::status_of(file_.get()).size_bytes) {
  folder.sync();
}

std::string BatchResults::file_name(std::string_view batch_id, std::string_view server) {
  return fmt::format("{}.{}", batch_id, server);
}

platform::BatchMark BatchResults::append(int64_t line, std::string_view text, bool is_error) {
  const std::lock_guard lock(mutex_);
  try {
    platform::write_to_disk(file_.get(), text);
    platform::sync(file_.get(), "results of a batch");
  } catch (...) {
    // What is there in part is named by no mark; it goes, so that it takes no room.
    if (::ftruncate(file_.get(), bytes_) != 0) {
      log::warning("a part of a result of {} is left over", batch_id_);
      bytes_ = platform::status_of(file_.get()).size_bytes;
    }
    throw;
  }
  const platform::BatchMark mark{.batch_id = batch_id_,
                                 .line = line,
                                 .server = server_,
                                 .start = bytes_,
                                 .bytes = static_cast<int64_t>(text.size()),
                                 .is_error = is_error};
  bytes_ += mark.bytes;
  return mark;
}

}  // namespace ridge::server
