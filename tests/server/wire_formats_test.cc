// The routes of each wire format, with an engine that says what the test wants.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "server_under_test.h"

namespace ridge::server {
namespace {

using Json = nlohmann::ordered_json;

std::string with_method(const std::string& method, const std::string& path, const std::string& body,
                        const std::string& key) {
  std::string request = method + " " + path + " HTTP/1.1\r\nHost: localhost\r\n";
  if (!key.empty()) request += "x-api-key: " + key + "\r\n";
  if (method == "POST") request += "Content-Length: " + std::to_string(body.size()) + "\r\n";
  return request + "\r\n" + body;
}

std::string post(const std::string& path, const std::string& body, const std::string& key = "") {
  return with_method("POST", path, body, key);
}

const std::string messages = R"("messages":[{"role":"user","content":"hi"}])";

TEST(WireFormats, AnthropicsStreamHasNamedEventsAndCountsThePrompt) {
  ServerUnderTest under([](ScriptedEngine::Part& part) { part.say("so"); });
  RawClient client(under.port());
  const auto stream =
      client.ask(post("/v1/messages", R"({"max_tokens":5,"stream":true,)" + messages + "}"));
  EXPECT_EQ(stream.status, 200);
  EXPECT_TRUE(stream.body.starts_with("event: message_start\n")) << stream.body;
  EXPECT_TRUE(stream.body.ends_with("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"));
  EXPECT_EQ(stream.body.find("[DONE]"), std::string::npos);
  const auto whole = client.ask(post("/v1/messages", R"({"max_tokens":5,)" + messages + "}"));
  const Json message = Json::parse(whole.body);
  EXPECT_EQ(message["content"][0]["text"], "so");
  EXPECT_EQ(under.engine->submitted(), 2);
  const auto count = client.ask(post("/v1/messages/count_tokens", "{" + messages + "}"));
  EXPECT_EQ(Json::parse(count.body)["input_tokens"], message["usage"]["input_tokens"]);
  EXPECT_EQ(under.engine->submitted(), 2) << "counting needs no engine";
}

TEST(WireFormats, EachHasItsOwnErrors) {
  ServerUnderTest under([](ScriptedEngine::Part&) {});
  const auto ask = [&](const std::string& method, const std::string& path) {
    return RawClient(under.port()).ask(with_method(method, path, "{", ""));
  };
  for (const std::string method : {"POST", "GET"}) {
    EXPECT_TRUE(Json::parse(ask(method, "/v1/responses").body)["error"].contains("param"));
    EXPECT_EQ(Json::parse(ask(method, "/v1/messages").body)["type"], "error");
    EXPECT_TRUE(Json::parse(ask(method, "/api/chat").body)["error"].is_string());
  }
  EXPECT_TRUE(Json::parse(ask("POST", "/api/pull").body)["error"].is_string());
  under.engine->refuse_requests(true);
  const auto full =
      RawClient(under.port()).ask(post("/v1/messages", R"({"max_tokens":5,)" + messages + "}"));
  EXPECT_EQ(full.status, 429);
  EXPECT_EQ(Json::parse(full.body)["error"]["type"], "rate_limit_error");
  EXPECT_TRUE(full.headers.contains("retry-after"));
}

TEST(WireFormats, OllamaStreamsLinesUnlessToldNotTo) {
  ServerUnderTest under([](ScriptedEngine::Part& part) { part.say("so"); });
  RawClient client(under.port());
  const auto stream = client.ask(post("/api/chat", "{" + messages + "}"));
  EXPECT_TRUE(stream.has("content-type", "application/x-ndjson"));
  const std::string last = stream.body.substr(stream.body.find('\n') + 1);
  EXPECT_EQ(Json::parse(last)["done"], true);
  const auto whole = client.ask(post("/api/generate", R"({"prompt":"a","stream":false})"));
  EXPECT_EQ(Json::parse(whole.body)["response"], "so");
  const auto loaded = client.ask(post("/api/generate", R"({"model":"m"})"));
  EXPECT_EQ(Json::parse(loaded.body)["done_reason"], "load");
  EXPECT_EQ(under.engine->submitted(), 2);
}

TEST(WireFormats, StoredResponsesBelongToAKey) {
  ServerUnderTest under([](ScriptedEngine::Part& part) { part.say("so"); });
  RawClient client(under.port());
  const auto made = client.ask(post("/v1/responses", R"({"input":"a"})", "mine"));
  const std::string id = Json::parse(made.body)["id"];
  const auto status = [&](const std::string& method, const std::string& path,
                          const std::string& key) {
    return client.ask(with_method(method, "/v1/responses/" + path, "", key)).status;
  };
  EXPECT_EQ(client.ask(with_method("GET", "/v1/responses/" + id, "", "mine")).body, made.body);
  for (const std::string key : {"other", ""}) {
    EXPECT_EQ(status("GET", id, key), 404);
    EXPECT_EQ(status("GET", id + "/input_items", key), 404);
    EXPECT_EQ(status("DELETE", id, key), 404);
    const auto next = client.ask(
        post("/v1/responses", R"({"input":"b","previous_response_id":")" + id + "\"}", key));
    EXPECT_EQ(next.status, 400);
  }
  EXPECT_EQ(status("GET", id + "/input_items?limit=1", "mine"), 200);
  EXPECT_EQ(status("GET", id + "/input_items?limit=x", "mine"), 400);
  EXPECT_EQ(status("DELETE", id, "mine"), 200);
  EXPECT_EQ(status("GET", id, "mine"), 404);
}

TEST(WireFormats, KeepsNoMoreResponsesThanItMay) {
  ServerOptions options;
  options.max_stored_responses = 2;
  ServerUnderTest under([](ScriptedEngine::Part& part) { part.say("so"); }, options);
  RawClient client(under.port());
  std::vector<std::string> ids;
  for (int i = 0; i < 3; ++i) {
    const auto made = client.ask(post("/v1/responses", R"({"input":"a"})"));
    ids.push_back(Json::parse(made.body)["id"].get<std::string>());
  }
  EXPECT_EQ(client.ask(with_method("GET", "/v1/responses/" + ids[0], "", "")).status, 404);
  EXPECT_EQ(client.ask(with_method("GET", "/v1/responses/" + ids[2], "", "")).status, 200);
}

}  // namespace
}  // namespace ridge::server
