#include "server/upload_slots.h"

#include <fmt/format.h>

#include "base/error.h"

namespace ridge::server {

UploadSlots::Slot::Slot(UploadSlots& slots, std::string project)
    : slots_(slots), project_(std::move(project)) {
  const std::lock_guard lock(slots_.mutex_);
  if (slots_.taken_ >= most) {
    throw Error(ErrorCode::queue_full, "too many files are being received; try again soon");
  }
  int& of_project = slots_.taken_of_[project_];
  if (!project_.empty() && of_project >= most_of_project) {
    throw Error(ErrorCode::queue_full,
                fmt::format("{} files of this project are being received, and no more are at once; "
                            "try again soon",
                            of_project));
  }
  ++of_project;
  ++slots_.taken_;
}

UploadSlots::Slot::~Slot() {
  const std::lock_guard lock(slots_.mutex_);
  --slots_.taken_;
  const auto of_project = slots_.taken_of_.find(project_);
  if (--of_project->second == 0) slots_.taken_of_.erase(of_project);
}

}  // namespace ridge::server
