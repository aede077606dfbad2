#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "platform/database/database.h"
#include "platform/endpoints/endpoint.h"
#include "platform/identity/identity.h"

namespace ridge::platform {

// What is changed of an endpoint; the rest stays.
struct EndpointChange {
  std::optional<bool> is_enabled;
  std::optional<std::string> moderation_url;  // empty: nobody is asked any more
};

// All endpoints, as of one view of the data.
struct EndpointTable {
  int64_t revision = 0;             // grows with every change
  std::vector<Endpoint> endpoints;  // by name

  // Null where there is none.
  const Endpoint* find(std::string_view name) const;
};

// The endpoints of the organisation. Changes go into the audit log with who makes them, and servers
// see them by EndpointDirectory. Names are 1 to 64 letters, digits, '.', '_' and '-', the first a
// letter or digit; that none is a model's is for whoever knows the models to check. There are at
// most 1,000 endpoints, with at most 16 Mi characters of system prompts together. Beyond Database's
// errors, all throw not_found, already_exists for a name that is taken, and invalid_argument for a
// bad name or value.
class Endpoints {
 public:
  explicit Endpoints(Database& database, Identity::NowMs now_ms = {});

  // With one version, which has all requests.
  Endpoint create(const std::string& name, const EndpointVersion& first,
                  const std::string& moderation_url, std::string_view actor);
  Endpoint change(const std::string& name, const EndpointChange& change, std::string_view actor);
  // The next number, and no share yet. The newest 100 versions are kept, and those that have a
  // share or would have one after a rollback.
  Endpoint add_version(const std::string& name, const EndpointVersion& version,
                       std::string_view actor);
  // One or two versions, of 0 to 100 percent, 100 together.
  Endpoint set_shares(const std::string& name, std::vector<EndpointShare> shares,
                      std::string_view actor);
  // To the shares before those that hold; again, to those before them, of the last 20. Throws
  // invalid_argument where there are none.
  Endpoint roll_back(const std::string& name, std::string_view actor);
  // Limits and keys that name it keep the name.
  void remove(const std::string& name, std::string_view actor);

  Endpoint get(const std::string& name);
  EndpointTable table();
  int64_t revision();

 private:
  Database& database_;
  Identity::NowMs now_ms_;
};

}  // namespace ridge::platform
