#include "platform/identity/id_token.h"

#include <cjose/cjose.h>
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace ridge::platform {
namespace {

using Json = nlohmann::json;

constexpr std::size_t least_rsa_bits = 2048;
constexpr std::size_t most_keys = 100;
constexpr std::size_t most_subject_bytes = 255;
constexpr int64_t skew_s = 60;  // between the clocks of issuer and server

// Signatures by a public key alone: never "none", and never HMAC, for which whoever knows the
// public key could sign.
constexpr std::string_view rsa_algorithms[] = {"RS256", "RS384", "RS512",
                                               "PS256", "PS384", "PS512"};
constexpr std::string_view ec_algorithms[] = {"ES256", "ES384", "ES512"};

bool is_one_of(const auto& list, std::string_view text) {
  return std::ranges::find(list, text) != std::end(list);
}

Error refuse(const std::string& why) {
  return Error(ErrorCode::unauthenticated, "the provider's ID token " + why);
}

std::string text_of(const Json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

int64_t time_of(const Json& claims, const char* name) {
  const auto found = claims.find(name);
  if (found == claims.end() || !found->is_number()) throw refuse(fmt::format("lacks {}", name));
  return static_cast<int64_t>(std::clamp(found->get<double>(), 0.0, 1e15));
}

// `aud` is a text or a list.
bool is_for(const Json& claims, const std::string& client_id) {
  const auto audience = claims.find("aud");
  if (audience == claims.end()) return false;
  if (audience->is_string()) return *audience == client_id;
  if (!audience->is_array()) return false;
  const bool is_named = std::ranges::find(*audience, Json(client_id)) != audience->end();
  return is_named && (audience->size() == 1 || text_of(claims, "azp") == client_id);
}

void check(const Json& claims, const IdTokenRules& rules) {
  if (text_of(claims, "iss") != rules.issuer) throw refuse("is of another issuer");
  if (!is_for(claims, rules.client_id)) throw refuse("is for another client");
  if (time_of(claims, "exp") <= rules.now_s - skew_s) throw refuse("has expired");
  if (time_of(claims, "iat") > rules.now_s + skew_s) throw refuse("is of the future");
  if (claims.contains("nbf") && time_of(claims, "nbf") > rules.now_s + skew_s) {
    throw refuse("is not valid yet");
  }
  if (text_of(claims, "nonce") != rules.nonce) throw refuse("is of another attempt to sign in");
  const std::string subject = text_of(claims, "sub");
  if (subject.empty()) throw refuse("names nobody");
  const bool is_ascii = std::ranges::all_of(
      subject, [](char c) { return c >= 0x20 && c < 0x7f; });  // as Core 1.0 has it, 2
  if (!is_ascii || subject.size() > most_subject_bytes) {
    throw refuse("names somebody by more than 255 characters of ASCII");
  }
}

std::string header_text(cjose_header_t* header, const char* name) {
  cjose_err failure{};
  const char* text = cjose_header_get(header, name, &failure);
  return text == nullptr ? "" : text;
}

}  // namespace

KeySet KeySet::parse(const std::string& text) {
  const Json document = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  const bool is_set = document.is_object() && document.contains("keys") &&
                      document["keys"].is_array() && document["keys"].size() <= most_keys;
  if (!is_set) throw Error(ErrorCode::invalid_argument, "this is no JSON Web Key set");
  KeySet set;
  for (const Json& each : document["keys"]) {
    if (!each.is_object()) continue;
    const std::string kind = text_of(each, "kty"), use = text_of(each, "use");
    if ((kind != "RSA" && kind != "EC") || (!use.empty() && use != "sig")) continue;
    const std::string json = each.dump(-1, ' ', false, Json::error_handler_t::replace);
    cjose_err failure{};
    Key key{text_of(each, "kid"), text_of(each, "alg"), {}};
    key.key.reset(cjose_jwk_import(json.data(), json.size(), &failure));
    if (!key.key) continue;
    if (kind == "RSA" && cjose_jwk_get_keysize(key.key.get(), &failure) < least_rsa_bits) continue;
    set.keys_.push_back(std::move(key));
  }
  return set;
}

const KeySet::Key* KeySet::find(const std::string& id) const {
  if (id.empty()) return keys_.size() == 1 ? &keys_.front() : nullptr;
  const auto found = std::ranges::find(keys_, id, &Key::id);
  return found == keys_.end() ? nullptr : &*found;
}

struct IdToken::State {
  ~State() {
    if (jws != nullptr) cjose_jws_release(jws);
  }
  cjose_jws_t* jws = nullptr;
};

IdToken::IdToken(const std::string& text) : state_(std::make_unique<State>()) {
  cjose_err failure{};
  state_->jws = cjose_jws_import(text.data(), text.size(), &failure);
  cjose_header_t* const header =
      state_->jws == nullptr ? nullptr : cjose_jws_get_protected(state_->jws);
  if (header == nullptr) throw refuse("is no signed token");
  algorithm_ = header_text(header, "alg");
  key_id_ = header_text(header, "kid");
  if (!is_one_of(rsa_algorithms, algorithm_) && !is_one_of(ec_algorithms, algorithm_)) {
    throw refuse("is not signed in a way that is accepted");
  }
  char* const critical = cjose_header_get_raw(header, "crit", &failure);
  if (critical != nullptr) {
    cjose_get_dealloc()(critical);
    throw refuse("wants to be understood in ways that are not known");
  }
}

IdToken::~IdToken() = default;

Json IdToken::verify(const KeySet::Key& key, const IdTokenRules& rules) const {
  cjose_err failure{};
  const auto kind = cjose_jwk_get_kty(key.key.get(), &failure);
  const bool fits = kind == CJOSE_JWK_KTY_RSA ? is_one_of(rsa_algorithms, algorithm_)
                                              : is_one_of(ec_algorithms, algorithm_);
  const bool is_its = key.algorithm.empty() || key.algorithm == algorithm_;
  if (!fits || !is_its || !cjose_jws_verify(state_->jws, key.key.get(), &failure)) {
    throw refuse("does not bear its issuer's signature");
  }
  uint8_t* bytes = nullptr;
  std::size_t size = 0;
  if (!cjose_jws_get_plaintext(state_->jws, &bytes, &size, &failure)) throw refuse("is empty");
  const Json claims = Json::parse(bytes, bytes + size, nullptr, /*allow_exceptions=*/false);
  if (!claims.is_object()) throw refuse("holds no claims");
  check(claims, rules);
  return claims;
}

}  // namespace ridge::platform
