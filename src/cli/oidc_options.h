#pragma once

#include <CLI/App.hpp>
#include <memory>
#include <string>

#include "platform/identity/oidc.h"

namespace ridge::cli {

struct OidcChoice {
  std::string issuer, client_id, client_secret_file, name_claim = "email", create_role;
};

void add_oidc_settings(CLI::App& command, OidcChoice& choice);

// Null where no issuer is named. The client's secret is the file's first line, or
// RIDGE_OIDC_CLIENT_SECRET. Throws invalid_argument that names the option.
std::shared_ptr<platform::OidcProvider> oidc_provider(const OidcChoice& choice);

}  // namespace ridge::cli
