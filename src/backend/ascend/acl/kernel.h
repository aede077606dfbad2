#pragma once

#include <concepts>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "backend/ascend/acl/stream.h"

namespace ridge::backend::ascend::acl {

// A file of compiled kernels, loaded into a context; unloaded with the object.
class Binary {
 public:
  // Throws invalid_file, with what the library says.
  Binary(std::shared_ptr<Context> context, std::string path);
  ~Binary();
  Binary(const Binary&) = delete;
  Binary& operator=(const Binary&) = delete;

 private:
  friend class Kernel;
  std::shared_ptr<Context> context_;
  std::string path_;
  abi::BinaryHandle handle_ = nullptr;
};

// A kernel of a binary, which stays loaded as long as one of its kernels is there.
class Kernel {
 public:
  // `name` is the kernel's extern "C" name. Throws not_found.
  Kernel(std::shared_ptr<const Binary> binary, std::string name);

  const std::string& name() const { return name_; }
  abi::FunctionHandle handle() const { return handle_; }

 private:
  std::shared_ptr<const Binary> binary_;
  std::string name_;
  abi::FunctionHandle handle_ = nullptr;
};

// What a kernel is called with, in the order of its parameters. Each takes 8 bytes: a GM_ADDR, or an
// integer that the kernel declares as 64 bits wide, so that no rule of packing is asked for.
class KernelArguments {
 public:
  KernelArguments& add(DeviceSpan memory) { return add(memory.address); }
  template <typename Value>
    requires(std::integral<Value> && sizeof(Value) == sizeof(uint64_t))
  KernelArguments& add(Value value) {
    slots_.push_back(static_cast<uint64_t>(value));
    return *this;
  }
  const std::vector<uint64_t>& slots() const { return slots_; }

 private:
  std::vector<uint64_t> slots_;
};

struct LaunchShape {
  uint32_t blocks = 1;  // > 0
  // For kernels whose blocks wait for each other; then `blocks` is at most the device's cores.
  bool starts_together = false;
};

// Queues the kernel. The arguments are copied; the memory that they name has to stay.
void launch(Stream& stream, const Kernel& kernel, const KernelArguments& arguments,
            const LaunchShape& shape);

}  // namespace ridge::backend::ascend::acl
