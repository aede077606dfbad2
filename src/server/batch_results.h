#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>

#include "base/file_descriptor.h"
#include "platform/batch/batch_mark.h"
#include "platform/folder.h"

namespace ridge::server {

// What a server has of the results of a batch, one behind the other. What counts of it is what
// marks name. Any thread.
class BatchResults {
 public:
  // The server alone writes its file; made where it is missing.
  BatchResults(const platform::Folder& folder, const std::string& batch_id, std::string server);

  // On the disk when it returns. Throws unavailable where that is full, io where it fails.
  platform::BatchMark append(int64_t line, std::string_view text, bool is_error);

  static std::string file_name(std::string_view batch_id, std::string_view server);

 private:
  const std::string batch_id_, server_;
  std::mutex mutex_;
  FileDescriptor file_;
  int64_t bytes_ = 0;
};

}  // namespace ridge::server
