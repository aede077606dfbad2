// Every route, form of header, role and tenant: who gets in, and that nobody sees what another
// tenant does.
#include "tenants_fixture.h"

namespace ridge::server::tenants_test {
namespace {

// Administrators are the organisation's, and may know who keeps the engines busy.
bool sees_all_projects(const RoutePath& route, const Holder& holder) {
  constexpr std::string_view of_all[] = {"/api/v1/requests", "/api/v1/requests/kept",
                                         "/api/v1/usage/records"};
  return std::ranges::find(of_all, route.path) != std::end(of_all) && holder.may(admin_access);
}
bool reads_all_projects(const RoutePath& route, const Holder& holder) {
  return route.path == "/api/v1/requests/kept/{id}" && holder.may(admin_access);
}

TEST_F(Tenants, GetWhatTheirRoleMayInEachFormOfHeader) {
  int refused = 0, admitted = 0;
  for (const RoutePath& route : route_paths()) {
    for (const std::string& method : methods_of(route)) {
      const Access access = access_of(match_route(route.path), method);
      if (access.is_open) continue;
      for (const auto* holders : {&ours_, &theirs_, &people_, &our_members_, &their_members_}) {
        for (const Holder& holder : *holders) {
          if (ends_session(route, method) && holder.role) continue;  // and be of no use any more
          for (const std::string& header : holder.headers()) {
            const int status = ask(method, path_with(route, "none"), header).status;
            const std::string what =
                fmt::format("{} {} for {}: {}", method, route.path, holder.who, status);
            if (holder.may(access)) {
              EXPECT_THAT(status, testing::Not(testing::AnyOf(0, 401, 403))) << what;
            } else {
              EXPECT_EQ(status, 403) << what;
            }
            ++(holder.may(access) ? admitted : refused);
          }
        }
      }
    }
  }
  EXPECT_GT(refused, 100);
  EXPECT_GT(admitted, 100);
}

TEST_F(Tenants, ChangeNothingByACookieAlone) {
  int refused = 0;
  for (const RoutePath& route : route_paths()) {
    for (const std::string& method : methods_of(route)) {
      if (method == "GET" || method == "HEAD") continue;
      if (access_of(match_route(route.path), method).is_open) continue;
      for (const Holder& person : people_) {
        const std::string other = own_page(people_[person.role == Role::owner ? 1 : 0].key);
        for (const std::string& page :
             {std::string(), std::string("Origin: http://127.0.0.1\r\n"),
              "Origin: http://evil.example\r\n" + own_page(person.key).substr(26), other}) {
          const int status =
              ask(method, path_with(route, "none"), cookie(person.key) + page).status;
          EXPECT_EQ(status, 403) << method << " " << route.path << " " << person.who << " " << page;
          ++refused;
        }
      }
    }
  }
  EXPECT_GT(refused, 200);
}

TEST_F(Tenants, SeeNothingOfEachOther) {
  const std::string own = bearer(ours_.front().key);
  const std::string body = R"({"model":"m","input":"secret prompt"})";
  id_ = "secret-request";
  identity_.set_keep_days("ours", 30, "test");
  const RawResponse made = ask("POST", "/v1/responses", own, body);
  ASSERT_EQ(made.status, 200);
  const std::string stored = nlohmann::json::parse(made.body).at("id");
  const std::string ours = project_id("ours");
  const std::string file = files_->add({ours, "secret name", "batch", {}}, "secret prompt").id;
  const std::string batch =
      batches_->create({.project_id = ours, .endpoint = "secret", .input_file_id = file}).id;
  keeper_->wait_idle();
  const auto kept = platform::KeptRequests(database_).list({});
  ASSERT_EQ(kept.size(), 1u);
  const std::string number = std::to_string(kept[0].number);
  // One that runs meanwhile.
  id_ = "secret-running";
  RawClient running(under_.port());
  const std::string endless =
      R"({"model":"m","prompt":"secret prompt","min_tokens":1,"max_tokens":9,"stream":true})";
  running.send(post("/v1/completions", endless, own + "x-request-id: secret-running\r\n"));
  ASSERT_TRUE(running.wait_for("200 OK"));
  id_ = "any";
  const auto hides =
      testing::Not(testing::AnyOf(testing::HasSubstr("secret"), testing::HasSubstr(stored)));
  std::vector<Holder> strangers = theirs_;
  strangers.insert(strangers.end(), people_.begin(), people_.end());
  strangers.insert(strangers.end(), their_members_.begin(), their_members_.end());
  for (const RoutePath& route : route_paths()) {
    for (const std::string& id : {stored, file, batch, number, std::string("secret-request"),
                                  std::string("secret-running")}) {
      const bool has_id = route.path.find("{id}") != std::string_view::npos;
      for (const std::string& method : methods_of(route)) {
        if (access_of(match_route(route.path), method).is_open) continue;
        for (const Holder& holder : strangers) {
          if (ends_session(route, method)) continue;
          const RawResponse answer = ask(method, path_with(route, id), holder.headers().front());
          const std::string what = fmt::format("{} {} for {}", method, route.path, holder.who);
          if (reads_all_projects(route, holder) && id == number) {
            // Who removes it first leaves nothing to the others.
            EXPECT_THAT(answer.status, testing::AnyOf(200, method == "DELETE" ? 404 : 200)) << what;
          } else if (sees_all_projects(route, holder)) {
            EXPECT_THAT(answer.body, testing::Not(testing::HasSubstr("secret p"))) << what;
          } else if (has_id) {  // which comes back in the refusal
            // 400: "{}" is no body of those that want one.
            const bool is_handled = route.route == Route::handled;
            EXPECT_THAT(answer.status, testing::AnyOf(403, 404, is_handled ? 400 : 404)) << what;
            EXPECT_THAT(answer.body, testing::Not(testing::HasSubstr("secret p"))) << what;
          } else {
            EXPECT_THAT(answer.body, hides) << what;
          }
        }
      }
    }
  }
  EXPECT_FALSE(identity_.audit_events({.action = "kept.read"}).empty()) << "admins read it";
  under_.engine->go();
  EXPECT_EQ(running.read().status, 200);
  EXPECT_EQ(ask("GET", "/v1/responses/" + stored, own).status, 200);  // it was there to be seen
  EXPECT_EQ(ask("GET", "/v1/requests/secret-running", own).status, 200);
  EXPECT_THAT(ask("GET", "/v1/batches/" + batch, own).body, testing::HasSubstr("secret"));
  EXPECT_EQ(ask("GET", "/v1/files/" + file + "/content", own).body, "secret prompt");
}

TEST_F(Tenants, SeeWhatTheEngineHasOfTheirProjectAloneUnlessTheyAdminister) {
  const std::string own = bearer(ours_.front().key);
  RawClient running(under_.port());
  running.send(post("/v1/completions",
                    R"({"model":"m","prompt":"a","min_tokens":1,"max_tokens":9,"stream":true})",
                    own + "x-request-id: mine\r\n"));
  ASSERT_TRUE(running.wait_for("200 OK"));
  const auto seen = [&](const std::string& header) {
    return nlohmann::json::parse(ask("GET", "/api/v1/requests", header).body).at("data");
  };
  for (const Holder& person : people_) {
    const std::string header = person.headers().front();
    const bool administers = person.may(admin_access);
    EXPECT_EQ(seen(header).size(), administers ? 1u : 0u) << person.who;
    const auto data = seen(header + "x-ridge-project: ours\r\n");
    ASSERT_EQ(data.size(), 1u) << person.who;
    EXPECT_EQ(data[0].at("id"), "mine");
    EXPECT_EQ(data[0].at("project"), "ours");
    EXPECT_EQ(data[0].at("key"), "owner");
  }
  under_.engine->go();
  EXPECT_EQ(running.read().status, 200);
}

TEST_F(Tenants, SeeInMetricsWhatTheirProjectUsesAloneUnlessTheyAdminister) {
  const std::string body = R"({"model":"m","input":"a"})";
  ASSERT_EQ(ask("POST", "/v1/responses", bearer(ours_.front().key), body).status, 200);
  const auto metrics = [&](const std::string& header) {
    return ask("GET", "/metrics", header).body;
  };
  const auto tells_of_ours = testing::HasSubstr("project=\"ours\"");
  for (const auto* holders : {&ours_, &theirs_, &people_}) {
    for (const Holder& holder : *holders) {
      if (!holder.may({.least_role = Role::viewer, .scope = Scope::metrics})) continue;
      const std::string text = metrics(holder.headers().front());
      ASSERT_THAT(text, testing::HasSubstr("ridge:usage_waits_for_database")) << holder.who;
      if (holders == &ours_ || holder.may(admin_access)) {
        EXPECT_THAT(text, tells_of_ours) << holder.who;
      } else {
        EXPECT_THAT(text, testing::Not(tells_of_ours)) << holder.who;
      }
    }
  }
  // An admin's key for nothing else, as Prometheus gets it.
  const platform::NewKey wanted{.name = "scraper",
                                .project = "theirs",
                                .user = "theirs-admin",
                                .rights = {.scopes = {Scope::metrics}}};
  EXPECT_THAT(metrics(bearer(identity_.create_key(wanted, "test").text.text())), tells_of_ours);
}

TEST_F(Tenants, SeeRecordsOfTheirProjectAloneUnlessTheyAdminister) {
  id_ = "asked-by-ours";
  const std::string body = R"({"model":"m","input":"a"})";
  ASSERT_EQ(ask("POST", "/v1/responses", bearer(ours_.front().key), body).status, 200);
  id_ = "any";
  for (const std::string format : {"json", "csv"}) {
    const std::string path = "/api/v1/usage/records?format=" + format;
    for (const Holder& person : people_) {
      const std::string header = person.headers().front();
      const std::string own = ask("GET", path, header + "x-ridge-project: ours\r\n").body;
      EXPECT_THAT(own, testing::HasSubstr("asked-by-ours")) << person.who << format;
      const RawResponse others = ask("GET", path, header);
      EXPECT_EQ(others.status, 200) << person.who << format;
      EXPECT_EQ(others.body.find("asked-by-ours") != std::string::npos, person.may(admin_access))
          << person.who << format;
      if (person.may(admin_access)) continue;
      EXPECT_EQ(ask("GET", path + "&project=ours", header).status, 404) << person.who << format;
    }
    for (const Holder& holder : theirs_) {
      if (holder.may(admin_access)) continue;
      EXPECT_EQ(ask("GET", path, holder.headers().front()).status, 403) << holder.who << format;
    }
  }
}

TEST_F(Tenants, SeeTheSecretsOfEndpointsOnlyWhereTheyMayChangeThem) {
  const std::string url = "https://judge.example/v1/moderations?key=hidden-key";
  endpoints_.create("helper", {.model = "m", .system_prompt = "hidden prompt"}, url, "test");
  for (const Holder& person : people_) {
    const std::string header = person.headers().front();
    const auto list = nlohmann::json::parse(ask("GET", "/api/v1/endpoints", header).body)["data"];
    ASSERT_EQ(list.size(), 1u) << person.who;
    const auto one = nlohmann::json::parse(ask("GET", "/api/v1/endpoints/helper", header).body);
    EXPECT_EQ(list[0], one) << person.who;
    EXPECT_EQ(one.at("is_moderated"), true) << person.who;
    if (person.may(admin_access)) {
      EXPECT_EQ(one.at("moderation_url"), url) << person.who;
      EXPECT_EQ(one.at("versions")[0].at("system_prompt"), "hidden prompt") << person.who;
    } else {
      EXPECT_THAT(one.dump(), testing::Not(testing::HasSubstr("hidden"))) << person.who;
    }
  }
}

std::string beginning_of_upload(const std::string& key, std::size_t bytes) {
  return fmt::format(
      "POST /v1/files HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; "
      "boundary=b\r\n{}Expect: 100-continue\r\nContent-Length: {}\r\n\r\n",
      bearer(key), bytes);
}

TEST_F(Tenants, KeepNoOtherFromUploading) {
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < UploadSlots::most_of_project; ++i) {
    clients.push_back(std::make_unique<RawClient>(under_.port()));
    clients.back()->send(beginning_of_upload(ours_[static_cast<std::size_t>(i % 3)].key, 1000));
    ASSERT_TRUE(clients.back()->wait_for("100 Continue"));
  }
  RawClient more(under_.port()), other(under_.port());
  EXPECT_EQ(more.send(beginning_of_upload(ours_.front().key, 1000)).read().status, 429);
  EXPECT_TRUE(other.send(beginning_of_upload(theirs_.front().key, 1000)).wait_for("100 Continue"));
  clients.pop_back();  // whose place is free then
  bool is_admitted = false;
  for (int tries = 0; tries < 100 && !is_admitted; ++tries) {
    RawClient again(under_.port());
    is_admitted = again.send(beginning_of_upload(ours_.front().key, 1000)).wait_for("100 Continue");
  }
  EXPECT_TRUE(is_admitted);
}

TEST_F(Tenants, AreToldThatTheirFilesHaveNoRoomBeforeTheySendThem) {
  RawClient client(under_.port());
  EXPECT_EQ(client.send(beginning_of_upload(ours_.front().key, 2 << 20)).read().status, 413);
}

TEST_F(Tenants, AreToldOfNamesThatAreNoText) {
  const std::string owner = bearer(ours_.front().key);
  int asked = 0;
  for (const RoutePath& route : route_paths()) {
    if (route.path.find("{id}") == std::string_view::npos) continue;
    for (const std::string& method : methods_of(route)) {
      for (const char* id : {"%FF", "a%00b", "%C3%28", "\xff"}) {
        const RawResponse answer = ask(method, path_with(route, id), owner);
        EXPECT_EQ(answer.status, 400) << method << " " << route.path << " " << answer.body;
        ++asked;
      }
    }
  }
  EXPECT_GT(asked, 50);
  for (const char* path :
       {"/v1/files?after=%FF", "/v1/files?purpose=a%00", "/v1/batches?after=%C3%28",
        "/api/v1/projects?after=%FF", "/api/v1/keys?project=%FF", "/api/v1/usage?project=%00"}) {
    EXPECT_EQ(ask("GET", path, owner).status, 400) << path;
  }
}

TEST_F(Tenants, EndTheThinkingOfModelsThatTheirKeyMayUse) {
  const platform::NewKey narrow{
      .name = "narrow", .project = "ours", .rights = {.models = {"other"}}};
  const std::string other = bearer(identity_.create_key(narrow, "test").text.text());
  const std::string own = bearer(ours_.front().key);
  RawClient running(under_.port());
  running.send(post("/v1/completions",
                    R"({"model":"m","prompt":"a","min_tokens":1,"max_tokens":9,"stream":true})",
                    own + "x-request-id: mine\r\n"));
  ASSERT_TRUE(running.wait_for("200 OK"));
  const auto answer_now = [&](const std::string& header) {
    return ask("POST", "/v1/requests/mine/answer_now", header).status;
  };
  EXPECT_EQ(answer_now(other), 404);
  EXPECT_EQ(answer_now(bearer(theirs_.front().key)), 404);
  EXPECT_EQ(answer_now(own), 200);
  under_.engine->go();
  EXPECT_EQ(running.read().status, 200);
}

}  // namespace
}  // namespace ridge::server::tenants_test
