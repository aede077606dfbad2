#pragma once

#include <map>
#include <memory>
#include <mutex>

#include "backend/ascend/soc.h"
#include "backend/ascend/twin/launch.h"
#include "backend/step_profile.h"

namespace ridge::backend::ascend {

// What the twin counted of each launch, as StepCounter tells it. One at a time: the twin has
// one observer.
class LaunchLog {
 public:
  // Switches the twin to counting, until the end of this object.
  explicit LaunchLog(const Soc& soc);
  ~LaunchLog();
  LaunchLog(const LaunchLog&) = delete;
  LaunchLog& operator=(const LaunchLog&) = delete;

  // What was launched since the last call.
  StepProfile take();

 private:
  void add(const twin::KernelImage& kernel, uint32_t blocks,
           const std::shared_ptr<const twin::LaunchReport>& report);

  const Soc& soc_;
  std::mutex mutex_;
  std::map<std::shared_ptr<const twin::LaunchReport>, std::shared_ptr<const LaunchProfile>> known_;
  StepProfile profile_;
};

}  // namespace ridge::backend::ascend
