#include "platform/identity/oidc.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/log.h"
#include "platform/digest.h"
#include "platform/http_client.h"
#include "platform/url.h"

namespace ridge::platform {
namespace {

using Json = nlohmann::json;

constexpr int64_t most_answer_bytes = 256 << 10;
constexpr int64_t keys_read_every_s = 60;
constexpr HttpLimits limits{.connect = std::chrono::seconds(5), .stall = std::chrono::seconds(10)};

// What is told to others is a hash of the secret, which stays with the browser.
std::string hash_for(std::string_view purpose, const std::string& secret) {
  return Digest::of(fmt::format("{} {}", purpose, secret)).to_string();
}

std::string base64(const std::string& bytes) {
  std::string text(4 * ((bytes.size() + 2) / 3) + 1, '\0');
  const int size = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                                   reinterpret_cast<const unsigned char*>(bytes.data()),
                                   static_cast<int>(bytes.size()));
  text.resize(static_cast<std::size_t>(size));
  return text;
}

std::string base64url(const std::string& bytes) {
  std::string text = base64(bytes);
  for (char& c : text) c = c == '+' ? '-' : c == '/' ? '_' : c;
  text.resize(text.find_last_not_of('=') + 1);
  return text;
}

// The S256 of RFC 7636.
std::string challenge_of(const std::string& verifier) {
  const std::string digits = Digest::of(verifier).to_string();
  std::string bytes;
  for (std::size_t i = 0; i < digits.size(); i += 2) {
    bytes += static_cast<char>(std::stoi(digits.substr(i, 2), nullptr, 16));
  }
  return base64url(bytes);
}

Error unavailable(const std::string& why) {
  log::error("the OIDC provider: {}", why);
  return Error(ErrorCode::unavailable,
               "signing in is not possible at the moment, as the provider does not answer as it "
               "should; the server's log has the reason");
}

std::string required(const Json& document, const char* name) {
  const auto found = document.find(name);
  if (found == document.end() || !found->is_string()) {
    throw unavailable(fmt::format("its configuration lacks {}", name));
  }
  return found->get<std::string>();
}

Json fetch(const HttpRequest& request) {
  try {
    Json document = Json::parse(HttpClient(limits).send_for_text(request, most_answer_bytes),
                                nullptr, /*allow_exceptions=*/false);
    if (document.is_object()) return document;
  } catch (const HttpError& error) {
    if (error.status >= 400 && error.status < 500 && !request.content_type.empty()) throw;
    throw unavailable(std::string(error.message()));
  }
  throw unavailable(request.url + " answered with no JSON object");
}

bool takes_basic(const Json& configuration) {
  const auto methods = configuration.find("token_endpoint_auth_methods_supported");
  if (methods == configuration.end() || !methods->is_array()) return true;  // the default
  return std::ranges::find(*methods, Json("client_secret_basic")) != methods->end();
}

}  // namespace

OidcProvider::OidcProvider(OidcOptions options, NowS now_s)
    : options_(std::move(options)), now_s_(std::move(now_s)) {
  const Url url = Url::parse(options_.issuer);
  if (!url.is_https() && !url.is_this_machine()) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("--oidc-issuer is '{}'; it must begin with https://", options_.issuer));
  }
  if (options_.client_id.empty()) {
    throw Error(ErrorCode::invalid_argument, "--oidc-issuer goes with --oidc-client-id");
  }
}

int64_t OidcProvider::wall_clock_s() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::seconds>(now).count();
}

// A secret is sent there, or keys are believed that come from there.
void OidcProvider::check_url(const std::string& text, const std::string& what) const {
  try {
    const Url url = Url::parse(text);
    const bool is_local = url.is_this_machine() && Url::parse(options_.issuer).is_this_machine();
    if (url.is_https() || is_local) return;
  } catch (const Error& error) {
    throw unavailable(fmt::format("its {}: {}", what, error.message()));
  }
  throw unavailable(fmt::format("its {} is {}, which is not https", what, text));
}

OidcProvider::Endpoints OidcProvider::endpoints() {
  {
    const std::lock_guard lock(mutex_);
    if (endpoints_) return *endpoints_;
  }
  std::string base = options_.issuer;
  while (base.ends_with('/')) base.pop_back();
  const Json configuration = fetch({.url = base + "/.well-known/openid-configuration"});
  if (required(configuration, "issuer") != options_.issuer) {
    throw unavailable(fmt::format("it calls itself '{}', and --oidc-issuer is '{}'",
                                  required(configuration, "issuer"), options_.issuer));
  }
  Endpoints found{required(configuration, "authorization_endpoint"),
                  required(configuration, "token_endpoint"), required(configuration, "jwks_uri"),
                  takes_basic(configuration)};
  check_url(found.authorization, "authorization_endpoint");
  check_url(found.token, "token_endpoint");
  check_url(found.keys, "jwks_uri");
  const std::lock_guard lock(mutex_);
  endpoints_ = found;
  return found;
}

std::string OidcProvider::start_url(const std::string& secret, const std::string& redirect_url) {
  const std::string base = endpoints().authorization;
  return fmt::format(
      "{}{}response_type=code&client_id={}&redirect_uri={}&scope=openid%20email%20profile&state={}"
      "&nonce={}&code_challenge={}&code_challenge_method=S256",
      base, base.find('?') == std::string::npos ? "?" : "&", encode_query(options_.client_id),
      encode_query(redirect_url), hash_for("state", secret), hash_for("nonce", secret),
      challenge_of(hash_for("verifier", secret)));
}

std::string OidcProvider::fetch_id_token(const std::string& secret, const std::string& code,
                                         const std::string& redirect_url) {
  const Endpoints known = endpoints();
  HttpRequest request{.url = known.token, .content_type = "application/x-www-form-urlencoded"};
  request.body =
      fmt::format("grant_type=authorization_code&code={}&redirect_uri={}&code_verifier={}",
                  encode_query(code), encode_query(redirect_url), hash_for("verifier", secret));
  const std::string id = encode_query(options_.client_id),
                    password = encode_query(options_.client_secret);
  if (!password.empty() && known.takes_basic) {
    request.basic_credentials = base64(id + ":" + password);
  } else {
    request.body += "&client_id=" + id;
    if (!password.empty()) request.body += "&client_secret=" + password;
  }
  try {
    const Json answer = fetch(request);
    const auto token = answer.find("id_token");
    if (token != answer.end() && token->is_string()) return token->get<std::string>();
  } catch (const HttpError& error) {
    log::warning("the OIDC provider refused a code: {}", error.message());
    throw Error(ErrorCode::unauthenticated, "the provider does not know this attempt to sign in");
  }
  throw unavailable("it answered without an ID token");
}

std::shared_ptr<const KeySet> OidcProvider::keys_with(const std::string& id) {
  const std::string url = endpoints().keys;
  {
    const std::lock_guard lock(mutex_);
    const bool is_known = keys_ != nullptr && keys_->find(id) != nullptr;
    if (is_known || (keys_ != nullptr && now_s_() - keys_read_at_s_ < keys_read_every_s)) {
      return keys_;
    }
  }
  const std::string text = fetch({.url = url}).dump();
  std::shared_ptr<const KeySet> fresh;
  try {
    fresh = std::make_shared<const KeySet>(KeySet::parse(text));
  } catch (const Error& error) {
    throw unavailable(fmt::format("{}: {}", url, error.message()));
  }
  const std::lock_guard lock(mutex_);
  keys_ = std::move(fresh);
  keys_read_at_s_ = now_s_();
  return keys_;
}

ProviderUser OidcProvider::finish(const std::string& secret, const std::string& state,
                                  const std::string& code, const std::string& redirect_url) {
  if (secret.empty() || Digest::of(state) != Digest::of(hash_for("state", secret))) {
    throw Error(ErrorCode::unauthenticated,
                "this browser did not begin to sign in, or too long ago; begin again");
  }
  const IdToken token(fetch_id_token(secret, code, redirect_url));
  const auto keys = keys_with(token.key_id());
  const KeySet::Key* const key = keys->find(token.key_id());
  if (key == nullptr) {
    throw Error(ErrorCode::unauthenticated,
                "the provider's ID token is signed with a key that it does not publish");
  }
  const Json claims = token.verify(*key, {.issuer = options_.issuer,
                                          .client_id = options_.client_id,
                                          .nonce = hash_for("nonce", secret),
                                          .now_s = now_s_()});
  const auto name = claims.find(options_.name_claim);
  if (name == claims.end() || !name->is_string() || name->get<std::string>().empty()) {
    throw Error(ErrorCode::unauthenticated,
                fmt::format("the provider does not say your '{}', by which users are named here",
                            options_.name_claim));
  }
  if (options_.name_claim == "email" && claims.value("email_verified", Json()) != Json(true)) {
    throw Error(ErrorCode::unauthenticated,
                "the provider does not say that your e-mail address is verified");
  }
  return {.issuer = options_.issuer,
          .subject = claims.at("sub").get<std::string>(),
          .name = name->get<std::string>()};
}

}  // namespace ridge::platform
