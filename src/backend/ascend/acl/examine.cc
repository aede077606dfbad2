#include "backend/ascend/acl/examine.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <grp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <vector>

#include "backend/ascend/acl/runtime.h"

namespace ridge::backend::ascend::acl {
namespace {

// Beside /dev/davinci0 and so on, the driver has these, and a container has to be given them all.
constexpr const char* shared_nodes[] = {"davinci_manager", "devmm_svm", "hisi_hdc"};
constexpr const char* node_advice =
    "load the driver, and see that 'npu-smi info' lists the devices; a container has to be given "
    "them with --device /dev/davinci0 --device /dev/davinci_manager --device /dev/devmm_svm --device "
    "/dev/hisi_hdc";

// /dev/davinci0 and on, by number.
std::vector<std::string> device_nodes(const std::string& folder) {
  constexpr std::string_view prefix = "davinci";
  std::vector<std::pair<int, std::string>> nodes;
  std::error_code failure;
  for (const auto& entry : std::filesystem::directory_iterator(folder, failure)) {
    const std::string name = entry.path().filename().string();
    const std::string_view number = std::string_view(name).substr(
        std::min(prefix.size(), name.size()));
    const auto is_digit = [](char letter) { return letter >= '0' && letter <= '9'; };
    if (!name.starts_with(prefix) || number.empty() || number.size() > 4 ||
        !std::ranges::all_of(number, is_digit)) {
      continue;
    }
    nodes.emplace_back(std::stoi(std::string(number)), entry.path().string());
  }
  std::ranges::sort(nodes);
  std::vector<std::string> paths;
  for (auto& [number, path] : nodes) paths.push_back(std::move(path));
  return paths;
}

std::string nodes_text(const std::vector<std::string>& nodes) {
  return nodes.size() == 1 ? fmt::format("{} is there", nodes[0])
                           : fmt::format("{} devices, {} to {}, are there", nodes.size(), nodes[0],
                                         nodes.back());
}

std::string group_of(const std::string& path) {
  struct stat about {};
  if (::stat(path.c_str(), &about) != 0) return "";
  const group* owner = ::getgrgid(about.st_gid);
  return owner == nullptr ? std::to_string(about.st_gid) : owner->gr_name;
}

struct Reason {
  std::string found, advice;
};

// Why nodes cannot be used, as far as they tell.
std::optional<Reason> look_at_nodes(const std::string& folder,
                                    const std::vector<std::string>& nodes) {
  std::vector<std::string> needed = nodes;
  for (const char* name : shared_nodes) needed.push_back(fmt::format("{}/{}", folder, name));
  for (const std::string& path : needed) {
    if (::faccessat(AT_FDCWD, path.c_str(), R_OK | W_OK, AT_EACCESS) == 0) continue;
    const int failure = errno;
    if (failure == ENOENT) return Reason{fmt::format("{} is missing", path), node_advice};
    return Reason{
        fmt::format("{} cannot be opened: {}", path, std::strerror(failure)),
        fmt::format("let this user be of the group {}: usermod -aG {} USER", group_of(path),
                    group_of(path))};
  }
  return std::nullopt;
}

std::string driver_version(const std::string& file) {
  std::ifstream stream(file);
  for (std::string line; std::getline(stream, line);) {
    constexpr std::string_view key = "Version=";
    if (line.starts_with(key) && line.size() < 100) return line.substr(key.size());
  }
  return "";
}

std::string driver_text(const ExaminedPlaces& places) {
  const std::string version = driver_version(places.driver_version_file);
  return version.empty() ? "" : fmt::format(", driver {}", version);
}

std::string devices_text(const std::shared_ptr<Runtime>& runtime, uint32_t count) {
  std::vector<std::string> devices;
  for (uint32_t i = 0; i < count; ++i) {
    const Context context(std::make_shared<Device>(runtime, static_cast<int32_t>(i)));
    const MemoryInfo memory = context.memory();
    devices.push_back(fmt::format("{} {}, {:.1f} of {:.1f} GiB free", i, context.device().soc(),
                                  static_cast<double>(memory.free_bytes) / (1 << 30),
                                  static_cast<double>(memory.total_bytes) / (1 << 30)));
  }
  return fmt::format("{}", fmt::join(devices, "; "));
}

}  // namespace

DeviceFinding examine(const ExaminedPlaces& places) {
  const std::string subject = "Ascend";
  const std::vector<std::string> nodes = device_nodes(places.device_folder);
  const auto lacking = [&](std::string found, std::string advice) {
    return DeviceFinding{subject, DeviceState::lacking, std::move(found), std::move(advice)};
  };
  std::shared_ptr<const Library> library;
  try {
    library = Library::open(places.library);
  } catch (const Error& error) {
    std::string_view message = error.message();
    // CANN's library needs the driver's.
    if (message.find("libascend_hal.so: cannot open") != std::string_view::npos) {
      return lacking(std::string(message),
                     "install the driver, whose libascend_hal.so is in "
                     "/usr/local/Ascend/driver/lib64/driver; a container has to be given that folder, "
                     "and LD_LIBRARY_PATH has to name it");
    }
    const bool is_named = library_candidates(places.library).size() == 1;
    // A library that is there can fail with not_found too.
    const bool is_missing = message.ends_with(install_advice);
    if (nodes.empty() && !is_named && is_missing) {
      return {subject, DeviceState::absent,
              fmt::format("no device here: no {}/davinci*, no CANN", places.device_folder), {}};
    }
    const std::string devices =
        nodes.empty() ? "" : fmt::format("{}{}, but ", nodes_text(nodes), driver_text(places));
    if (is_missing) {
      message.remove_suffix(install_advice.size() + 2);
      return lacking(fmt::format("{}{}", devices, message), std::string(install_advice));
    }
    return lacking(fmt::format("{}{}", devices, message),
                   "install CANN 8.1 or newer, and see which one ASCEND_HOME_PATH names");
  }
  const std::string versions =
      fmt::format("ACL {}{}", library->version().to_string(), driver_text(places));
  try {
    const auto runtime = std::make_shared<Runtime>(library);
    if (const uint32_t count = runtime->device_count(); count > 0) {
      return {subject, DeviceState::ready,
              fmt::format("{} ({})", devices_text(runtime, count), versions), {}};
    }
    if (nodes.empty()) {
      return lacking(fmt::format("{} is there, but no {}/davinci*", versions, places.device_folder),
                     node_advice);
    }
    if (const auto reason = look_at_nodes(places.device_folder, nodes)) {
      return lacking(fmt::format("{}; {}", nodes_text(nodes), reason->found), reason->advice);
    }
    return lacking(fmt::format("{}, but {} lets this process use none", nodes_text(nodes), versions),
                   "see ASCEND_RT_VISIBLE_DEVICES, and whether another process or container has "
                   "taken the devices ('npu-smi info')");
  } catch (const Error& error) {
    const auto reason = look_at_nodes(places.device_folder, nodes);
    return lacking(fmt::format("{} ({}){}", error.message(), versions,
                               reason ? "; " + reason->found : ""),
                   reason ? reason->advice
                          : "see that driver and CANN belong together ('npu-smi info' tells the "
                            "driver's version), and CANN's log in ~/ascend/log");
  }
}

}  // namespace ridge::backend::ascend::acl
