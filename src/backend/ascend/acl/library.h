#pragma once

#include <compare>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "backend/ascend/acl/abi.h"
#include "base/error.h"

namespace ridge::backend::ascend::acl {

// Of the ACL interface, not of CANN: CANN 8.1 has ACL 1.13.
struct Version {
  int32_t major = 0, minor = 0, patch = 0;
  auto operator<=>(const Version&) const = default;
  std::string to_string() const;  // "1.13.0"
};
inline constexpr Version oldest_version{1, 13, 0};
inline constexpr const char* library_file = "libascendcl.so";
inline constexpr const char* library_setting = "RIDGE_ASCEND_LIBRARY";
inline constexpr std::string_view install_advice =
    "install CANN 8.1 or newer and source its set_env.sh, which sets ASCEND_HOME_PATH, or name the "
    "library with RIDGE_ASCEND_LIBRARY";

// Where `Library::open` looks, in order: the setting alone where there is one, else below
// ASCEND_HOME_PATH, else what the system's loader finds, else CANN's usual folder.
std::vector<std::string> library_candidates(const std::string& setting);

// libascendcl or something with the same entry points, with all that ridge needs of it.
class Library {
 public:
  // `setting` is a path, or empty for RIDGE_ASCEND_LIBRARY and then the places above. Throws
  // not_found where there is none, with a message that ends in ": " and install_advice, and
  // unsupported where one lacks a function or is too old.
  static std::shared_ptr<const Library> open(const std::string& setting = {});
  // Of functions that this program has itself. Throws unsupported as above.
  using Lookup = std::function<void*(const char* name)>;
  static std::shared_ptr<const Library> linked(const std::string& name, const Lookup& lookup);

  const abi::Functions& functions() const { return functions_; }
  const std::string& path() const { return path_; }
  Version version() const { return version_; }

  // Does nothing where `status` is success. Else throws what `status` means, with the text that
  // `describe()` gives of the attempt and the library's own message.
  template <typename Describe>
  void check(abi::Status status, const char* call, const Describe& describe) const {
    if (status != abi::status::success) [[unlikely]]
      fail(status, call, describe());
  }
  // For destructors: an error goes to the log.
  void check_and_log(abi::Status status, const char* call) const noexcept;
  // After a failure that nobody has to hear of: its message would come with the next one.
  void forget_message() const { functions_.aclGetRecentErrMsg(); }
  // The error that `check` would throw.
  Error error_of(abi::Status status, const char* call, const std::string& what) const;

 private:
  Library(std::string path, const Lookup& lookup);
  [[noreturn]] void fail(abi::Status status, const char* call, const std::string& what) const;

  std::string path_;
  abi::Functions functions_;
  Version version_;
};

// What an ACL status means, for people, and which of our errors it is.
std::string_view meaning(abi::Status status);
ErrorCode error_code(abi::Status status);

}  // namespace ridge::backend::ascend::acl
