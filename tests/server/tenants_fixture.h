#pragma once

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/temporary_folder.h"
#include "platform/identity/authenticator.h"
#include "platform/identity/sessions.h"
#include "platform/kept/request_keeper.h"
#include "platform/metering/meter.h"
#include "server/caller.h"
#include "server/upload_slots.h"
#include "server_under_test.h"
#include "shelf.h"

namespace ridge::server::tenants_test {

using platform::Role;
using platform::Scope;

inline constexpr Scope all_scopes[] = {Scope::inference, Scope::metrics, Scope::admin};

inline std::string bearer(const std::string& key) {
  return "Authorization: Bearer " + key + "\r\n";
}
inline std::string api_key(const std::string& key) { return "x-api-key: " + key + "\r\n"; }
inline std::string cookie(const std::string& token) {
  return "Cookie: a=b; ridge_session=" + token + "; c=d\r\n";
}
// What a page of our own adds to what changes something.
inline std::string own_page(const std::string& token) {
  return "Origin: http://127.0.0.1\r\nx-ridge-csrf: " + platform::Sessions::csrf_token(token) +
         "\r\n";
}

struct Holder {
  std::string who;  // for messages
  std::string key;  // or of a person who has signed in, the token
  std::vector<Scope> scopes;
  std::optional<Role> role;  // of a person who has signed in, in the project acted for
  std::string project = {};  // that a person names; empty: the default one

  bool may(const Access& access) const {
    if (role) return *role <= access.least_role;
    return std::ranges::find(scopes, access.scope) != scopes.end();
  }
  std::vector<std::string> headers() const {
    if (role) {
      return {cookie(key) + own_page(key) +
              (project.empty() ? "" : "x-ridge-project: " + project + "\r\n")};
    }
    return {bearer(key), api_key(key)};
  }
};

// Two projects, each with a key of a user of each role, and one with each scope that nobody owns;
// a person of each role who has signed in, and acts for the project "default"; and of each project
// a member of each role there, who has signed in and acts for it.
class Tenants : public testing::Test {
 protected:
  Tenants()
      : ours_(make("ours")),
        theirs_(make("theirs")),
        people_(sign_in()),
        our_members_(make_members("ours")),
        their_members_(make_members("theirs")) {}

  std::vector<Holder> make_members(const std::string& project) {
    using platform::ProjectRole;
    std::vector<Holder> members;
    for (const auto& [given, role] : {std::pair(ProjectRole::admin, Role::project_admin),
                                      std::pair(ProjectRole::developer, Role::developer),
                                      std::pair(ProjectRole::viewer, Role::viewer)}) {
      const std::string user = fmt::format("{}-member-{}", project, platform::name(given));
      identity_.create_user(user, platform::UserKind::person, Role::developer, project, "test",
                            given);
      sessions_->set_password(user, "correct horse", "", "test");
      members.push_back({fmt::format("signed in as {} of {}", platform::name(given), project),
                         sessions_->sign_in(user, "correct horse").token,
                         {},
                         role,
                         project});
    }
    return members;
  }

  std::vector<Holder> sign_in() {
    std::vector<Holder> people;
    for (const Role role : {Role::owner, Role::admin, Role::developer, Role::viewer}) {
      const std::string user = fmt::format("ours-{}", platform::name(role));
      sessions_->set_password(user, "correct horse", "", "test");
      people.push_back({fmt::format("signed in as {}", platform::name(role)),
                        sessions_->sign_in(user, "correct horse").token,
                        {},
                        role});
    }
    return people;
  }

  std::vector<Holder> make(const std::string& project) {
    identity_.create_project(project, /*weight=*/1, "test");
    std::vector<Holder> holders;
    const auto add = [&](const std::string& name, const std::string& user,
                         const std::vector<Scope>& scopes) {
      const platform::NewKey wanted{
          .name = name, .project = project, .user = user, .rights = {.scopes = scopes}};
      holders.push_back(
          {project + "/" + name, identity_.create_key(wanted, "test").text.text(), scopes, {}});
    };
    for (const Role role : {Role::owner, Role::admin, Role::developer, Role::viewer}) {
      const std::string user = fmt::format("{}-{}", project, platform::name(role));
      identity_.create_user(user, platform::UserKind::person, role, "", "test");
      identity_.set_member(project, user, platform::bounded(platform::ProjectRole::developer, role),
                           "test");
      std::vector<Scope> scopes;
      std::ranges::copy_if(all_scopes, std::back_inserter(scopes),
                           [&](Scope scope) { return platform::may_have(role, scope); });
      add(std::string(platform::name(role)), user, scopes);
    }
    for (const Scope scope : all_scopes) {
      add("only " + std::string(platform::name(scope)), "", {scope});
    }
    return holders;
  }

  std::string project_id(const std::string& name) {
    const auto projects = identity_.projects();
    return std::ranges::find(projects, name, &platform::Project::name)->id;
  }

  RawResponse ask(std::string_view method, const std::string& path, const std::string& key_header,
                  std::string_view body = "{}") const {
    RawClient client(under_.port());
    const bool has_body = method == "POST" || method == "PUT" || method == "PATCH";
    client.send(fmt::format(
        "{} {} HTTP/1.1\r\nHost: 127.0.0.1\r\n{}x-request-id: {}\r\nContent-Length: {}\r\n\r\n{}",
        method, path, key_header, id_, has_body ? body.size() : 0, has_body ? body : ""));
    return client.read(method != "HEAD");
  }

  TemporaryFolder folder_;
  platform::Database database_{(folder_ / "platform.db").string()};
  platform::Identity identity_{database_};
  std::shared_ptr<platform::Sessions> sessions_ = std::make_shared<platform::Sessions>(database_);
  platform::Endpoints endpoints_{database_};
  std::shared_ptr<platform::EndpointDirectory> directory_ =
      std::make_shared<platform::EndpointDirectory>(endpoints_);
  std::shared_ptr<platform::Files> files_ = std::make_shared<platform::Files>(
      database_, folder_ / "files", platform::FileLimits{.most_project_bytes = 1 << 20});
  std::shared_ptr<platform::Batches> batches_ =
      std::make_shared<platform::Batches>(database_, *files_);
  SteadyClock clock_;
  const std::vector<Holder> ours_, theirs_, people_, our_members_, their_members_;
  std::shared_ptr<platform::RequestKeeper> keeper_ = std::make_shared<platform::RequestKeeper>(
      platform::KeptRequests(database_),
      platform::RequestKeeperOptions{.gathers_for = std::chrono::milliseconds(1)});
  std::string id_ = "any";
  Shelf shelf_;
  std::shared_ptr<platform::Meter> meter_ = std::make_shared<platform::Meter>(
      platform::Ledger(database_, "server-1"), platform::MeterOptions{.spool = folder_ / "spool"});
  ServerUnderTest under_{[](ScriptedEngine::Part& part) {
                           part.think("secret thought");
                           if (part.request().min_tokens > 0) part.wait_for_go();
                           part.say("secret answer");
                         },
                         ServerOptions{},
                         std::make_shared<platform::Authenticator>(identity_, clock_, patient),
                         meter_,
                         PlatformAccess{.database = {std::shared_ptr<void>(), &database_},
                                        .identity = {std::shared_ptr<void>(), &identity_},
                                        .sessions = sessions_,
                                        .supply = shelf_.supply(),
                                        .endpoint_directory = directory_,
                                        .files = files_,
                                        .batches = batches_,
                                        .keeper = keeper_}};
};

inline std::string path_with(const RoutePath& route, const std::string& id) {
  std::string path(route.path);
  const std::size_t at = path.find("{id}");
  if (at != std::string::npos) path.replace(at, 4, id);
  return path;
}

inline std::vector<std::string> methods_of(const RoutePath& route) {
  std::vector<std::string> methods;
  for (const char* method : {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}) {
    if (allows_method(route, method)) methods.push_back(method);
  }
  return methods;
}

inline bool ends_session(const RoutePath& route, std::string_view method) {
  return route.path == "/api/v1/session" && method == "DELETE";
}

}  // namespace ridge::server::tenants_test
