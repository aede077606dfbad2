#include "platform/backup/client_files.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "base/error.h"
#include "platform/batch/files.h"
#include "platform/folder.h"

namespace ridge::platform::backup {
namespace {

constexpr std::string_view start = "files/";

// "kept" of "kept/file-1"; "" where there is no folder.
std::string_view folder_of(std::string_view rest) {
  const std::size_t slash = rest.find('/');
  return slash == std::string_view::npos ? std::string_view() : rest.substr(0, slash);
}

// False where it has been deleted meanwhile.
bool copy(const std::filesystem::path& from, const std::filesystem::path& to, bool is_final) {
  std::error_code failure;
  // What never changes needs no second copy, if it is of the same disk.
  if (is_final) std::filesystem::create_hard_link(from, to, failure);
  if (!is_final || failure) std::filesystem::copy_file(from, to, failure);
  if (!failure) return true;
  if (failure == std::errc::no_such_file_or_directory) return false;
  throw DiskError(fmt::format("cannot read {}: {}", from.string(), failure.message()));
}

// Of regular files; none where the folder is missing.
std::vector<std::string> names_in(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  std::error_code failure;
  for (const auto& entry : std::filesystem::directory_iterator(folder, failure)) {
    std::error_code gone;
    if (entry.is_regular_file(gone)) names.push_back(entry.path().filename());
  }
  if (failure && failure != std::errc::no_such_file_or_directory) {
    throw DiskError(fmt::format("cannot read {}: {}", folder.string(), failure.message()));
  }
  std::ranges::sort(names);
  return names;
}

}  // namespace

bool is_client_file(std::string_view member) {
  if (!member.starts_with(start)) return false;
  const std::string_view rest = member.substr(start.size()), folder = folder_of(rest);
  if (folder.empty()) return rest == Files::store_file;
  return (folder == Files::kept_folder || folder == Files::results_folder) &&
         is_file_name(rest.substr(folder.size() + 1));
}

HeldResults hold_results(const std::filesystem::path& folder) {
  HeldResults held;
  for (const std::string& name : names_in(folder / Files::results_folder)) {
    const std::filesystem::path path = folder / Files::results_folder / name;
    FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    if (file) {
      held.emplace(name, std::move(file));
    } else if (errno != ENOENT && errno != ELOOP) {  // a batch's end removes it
      throw DiskError(fmt::format("cannot read {}: {}", path.string(), std::strerror(errno)));
    }
  }
  return held;
}

std::vector<std::pair<BackupFile, std::filesystem::path>> copy_client_files(
    const std::filesystem::path& folder, HeldResults held, const WorkFolder& work) {
  std::vector<std::pair<BackupFile, std::filesystem::path>> copies;
  const auto add = [&](const std::string& member, const std::filesystem::path& from,
                       bool is_final) {
    const std::filesystem::path target = work / fmt::format("file-{}", copies.size());
    if (!copy(from, target, is_final)) return;
    copies.emplace_back(measured(std::string(start) + member, target), target);
  };
  add(std::string(Files::store_file), folder / Files::store_file, /*is_final=*/true);
  for (const std::string& name : names_in(folder / Files::kept_folder)) {
    add(fmt::format("{}/{}", Files::kept_folder, name), folder / Files::kept_folder / name,
        /*is_final=*/true);
  }
  held.merge(hold_results(folder));  // of batches that have begun since
  for (const auto& [name, file] : held) {
    add(fmt::format("{}/{}", Files::results_folder, name),
        fmt::format("/proc/self/fd/{}", file.get()), /*is_final=*/false);
  }
  return copies;
}

std::filesystem::path place_of_client_file(std::string_view member,
                                           const std::filesystem::path& folder) {
  RIDGE_ASSERT(is_client_file(member));
  const std::filesystem::path place = folder / member.substr(start.size());
  std::error_code failure;
  std::filesystem::create_directories(place.parent_path(), failure);
  if (!failure) return place;
  throw DiskError(
      fmt::format("cannot make {}: {}", place.parent_path().string(), failure.message()));
}

}  // namespace ridge::platform::backup
