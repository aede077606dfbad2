#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "backend/ascend/acl/kernel.h"
#include "backend/ascend/soc.h"

namespace ridge::backend::ascend {

// A device of the runtime as its parts use it: what it is made of, where its memory comes from, its
// kernels. Shared by all that live on the device.
class Hardware {
 public:
  // `kernels_path` is a binary of kernels. Throws what the runtime says.
  Hardware(std::shared_ptr<acl::Context> context, const Soc& soc, const std::string& kernels_path)
      : context_(std::move(context)),
        soc_(soc),
        binary_(std::make_shared<acl::Binary>(context_, kernels_path)) {}

  const std::shared_ptr<acl::Context>& context() const { return context_; }
  const Soc& soc() const { return soc_; }

  // Of open_counting_twin: what weights hold is of no interest, nor what the host computes.
  bool only_counts = false;

  // The kernel of that extern "C" name; it stays as long as this. Throws not_found.
  const acl::Kernel& kernel(const std::string& name) {
    auto& kernel = kernels_[name];
    if (kernel == nullptr) kernel = std::make_unique<acl::Kernel>(binary_, name);
    return *kernel;
  }

 private:
  std::shared_ptr<acl::Context> context_;
  const Soc& soc_;
  std::shared_ptr<const acl::Binary> binary_;
  std::map<std::string, std::unique_ptr<acl::Kernel>, std::less<>> kernels_;
};

}  // namespace ridge::backend::ascend
