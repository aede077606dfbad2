#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/file_descriptor.h"

namespace ridge::platform {

// Which of the servers of a data folder this one is: the first place that no living server holds.
// Whoever takes a place knows that its last holder is dead, and ends what that one left.
class ServerSlot {
 public:
  // Throws io.
  explicit ServerSlot(const std::filesystem::path& folder);

  // The places that servers have held and none holds now, as where fewer are started than there
  // were; held until they go. Throws io.
  static std::vector<ServerSlot> left_behind(const std::filesystem::path& folder);

  // The same for each holder of the place, and nobody else's on any machine.
  const std::string& server_id() const { return server_id_; }
  // A file of the place's own.
  std::filesystem::path spool_path() const { return spool_path_; }

 private:
  ServerSlot(FileDescriptor lock, const std::filesystem::path& folder, int place);
  // Null where the place is held, or nobody has ever held it and it is not to be made.
  static std::optional<ServerSlot> take(const std::filesystem::path& folder, int place,
                                        bool makes_it);

  FileDescriptor lock_;  // held as long as this process lives
  std::string server_id_;
  std::filesystem::path spool_path_;
};

}  // namespace ridge::platform
