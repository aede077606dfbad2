#include "cli/oidc_options.h"

#include <fmt/format.h>

#include <cstdlib>
#include <fstream>

#include "base/error.h"
#include "cli/config.h"

namespace ridge::cli {
namespace {

std::string client_secret(const OidcChoice& choice) {
  if (choice.client_secret_file.empty()) {
    const char* secret = std::getenv("RIDGE_OIDC_CLIENT_SECRET");
    return secret == nullptr ? "" : secret;
  }
  std::ifstream file(choice.client_secret_file);
  std::string line;
  if (std::getline(file, line) && line.ends_with('\r')) line.pop_back();
  if (!line.empty()) return line;
  throw Error(
      ErrorCode::invalid_argument,
      fmt::format("--oidc-client-secret-file: {} cannot be read, or its first line is empty",
                  choice.client_secret_file));
}

}  // namespace

void add_oidc_settings(CLI::App& command, OidcChoice& choice) {
  add_setting(command, "oidc-issuer", choice.issuer,
              "Let people sign in at this OpenID Connect provider: https://login.example.org");
  add_setting(command, "oidc-client-id", choice.client_id, "What the provider calls this server");
  add_setting(command, "oidc-client-secret-file", choice.client_secret_file,
              "A file with the client's secret; else RIDGE_OIDC_CLIENT_SECRET, if there is one")
      ->type_name("FILE");
  add_setting(command, "oidc-name-claim", choice.name_claim,
              "The claim of the ID token that is the user's name here");
  add_setting(command, "oidc-create-role", choice.create_role,
              "Make users who are not there yet, with this role; without it they are refused");
}

std::shared_ptr<platform::OidcProvider> oidc_provider(const OidcChoice& choice) {
  if (choice.issuer.empty()) return nullptr;
  platform::OidcOptions options{.issuer = choice.issuer,
                                .client_id = choice.client_id,
                                .client_secret = client_secret(choice),
                                .name_claim = choice.name_claim};
  if (!choice.create_role.empty()) {
    options.create_role = platform::role_named(choice.create_role);
    if (!options.create_role) {
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("--oidc-create-role: '{}' is none of {}", choice.create_role,
                              platform::role_names()));
    }
  }
  return std::make_shared<platform::OidcProvider>(std::move(options));
}

}  // namespace ridge::cli
