#pragma once

#include <memory>

#include "platform/batch/batches.h"
#include "platform/batch/files.h"
#include "platform/database/database.h"
#include "platform/endpoints/endpoint_directory.h"
#include "platform/identity/identity.h"
#include "platform/identity/oidc.h"
#include "platform/identity/sessions.h"
#include "platform/kept/request_keeper.h"
#include "server/model_supply.h"

namespace ridge::server {

// What the handlers of routes work on. Where something is null, what needs it is answered 503.
struct PlatformAccess {
  std::shared_ptr<platform::Database> database;
  std::shared_ptr<platform::Identity> identity;
  std::shared_ptr<platform::Sessions> sessions;
  std::shared_ptr<platform::OidcProvider> oidc;  // null: nobody signs in elsewhere
  std::shared_ptr<const ModelSupply> supply;         // null: only what was named is served
  std::shared_ptr<platform::EndpointDirectory> endpoint_directory;
  std::shared_ptr<platform::Files> files;        // of clients
  std::shared_ptr<platform::Batches> batches;    // with files
  // Null: nothing is kept of what is asked and answered. With the database, and keys.
  std::shared_ptr<platform::RequestKeeper> keeper;
};

}  // namespace ridge::server
