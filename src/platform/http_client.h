#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "platform/link_local.h"
#include "platform/url.h"

namespace ridge::platform {

struct HttpRequest {
  std::string url;
  // Sent to the origin (scheme, host and port) of `url` alone, never across a redirect to another.
  std::string bearer_token;
  std::string basic_credentials;  // likewise: user and password as RFC 7617 has them, in Base64
  int64_t range_start = 0;        // above 0: asks for the bytes from here
  std::string if_range;           // a strong ETag: the range only if the file is still that one
  bool head_only = false;
  std::string method;  // empty: GET, or POST where there is a body
  // Where there is a type, `body` is POSTed, and redirects are not followed.
  std::string content_type;
  std::string body;
  std::chrono::milliseconds most{0};  // for all of it, or timed_out; 0: as long as it moves
  // Of a host's addresses, those that must not be connected to: of every hop, whatever a name
  // resolves to. (Behind a proxy, which resolves names itself, what stands in the URL alone.) Null:
  // none.
  std::function<bool(std::string_view address)> refuses_address = is_link_local;
};

// The head of the last answer, that is, of the one which is no redirect.
struct HttpHead {
  int status = 0;
  int64_t content_bytes = -1;  // of this answer's body; -1 where not stated
  int64_t range_start = -1;    // of Content-Range; -1 where there is none
  int64_t range_total = -1;
  std::string etag;  // as it stands, with its quotes
  std::optional<int64_t> retry_after_s;
  // What the first server says of a file that it keeps elsewhere (Hugging Face's X-Linked-Etag and
  // X-Linked-Size); taken from answers of the request's own origin only.
  std::string linked_etag;
  int64_t linked_bytes = -1;
};

struct HttpAnswer {
  int status = 0;
  std::string body;
};

// A server that did not answer as wanted, or could not be reached.
class HttpError : public Error {
 public:
  HttpError(ErrorCode code, const std::string& message, int status, bool may_pass,
            std::optional<int64_t> retry_after_s = {})
      : Error(code, message), status(status), may_pass(may_pass), retry_after_s(retry_after_s) {}

  int status;     // 0 where none was reached
  bool may_pass;  // another try may go better
  std::optional<int64_t> retry_after_s;
};

struct HttpLimits {
  std::chrono::seconds connect{20};
  std::chrono::seconds stall{60};  // this long below 1 kB/s ends the transfer
  int redirects = 8;
  // "host:port:address", for tests: what is not asked of the machine's resolver.
  std::vector<std::string> resolves = {};
};

// Asks over HTTP with libcurl. Proxies come from the environment as for curl (https_proxy,
// http_proxy, no_proxy), but never for this machine itself; certificates from the system's store or
// SSL_CERT_FILE. Redirects are followed one at a time: https never goes on as http. Not for several
// threads at once.
class HttpClient {
 public:
  // `is_cancelled`, where given, is asked a few times a second.
  explicit HttpClient(HttpLimits limits = {}, std::function<bool()> is_cancelled = {});
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  // Called for the head of a 2xx or 416 answer, then for each piece of its body; both may throw,
  // which ends the transfer and comes out of send().
  using OnHead = std::function<void(const HttpHead&)>;
  using OnBody = std::function<void(std::span<const std::byte>)>;

  // Throws HttpError for any other status, with the code that fits it (not_found, unauthenticated,
  // permission_denied, unavailable, io, timed_out), and cancelled.
  HttpHead send(const HttpRequest& request, const OnHead& on_head, const OnBody& on_body);
  // The whole body of the answer, at most `limit_bytes`. Throws HttpError for more.
  std::string send_for_text(const HttpRequest& request, int64_t limit_bytes);
  // The same for an answer of any status; redirects are not followed.
  HttpAnswer ask(const HttpRequest& request, int64_t limit_bytes);

 private:
  struct Exchange;
  void perform(const Url& url, const HttpRequest& request, bool with_token, Exchange& exchange);

  void* curl_;
  HttpLimits limits_;
  std::function<bool()> is_cancelled_;
};

}  // namespace ridge::platform
