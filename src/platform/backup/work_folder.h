#pragma once

#include <filesystem>
#include <string>

namespace ridge::platform::backup {

// A folder for this user alone, beside `target` so that what is made in it can be moved there. Goes
// with all in it. Throws DiskError.
class WorkFolder {
 public:
  explicit WorkFolder(const std::filesystem::path& target);
  ~WorkFolder();
  WorkFolder(const WorkFolder&) = delete;
  WorkFolder& operator=(const WorkFolder&) = delete;

  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

// Makes a file and its name durable. Throws DiskError.
void sync_file(const std::filesystem::path& file);
// Throws DiskError.
void rename_file(const std::filesystem::path& from, const std::filesystem::path& to);

}  // namespace ridge::platform::backup
