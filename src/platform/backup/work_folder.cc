#include "platform/backup/work_folder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <stdio.h>
#include <stdlib.h>

#include <cerrno>
#include <cstring>
#include <system_error>

#include "base/file_descriptor.h"
#include "platform/folder.h"

namespace ridge::platform::backup {
namespace {

std::filesystem::path folder_of(const std::filesystem::path& file) {
  return std::filesystem::absolute(file).parent_path();
}

}  // namespace

WorkFolder::WorkFolder(const std::filesystem::path& target) {
  std::string pattern = (folder_of(target) / ".ridge-backup-XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) {  // with mode 0700
    throw DiskError(fmt::format("cannot make a folder in {}: {}", folder_of(target).string(),
                                std::strerror(errno)));
  }
  path_ = pattern;
}

WorkFolder::~WorkFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

void sync_file(const std::filesystem::path& file) {
  const FileDescriptor descriptor(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  if (!descriptor) {
    throw DiskError(fmt::format("cannot open {}: {}", file.string(), std::strerror(errno)));
  }
  sync(descriptor.get(), file.string());
  Folder::open_path(folder_of(file)).sync();
}

void rename_file(const std::filesystem::path& from, const std::filesystem::path& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) {
    throw DiskError(fmt::format("cannot move {} to {}: {}", from.string(), to.string(),
                                std::strerror(errno)));
  }
}

}  // namespace ridge::platform::backup
