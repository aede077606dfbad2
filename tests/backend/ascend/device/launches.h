#pragma once

#include <map>
#include <mutex>
#include <string>

#include "backend/ascend/twin/acl/control.h"

namespace ridge::backend::ascend {

// How often each kernel was launched while this lives.
class Launches {
 public:
  Launches() {
    twin_acl::observe_launches([this](const twin::KernelImage& kernel, uint32_t,
                                      const std::shared_ptr<const twin::LaunchReport>&) {
      const std::lock_guard lock(mutex_);
      ++counts_[kernel.name];
    });
  }
  ~Launches() { twin_acl::observe_launches({}); }
  int of(const std::string& kernel) {
    const std::lock_guard lock(mutex_);
    return counts_[kernel];
  }

 private:
  std::mutex mutex_;
  std::map<std::string, int> counts_;
};

}  // namespace ridge::backend::ascend
