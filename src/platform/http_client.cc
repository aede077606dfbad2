#include "platform/http_client.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <exception>

#include "base/trimmed.h"

namespace ridge::platform {
namespace {

constexpr size_t max_head_bytes = 64 * 1024;
constexpr size_t max_excuse_bytes = 400;
constexpr long stall_bytes_per_second = 1000;

int64_t number_or(std::string_view text, int64_t otherwise) {
  int64_t value = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  return failure == std::errc() && end == text.data() + text.size() && value >= 0 ? value
                                                                                  : otherwise;
}

// "bytes 100-199/200": RFC 9110, 14.4.
void read_content_range(std::string_view value, HttpHead& head) {
  if (!value.starts_with("bytes ")) return;
  value.remove_prefix(6);
  const size_t dash = value.find('-');
  const size_t slash = value.find('/');
  if (slash == value.npos) return;
  head.range_total = number_or(value.substr(slash + 1), -1);
  if (dash != value.npos && dash < slash) head.range_start = number_or(value.substr(0, dash), -1);
}

std::string_view meaning_of(int status, bool is_post) {
  if (is_post && status < 500) return "it did not take what was sent";
  switch (status) {
    case 401:
      return "no valid token was given, or the model is private or does not exist; set HF_TOKEN "
             "to a token that may read it";
    case 403:
      return "the token may not read this; a gated model asks you to accept its terms on its page "
             "first";
    case 404:
      return "there is no such model or file";
    case 429:
      return "too many requests";
    case 416:
      return "the range is not there";
  }
  return status >= 500 ? "the server failed" : "not the answer that was wanted";
}

ErrorCode code_of(int status) {
  switch (status) {
    case 401:
      return ErrorCode::unauthenticated;
    case 403:
      return ErrorCode::permission_denied;
    case 404:
    case 410:
      return ErrorCode::not_found;
    case 429:
    case 503:
      return ErrorCode::unavailable;
  }
  return ErrorCode::io;
}

// The next hop. Throws HttpError where the server sends us to what is no place to fetch from.
Url follow(const Url& url, const std::string& location, int status) {
  const auto refuse = [&](std::string_view reason) {
    return HttpError(ErrorCode::io,
                     fmt::format("{} sends elsewhere, but {}", url.to_string(), reason), status,
                     /*may_pass=*/false);
  };
  try {
    Url next = url.resolve(location);
    if (url.is_https() && !next.is_https()) throw refuse("from https to plain http");
    return next;
  } catch (const HttpError&) {
    throw;
  } catch (const Error& error) {
    throw refuse(error.message());
  }
}

HttpError refused_address(const Url& url, std::string_view address) {
  return {
      ErrorCode::io,
      fmt::format("{} is at {}, and nothing goes to a link-local address, where clouds keep what "
                  "their machines may know",
                  url.to_string(), address),
      /*status=*/0, /*may_pass=*/false};
}

bool is_redirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

// Takes a body of at most so many bytes.
HttpClient::OnBody appending_to(std::string& text, const HttpRequest& request,
                                int64_t limit_bytes) {
  return [&text, &request, limit_bytes](std::span<const std::byte> piece) {
    if (static_cast<int64_t>(text.size() + piece.size()) > limit_bytes) {
      throw HttpError(ErrorCode::io,
                      fmt::format("{} answered with more than {} bytes", request.url, limit_bytes),
                      200, /*may_pass=*/false);
    }
    text.append(reinterpret_cast<const char*>(piece.data()), piece.size());
  };
}

}  // namespace

// One hop: what was asked and what came back.
struct HttpClient::Exchange {
  const OnHead& on_head;
  const OnBody& on_body;
  const std::function<bool()>& is_cancelled;
  const bool asks_for_range;
  const bool takes_any_status = false;
  HttpHead head;
  std::string location;
  std::string excuse;  // the start of an error's body
  size_t head_bytes = 0;
  bool head_told = false;
  bool was_cancelled = false;
  std::exception_ptr failure;
  const HttpRequest* request = nullptr;  // while it is performed
  std::string refused;                   // an address that was not connected to

  // Whoever asks for what follows what they have may have all of it.
  bool is_wanted() const {
    return takes_any_status || (head.status >= 200 && head.status < 300) ||
           (head.status == 416 && asks_for_range);
  }

  void read_header(std::string_view line) {
    if (line.starts_with("HTTP/")) {
      head = HttpHead{};  // an interim answer came before
      location.clear();
      const size_t space = line.find(' ');
      if (space != line.npos)
        head.status = static_cast<int>(number_or(line.substr(space + 1, 3), 0));
      return;
    }
    const size_t colon = line.find(':');
    if (colon == line.npos) return;
    std::string key(line.substr(0, colon));
    std::transform(key.begin(), key.end(), key.begin(), [](char c) {
      return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    });
    const std::string_view value = trimmed(line.substr(colon + 1));
    if (key == "content-length") head.content_bytes = number_or(value, -1);
    if (key == "content-range") read_content_range(value, head);
    if (key == "etag") head.etag = value;
    if (key == "location") location = value;
    if (key == "x-linked-etag") head.linked_etag = value;
    if (key == "x-linked-size") head.linked_bytes = number_or(value, -1);
    // The other form, a date, is not worth a parser: the back-off serves.
    if (key == "retry-after" && number_or(value, -1) >= 0) head.retry_after_s = number_or(value, 0);
  }

  void tell_head() {
    if (head_told || !is_wanted()) return;
    head_told = true;
    if (on_head) on_head(head);
  }

  static size_t header(char* bytes, size_t size, size_t count, void* self_pointer) {
    auto& self = *static_cast<Exchange*>(self_pointer);
    self.head_bytes += size * count;
    if (self.head_bytes > max_head_bytes) return 0;
    self.read_header(trimmed({bytes, size * count}, white_space));
    return size * count;
  }

  static size_t body(char* bytes, size_t size, size_t count, void* self_pointer) {
    auto& self = *static_cast<Exchange*>(self_pointer);
    const std::string_view piece(bytes, size * count);
    if (!self.is_wanted()) {
      self.excuse +=
          piece.substr(0, max_excuse_bytes - std::min(max_excuse_bytes, self.excuse.size()));
      return piece.size();
    }
    try {  // no exception may cross the C library
      self.tell_head();
      if (self.on_body && self.head.status != 416) self.on_body(std::as_bytes(std::span(piece)));
      return piece.size();
    } catch (...) {
      self.failure = std::current_exception();
      return 0;
    }
  }

  // Where a connection is opened: behind the resolver, so that no name leads to a refused address.
  static curl_socket_t open_socket(void* self_pointer, curlsocktype, curl_sockaddr* where) {
    auto& self = *static_cast<Exchange*>(self_pointer);
    char text[INET6_ADDRSTRLEN] = "";
    const sockaddr* address = &where->addr;
    if (address->sa_family == AF_INET) {
      inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(address)->sin_addr, text,
                sizeof text);
    } else if (address->sa_family == AF_INET6) {
      inet_ntop(AF_INET6, &reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr, text,
                sizeof text);
    }
    if (text[0] == '\0' || self.request->refuses_address(text)) {
      self.refused = text;
      return CURL_SOCKET_BAD;
    }
    return socket(where->family, where->socktype | SOCK_CLOEXEC, where->protocol);
  }

  static int progress(void* self_pointer, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
    auto& self = *static_cast<Exchange*>(self_pointer);
    self.was_cancelled = self.is_cancelled && self.is_cancelled();
    return self.was_cancelled ? 1 : 0;
  }
};

HttpClient::HttpClient(HttpLimits limits, std::function<bool()> is_cancelled)
    : limits_(limits), is_cancelled_(std::move(is_cancelled)) {
  static const CURLcode started = curl_global_init(CURL_GLOBAL_DEFAULT);
  curl_ = curl_easy_init();
  if (started != CURLE_OK || curl_ == nullptr) {
    throw Error(ErrorCode::internal, "libcurl does not start");
  }
}

HttpClient::~HttpClient() { curl_easy_cleanup(curl_); }

void HttpClient::perform(const Url& url, const HttpRequest& request, bool with_token,
                         Exchange& exchange) {
  if (request.refuses_address && request.refuses_address(url.host())) {
    throw refused_address(url, url.host());
  }
  exchange.request = &request;
  struct FreeList {
    void operator()(curl_slist* list) const { curl_slist_free_all(list); }
  };
  std::unique_ptr<curl_slist, FreeList> headers, resolves;
  const auto add_header = [&](const std::string& line) {
    headers.reset(curl_slist_append(headers.release(), line.c_str()));
  };
  if (with_token && !request.bearer_token.empty()) {
    add_header("Authorization: Bearer " + request.bearer_token);
  }
  if (with_token && !request.basic_credentials.empty()) {
    add_header("Authorization: Basic " + request.basic_credentials);
  }
  if (!request.if_range.empty()) add_header("If-Range: " + request.if_range);
  const bool posts = !request.content_type.empty();
  if (posts) {
    add_header("Content-Type: " + request.content_type);
    add_header("Expect:");  // or curl waits a second for leave to send much
  }

  CURL* curl = curl_;
  curl_easy_reset(curl);  // keeps connections
  curl_easy_setopt(curl, CURLOPT_CURLU, url.handle());
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_USERAGENT, "ridge");
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers.get());
  curl_easy_setopt(curl, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
  curl_easy_setopt(curl, CURLOPT_NOBODY, request.head_only ? 1L : 0L);
  if (!request.method.empty()) {
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request.method.c_str());
  }
  if (posts) {
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE,
                     static_cast<curl_off_t>(request.body.size()));
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request.body.c_str());
  }
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, static_cast<long>(limits_.connect.count()));
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, stall_bytes_per_second);
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, static_cast<long>(limits_.stall.count()));
  curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, static_cast<long>(request.most.count()));
  if (request.refuses_address) {
    curl_easy_setopt(curl, CURLOPT_OPENSOCKETFUNCTION, Exchange::open_socket);
    curl_easy_setopt(curl, CURLOPT_OPENSOCKETDATA, &exchange);
  }
  for (const std::string& each : limits_.resolves) {
    resolves.reset(curl_slist_append(resolves.release(), each.c_str()));
  }
  if (resolves) curl_easy_setopt(curl, CURLOPT_RESOLVE, resolves.get());
  if (url.is_this_machine()) curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
  if (const char* certificates = std::getenv("SSL_CERT_FILE"); certificates != nullptr) {
    curl_easy_setopt(curl, CURLOPT_CAINFO, certificates);
  }
  const std::string range = fmt::format("{}-", request.range_start);
  if (request.range_start > 0) curl_easy_setopt(curl, CURLOPT_RANGE, range.c_str());
  curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, Exchange::header);
  curl_easy_setopt(curl, CURLOPT_HEADERDATA, &exchange);
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, Exchange::body);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &exchange);
  curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, Exchange::progress);
  curl_easy_setopt(curl, CURLOPT_XFERINFODATA, &exchange);
  char detail[CURL_ERROR_SIZE] = "";
  curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, detail);

  const CURLcode result = curl_easy_perform(curl);
  if (exchange.failure) std::rethrow_exception(exchange.failure);
  if (exchange.was_cancelled) throw Error(ErrorCode::cancelled, "stopped");
  if (result == CURLE_OK) return;
  if (!exchange.refused.empty()) throw refused_address(url, exchange.refused);
  const bool late = result == CURLE_OPERATION_TIMEDOUT;
  throw HttpError(
      late ? ErrorCode::timed_out : ErrorCode::io,
      fmt::format("{}: {}", url.to_string(), detail[0] ? detail : curl_easy_strerror(result)),
      exchange.head.status, /*may_pass=*/result != CURLE_PEER_FAILED_VERIFICATION);
}

HttpHead HttpClient::send(const HttpRequest& request, const OnHead& on_head,
                          const OnBody& on_body) {
  Url url = Url::parse(request.url);
  const std::string first_origin = url.origin();
  std::string linked_etag;
  int64_t linked_bytes = -1;
  for (int hop = 0; hop <= limits_.redirects; ++hop) {
    const bool is_home = url.origin() == first_origin;
    Exchange exchange{on_head, on_body, is_cancelled_, request.range_start > 0};
    perform(url, request, /*with_token=*/is_home, exchange);
    HttpHead& head = exchange.head;
    if (is_home && !head.linked_etag.empty()) {
      linked_etag = head.linked_etag;
      linked_bytes = head.linked_bytes;
    }
    if (is_redirect(head.status) && !exchange.location.empty() && request.content_type.empty()) {
      url = follow(url, exchange.location, head.status);
      continue;
    }
    if (!exchange.is_wanted()) {
      const bool may_pass = head.status == 429 || head.status == 408 || head.status >= 500;
      throw HttpError(code_of(head.status),
                      fmt::format("{} answered {}: {}", url.to_string(), head.status,
                                  meaning_of(head.status, !request.content_type.empty())),
                      head.status, may_pass, head.retry_after_s);
    }
    exchange.tell_head();  // an answer without a body
    head.linked_etag = linked_etag;
    head.linked_bytes = linked_bytes;
    return head;
  }
  throw HttpError(
      ErrorCode::io,
      fmt::format("{} leads through more than {} redirects", request.url, limits_.redirects), 0,
      /*may_pass=*/false);
}

std::string HttpClient::send_for_text(const HttpRequest& request, int64_t limit_bytes) {
  std::string text;
  const HttpHead head = send(request, {}, appending_to(text, request, limit_bytes));
  if (head.status != 200) {
    throw HttpError(ErrorCode::io, fmt::format("{} answered {}", request.url, head.status),
                    head.status, false);
  }
  return text;
}

HttpAnswer HttpClient::ask(const HttpRequest& request, int64_t limit_bytes) {
  HttpAnswer answer;
  const OnBody on_body = appending_to(answer.body, request, limit_bytes);
  const OnHead on_head;
  Exchange exchange{on_head, on_body, is_cancelled_, /*asks_for_range=*/false,
                    /*takes_any_status=*/true};
  perform(Url::parse(request.url), request, /*with_token=*/true, exchange);
  answer.status = exchange.head.status;
  return answer;
}

}  // namespace ridge::platform
