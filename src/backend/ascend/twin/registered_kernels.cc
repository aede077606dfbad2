#include <algorithm>
#include <vector>

#include "backend/ascend/kernels/kernels.h"
#include "backend/ascend/twin/launch.h"

namespace ridge::backend::ascend::twin {

namespace {

constexpr CoreType AIV_ONLY = CoreType::aiv_only;
constexpr CoreType AIC_ONLY = CoreType::aic_only;
constexpr CoreType MIX_AIC_1_2 = CoreType::mix_aic_1_2;

const std::vector<KernelImage>& all() {
  static const std::vector<KernelImage> images = {
#define RIDGE_REGISTER_KERNEL(name, cores, parameters) make_kernel(#name, cores, &name),
      RIDGE_ASCEND_KERNELS(RIDGE_REGISTER_KERNEL)
#undef RIDGE_REGISTER_KERNEL
  };
  return images;
}

}  // namespace

std::span<const KernelImage> kernels() { return all(); }

const KernelImage* find_kernel(std::string_view name) {
  const auto found = std::find_if(all().begin(), all().end(),
                                  [&](const KernelImage& image) { return image.name == name; });
  return found == all().end() ? nullptr : &*found;
}

}  // namespace ridge::backend::ascend::twin
