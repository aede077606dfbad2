#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "base/clock.h"
#include "platform/identity/id_token.h"
#include "platform/identity/provider_user.h"
#include "platform/identity/role.h"

namespace ridge::platform {

struct OidcOptions {
  std::string issuer;  // "https://login.example.org/realm"; http for this machine alone
  std::string client_id;
  std::string client_secret;  // empty: a public client, which PKCE alone protects
  // Of the ID token: what users are called here. An e-mail address counts where the provider says
  // that it is verified.
  std::string name_claim = "email";
  std::optional<Role> create_role;  // of users that are not there yet; else they are refused
};

// Signing in at an OpenID Connect provider: the authorization code flow with PKCE (RFC 7636).
// Everything about an attempt is made of one secret that the browser keeps in a cookie: the state,
// the nonce and the PKCE verifier are hashes of it. So nothing is kept here, any server can finish
// what another began, and nobody else's browser can. Called from any thread.
class OidcProvider {
 public:
  using NowS = std::function<int64_t()>;
  // Throws invalid_argument for an issuer that is no URL, or neither https nor this machine.
  explicit OidcProvider(OidcOptions options, NowS now_s = wall_clock_s);

  const OidcOptions& options() const { return options_; }

  // Where the browser goes first. `redirect_url` is where it comes back to. Throws unavailable
  // where the provider cannot be asked, or answers nonsense.
  std::string start_url(const std::string& secret, const std::string& redirect_url);
  // The user who has come back with `code`. Throws unauthenticated, or as start_url().
  ProviderUser finish(const std::string& secret, const std::string& state, const std::string& code,
                      const std::string& redirect_url);

  static int64_t wall_clock_s();

 private:
  struct Endpoints {
    std::string authorization, token, keys;
    bool takes_basic = true;  // the client's secret as user and password
  };

  Endpoints endpoints();
  // The set that has the key; read anew where it is not known, but not for each made-up id.
  std::shared_ptr<const KeySet> keys_with(const std::string& id);
  std::string fetch_id_token(const std::string& secret, const std::string& code,
                             const std::string& redirect_url);
  void check_url(const std::string& url, const std::string& what) const;

  const OidcOptions options_;
  const NowS now_s_;
  std::mutex mutex_;
  std::optional<Endpoints> endpoints_;
  std::shared_ptr<const KeySet> keys_;
  int64_t keys_read_at_s_ = 0;
};

}  // namespace ridge::platform
