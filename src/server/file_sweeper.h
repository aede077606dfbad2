#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <stop_token>
#include <thread>

#include "platform/batch/batches.h"
#include "platform/batch/files.h"

namespace ridge::server {

// Takes away what has expired of files and batches, on a thread of its own, at the start and every
// ten minutes.
class FileSweeper {
 public:
  // `batches` may be null.
  FileSweeper(std::shared_ptr<platform::Files> files, std::shared_ptr<platform::Batches> batches);

 private:
  void run(const std::stop_token& stop);

  const std::shared_ptr<platform::Files> files_;
  const std::shared_ptr<platform::Batches> batches_;
  std::mutex mutex_;
  std::condition_variable_any stopped_;
  std::jthread thread_;
};

}  // namespace ridge::server
