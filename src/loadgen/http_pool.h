#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.h"

namespace ridge::loadgen {

// What hears of one exchange. The pool calls it from poll() alone.
class HttpListener {
 public:
  virtual ~HttpListener() = default;
  // Before the first byte of the body, or before the end where there is none.
  virtual void on_head(int status, std::optional<double> retry_after_s) = 0;
  // As soon as it arrives. False closes the connection at once, and on_end is not called.
  virtual bool on_bytes(std::string_view bytes, Clock::TimePoint now) = 0;
  // `failure` is empty where the answer came whole, else says what broke.
  virtual void on_end(std::string_view failure, Clock::TimePoint now) = 0;
};

struct HttpAsk {
  std::string url;
  std::string body;     // POSTed as JSON; empty: GET
  std::string api_key;  // empty: none
  std::chrono::milliseconds timeout{600'000};
};

// Hundreds of HTTP exchanges at once on the caller's thread, over libcurl. Connections are kept
// and used again. Proxies come from the environment as for curl, but never to this machine itself.
class HttpPool {
 public:
  using Id = uint64_t;

  HttpPool();
  ~HttpPool();
  HttpPool(const HttpPool&) = delete;
  HttpPool& operator=(const HttpPool&) = delete;

  // The listener must live until on_end, a refused on_bytes, or close(). Throws io.
  Id start(const HttpAsk& ask, HttpListener& listener);
  // Ends an exchange by closing its connection; not from within a listener.
  void close(Id id);
  // Moves bytes and calls listeners; waits for them up to `longest`. Throws io.
  void poll(Clock::Duration longest);

 private:
  struct Exchange;
  void finish(Exchange& exchange, int result);

  void* multi_;
  Id next_id_ = 1;
  std::map<Id, std::unique_ptr<Exchange>> exchanges_;
};

// One exchange by itself, to its end. Throws io where the server cannot be reached.
struct HttpAnswer {
  int status = 0;
  std::string body;
};
HttpAnswer ask_once(HttpPool& pool, const HttpAsk& ask);

}  // namespace ridge::loadgen
