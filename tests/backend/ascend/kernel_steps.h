#pragma once

#include "kernel_operator.h"

// What kernels of tests are made of.
namespace ridge::backend::ascend {

template <typename T>
AscendC::GlobalTensor<T> global(GM_ADDR at) {
  AscendC::GlobalTensor<T> tensor;
  tensor.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(at));
  return tensor;
}

// From one pipe to the other.
template <AscendC::HardEvent event>
void pass() {
  AscendC::SetFlag<event>(0);
  AscendC::WaitFlag<event>(0);
}

}  // namespace ridge::backend::ascend
