#pragma once

#include <cstdint>
#include <string>

#include "platform/database/session.h"

namespace ridge::platform {

// That a line of a batch has its result, and where this stands.
struct BatchMark {
  std::string batch_id;  // empty: there is none
  int64_t line = 0;      // of the input, from 1
  std::string server;    // whose file of results has it
  int64_t start = 0;     // its first byte there
  int64_t bytes = 0;
  bool is_error = false;  // it belongs into the error file
};

// Counts the line as done, where it is not yet and the batch is (still) this server's to run; else
// does nothing. Within a write() of the database.
void insert_mark(Session& session, const BatchMark& mark);

}  // namespace ridge::platform
