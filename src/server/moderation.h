#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "platform/http_client.h"

namespace ridge::server {

// Asks the services that operators name for their endpoints whether what a client wrote may be
// answered. Called from any thread, and waits.
class Moderation {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;
  static constexpr std::chrono::milliseconds most{5'000};  // from the request to the verdict

  // POSTs {"input": texts} in the form of OpenAI's /v1/moderations, and reads {"results":
  // [{"flagged": bool}]}: whether any is flagged. No redirect is followed, and no link-local
  // address is connected to. Throws Error for any other answer, and where there is none by `until`.
  bool is_flagged(const std::string& url, const std::vector<std::string>& texts, TimePoint until);

 private:
  using Client = std::unique_ptr<platform::HttpClient>;
  Client take();
  void give_back(Client client);

  std::mutex mutex_;
  std::vector<Client> idle_;  // with the connections that they keep
};

}  // namespace ridge::server
