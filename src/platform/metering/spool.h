#pragma once

#include <cstddef>
#include <filesystem>
#include <vector>

#include "base/file_descriptor.h"
#include "platform/metering/ledger.h"

namespace ridge::platform {

// Settlements that wait for a database that is away, in a file, so that they outlive this program.
// One line of JSON each; a last line that was cut off by a crash is left out, as its settlement was
// never acknowledged. For one thread.
class Spool {
 public:
  // Creates the file where it is missing, for its owner alone. Throws io.
  Spool(std::filesystem::path file, std::size_t most_bytes);

  bool empty() const { return bytes_ == 0; }
  // On the disk when it returns. Throws io, and unavailable where there is no room.
  void append(const Settlement& settlement);
  // All of them, some perhaps made already. Throws io.
  std::vector<Settlement> read() const;
  // Once all have been made. Throws io.
  void clear();

 private:
  std::filesystem::path path_;
  FileDescriptor file_;
  std::size_t most_bytes_;
  std::size_t bytes_ = 0;
};

}  // namespace ridge::platform
