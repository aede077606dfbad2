#include "backend/ascend/acl/library.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdlib>

#include "base/log.h"

namespace ridge::backend::ascend::acl {
namespace {

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

// ACL's messages have many lines, ours have one.
std::string one_line(std::string_view text) {
  constexpr size_t longest = 1000;
  std::string line;
  for (const char letter : text) {
    if (line.size() >= longest) return line + "...";
    const bool is_space = static_cast<unsigned char>(letter) <= ' ';
    if (!is_space) {
      line += letter;
    } else if (!line.empty() && line.back() != ' ') {
      line += ' ';
    }
  }
  while (!line.empty() && line.back() == ' ') line.pop_back();
  return line;
}

struct Closer {
  void operator()(void* library) const { ::dlclose(library); }
};

}  // namespace

std::string Version::to_string() const { return fmt::format("{}.{}.{}", major, minor, patch); }

std::vector<std::string> library_candidates(const std::string& setting) {
  if (!setting.empty()) return {setting};
  if (const std::string chosen = environment(library_setting); !chosen.empty()) return {chosen};
  std::vector<std::string> places;
  if (const std::string home = environment("ASCEND_HOME_PATH"); !home.empty()) {
    places.push_back(fmt::format("{}/lib64/{}", home, library_file));
  }
  places.emplace_back(library_file);
  places.push_back(fmt::format("/usr/local/Ascend/ascend-toolkit/latest/lib64/{}", library_file));
  return places;
}

std::shared_ptr<const Library> Library::open(const std::string& setting) {
  std::vector<std::string> failures;
  for (const std::string& path : library_candidates(setting)) {
    // It starts threads of its own, which may outlive us: it is never unloaded.
    const std::unique_ptr<void, Closer> handle(
        ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE));
    if (handle == nullptr) {
      const char* told = ::dlerror();
      const std::string reason = one_line(told == nullptr ? "cannot be loaded" : told);
      // It may be about another library that this one needs.
      failures.push_back(reason.starts_with(path) ? reason : fmt::format("{}: {}", path, reason));
      continue;
    }
    return std::shared_ptr<const Library>(new Library(
        path, [&](const char* name) { return ::dlsym(handle.get(), name); }));
  }
  throw Error(ErrorCode::not_found, fmt::format("no Ascend runtime could be loaded ({}): {}",
                                                fmt::join(failures, "; "), install_advice));
}

std::shared_ptr<const Library> Library::linked(const std::string& name, const Lookup& lookup) {
  return std::shared_ptr<const Library>(new Library(name, lookup));
}

Library::Library(std::string path, const Lookup& lookup) : path_(std::move(path)) {
  std::vector<std::string> missing;
  const auto find = [&](const char* name, auto& function) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(lookup(name));
    return function != nullptr;
  };
#define RIDGE_ACL_NEED(result, name, parameters) \
  if (!find(#name, functions_.name)) missing.emplace_back(#name);
#define RIDGE_ACL_TAKE(result, name, parameters) find(#name, functions_.name);
  RIDGE_ACL_FUNCTIONS(RIDGE_ACL_NEED)
  RIDGE_ACL_OPTIONAL_FUNCTIONS(RIDGE_ACL_TAKE)
#undef RIDGE_ACL_NEED
#undef RIDGE_ACL_TAKE
  std::string of_version;
  if (functions_.aclrtGetVersion != nullptr) {
    const abi::Status status =
        functions_.aclrtGetVersion(&version_.major, &version_.minor, &version_.patch);
    if (functions_.aclGetRecentErrMsg != nullptr) {
      check(status, "aclrtGetVersion", [&] { return "of " + path_; });
    }
    of_version = fmt::format(", which is ACL {},", version_.to_string());
  }
  const std::string needed = fmt::format("ridge needs ACL {}.{} or a newer {}.x, as in CANN 8.1",
                                         oldest_version.major, oldest_version.minor,
                                         oldest_version.major);
  if (!missing.empty()) {
    const size_t more = missing.size() > 3 ? missing.size() - 3 : 0;
    missing.resize(missing.size() - more);
    throw Error(ErrorCode::unsupported,
                fmt::format("{}{} lacks {}{}; {}", path_, of_version, fmt::join(missing, ", "),
                            more > 0 ? fmt::format(" and {} more functions", more) : "", needed));
  }
  if (version_ < oldest_version || version_.major > oldest_version.major) {
    throw Error(ErrorCode::unsupported,
                fmt::format("{} is ACL {}; {}", path_, version_.to_string(), needed));
  }
}

std::string_view meaning(abi::Status status) {
  switch (status) {
    case abi::status::invalid_parameter:
    case abi::status::runtime_invalid_parameter: return "invalid parameter";
    case abi::status::not_initialised: return "not initialised";
    case abi::status::repeated_initialise: return "initialised twice";
    case abi::status::invalid_file: return "invalid file";
    case abi::status::invalid_device: return "no such device";
    case abi::status::no_context: return "no context";
    case abi::status::stream_of_other_context: return "stream of another context";
    case abi::status::address_not_aligned: return "address not aligned";
    case abi::status::file_not_opened: return "file cannot be opened";
    case abi::status::invalid_memory_type: return "wrong kind of memory";
    case abi::status::invalid_handle: return "invalid handle";
    case abi::status::wait_timed_out:
    case abi::status::task_timed_out:
    case abi::status::stream_wait_timed_out: return "timed out";
    case abi::status::stream_captured: return "stream is being captured";
    case abi::status::stream_not_captured: return "stream is not being captured";
    case abi::status::not_while_capturing: return "not allowed during a capture";
    case abi::status::default_stream_captured: return "the default stream cannot be captured";
    case abi::status::resources_left: return "resources were not released";
    case abi::status::interface_unsupported:
    case abi::status::feature_unsupported:
    case abi::status::runtime_feature_unsupported: return "not supported";
    case abi::status::host_out_of_memory:
    case abi::status::out_of_memory:
    case abi::status::device_out_of_memory: return "out of memory";
    case abi::status::no_device: return "no device";
    case abi::status::no_permission: return "no permission";
    case abi::status::internal_error: return "internal error";
    case abi::status::heartbeat_lost: return "the device does not answer";
    case abi::status::copy_failed: return "a copy failed";
    case abi::status::core_timed_out:
    case abi::status::vector_core_timed_out: return "a kernel ran too long";
    case abi::status::core_exception: return "a kernel failed";
    case abi::status::driver_error: return "the driver failed";
  }
  return "see CANN's list of error codes";
}

ErrorCode error_code(abi::Status status) {
  switch (status) {
    case abi::status::host_out_of_memory:
    case abi::status::out_of_memory:
    case abi::status::device_out_of_memory: return ErrorCode::out_of_memory;
    case abi::status::wait_timed_out:
    case abi::status::task_timed_out:
    case abi::status::stream_wait_timed_out: return ErrorCode::timed_out;
    case abi::status::interface_unsupported:
    case abi::status::feature_unsupported:
    case abi::status::runtime_feature_unsupported: return ErrorCode::unsupported;
    case abi::status::invalid_device: return ErrorCode::not_found;
    case abi::status::no_permission: return ErrorCode::permission_denied;
    case abi::status::invalid_file:
    case abi::status::file_not_opened: return ErrorCode::invalid_file;
    case abi::status::no_device:
    case abi::status::heartbeat_lost:
    case abi::status::driver_error: return ErrorCode::unavailable;
    default: return ErrorCode::internal;
  }
}

Error Library::error_of(abi::Status status, const char* call, const std::string& what) const {
  // The library forgets the message once it has told it.
  const char* told = functions_.aclGetRecentErrMsg();
  std::string text =
      fmt::format("{} {}: ACL error {} ({})", call, what, status, meaning(status));
  if (told != nullptr && *told != '\0') text += ": " + one_line(told);
  return {error_code(status), text};
}

void Library::fail(abi::Status status, const char* call, const std::string& what) const {
  throw error_of(status, call, what);
}

void Library::check_and_log(abi::Status status, const char* call) const noexcept {
  if (status == abi::status::success) return;
  try {
    log::error("Ascend: {}", error_of(status, call, "at the end of its life").message());
  } catch (...) {
    // Nothing is left to be done in a destructor without memory.
  }
}

}  // namespace ridge::backend::ascend::acl
