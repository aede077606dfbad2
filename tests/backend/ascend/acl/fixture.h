#pragma once

#include <condition_variable>
#include <cstring>
#include <mutex>
#include <set>

#include "backend/ascend/acl/graph.h"
#include "backend/ascend/acl/kernel.h"
#include "backend/ascend/acl/runtime.h"
#include "backend/ascend/acl/stream.h"
#include "backend/ascend/twin/acl/control.h"
#include "base/error.h"

namespace ridge::backend::ascend {

// The code and message of the Error that `body` throws; fails the test where there is none.
template <typename Body>
Error error_of(const Body& body) {
  try {
    body();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "nothing was thrown";
  return {ErrorCode::internal, ""};
}

inline std::vector<std::byte> bytes_of(std::string_view text) {
  std::vector<std::byte> bytes(text.size());
  std::memcpy(bytes.data(), text.data(), text.size());
  return bytes;
}

// A kernel of the twin that runs `body` on each core, with its arguments.
inline twin::KernelImage host_kernel(std::string name, int arguments,
                                     std::function<void(const std::vector<uint64_t>&)> body) {
  return {std::move(name), twin::CoreType::aiv_only, arguments,
          [body = std::move(body)](std::span<const std::byte> bytes) {
            std::vector<uint64_t> slots(bytes.size() / sizeof(uint64_t));
            if (!bytes.empty()) std::memcpy(slots.data(), bytes.data(), bytes.size());
            body(slots);
          }};
}

// Holds a stream up: a kernel that ends when the gate is opened.
class Gate {
 public:
  explicit Gate(const std::string& name) {
    twin_acl::add_kernel(host_kernel(name, 0, [state = state_](const auto&) {
      std::unique_lock lock(state->mutex);
      state->changed.wait(lock, [&] { return state->is_open; });
    }));
  }
  ~Gate() { open(); }
  void open() {
    {
      const std::lock_guard lock(state_->mutex);
      state_->is_open = true;
    }
    state_->changed.notify_all();
  }

 private:
  struct State {
    std::mutex mutex;
    std::condition_variable changed;
    bool is_open = false;
  };
  std::shared_ptr<State> state_ = std::make_shared<State>();
};

// A twin of 64 MiB, whose settings begin anew. Whatever a test opens has to be given back.
class AclTest : public ::testing::Test {
 protected:
  AclTest() {
    for (const char* name :
         {"soc", "devices", "memory_bytes", "version", "schedule", "seed", "fail"}) {
      EXPECT_TRUE(ridge_ascend_twin_set(name, nullptr));
    }
    set("memory_bytes", std::to_string(memory_bytes));
    library_ = twin_library();
  }
  ~AclTest() override {
    context_.reset();
    if (runtime_ != nullptr) {
      runtime_.reset();
      EXPECT_STREQ(ridge_ascend_twin_left(), "");
    }
  }

  static void set(const char* name, const std::string& value) {
    ASSERT_TRUE(ridge_ascend_twin_set(name, value.c_str()));
  }
  static std::shared_ptr<const acl::Library> twin_library() {
    return acl::Library::linked("the twin", &twin_acl::find_entry_point);
  }
  // As the twin, without the entry points that are named.
  static std::shared_ptr<const acl::Library> twin_library_without(std::set<std::string> names) {
    return acl::Library::linked("the twin", [names = std::move(names)](const char* name) {
      return names.contains(name) ? nullptr : twin_acl::find_entry_point(name);
    });
  }

  std::shared_ptr<acl::Runtime> runtime() {
    if (runtime_ == nullptr) runtime_ = std::make_shared<acl::Runtime>(library_);
    return runtime_;
  }
  std::shared_ptr<acl::Context> context() {
    if (context_ == nullptr) {
      context_ = std::make_shared<acl::Context>(std::make_shared<acl::Device>(runtime(), 0));
    }
    return context_;
  }
  const abi::Functions& raw() { return context()->functions(); }
  static std::string message() {
    const auto ask = reinterpret_cast<const char* (*)()>(
        twin_acl::find_entry_point("aclGetRecentErrMsg"));
    const char* told = ask();
    return told == nullptr ? "" : told;
  }
  acl::Kernel kernel(const std::string& name) {
    return {std::make_shared<acl::Binary>(context(), twin_acl::kernels_path), name};
  }

  static constexpr uint64_t memory_bytes = 64 << 20;
  std::shared_ptr<const acl::Library> library_;

 private:
  std::shared_ptr<acl::Runtime> runtime_;
  std::shared_ptr<acl::Context> context_;
};

}  // namespace ridge::backend::ascend
