#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "backend/ascend/acl/library.h"

namespace ridge::backend::ascend::acl {

// The library, initialised. One at a time for each process, as ACL asks.
class Runtime {
 public:
  // The one that is alive, else a new one of `Library::open(setting)`. Throws as that does.
  static std::shared_ptr<Runtime> open(const std::string& setting = {});
  // Throws what aclInit says; where another part of the process has initialised ACL, uses that.
  explicit Runtime(std::shared_ptr<const Library> library);
  // Ends ACL. What it then reports goes to the log.
  ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  const Library& library() const { return *library_; }
  const abi::Functions& functions() const { return library_->functions(); }
  // Devices that this process may use; 0 is not an error here.
  uint32_t device_count() const;

 private:
  friend class Device;
  // A device is set when its first user comes and reset when the last one goes: ACL leaves open
  // whether it counts itself.
  void set_device(int32_t index);
  void reset_device(int32_t index);

  std::shared_ptr<const Library> library_;
  std::mutex mutex_;
  std::map<int32_t, int> users_;  // by device
  bool ends_acl_ = true;
};

struct MemoryInfo {
  uint64_t free_bytes = 0, total_bytes = 0;
};

// A device taken into use by this process, given back with the object.
class Device {
 public:
  // `index` counts from 0. Throws unavailable where there is no device at all, not_found where
  // there is none of that index, unsupported where it is no 910B or 910C.
  Device(std::shared_ptr<Runtime> runtime, int32_t index);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  Runtime& runtime() const { return *runtime_; }
  int32_t index() const { return index_; }
  // CANN's name of the chip, such as "Ascend910B2"; one die of a 910C is "Ascend910_9391".
  const std::string& soc() const { return soc_; }

 private:
  std::shared_ptr<Runtime> runtime_;
  int32_t index_;
  std::string soc_;
};

// What streams, events and memory of a device belong to. A call of ACL acts on the context that its
// thread has entered; everything below enters its own first, so that any thread may use it.
class Context {
 public:
  // Throws what ACL says.
  explicit Context(std::shared_ptr<Device> device);
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  Device& device() const { return *device_; }
  const Library& library() const { return device_->runtime().library(); }
  const abi::Functions& functions() const { return library().functions(); }
  // Makes it the calling thread's; costs nothing where it is already.
  void enter() const;
  // As `enter`, but for destructors: a failure goes to the log.
  void enter_to_release() const noexcept;
  // Of the device's HBM.
  MemoryInfo memory() const;

 private:
  std::shared_ptr<Device> device_;
  abi::ContextHandle handle_ = nullptr;
  uint64_t id_;  // unlike the handle never used again
};

}  // namespace ridge::backend::ascend::acl
