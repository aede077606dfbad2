#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "api/response_store.h"
#include "server/sign_in_throttle.h"

namespace ridge::server {

// Each limit guards against one kind of bad or slow client;
// the defaults are generous for good ones.
struct ServerOptions {
  std::string host = "127.0.0.1";  // an address, or a name that resolves to one
  uint16_t port = 8080;            // 0: any free one
  int network_threads = 1;
  int text_threads = 2;  // read requests and encode prompts; one group never holds all of them

  std::size_t max_head_bytes = 16u << 10;  // 431
  std::size_t max_body_bytes = 8u << 20;   // 413
  int max_connections = 1024;              // 503
  int batch_lines = 8;  // requests of batches that are answered at once; 0: none runs here
  std::size_t max_unsent_bytes =
      4u << 20;  // of one stream; a client that falls further behind is cut off

  // Of /v1/responses, kept in memory until their place is needed: of all projects, and of each.
  api::ResponseLimits max_stored = {.responses = 4096, .bytes = 64u << 20};
  api::ResponseLimits max_stored_of_project = {.responses = 1024, .bytes = 16u << 20};

  std::size_t max_recorded_requests = 512;  // that /v1/requests tells of
  std::string otlp_traces;                  // as OtlpOptions::url; "": traces go nowhere

  std::chrono::milliseconds head_timeout{10'000};    // first byte to end of head: 408
  std::chrono::milliseconds body_timeout{60'000};    // the whole body: 408
  // Of a file that is uploaded: body_timeout, and what its bytes take at this speed.
  int64_t least_upload_bytes_per_s = 128 << 10;
  std::chrono::milliseconds idle_timeout{75'000};    // between requests of one connection
  std::chrono::milliseconds write_timeout{30'000};   // for each 64 KiB
  std::chrono::milliseconds heartbeat{15'000};       // comments in a stream that waits
  std::chrono::milliseconds drain_timeout{30'000};   // for running requests, once asked to stop
  std::chrono::milliseconds stall_timeout{120'000};  // a step that lasts longer: not alive

  ThrottleOptions sign_ins;  // how often passwords may be tried

  std::vector<std::string> cors_origins;   // may call from a browser; "*": all. Empty: none
  std::vector<std::string> allowed_hosts;  // further names in Host; "*": all
  bool no_auth = false;                    // asks for no key; for loopback alone
  // Addresses of what stands in front, as TrustedProxies has them.
  std::vector<std::string> trusted_proxies;
  // PEM files, as load_tls() has them; both or neither. With them it speaks TLS alone.
  std::string tls_certificate, tls_key;
  bool insecure_http = false;   // takes keys in the clear from other machines
  bool handle_signals = false;  // SIGINT and SIGTERM call stop(), SIGHUP reads the TLS files anew
};

}  // namespace ridge::server
