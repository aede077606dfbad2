#pragma once

#include <string>

#include "base/error.h"

namespace ridge::platform {

// A failure of the database. For the log and for whoever runs a command, what() tells where it is
// and what it said; a copy as Error, which is all that leaves a server, does not.
class DatabaseError : public Error {
 public:
  DatabaseError(ErrorCode code, std::string reason)
      : Error(code, code == ErrorCode::unavailable ? "the database is not available"
                                                   : "the database failed"),
        reason_(std::move(reason)) {}

  const char* what() const noexcept override { return reason_.c_str(); }
  // Without the reason.
  Error for_strangers() const { return *this; }

 private:
  std::string reason_;
};

}  // namespace ridge::platform
