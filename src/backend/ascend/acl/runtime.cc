#include "backend/ascend/acl/runtime.h"

#include <fmt/format.h>

#include <atomic>
#include <cstdlib>
#include <mutex>

namespace ridge::backend::ascend::acl {
namespace {

std::atomic<uint64_t> last_context_id = 0;
// The Context::id_ that this thread has entered; 0 where that is not known.
thread_local uint64_t entered_context_id = 0;

std::string visible_devices() {
  const char* visible = std::getenv("ASCEND_RT_VISIBLE_DEVICES");
  return visible == nullptr
             ? std::string()
             : fmt::format("; ASCEND_RT_VISIBLE_DEVICES is '{}', which hides the others", visible);
}

}  // namespace

std::shared_ptr<Runtime> Runtime::open(const std::string& setting) {
  static std::mutex mutex;
  static std::weak_ptr<Runtime> alive;
  const std::lock_guard lock(mutex);
  if (auto runtime = alive.lock()) return runtime;
  auto runtime = std::make_shared<Runtime>(Library::open(setting));
  alive = runtime;
  return runtime;
}

Runtime::Runtime(std::shared_ptr<const Library> library) : library_(std::move(library)) {
  const abi::Status status = functions().aclInit(nullptr);
  if (status == abi::status::repeated_initialise) {
    ends_acl_ = false;
    library_->forget_message();
    return;
  }
  library_->check(status, "aclInit", [&] { return "of " + library_->path(); });
}

Runtime::~Runtime() {
  if (ends_acl_) library_->check_and_log(functions().aclFinalize(), "aclFinalize");
}

uint32_t Runtime::device_count() const {
  uint32_t count = 0;
  library_->check(functions().aclrtGetDeviceCount(&count), "aclrtGetDeviceCount",
                  [&] { return "of " + library_->path(); });
  return count;
}

void Runtime::set_device(int32_t index) {
  const std::lock_guard lock(mutex_);
  int& users = users_[index];
  if (users == 0) {
    entered_context_id = 0;  // the device's own context is this thread's now
    library_->check(functions().aclrtSetDevice(index), "aclrtSetDevice",
                    [&] { return fmt::format("for device {}", index); });
  }
  ++users;
}

void Runtime::reset_device(int32_t index) {
  const std::lock_guard lock(mutex_);
  if (--users_[index] > 0) return;
  entered_context_id = 0;
  library_->check_and_log(functions().aclrtResetDevice(index), "aclrtResetDevice");
}

Device::Device(std::shared_ptr<Runtime> runtime, int32_t index)
    : runtime_(std::move(runtime)), index_(index) {
  const uint32_t count = runtime_->device_count();
  if (count == 0) {
    throw Error(ErrorCode::unavailable,
                fmt::format("{} finds no Ascend device: see that the driver is loaded, that "
                            "/dev/davinci0 is there and that this user may use it{}",
                            runtime_->library().path(), visible_devices()));
  }
  if (index < 0 || static_cast<uint32_t>(index) >= count) {
    throw Error(ErrorCode::not_found,
                fmt::format("there is no Ascend device {}; this process may use 0 to {}{}", index,
                            count - 1, visible_devices()));
  }
  const Library& library = runtime_->library();
  runtime_->set_device(index);
  try {
    const char* soc = runtime_->functions().aclrtGetSocName();
    if (soc == nullptr) {
      throw library.error_of(abi::status::internal_error, "aclrtGetSocName",
                             fmt::format("of device {}", index));
    }
    soc_ = soc;
    if (!soc_.starts_with("Ascend910B") && !soc_.starts_with("Ascend910_93")) {
      throw Error(ErrorCode::unsupported,
                  fmt::format("device {} is {}; the kernels are for Ascend910B* and Ascend910_93*",
                              index, soc_));
    }
  } catch (...) {
    runtime_->reset_device(index);
    throw;
  }
}

Device::~Device() { runtime_->reset_device(index_); }

Context::Context(std::shared_ptr<Device> device)
    : device_(std::move(device)), id_(last_context_id.fetch_add(1) + 1) {
  entered_context_id = 0;
  library().check(functions().aclrtCreateContext(&handle_, device_->index()), "aclrtCreateContext",
                  [&] { return fmt::format("on device {}", device_->index()); });
}

Context::~Context() {
  entered_context_id = 0;
  library().check_and_log(functions().aclrtDestroyContext(handle_), "aclrtDestroyContext");
}

void Context::enter() const {
  if (entered_context_id == id_) return;
  library().check(functions().aclrtSetCurrentContext(handle_), "aclrtSetCurrentContext",
                  [&] { return fmt::format("of device {}", device_->index()); });
  entered_context_id = id_;
}

void Context::enter_to_release() const noexcept {
  if (entered_context_id == id_) return;
  const abi::Status status = functions().aclrtSetCurrentContext(handle_);
  library().check_and_log(status, "aclrtSetCurrentContext");
  if (status == abi::status::success) entered_context_id = id_;
}

MemoryInfo Context::memory() const {
  enter();
  size_t free_bytes = 0, total_bytes = 0;
  library().check(
      functions().aclrtGetMemInfo(abi::MemoryKind::hbm, &free_bytes, &total_bytes),
      "aclrtGetMemInfo", [&] { return fmt::format("of device {}", device_->index()); });
  return {free_bytes, total_bytes};
}

}  // namespace ridge::backend::ascend::acl
