#include "server/file_sweeper.h"

#include <chrono>

#include "base/error.h"
#include "base/log.h"

namespace ridge::server {
namespace {

constexpr std::chrono::minutes sweep_interval{10};  // what has expired is not shown meanwhile

}  // namespace

FileSweeper::FileSweeper(std::shared_ptr<platform::Files> files,
                         std::shared_ptr<platform::Batches> batches)
    : files_(std::move(files)),
      batches_(std::move(batches)),
      thread_([this](const std::stop_token& stop) { run(stop); }) {}

void FileSweeper::run(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (!stop.stop_requested()) {
    try {
      if (const int swept = files_->sweep(); swept > 0) {
        log::info("{} files that had expired or were left over are gone", swept);
      }
      if (batches_ != nullptr) batches_->sweep();
    } catch (const Error& error) {
      log::warning("files that have expired stay for now: {}", error.message());
    }
    stopped_.wait_for(lock, stop, sweep_interval, [] { return false; });
  }
}

}  // namespace ridge::server
