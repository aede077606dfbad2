#pragma once

#include <CLI/App.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/json_text.h"
#include "cli/identity_access.h"
#include "platform/http_client.h"
#include "platform/identity/caller.h"

namespace ridge::cli {

// Whom a command asks: a server at a URL, or else the database, beside which servers may run.
struct AdminChoice {
  DatabaseChoice database;
  std::string url;  // "https://ridge.example.org"; empty: the database
  std::string api_key, api_key_file;
  bool takes_insecure_http = false;
};

// Declares --url and --api-key-file beside the options of the database. A key comes from there or
// from RIDGE_API_KEY, as everybody on the machine sees a command line.
void add_admin_options(CLI::App& command, AdminChoice& choice);

// A subcommand, whose options are `Options`, with an AdminChoice `admin`.
template <typename Options>
CLI::App* add_admin_action(CLI::App& command, Context& context,
                           const std::shared_ptr<Options>& options, const char* name,
                           const char* description, void (*action)(Context&, const Options&)) {
  CLI::App* added = command.add_subcommand(name, description);
  add_admin_options(*added, options->admin);
  added->callback([&context, options, action] { action(context, *options); });
  return added;
}

// What stands in a request beside method and path.
struct AdminRequest {
  std::string argument;                                    // for {id}
  std::vector<std::pair<std::string, std::string>> query;  // empty values are left out
  api::Json body;                                          // null: none
};

// Asks what is under /api/v1 of a server, or the same of a database.
class AdminClient {
 public:
  // Throws invalid_argument where there is no key for the server, or it would go in the clear.
  AdminClient(Context& context, const AdminChoice& choice);

  // `path` as in the table of routes: "/api/v1/keys/{id}". Throws what the layer throws; over a URL
  // that is made of the status and message of the answer, and io where there is none of
  // Ridgeline's.
  std::string ask_text(std::string_view method, std::string_view path,
                       const AdminRequest& request = {});
  api::Json ask(std::string_view method, std::string_view path, const AdminRequest& request = {});
  // The items of all pages, of which the next one is `after` the member `key` of the last item.
  std::vector<api::Json> list(std::string_view path, AdminRequest request, const char* key);

  // Null where a server is asked.
  IdentityAccess* local() { return local_ ? &*local_ : nullptr; }

 private:
  std::string ask_server(std::string_view method, std::string_view path,
                         const AdminRequest& request);

  std::optional<IdentityAccess> local_;
  platform::Caller caller_;  // on the database
  std::string url_, key_;
  std::optional<platform::HttpClient> http_;
};

// For tables: what a member holds, "" for null.
std::string text_of(const api::Json& record, const char* member);
int64_t number_of(const api::Json& record, const char* member);  // 0 for what is none
std::string time_of(const api::Json& record, const char* member);

}  // namespace ridge::cli
