#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/context.h"
#include "cli/identity_access.h"

namespace ridge::cli {

enum class Verdict {
  ok,
  look_at,  // it works, and somebody should know
  wrong,    // something does not work, or is not safe
};

std::string_view name(Verdict verdict);  // "ok", "look at", "wrong"

// One thing that a server needs: how it is, and where it is not ok what to do.
struct Check {
  std::string subject;  // "database"
  Verdict verdict = Verdict::ok;
  std::string found;
  std::string advice;  // empty where there is nothing to do
};

// The set-up of a server, as it would be started.
struct SetUp {
  DatabaseChoice database;
  std::string host = "127.0.0.1";
  uint16_t port = 8080;
  bool is_port_chosen = false;  // else another one in its place is not wrong
  std::string tls_certificate, tls_key;
  int max_connections = 1024;
};

// Looks and changes nothing. Throws only where this machine cannot be looked at at all.
std::vector<Check> check_set_up(Context& context, const SetUp& set_up);

}  // namespace ridge::cli
