#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "administration/administration.h"
#include "api/json_text.h"
#include "base/file_descriptor.h"
#include "platform/batch/batches.h"
#include "platform/batch/files.h"
#include "platform/database/database.h"
#include "platform/identity/caller.h"
#include "platform/identity/identity.h"
#include "platform/identity/sessions.h"
#include "server/access.h"
#include "server/http_head.h"
#include "server/model_supply.h"
#include "server/rate_headers.h"

// Routes that are answered by one function, which may wait: those under /api/v1 above all. To add
// one, write its function and its line in a table of its file, and name that table in
// handler_route.cc. data/openapi.json describes it, and a test holds the two together.
namespace ridge::server {

struct Service;

using platform::Caller;  // on whose behalf a handler works

struct HandlerRequest {
  Service& service;
  Caller caller;
  std::string request_id;  // for the log
  std::string method;
  std::string argument;  // what stands for {id}, decoded
  std::string query;     // what stands behind "?", for api::query_value
  std::string body;
  std::string host;           // as the client calls this server
  std::string cookies;        // the header
  std::string address;        // of the client, as far as it is known
  std::string session_token;  // that came in a cookie, whatever it is worth
  bool is_secure = false;     // TLS is spoken, here or at a trusted proxy
  std::string content_type;   // of the body
  FileDescriptor upload;      // in place of the body, where the route takes files

  // The body as a JSON object; an empty one where there is no body. Throws invalid_argument.
  api::Json json() const;
  // Throw unavailable where the server has no database.
  platform::Database& database() const;
  platform::Identity& identity() const;
  platform::Sessions& sessions() const;
  // Throw unavailable where the server has no more models than those that it was started with.
  const ModelSupply& supply() const;
  platform::Downloads& downloads() const;
  platform::Files& files() const;
  platform::Batches& batches() const;
  // For which the caller acts. Where nobody is asked who they are, the default one. Throws as
  // identity().
  std::string project() const;
};

struct HandlerAnswer {
  int status = 200;
  std::string body;
  std::string content_type = "application/json";
  HeaderFields headers = {};
  // Where it is open: sent in place of the body, from its beginning on.
  FileDescriptor file = {};
  std::size_t file_bytes = 0;
  // Where it is there: pieces behind the body, up to an empty one. Runs where the handler did.
  std::function<std::string()> more = {};
};

// That somebody could not sign in, as `name` or as nobody knows whom, goes into the audit log, as far
// as there is room for such (admin_session.cc).
void record_refused_sign_in(const HandlerRequest& request, const std::string& name,
                            std::string_view by);

HandlerAnswer handler_answer(administration::Answer answer);
HandlerAnswer json_answer(const api::Json& document, int status = 200);
HandlerAnswer list_answer(api::Json items);  // {"data": […]}
HandlerAnswer no_content();  // 204

enum class RunsOn {
  handler_pool,
  password_pool,  // one at a time, and few wait, as checks of passwords take much memory
  provider_pool,  // the same, for what waits for another server
};

struct HandlerRoute {
  std::string_view method;  // GET answers HEAD as well
  std::string_view path;    // {id} stands for one part that varies
  Access access;
  // Runs on a thread that may wait. What it throws becomes an answer; invalid_argument is 400,
  // not_found 404, already_exists 409.
  HandlerAnswer (*handle)(HandlerRequest&);
  std::size_t most_body_bytes = 64u << 10;
  RunsOn runs_on = RunsOn::handler_pool;
  // The body is a form with a file, as large as Files allows, and goes to the disk as it comes.
  bool takes_file = false;
};

// All of them.
std::span<const HandlerRoute> handler_routes();
// The one for a path as it is in the table; null where there is none for the method.
const HandlerRoute* find_handler(std::string_view path, std::string_view method);

// The tables.
std::span<const HandlerRoute> session_routes();         // admin_session.cc
std::span<const HandlerRoute> oidc_routes();            // admin_oidc.cc
std::span<const HandlerRoute> administration_routes();  // admin_records.cc
std::span<const HandlerRoute> model_routes();           // admin_models.cc
std::span<const HandlerRoute> engine_routes();          // admin_engine.cc
std::span<const HandlerRoute> workspace_routes();       // admin_workspace.cc
std::span<const HandlerRoute> file_routes();            // file_routes.cc
std::span<const HandlerRoute> batch_routes();           // batch_routes.cc

}  // namespace ridge::server
