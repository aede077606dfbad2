// What the server makes of good, bad and hostile HTTP, byte by byte.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "server_under_test.h"

namespace ridge::server::protocol_test {
namespace {

using namespace std::chrono_literals;
using Json = nlohmann::json;

void answer_yes(ScriptedEngine::Part& part) { part.say("yes"); }

const std::string completion = R"({"model":"m","prompt":[1,2,3]})";

std::string code_of(const RawResponse& response) {
  return Json::parse(response.body)["error"]["code"];
}

TEST(Protocol, AnswersTheSimpleRoutes) {
  ServerUnderTest under(answer_yes);
  RawClient client(under.port());
  const RawResponse models = client.ask(get("/v1/models"));
  EXPECT_EQ(models.status, 200);
  EXPECT_EQ(Json::parse(models.body)["data"][0]["id"], "m");
  EXPECT_EQ(Json::parse(client.ask(get("/v1/models/m")).body)["object"], "model");
  EXPECT_EQ(client.ask(get("/v1/health/live")).status, 200);
  EXPECT_EQ(client.ask(get("/v1/health/ready")).status, 200);
  const Json health = Json::parse(client.ask(get("/health")).body);
  EXPECT_EQ(health["status"], "ok");
  EXPECT_EQ(health["models"][0]["blocks_free"], 100);
  EXPECT_NE(client.ask(get("/")).body.find("http://localhost/v1"), std::string::npos);
}

TEST(Protocol, RefusesWhatIsNotThere) {
  ServerUnderTest under(answer_yes);
  RawClient client(under.port());
  EXPECT_EQ(client.ask(get("/nothing")).status, 404);
  const RawResponse no_model = client.ask(get("/v1/models/other"));
  EXPECT_EQ(no_model.status, 404);
  EXPECT_EQ(code_of(no_model), "model_not_found");
  const RawResponse wrong_method = client.ask(get("/v1/completions"));
  EXPECT_EQ(wrong_method.status, 405);
  EXPECT_EQ(wrong_method.headers.at("allow"), "POST");
  EXPECT_EQ(client.ask(post("/v1/models", "{}")).headers.at("allow"), "GET, HEAD");
  EXPECT_EQ(client.ask(post("/v1/completions", R"({"model":"other","prompt":"x"})")).status, 404);
}

TEST(Protocol, AnswersHeadWithoutABody) {
  ServerUnderTest under(answer_yes);
  RawClient client(under.port());
  client.send("HEAD /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n");
  const RawResponse head = client.read(/*has_body=*/false);
  EXPECT_EQ(head.status, 200);
  EXPECT_NE(head.headers.at("content-length"), "0");
  // The next answer begins where the head ended.
  EXPECT_EQ(client.ask(get("/health")).status, 200);
}

TEST(Protocol, AnswersPipelinedRequestsInOrder) {
  ServerUnderTest under(answer_yes);
  RawClient client(under.port());
  client.send(post("/v1/completions", completion) + get("/v1/models") +
              post("/v1/completions", completion) + get("/nothing"));
  EXPECT_EQ(Json::parse(client.read().body)["choices"][0]["text"], "yes");
  EXPECT_EQ(Json::parse(client.read().body)["object"], "list");
  EXPECT_EQ(Json::parse(client.read().body)["choices"][0]["text"], "yes");
  EXPECT_EQ(client.read().status, 404);
}

TEST(Protocol, SpeaksHttp10) {
  ServerUnderTest under(answer_yes);
  RawClient client(under.port());
  const RawResponse plain = client.ask("GET /v1/models HTTP/1.0\r\n\r\n");
  EXPECT_EQ(plain.status, 200);
  EXPECT_TRUE(client.is_closed());
  const std::string body = R"({"model":"m","prompt":[1],"stream":true})";
  RawClient streaming(under.port());
  const RawResponse stream = streaming.ask("POST /v1/completions HTTP/1.0\r\nContent-Length: " +
                                           std::to_string(body.size()) + "\r\n\r\n" + body);
  EXPECT_FALSE(stream.headers.contains("transfer-encoding"));
  EXPECT_TRUE(stream.body.ends_with("data: [DONE]\n\n"));
}

TEST(Protocol, ReadsChunkedBodies) {
  ServerUnderTest under(answer_yes);
  RawClient client(under.port());
  const std::string head =
      "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
  client.send(head + "a\r\n" + completion.substr(0, 10) + "\r\n");
  client.send("14\r\n" + completion.substr(10) + "\r\n0\r\n\r\n");
  EXPECT_EQ(client.read().status, 200);
}

TEST(Protocol, SaysContinueWhereAClientWaitsForIt) {
  ServerUnderTest under(answer_yes);
  RawClient client(under.port());
  client.send(
      "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nExpect: "
      "100-continue\r\nContent-Length: " +
      std::to_string(completion.size()) + "\r\n\r\n");
  EXPECT_TRUE(client.wait_for("HTTP/1.1 100 Continue\r\n\r\n"));
  client.send(completion);
  EXPECT_EQ(client.read().status, 200);
}

TEST(Protocol, RefusesBodiesThatNobodyReadsBeforeTheyCome) {
  ServerUnderTest under(answer_yes);
  const std::string announced = "Host: localhost\r\nContent-Length: 1025\r\n";
  const std::string waits = announced + "Expect: 100-continue\r\n\r\n";
  for (const std::string& head :
       {"GET /health HTTP/1.1\r\n" + waits, "DELETE /v1/responses/a HTTP/1.1\r\n" + waits,
        "POST /v1/requests/a/answer_now HTTP/1.1\r\n" + waits, "POST /nothing HTTP/1.1\r\n" + waits,
        "PUT /v1/completions HTTP/1.1\r\n" + waits}) {
    RawClient client(under.port());
    const RawResponse refused = client.ask(head);
    EXPECT_EQ(refused.status, 413) << head;
    EXPECT_EQ(code_of(refused), "payload_too_large");
    EXPECT_NE(refused.body.find("1024 bytes"), std::string::npos) << refused.body;
    EXPECT_EQ(refused.headers.at("connection"), "close");
  }
  RawClient chunks(under.port());
  chunks.send("GET /health HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
  chunks.send("3e8\r\n" + std::string(1000, 'x') + "\r\n");
  chunks.send("19\r\n" + std::string(25, 'x') + "\r\n");
  EXPECT_EQ(chunks.read().status, 413);
  RawClient client(under.port());
  EXPECT_EQ(client.ask(get("/health", "Content-Length: 2\r\n") + "{}").status, 200);
  EXPECT_EQ(client.ask(get("/health")).status, 200) << "the small body was read over";
}

TEST(Protocol, RefusesBrokenRequests) {
  ServerUnderTest under(answer_yes);
  const std::string chunked =
      "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
  const std::string broken[] = {
      "nonsense\r\n\r\n",
      "GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
      "GET / HTTP/1.1\r\nbad header\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: localhost\r\nX: a\x01"
      "b\r\n\r\n",
      "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
      "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
      "99999999999999999999\r\n\r\n",
      "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: "
      "2\r\n\r\nab",
      "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nTransfer-Encoding: "
      "chunked\r\n\r\nab",
      chunked + "-2\r\nab\r\n0\r\n\r\n",
      chunked + "zz\r\nab\r\n0\r\n\r\n",
      chunked + "fffffffffffffffff\r\nab\r\n0\r\n\r\n",
  };
  for (const std::string& request : broken) {
    RawClient client(under.port());
    const RawResponse response = client.ask(request);
    EXPECT_EQ(response.status, 400) << request << response.body;
    EXPECT_EQ(response.headers.at("connection"), "close") << request;
    EXPECT_TRUE(Json::parse(response.body).contains("error")) << request;
    EXPECT_TRUE(client.is_closed()) << request;
  }
  EXPECT_EQ(RawClient(under.port()).ask(get("/health")).status, 200);
}

TEST(Protocol, BoundsHeadAndBody) {
  ServerOptions options;
  options.max_body_bytes = 100'000;
  ServerUnderTest under(answer_yes, options);
  EXPECT_EQ(RawClient(under.port()).ask(get("/", "X: " + std::string(20'000, 'x') + "\r\n")).status,
            431);
  std::string headers;
  for (int i = 0; i < 3'000; ++i) headers += "A: b\r\n";
  EXPECT_EQ(RawClient(under.port()).ask(get("/", headers)).status, 431);
  EXPECT_EQ(RawClient(under.port()).ask(post("/v1/completions", std::string(100'001, ' '))).status,
            413);
  const std::string chunked =
      "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
  std::string chunks;
  for (int i = 0; i < 20; ++i) chunks += "2710\r\n" + std::string(10'000, ' ') + "\r\n";
  const RawResponse too_large = RawClient(under.port()).ask(chunked + chunks + "0\r\n\r\n");
  EXPECT_EQ(too_large.status, 413);
  EXPECT_EQ(code_of(too_large), "payload_too_large");
}

TEST(Protocol, DoesNotWaitForSlowClients) {
  {
    ServerUnderTest under(answer_yes, {.head_timeout = 500ms});
    // Who is held up before its first byte is silent, and is told nothing: then it asks again.
    int status = 0;
    for (int tries = 0; status == 0 && tries < 20; ++tries) {
      status = RawClient(under.port()).ask("GET / HTTP/1.1\r\nHo").status;
    }
    EXPECT_EQ(status, 408);
    EXPECT_TRUE(RawClient(under.port()).is_closed()) << "who is silent";
  }
  {
    ServerUnderTest under(answer_yes, {.body_timeout = 200ms});
    RawClient slow_body(under.port());
    const std::string_view head =
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n";
    EXPECT_EQ(slow_body.ask(std::string(head) + "abc").status, 408);
  }
  ServerUnderTest under(answer_yes, {.idle_timeout = 200ms});
  RawClient idle(under.port());
  EXPECT_EQ(idle.ask(get("/health")).status, 200);
  EXPECT_TRUE(idle.is_closed());
}

TEST(Protocol, RefusesBadBodiesWithTheFieldAtFault) {
  ServerUnderTest under(answer_yes);
  RawClient client(under.port());
  const std::pair<std::string, std::string> bad[] = {
      {"{", ""},
      {"[]", ""},
      {std::string(2000, '['), ""},
      {R"({"prompt":[1],"n":16384})", "n"},
      {R"({"prompt":[1],"temperature":-1})", "temperature"},
      {R"({"prompt":[5000]})", "prompt"},
      {R"({"prompt":[1],"logit_bias":{"5000":1}})", "logit_bias"},
      {"{\"prompt\":\"\xff\"}", ""}};
  for (const auto& [body, param] : bad) {
    const RawResponse response = client.ask(post("/v1/completions", body));
    EXPECT_EQ(response.status, 400) << body;
    const Json error = Json::parse(response.body)["error"];
    EXPECT_EQ(error["type"], "invalid_request_error");
    EXPECT_EQ(error["param"], param.empty() ? Json() : Json(param)) << body;
  }
  const std::string ids = "[1" + [] {
    std::string more;
    for (int i = 0; i < 1000; ++i) more += ",1";
    return more;
  }() + "]";
  const RawResponse too_long = client.ask(post("/v1/completions", "{\"prompt\":" + ids + "}"));
  EXPECT_EQ(too_long.status, 400);
  EXPECT_EQ(code_of(too_long), "context_length_exceeded");
}

TEST(Protocol, RefusesWhatCannotFitBeforeItsTokensAreCounted) {
  ServerUnderTest under(answer_yes);
  const std::string text(3u << 20, 'a');
  for (const std::string& body : {R"({"prompt":")" + text + "\"}",
                                  R"({"messages":[{"role":"user","content":")" + text + "\"}]}"}) {
    const bool is_chat = body.starts_with("{\"m");
    const RawResponse response = RawClient(under.port()).ask(
        post(is_chat ? "/v1/chat/completions" : "/v1/completions", body));
    EXPECT_EQ(response.status, 400);
    EXPECT_EQ(code_of(response), "context_length_exceeded");
    EXPECT_NE(response.body.find("which are at least "), std::string::npos) << response.body;
  }
}

TEST(Protocol, WhatOneGroupSendsKeepsNoOtherWaiting) {
  ServerUnderTest under(answer_yes);
  under.engine->hold_text_work(true);
  std::vector<std::unique_ptr<RawClient>> greedy;
  for (int i = 0; i < 80; ++i) {
    greedy.push_back(std::make_unique<RawClient>(under.port()));
    greedy.back()->send(
        post("/v1/completions", R"({"prompt":"a"})", "Authorization: Bearer greedy\r\n"));
  }
  ASSERT_TRUE(under.engine->wait_until_held());
  RawClient other(under.port());
  const std::string bad = post("/v1/completions", "{", "Authorization: Bearer other\r\n");
  EXPECT_EQ(other.ask(bad).status, 400) << "it is read while the text work of others stands still";
  for (const auto& client : greedy) EXPECT_FALSE(client->has_news()) << "none is refused";
  under.engine->hold_text_work(false);
  for (const auto& client : greedy) EXPECT_EQ(client->read().status, 200);
}

TEST(Protocol, AnswersToKnownNamesOnly) {
  ServerUnderTest under(answer_yes);
  const auto with_host = [&](const std::string& host) {
    return RawClient(under.port()).ask("GET /v1/models HTTP/1.1\r\n" + host + "\r\n");
  };
  EXPECT_EQ(with_host("Host: 127.0.0.1:8080\r\n").status, 200);
  EXPECT_EQ(with_host("Host: evil.example\r\n").status, 403);
  EXPECT_EQ(with_host("").status, 400);
  EXPECT_EQ(with_host("Host: localhost\r\nHost: evil.example\r\n").status, 400);
  EXPECT_EQ(with_host("Host: localhost\r\nOrigin: http://evil.example\r\n").status, 403);
}

TEST(Protocol, ReadsNoBodyForOtherNames) {
  ServerUnderTest under(answer_yes);
  for (const char* names :
       {"Host: evil.example\r\n", "Host: localhost\r\nOrigin: http://evil.example\r\n"}) {
    RawClient client(under.port());
    client.send(
        fmt::format("POST /v1/completions HTTP/1.1\r\n{}Content-Length: 1000\r\n\r\n", names));
    EXPECT_EQ(client.read().status, 403) << names;  // though none of it comes
  }
}

TEST(Protocol, HasCorsOnlyForNamedOrigins) {
  ServerUnderTest closed(answer_yes);
  const std::string preflight =
      "OPTIONS /v1/completions HTTP/1.1\r\nHost: localhost\r\nOrigin: https://a.example\r\n"
      "Access-Control-Request-Method: POST\r\n\r\n";
  EXPECT_EQ(RawClient(closed.port()).ask(preflight).status, 403);
  EXPECT_EQ(RawClient(closed.port())
                .ask("OPTIONS /v1/completions HTTP/1.1\r\nHost: localhost\r\n\r\n")
                .status,
            405);
  EXPECT_FALSE(
      RawClient(closed.port()).ask(get("/health")).headers.contains("access-control-allow-origin"));

  ServerOptions options;
  options.cors_origins = {"https://a.example"};
  ServerUnderTest open(answer_yes, options);
  const RawResponse allowed = RawClient(open.port()).ask(preflight);
  EXPECT_EQ(allowed.status, 204);
  EXPECT_EQ(allowed.headers.at("access-control-allow-origin"), "https://a.example");
  const RawResponse answer =
      RawClient(open.port()).ask(get("/v1/models", "Origin: https://a.example\r\n"));
  EXPECT_EQ(answer.headers.at("access-control-allow-origin"), "https://a.example");
  EXPECT_EQ(RawClient(open.port()).ask(get("/v1/models", "Origin: https://b.example\r\n")).status,
            403);
}

TEST(Protocol, NamesEachRequest) {
  ServerUnderTest under(answer_yes);
  RawClient client(under.port());
  EXPECT_TRUE(client.ask(get("/health")).headers.at("x-request-id").starts_with("req_"));
  EXPECT_EQ(client.ask(get("/health", "X-Request-Id: mine-1\r\n")).headers.at("x-request-id"),
            "mine-1");
  EXPECT_TRUE(client.ask(get("/health", "X-Request-Id: a b\r\n"))
                  .headers.at("x-request-id")
                  .starts_with("req_"));
}

TEST(Protocol, TurnsAwayMoreConnectionsThanItHasRoomFor) {
  ServerOptions options;
  options.max_connections = 2;
  ServerUnderTest under(answer_yes, options);
  RawClient first(under.port());
  EXPECT_EQ(first.ask(get("/health")).status, 200);
  RawClient second(under.port());
  EXPECT_EQ(second.ask(get("/health")).status, 200);
  RawClient third(under.port());
  EXPECT_EQ(third.read().status, 503);
  EXPECT_EQ(first.ask(get("/health")).status, 200);
}

TEST(Protocol, SaysWhatIsWrongWithAnAddress) {
  ServerUnderTest under(answer_yes);
  ServerOptions busy;
  busy.no_auth = true;
  busy.port = under.port();
  try {
    Server second(busy, {});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::io);
    EXPECT_NE(error.message().find("in use"), std::string::npos);
  }
  ServerOptions open;
  open.no_auth = true;
  open.host = "0.0.0.0";
  open.port = 0;
  try {
    Server second(open, {});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::permission_denied);
    EXPECT_NE(error.message().find("--no-auth"), std::string::npos);
  }
}

}  // namespace
}  // namespace ridge::server::protocol_test
