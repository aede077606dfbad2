#pragma once

#include <cjose/jwk.h>

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ridge::platform {

// The public keys of who signs tokens (RFC 7517). Those of other kinds, for other uses or too weak
// (RSA under 2,048 bits) are left out.
class KeySet {
 public:
  // Throws invalid_argument for what is no key set.
  static KeySet parse(const std::string& text);

  struct Free {
    void operator()(cjose_jwk_t* key) const { cjose_jwk_release(key); }
  };
  struct Key {
    std::string id, algorithm;  // "": it does not say
    std::unique_ptr<cjose_jwk_t, Free> key;
  };
  // With no id, the only one there is. Null where there is none.
  const Key* find(const std::string& id) const;

 private:
  std::vector<Key> keys_;
};

// What an ID token must say (OpenID Connect Core 1.0, 3.1.3.7).
struct IdTokenRules {
  std::string issuer, client_id, nonce;
  int64_t now_s = 0;
};

class IdToken {
 public:
  // Of a compact JWS. Throws unauthenticated for what is none, is not signed with an RSA or EC key
  // and SHA-2, or wants to be understood in ways that we do not know ("crit").
  explicit IdToken(const std::string& text);
  ~IdToken();
  IdToken(const IdToken&) = delete;
  IdToken& operator=(const IdToken&) = delete;

  const std::string& key_id() const { return key_id_; }  // "": it does not say
  // The claims, as a JSON object. Throws unauthenticated that says which check they fail.
  nlohmann::json verify(const KeySet::Key& key, const IdTokenRules& rules) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
  std::string key_id_, algorithm_;
};

}  // namespace ridge::platform
