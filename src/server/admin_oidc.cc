// Signing in at an OpenID Connect provider.
#include <fmt/format.h>

#include <chrono>
#include <string>

#include "api/url_query.h"
#include "base/error.h"
#include "platform/identity/api_key_text.h"
#include "platform/identity/oidc.h"
#include "platform/url.h"
#include "server/answering.h"
#include "server/handler_route.h"
#include "server/service.h"
#include "server/session_cookie.h"

namespace ridge::server {
namespace {

constexpr std::chrono::seconds attempt_lives{600};

platform::OidcProvider& provider_of(const HandlerRequest& request) {
  const auto& provider = request.service.platform.oidc;
  if (provider != nullptr && request.service.authenticator != nullptr) return *provider;
  throw Error(ErrorCode::not_found,
              "this server signs nobody in at a provider; --oidc-issuer names one");
}

std::string redirect_url(const HandlerRequest& request) {
  return fmt::format("{}://{}/api/v1/oidc/callback", request.is_secure ? "https" : "http",
                     request.host);
}

HandlerAnswer go_to(const std::string& url) {
  HandlerAnswer answer{.status = 302};
  answer.headers.emplace_back("Location", url);
  return answer;
}

HandlerAnswer start(HandlerRequest& request) {
  const std::string secret = platform::random_secret();
  HandlerAnswer answer = go_to(provider_of(request).start_url(secret, redirect_url(request)));
  answer.headers.emplace_back("Set-Cookie",
                              attempt_cookie(secret, request.is_secure, attempt_lives));
  return answer;
}

platform::NewSession finish(HandlerRequest& request) {
  platform::OidcProvider& provider = provider_of(request);
  const auto value = [&](std::string_view name) {
    return api::query_value(request.query, name).value_or("");
  };
  if (const std::string failure = value("error"); !failure.empty()) {
    throw Error(ErrorCode::unauthenticated,
                fmt::format("the provider refused: {}", failure.substr(0, 200)));
  }
  // An attempt asks the provider, so that one address may not make many that fail.
  constexpr std::string_view any_name = "an OIDC provider's users";
  if (const auto wait = request.service.sign_ins.begin(request.address, any_name)) {
    throw Error(ErrorCode::queue_full,
                fmt::format("too many attempts; wait for {} s", wait->count() / 1000 + 1));
  }
  const platform::ProviderUser person =
      provider.finish(attempt_secret(request.cookies, request.is_secure), value("state"),
                      value("code"), redirect_url(request));
  platform::NewSession session =
      request.sessions().sign_in_as(person, provider.options().create_role, request.address);
  request.service.sign_ins.succeeded(request.address, any_name);
  return session;
}

// A person looks at what comes: the console tells failures.
HandlerAnswer come_back(HandlerRequest& request) {
  HandlerAnswer answer;
  try {
    const platform::NewSession session = finish(request);
    if (!request.session_token.empty()) {
      request.sessions().sign_out(request.session_token, request.address);
    }
    answer = go_to("/");
    answer.headers.emplace_back("Set-Cookie",
                                session_cookie(session.token, request.is_secure, session_lives));
  } catch (const Error& error) {
    if (error.code() != ErrorCode::unauthenticated && error.code() != ErrorCode::queue_full &&
        error.code() != ErrorCode::unavailable) {
      throw;
    }
    if (error.code() == ErrorCode::unauthenticated) record_refused_sign_in(request, "", "oidc");
    const Error told = error_of(std::current_exception(), request.request_id);
    answer = go_to("/#/login?error=" + platform::encode_query(std::string(told.message())));
  }
  // It has served, and does not a second time.
  answer.headers.emplace_back("Set-Cookie",
                              attempt_cookie("", request.is_secure, std::chrono::seconds(0)));
  return answer;
}

constexpr HandlerRoute oidc_table[] = {
    {.method = "GET",
     .path = "/api/v1/oidc/start",
     .access = open_access,
     .handle = start,
     .runs_on = RunsOn::provider_pool},
    {.method = "GET",
     .path = "/api/v1/oidc/callback",
     .access = open_access,
     .handle = come_back,
     .runs_on = RunsOn::provider_pool},
};

}  // namespace

std::span<const HandlerRoute> oidc_routes() { return oidc_table; }

}  // namespace ridge::server
