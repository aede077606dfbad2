// The routes of each wire format, with an engine that says what the test wants.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "server_under_test.h"

namespace ridge::server::wire_formats_test {
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
}

TEST(WireFormats, OllamaLoadsKeepsAndUnloads) {
  ServerUnderTest under([](ScriptedEngine::Part& part) {
    if (part.request().embedding) {
      part.embed({1, 2});
    } else {
      part.say("so");
    }
  });
  RawClient client(under.port());
  const auto loaded = client.ask(post("/api/generate", R"({"model":"m","keep_alive":"1h"})"));
  EXPECT_EQ(Json::parse(loaded.body)["done_reason"], "load");
  EXPECT_EQ(under.engine->submitted(), 1) << "what has read a token is loaded";
  EXPECT_EQ(under.engine->kept_for(), std::chrono::hours(1));
  EXPECT_EQ(under.engine->kept_by(), engine::WhoAsks::administrator) << "nobody checks keys";
  client.ask(post("/api/chat", "{" + messages + "}"));
  EXPECT_EQ(under.engine->kept_for(), std::chrono::hours(1)) << "who says nothing changes nothing";
  client.ask(post("/api/chat", R"({"keep_alive":-1,)" + messages + "}"));
  EXPECT_LT(under.engine->kept_for(), Clock::Duration::zero());
  client.ask(post("/api/chat", R"({"keep_alive":300,"format":"json",)" + messages + "}"));
  EXPECT_EQ(under.engine->kept_for(), std::chrono::seconds(300)) << "also behind a grammar";
  const auto unloaded = client.ask(post("/api/generate", R"({"model":"m","keep_alive":0})"));
  EXPECT_EQ(Json::parse(unloaded.body)["done_reason"], "unload");
  EXPECT_EQ(under.engine->kept_for(), Clock::Duration::zero());
  EXPECT_EQ(under.engine->submitted(), 4);
}

TEST(WireFormats, OllamaNamesTheFileOfAModel) {
  ServerUnderTest under([](ScriptedEngine::Part&) {});
  const auto tags = Json::parse(RawClient(under.port()).ask(get("/api/tags")).body);
  EXPECT_EQ(tags["models"][0]["digest"], "");
  EXPECT_EQ(tags["models"][0]["details"]["quantization_level"], "Q4_K_M");
}

TEST(WireFormats, AnthropicsRequestsHaveAnIdOfTheirOwnName) {
  ServerUnderTest under([](ScriptedEngine::Part& part) { part.say("so"); });
  const auto ask = [&](const std::string& path, const std::string& body) {
    return RawClient(under.port()).ask(post(path, body));
  };
  const auto good = ask("/v1/messages", R"({"max_tokens":5,)" + messages + "}");
  EXPECT_EQ(good.headers.at("request-id"), good.headers.at("x-request-id"));
  for (const std::string path : {"/v1/messages", "/v1/messages/batches", "/v1/messages/x?y=1"}) {
    const auto bad = ask(path, "{}");
    const Json error = Json::parse(bad.body);
    EXPECT_EQ(error["type"], "error") << path;
    EXPECT_EQ(error["request_id"], bad.headers.at("request-id")) << path;
  }
  EXPECT_FALSE(ask("/v1/chat/completions", "{}").headers.contains("request-id"));
  EXPECT_TRUE(Json::parse(ask("/v1/messagesx", "{}").body)["error"].contains("param"));
}

TEST(WireFormats, StoredResponsesAreStreamedAgain) {
  ServerUnderTest under([](ScriptedEngine::Part& part) { part.say("so"); });
  RawClient client(under.port());
  const auto made = client.ask(post("/v1/responses", R"({"input":"a","stream":true})"));
  const std::size_t at = made.body.find("\"id\":\"") + 6;
  const std::string id = made.body.substr(at, made.body.find('"', at) - at);
  const auto again = client.ask(get("/v1/responses/" + id + "?stream=true"));
  EXPECT_EQ(again.body, made.body);
  EXPECT_EQ(again.headers.at("content-type"), made.headers.at("content-type"));
  EXPECT_EQ(client.ask(get("/v1/responses/" + id + "?stream=maybe")).status, 400);
}

TEST(WireFormats, ResponsesThatFailAreKept) {
  ServerUnderTest under([](ScriptedEngine::Part& part) {
    part.say("so");
    throw Error(ErrorCode::out_of_memory, "no blocks are left");
  });
  RawClient client(under.port());
  const auto made = client.ask(post("/v1/responses", R"({"input":"a","stream":true})"));
  const std::size_t at = made.body.find("\"id\":\"") + 6;
  const std::string id = made.body.substr(at, made.body.find('"', at) - at);
  const Json kept = Json::parse(client.ask(get("/v1/responses/" + id)).body);
  EXPECT_EQ(kept["status"], "failed");
  EXPECT_EQ(kept["output"][0]["status"], "incomplete");
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
    EXPECT_EQ(Json::parse(next.body)["error"]["code"], "previous_response_not_found");
  }
  EXPECT_EQ(status("GET", id + "/input_items?limit=1", "mine"), 200);
  EXPECT_EQ(status("GET", id + "/input_items?limit=x", "mine"), 400);
  EXPECT_EQ(status("DELETE", id, "mine"), 200);
  EXPECT_EQ(status("GET", id, "mine"), 404);
}

TEST(WireFormats, KeepsNoMoreResponsesOfAKeyThanItMay) {
  ServerOptions options;
  options.max_stored_of_project.responses = 1;
  ServerUnderTest under([](ScriptedEngine::Part& part) { part.say("so"); }, options);
  RawClient client(under.port());
  const auto make = [&](const std::string& key) {
    const auto made = client.ask(post("/v1/responses", R"({"input":"a"})", key));
    return Json::parse(made.body)["id"].get<std::string>();
  };
  const auto status = [&](const std::string& id, const std::string& key) {
    return client.ask(with_method("GET", "/v1/responses/" + id, "", key)).status;
  };
  const std::string first = make("mine"), others = make("other"), second = make("mine");
  EXPECT_EQ(status(first, "mine"), 404);
  EXPECT_EQ(status(second, "mine"), 200);
  EXPECT_EQ(status(others, "other"), 200);
}

TEST(WireFormats, KeepsNoMoreResponsesThanItMay) {
  ServerOptions options;
  options.max_stored.responses = 2;
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

TEST(WireFormats, ModelsHaveAnthropicsFormForItsClients) {
  ServerUnderTest under([](ScriptedEngine::Part&) {});
  const std::string version = "anthropic-version: 2023-06-01\r\n";
  const auto ask = [&](const std::string& path, const std::string& headers) {
    const auto response = RawClient(under.port()).ask(get(path, headers));
    return Json::parse(response.body);
  };
  const Json list = ask("/v1/models", version);
  EXPECT_EQ(list["data"][0]["type"], "model");
  EXPECT_EQ(list["data"][0]["display_name"], "m");
  EXPECT_EQ(list["last_id"], "m");
  EXPECT_EQ(ask("/v1/models/m", version), list["data"][0]);
  EXPECT_EQ(ask("/v1/models/x", version)["error"]["type"], "not_found_error");
  EXPECT_EQ(ask("/v1/models?limit=0", version)["type"], "error");
  EXPECT_EQ(ask("/v1/models", "")["object"], "list") << "others have OpenAI's";
  EXPECT_EQ(ask("/v1/models/m", "")["object"], "model");
}

TEST(WireFormats, ResponsesThatAreMadeCanBeCancelled) {
  ServerUnderTest under([](ScriptedEngine::Part& part) {
    part.say("so");
    if (part.request().max_tokens == 7) part.wait_for_cancel();
  });
  RawClient client(under.port());
  client.send(post("/v1/responses", R"({"input":"a","stream":true,"max_output_tokens":7})", "mine"));
  ASSERT_TRUE(client.wait_for("response.output_text.delta"));
  const Json running =
      Json::parse(RawClient(under.port())
                      .ask(with_method("GET", "/v1/requests?limit=1", "", "mine"))
                      .body)["data"][0];
  const std::string id = running["response_id"];
  const auto cancel = [&](const std::string& which, const std::string& key) {
    return RawClient(under.port()).ask(post("/v1/responses/" + which + "/cancel", "", key));
  };
  EXPECT_EQ(cancel(id, "other").status, 404) << "it is another's";
  EXPECT_EQ(under.engine->cancelled(), 0);
  const auto cancelled = cancel(id, "mine");
  EXPECT_EQ(cancelled.status, 200);
  EXPECT_EQ(Json::parse(cancelled.body)["status"], "cancelled");
  EXPECT_EQ(Json::parse(cancelled.body)["id"], id);
  const auto stream = client.read();
  EXPECT_NE(stream.body.find("response.failed"), std::string::npos) << stream.body;
  EXPECT_NE(stream.body.find("the response was cancelled"), std::string::npos);
  EXPECT_EQ(under.engine->cancelled(), 1);

  const auto done = client.ask(post("/v1/responses", R"({"input":"a"})", "mine"));
  const auto late = cancel(Json::parse(done.body)["id"], "mine");
  EXPECT_EQ(late.status, 400);
  EXPECT_NE(late.body.find("has ended already"), std::string::npos);
  EXPECT_EQ(cancel("resp_none", "mine").status, 404);
}

TEST(WireFormats, ResponsesTokensAreCounted) {
  ServerUnderTest under([](ScriptedEngine::Part& part) { part.say("so"); });
  RawClient client(under.port());
  const std::string body = R"({"input":"one two three","instructions":"Be brief."})";
  const Json count = Json::parse(client.ask(post("/v1/responses/input_tokens", body)).body);
  EXPECT_EQ(count["object"], "response.input_tokens");
  EXPECT_EQ(under.engine->submitted(), 0) << "counting needs no engine";
  const Json made = Json::parse(client.ask(post("/v1/responses", body)).body);
  EXPECT_EQ(count["input_tokens"], made["usage"]["input_tokens"]);
}

TEST(WireFormats, OllamaMakesVectorsAndSaysWhatIsLoaded) {
  ServerUnderTest under([](ScriptedEngine::Part& part) { part.embed({3, 4}); });
  RawClient client(under.port());
  const auto ask = [&](const std::string& path, const std::string& body) {
    const auto response = client.ask(post(path, body));
    EXPECT_EQ(response.status, 200) << response.body;
    return Json::parse(response.body);
  };
  const Json several =
      ask("/api/embed", R"({"model":"m:latest","input":["a","b"],"keep_alive":300})");
  EXPECT_EQ(several["embeddings"].size(), 2u);
  EXPECT_FLOAT_EQ(several["embeddings"][1][1].get<float>(), 0.8f);
  EXPECT_GT(several["prompt_eval_count"], 0);
  EXPECT_EQ(under.engine->kept_for(), std::chrono::seconds(300));
  EXPECT_EQ(ask("/api/embeddings", R"({"model":"m","prompt":"a"})")["embedding"],
            Json::parse("[3.0,4.0]"));
  EXPECT_EQ(ask("/api/embed", R"({"model":"m","input":""})")["embeddings"], Json::array());
  EXPECT_EQ(under.engine->submitted(), 3);

  const std::string ids = "[1" + [] {
    std::string more;
    for (int i = 0; i < 1000; ++i) more += ",1";
    return more;
  }() + "]";
  ask("/api/embed", R"({"input":)" + ids + "}");
  const auto whole = client.ask(post("/api/embed", R"({"truncate":false,"input":)" + ids + "}"));
  EXPECT_EQ(whole.status, 400) << "what does not fit is not cut";

  const Json loaded = Json::parse(client.ask(get("/api/ps")).body)["models"];
  ASSERT_EQ(loaded.size(), 1u);
  EXPECT_EQ(loaded[0]["model"], "m");
  EXPECT_EQ(loaded[0]["context_length"], 1000);
}

TEST(WireFormats, TemplateVariablesThatNoTemplateReadsAreIgnored) {
  ServerUnderTest under([](ScriptedEngine::Part& part) { part.say("so"); });
  RawClient client(under.port());
  const auto ask = [&](const std::string& variables) {
    return client.ask(post("/v1/chat/completions",
                           R"({"chat_template_kwargs":)" + variables + "," + messages + "}"));
  };
  EXPECT_EQ(ask(R"({"clear_thinking":true,"message":1,"":2})").status, 200);
  const auto read = ask(R"({"enable_thinking":true,"messages":[]})");
  EXPECT_EQ(read.status, 400) << "the template reads these, and they cannot be set";
  EXPECT_EQ(Json::parse(read.body)["error"]["param"], "chat_template_kwargs.messages");
  EXPECT_EQ(Json::parse(read.body)["error"]["code"], "unsupported");
}

}  // namespace
}  // namespace ridge::server::wire_formats_test
