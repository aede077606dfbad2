// Chats and prompt templates, as people and keys reach them.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/temporary_folder.h"
#include "platform/identity/authenticator.h"
#include "platform/identity/sessions.h"
#include "server_under_test.h"

namespace ridge::server::workspace_test {
namespace {

using nlohmann::json;
using platform::Role;
using testing::HasSubstr;

class Workspace : public testing::Test {
 protected:
  Workspace() {
    identity_.create_project("search", 1, "test");
    for (const char* name : {"ann", "ben"}) {
      identity_.create_user(name, platform::UserKind::person, Role::developer, "", "test");
      sessions_->set_password(name, "correct horse", "", "test");
    }
    identity_.set_member("search", "ann", platform::ProjectRole::developer, "test");
  }

  static std::string signed_in(const std::string& token) {
    return "Cookie: ridge_session=" + token + "\r\nOrigin: http://127.0.0.1\r\nx-ridge-csrf: " +
           platform::Sessions::csrf_token(token) + "\r\n";
  }
  std::string person(const std::string& name) {
    return signed_in(sessions_->sign_in(name, "correct horse").token);
  }
  std::string admin_key(const std::string& user) {
    const platform::NewKey wanted{
        .name = "of " + user, .user = user, .rights = {.scopes = {platform::Scope::admin}}};
    return "x-api-key: " + identity_.create_key(wanted, "test").text.text() + "\r\n";
  }

  RawResponse ask(std::string_view method, std::string_view path, const std::string& headers,
                  std::string_view body = "") {
    RawClient client(under_.port());
    client.send(fmt::format("{} {} HTTP/1.1\r\nHost: 127.0.0.1\r\n{}Content-Length: {}\r\n\r\n{}",
                            method, path, headers, body.size(), body));
    return client.read();
  }
  json data(std::string_view path, const std::string& headers) {
    const RawResponse answer = ask("GET", path, headers);
    EXPECT_EQ(answer.status, 200) << answer.body;
    return json::parse(answer.body).at("data");
  }

  TemporaryFolder folder_;
  platform::Database database_{(folder_ / "platform.db").string()};
  platform::Identity identity_{database_};
  std::shared_ptr<platform::Sessions> sessions_ = std::make_shared<platform::Sessions>(database_);
  SteadyClock clock_;
  const PlatformAccess access_{.database = {std::shared_ptr<void>(), &database_},
                               .identity = {std::shared_ptr<void>(), &identity_},
                               .sessions = sessions_};
  ServerUnderTest under_{[](ScriptedEngine::Part& part) { part.say("yes"); }, ServerOptions{},
                         std::make_shared<platform::Authenticator>(identity_, clock_, patient),
                         nullptr, access_};
};

TEST_F(Workspace, KeepsAPersonsChatsForThePersonAlone) {
  const std::string ann = person("ann"), ben = person("ben");
  const json messages = json::array(
      {{{"role", "user"}, {"content", "Hi"}},
       {{"role", "assistant"}, {"content", "汉字 $x$"}, {"branch", {{"of", 1}, {"n", 0.5}}}}});
  const json chat = {{"title", "About x"}, {"messages", messages}};
  const RawResponse put = ask("PUT", "/api/v1/chats/c1", ann, chat.dump());
  ASSERT_EQ(put.status, 200) << put.body;
  EXPECT_EQ(json::parse(put.body).at("title"), "About x");
  const json kept = json::parse(ask("GET", "/api/v1/chats/c1", ann).body);
  EXPECT_EQ(kept.at("messages"), messages);
  EXPECT_EQ(kept.at("id"), "c1");
  ASSERT_EQ(data("/api/v1/chats", ann).size(), 1u);
  EXPECT_FALSE(data("/api/v1/chats", ann)[0].contains("messages"));
  // A chat is the person's, whatever project they act for.
  EXPECT_EQ(data("/api/v1/chats", ann + "x-ridge-project: search\r\n").size(), 1u);
  EXPECT_EQ(data("/api/v1/chats", ben), json::array());
  EXPECT_EQ(ask("GET", "/api/v1/chats/c1", ben).status, 404);
  EXPECT_EQ(ask("DELETE", "/api/v1/chats/c1", ben).status, 404);
  EXPECT_EQ(ask("PUT", "/api/v1/chats/c1", ben, R"({"messages":[]})").status, 200);
  EXPECT_EQ(json::parse(ask("GET", "/api/v1/chats/c1", ann).body).at("messages"), messages);
  EXPECT_EQ(ask("DELETE", "/api/v1/chats/c1", ann).status, 204);
  EXPECT_EQ(data("/api/v1/chats", ann), json::array());
  EXPECT_EQ(data("/api/v1/chats", ben).size(), 1u);
}

TEST_F(Workspace, SaysWhoseChatsItWouldNotKnow) {
  identity_.create_user("boss", platform::UserKind::person, Role::admin, "", "test");
  EXPECT_EQ(ask("PUT", "/api/v1/chats/c", admin_key("boss"), R"({"messages":[]})").status, 200);
  const platform::NewKey wanted{.name = "k", .rights = {.scopes = {platform::Scope::admin}}};
  const std::string nobodys =
      "x-api-key: " + identity_.create_key(wanted, "test").text.text() + "\r\n";
  for (const char* path : {"/api/v1/chats", "/api/v1/chats/c"}) {
    const RawResponse answer = ask("GET", path, nobodys);
    EXPECT_EQ(answer.status, 400);
    EXPECT_THAT(answer.body, HasSubstr("belongs to no user"));
  }
  const ServerUnderTest open([](ScriptedEngine::Part& part) { part.say("yes"); }, ServerOptions{},
                             nullptr, nullptr, access_);
  const RawResponse answer = RawClient(open.port()).ask(get("/api/v1/chats"));
  EXPECT_EQ(answer.status, 400);
  EXPECT_THAT(answer.body, HasSubstr("--no-auth"));
}

TEST_F(Workspace, RefusesWhatIsNoChat) {
  const std::string ann = person("ann");
  const auto refused = [&](const std::string& body, const std::string& text, int status = 400) {
    const RawResponse answer = ask("PUT", "/api/v1/chats/c1", ann, body);
    EXPECT_EQ(answer.status, status) << body.substr(0, 100);
    EXPECT_THAT(answer.body, HasSubstr(text)) << body.substr(0, 100);
  };
  refused("", "'messages' is missing");
  refused("[]", "must be a JSON object");
  refused(R"({"messages":{}})", "messages");
  refused(R"({"messages":[{},"Hi"]})", "messages[1]");
  refused(R"({"messages":[],"title":7})", "title");
  refused(R"({"messages":[],"title":"a\nb"})", "title");
  refused(R"({"messages":[{"content":")" + std::string(1 << 20, 'a') + "\"}]}", "at most 1048576",
          413);
  refused(R"({"messages":[{"content":")" + std::string(2 << 20, 'a') + "\"}]}", "2097152", 413);
  EXPECT_EQ(ask("PUT", "/api/v1/chats/a%20b", ann, R"({"messages":[]})").status, 400);
  EXPECT_EQ(data("/api/v1/chats", ann), json::array());
}

TEST_F(Workspace, SharesTemplatesWithinAProject) {
  const std::string ann = person("ann"), ben = person("ben");
  const std::string body = R"({"name":"sum up","text":"Sum up in {{ n }} words:\n{{text}}"})";
  const RawResponse made = ask("POST", "/api/v1/templates", ann, body);
  ASSERT_EQ(made.status, 201) << made.body;
  const json prompt = json::parse(made.body);
  EXPECT_EQ(prompt.at("variables"), json({"n", "text"}));
  EXPECT_EQ(data("/api/v1/templates", ben), json::array({prompt})) << "of the same project";
  EXPECT_EQ(ask("POST", "/api/v1/templates", ben, body).status, 409);
  const std::string path = "/api/v1/templates/" + prompt.at("id").get<std::string>();
  const std::string search = ann + "x-ridge-project: search\r\n";
  EXPECT_EQ(data("/api/v1/templates", search), json::array());
  EXPECT_EQ(ask("PUT", path, search, body).status, 404);
  EXPECT_EQ(ask("DELETE", path, search).status, 404);
  EXPECT_EQ(ask("POST", "/api/v1/templates", search, body).status, 201);
  const RawResponse changed = ask("PUT", path, ben, R"({"name":"short","text":"no place"})");
  ASSERT_EQ(changed.status, 200) << changed.body;
  EXPECT_EQ(json::parse(changed.body).at("variables"), json::array());
  EXPECT_EQ(ask("DELETE", path, ann).status, 204);
  EXPECT_EQ(ask("DELETE", path, ann).status, 404);
  for (const char* bad : {"", R"({"name":"a"})", R"({"text":"a"})", R"({"name":"","text":"a"})",
                          R"({"name":"a","text":""})", R"({"name":"a","text":3})"}) {
    EXPECT_EQ(ask("POST", "/api/v1/templates", ann, bad).status, 400) << bad;
  }
}

TEST_F(Workspace, HasTheDefaultProjectsTemplatesWhereNobodyIsAsked) {
  const ServerUnderTest open([](ScriptedEngine::Part& part) { part.say("yes"); }, ServerOptions{},
                             nullptr, nullptr, access_);
  const RawResponse made =
      RawClient(open.port()).ask(post("/api/v1/templates", R"({"name":"a","text":"b"})"));
  EXPECT_EQ(made.status, 201) << made.body;
  EXPECT_EQ(data("/api/v1/templates", person("ann")).size(), 1u);
}

}  // namespace
}  // namespace ridge::server::workspace_test
