// Answers as they come, and clients that do not behave.
#include <gtest/gtest.h>

#include <future>
#include <nlohmann/json.hpp>
#include <sstream>

#include "api/events.h"
#include "server_under_test.h"

namespace ridge::server::streaming_test {
namespace {

using namespace std::chrono_literals;
using api::events_of;
using api::Json;

std::string completion(const std::string& more = "") {
  return R"({"model":"m","prompt":[1,2,3])" + more + "}";
}
const std::string streaming = completion(R"(,"stream":true)");

std::string chat(const std::string& more = "") {
  return R"({"model":"m","messages":[{"role":"user","content":"hi"}])" + more + "}";
}

TEST(Streaming, SendsEachPieceWhenItComes) {
  ServerUnderTest under([](ScriptedEngine::Part& part) {
    part.say("first");
    part.wait_for_go();
    part.say("second");
  });
  RawClient client(under.port());
  client.send(post("/v1/chat/completions",
                   chat(R"(,"stream":true,"stream_options":{"include_usage":true})")));
  ASSERT_TRUE(client.wait_for("first")) << "it must not wait for the rest";
  under.engine->go();
  const RawResponse response = client.read();
  EXPECT_TRUE(response.is_whole);
  EXPECT_TRUE(response.headers.at("content-type").starts_with("text/event-stream"));
  const auto events = events_of(response.body);
  EXPECT_EQ(events.front()["choices"][0]["delta"]["role"], "assistant");
  EXPECT_EQ(events.back(), "[DONE]");
  EXPECT_EQ(events.at(events.size() - 2)["usage"]["completion_tokens"], 2);
  // The connection lives on.
  EXPECT_EQ(client.ask(get("/health")).status, 200);
}

TEST(Streaming, SplitsTheReasoningOff) {
  ServerUnderTest under([](ScriptedEngine::Part& part) {
    EXPECT_TRUE(part.request().split_reasoning);
    EXPECT_TRUE(part.request().prompt_opens_reasoning);
    part.think("hm");
    part.say("so");
  });
  RawClient client(under.port());
  const Json message = Json::parse(
      client.ask(post("/v1/chat/completions", chat(R"(,"thinking":{"type":"enabled"})")))
          .body)["choices"][0]["message"];
  EXPECT_EQ(message["reasoning_content"], "hm");
  EXPECT_EQ(message["reasoning"], "hm");
  EXPECT_EQ(message["content"], "so");
}

TEST(Streaming, EndsTheThinkingOfARequestThatRuns) {
  ServerUnderTest under([](ScriptedEngine::Part& part) {
    part.think("hm");
    part.wait_for_end_of_thinking();
    part.say("so");
  });
  RawClient client(under.port());
  std::string asks = post("/v1/chat/completions", chat(R"(,"stream":true)"));
  asks.insert(asks.find("\r\n") + 2, "x-request-id: mine\r\nAuthorization: Bearer a\r\n");
  client.send(asks);
  ASSERT_TRUE(client.wait_for("hm"));
  const auto answer_now = [&](const std::string& id, const std::string& key) {
    std::string request = post("/v1/requests/" + id + "/answer_now", "");
    request.insert(request.find("\r\n") + 2, "Authorization: Bearer " + key + "\r\n");
    return RawClient(under.port()).ask(request).status;
  };
  EXPECT_EQ(answer_now("other", "a"), 404);
  EXPECT_EQ(answer_now("mine", "b"), 404) << "it is not theirs";
  EXPECT_EQ(answer_now("mine", "a"), 200);
  EXPECT_NE(client.read().body.find("so"), std::string::npos);
  EXPECT_EQ(answer_now("mine", "a"), 404) << "it has ended";
}

TEST(Streaming, PreparesRulesForTheAnswer) {
  ServerUnderTest under([](ScriptedEngine::Part& part) {
    const engine::Request& request = part.request();
    EXPECT_TRUE(request.tools || request.grammar);
    if (request.tools) {
      ASSERT_EQ(request.tools->tools.size(), 1u);
      EXPECT_EQ(request.tools->tools[0].name, "f");
      EXPECT_FALSE(request.tools->parallel);
    }
    part.say(request.grammar ? "bound" : "free");
  });
  const auto says = [&](const std::string& more) {
    const auto response = RawClient(under.port()).ask(post("/v1/chat/completions", chat(more)));
    const Json body = Json::parse(response.body);
    if (response.status != 200) return body["error"]["param"].get<std::string>();
    return body["choices"][0]["message"]["content"].get<std::string>();
  };
  const std::string tools =
      R"(,"parallel_tool_calls":false,"tools":[{"type":"function","function":{"name":"f","strict":true}}])";
  EXPECT_EQ(says(tools), "free");
  EXPECT_EQ(says(tools + R"(,"tool_choice":"required")"), "bound");
  EXPECT_EQ(says(R"(,"guided_regex":"a+")"), "bound");
  EXPECT_EQ(says(R"(,"guided_regex":"(")"), "guided_regex");
}

TEST(Streaming, KeepsGrammarsForTheGroupThatSentThem) {
  ServerUnderTest under([](ScriptedEngine::Part& part) { part.say("aa"); });
  const auto ask = [&](const std::string& key, const std::string& more) {
    const std::string request =
        post("/v1/chat/completions", chat(more), "Authorization: Bearer " + key + "\r\n");
    EXPECT_EQ(RawClient(under.port()).ask(request).status, 200);
  };
  const auto is_kept = [&](const std::string& group, const std::string& regex) {
    return under.model.grammars->find(group, text::GrammarKind::regex, regex) != nullptr;
  };
  ask("one", R"(,"guided_regex":"a+")");
  EXPECT_TRUE(is_kept("one", "a+"));
  EXPECT_FALSE(is_kept("two", "a+")) << "or the time of an answer would tell what others asked";
  EXPECT_FALSE(is_kept("", "a+"));
  ask("two", R"(,"guided_regex":"a+")");
  EXPECT_TRUE(is_kept("two", "a+"));
}

TEST(Streaming, AnswersSeveralPromptsAndChoices) {
  ServerUnderTest under([](ScriptedEngine::Part& part) {
    for (int choice = 0; choice < part.request().choices; ++choice) {
      part.say(
          "p" + std::to_string(part.request().prompt_tokens.size()) + "c" + std::to_string(choice),
          choice);
    }
  });
  RawClient client(under.port());
  const RawResponse response =
      client.ask(post("/v1/completions", R"({"prompt":[[1],[1,2]],"n":2})"));
  const Json body = Json::parse(response.body);
  ASSERT_EQ(body["choices"].size(), 4u);
  EXPECT_EQ(body["choices"][0]["text"], "p1c0");
  EXPECT_EQ(body["choices"][1]["text"], "p1c1");
  EXPECT_EQ(body["choices"][2]["text"], "p2c0");
  EXPECT_EQ(body["choices"][3]["text"], "p2c1");
  EXPECT_EQ(body["usage"]["prompt_tokens"], 3);
  EXPECT_EQ(body["usage"]["completion_tokens"], 4);
}

TEST(Streaming, CancelsWhenTheClientLeavesThoughNothingIsSaid) {
  ServerUnderTest under([](ScriptedEngine::Part& part) { EXPECT_TRUE(part.wait_for_cancel()); });
  int requests = 0;
  for (const std::string& body : {completion(), streaming}) {
    RawClient client(under.port());
    client.send(post("/v1/completions", body));
    while (under.engine->stats().running == 0) std::this_thread::sleep_for(1ms);
    client.close();
    EXPECT_TRUE(under.engine->wait_until_ended(++requests));
  }
  EXPECT_EQ(under.engine->cancelled(), 2);
  EXPECT_EQ(under.engine->stats().blocks_free, 100);
}

TEST(Streaming, CancelsEveryRequestOfAClientThatLeaves) {
  ServerUnderTest under([](ScriptedEngine::Part& part) {
    part.say("x");
    EXPECT_TRUE(part.wait_for_cancel());
  });
  RawClient client(under.port());
  client.send(post("/v1/completions", R"({"prompt":[[1],[2],[3]],"stream":true})"));
  EXPECT_TRUE(client.wait_for("\"index\":2"));
  client.close();
  EXPECT_TRUE(under.engine->wait_until_ended(3));
  EXPECT_EQ(under.engine->cancelled(), 3);
}

TEST(Streaming, ServesOthersWhileACancelledRequestEnds) {
  std::promise<void> step;  // the one in hand
  ServerUnderTest under([ends = step.get_future().share()](ScriptedEngine::Part& part) {
    part.say("x");
    EXPECT_TRUE(part.wait_for_cancel());
    ends.wait();
  });
  RawClient client(under.port());
  client.send(post("/v1/completions", streaming));
  EXPECT_TRUE(client.wait_for("\"x\""));
  client.close();
  while (under.engine->cancelled() == 0) std::this_thread::sleep_for(1ms);
  EXPECT_EQ(RawClient(under.port()).ask(get("/health")).status, 200);
  EXPECT_EQ(under.engine->ended(), 0) << "the other must not have waited for it";
  step.set_value();
  EXPECT_TRUE(under.engine->wait_until_ended(1));
}

TEST(Streaming, GivesUpOnAClientThatDoesNotRead) {
  ServerOptions options;
  options.write_timeout = 300ms;
  options.max_unsent_bytes = 1'000'000;
  ServerUnderTest under(
      [](ScriptedEngine::Part& part) {
        const std::string text(1000, 'x');
        while (!part.cancelled()) {
          part.say(text);
          std::this_thread::sleep_for(10us);
        }
      },
      options);
  RawClient client(under.port(), /*receive_buffer_bytes=*/4096);
  client.send(post("/v1/completions", streaming));
  EXPECT_TRUE(under.engine->wait_until_ended(1));
  EXPECT_EQ(under.engine->cancelled(), 1);
  EXPECT_EQ(RawClient(under.port()).ask(get("/health")).status, 200)
      << "others are served all the while";
}

TEST(Streaming, LosesNothingForASlowReader) {
  constexpr int pieces = 20'000;
  ServerUnderTest under([](ScriptedEngine::Part& part) {
    for (int i = 0; i < pieces; ++i) part.say(std::to_string(i) + " ");
  });
  RawClient client(under.port(), /*receive_buffer_bytes=*/4096);
  client.send(post("/v1/completions", streaming));
  EXPECT_TRUE(under.engine->wait_until_ended(1));
  const RawResponse response = client.read();
  EXPECT_TRUE(response.is_whole);
  std::string text, expected;
  const auto events = events_of(response.body);
  for (const Json& event : events) {
    if (event.is_object()) text += event["choices"][0]["text"].get<std::string>();
  }
  for (int i = 0; i < pieces; ++i) expected += std::to_string(i) + " ";
  EXPECT_EQ(text, expected);
  EXPECT_LT(events.size(), pieces / 2) << "what waits is sent together";
}

// What a stream says, in order: texts that follow each other joined, and each call whole.
using Said = std::vector<std::string>;

void say(Said& said, const std::string& text) {
  if (text.empty()) return;
  if (said.empty() || said.back().starts_with("call ")) said.emplace_back();
  said.back() += text;
}

Said said_in_chat(const std::string& body) {
  Said said;
  for (const Json& event : events_of(body)) {
    if (!event.is_object() || event["choices"].empty()) continue;
    const Json& delta = event["choices"][0]["delta"];
    say(said, delta.value("content", ""));
    for (const Json& call : delta.value("tool_calls", Json::array())) {
      const Json& function = call["function"];
      if (function.contains("name")) said.push_back("call " + function.value("name", ""));
      said.back() += function.value("arguments", "");
    }
  }
  return said;
}

Said said_in_messages(const std::string& body) {
  Said said;
  for (const auto& [name, event] : api::named_events_of(body)) {
    if (name == "content_block_start" && event["content_block"]["type"] == "tool_use") {
      said.push_back("call " + event["content_block"]["name"].get<std::string>());
    } else if (name == "content_block_start") {
      EXPECT_TRUE(said.empty() || said.back().starts_with("call ")) << "two texts in a row";
    } else if (name == "content_block_delta" && event["delta"].contains("text")) {
      say(said, event["delta"]["text"]);
    } else if (name == "content_block_delta") {
      said.back() += event["delta"]["partial_json"].get<std::string>();
    }
  }
  return said;
}

Said said_in_responses(const std::string& body) {
  Said said;
  for (const auto& [name, event] : api::named_events_of(body)) {
    if (name == "response.output_item.added" && event["item"]["type"] == "function_call") {
      said.push_back("call " + event["item"]["name"].get<std::string>());
    } else if (name == "response.output_text.delta") {
      say(said, event["delta"]);
    } else if (name == "response.function_call_arguments.delta") {
      said.back() += event["delta"].get<std::string>();
    }
  }
  return said;
}

Said said_in_ollama(const std::string& body) {
  Said said;
  std::istringstream lines(body);
  for (std::string line; std::getline(lines, line);) {
    const Json message = Json::parse(line)["message"];
    say(said, message.value("content", ""));
    for (const Json& call : message.value("tool_calls", Json::array())) {
      said.push_back("call " + call["function"]["name"].get<std::string>() +
                     call["function"]["arguments"].dump());
    }
  }
  return said;
}

// Tools that may be called or not, several calls in one answer, text around them, and a client that
// reads slowly, so that much is sent together.
TEST(Streaming, KeepsTextAndParallelCallsInOrderForASlowReader) {
  const std::string text(100'000, 'x');
  const std::string arguments = R"({"a":")" + std::string(50'000, 'y') + "\"}";
  ServerUnderTest under([&](ScriptedEngine::Part& part) {
    const engine::Request& request = part.request();
    EXPECT_TRUE(request.tools && request.tools->parallel);
    EXPECT_FALSE(request.grammar) << "the choice is the model's";
    const auto in_pieces = [](const std::string& whole, const auto& give) {
      for (std::size_t at = 0; at < whole.size(); at += 50) give(whole.substr(at, 50));
    };
    in_pieces(text, [&](std::string piece) { part.say(std::move(piece)); });
    for (int index = 0; index < 2; ++index) {
      part.call(index, index == 0 ? "f" : "g", "");
      in_pieces(arguments, [&](std::string piece) { part.call(index, "", std::move(piece)); });
    }
    in_pieces(text, [&](std::string piece) { part.say(std::move(piece)); });
    part.call(2, "f", "{}");
    part.end_choice(0, engine::FinishReason::tool_calls);
  });
  const Said expected = {text, "call f" + arguments, "call g" + arguments, text, "call f{}"};
  const std::string messages = R"("messages":[{"role":"user","content":"hi"}],"stream":true)";
  const std::string nested =
      R"("tools":[{"type":"function","function":{"name":"f"}},{"type":"function","function":{"name":"g"}}])";
  const std::string flat =
      R"("tools":[{"type":"function","name":"f"},{"type":"function","name":"g"}])";
  struct Format {
    std::string path, body;
    Said (*read)(const std::string&);
  };
  int asked = 0;
  for (const Format& format :
       {Format{"/v1/chat/completions", messages + R"(,"tool_choice":"auto",)" + nested,
               said_in_chat},
        Format{"/v1/messages", messages + R"(,"max_tokens":9,"tools":[{"name":"f"},{"name":"g"}],
                          "tool_choice":{"type":"auto"})",
               said_in_messages},
        Format{"/v1/responses", R"("input":"hi","stream":true,"tool_choice":"auto",)" + flat,
               said_in_responses},
        Format{"/api/chat", messages + "," + nested, said_in_ollama}}) {
    RawClient client(under.port(), /*receive_buffer_bytes=*/4096);
    client.send(post(format.path, "{" + format.body + "}"));
    EXPECT_TRUE(under.engine->wait_until_ended(++asked)) << format.path;
    const RawResponse response = client.read();
    EXPECT_EQ(response.status, 200) << response.body;
    EXPECT_TRUE(format.read(response.body) == expected) << format.path;
  }
}

TEST(Streaming, RefusesWhenTheQueueIsFull) {
  ServerUnderTest under([](ScriptedEngine::Part& part) { part.say("x"); });
  under.engine->refuse_requests(true);
  RawClient client(under.port());
  // Nothing has ended yet: a guess of ten seconds, and as long again for who comes second.
  for (const auto& [body, wait_s] : {std::pair(completion(), "10"), std::pair(streaming, "20")}) {
    const RawResponse response = client.ask(post("/v1/completions", body));
    EXPECT_EQ(response.status, 429);
    EXPECT_EQ(response.headers.at("retry-after"), wait_s);
    EXPECT_EQ(response.headers.at("retry-after-ms"), std::string(wait_s) + "000");
    EXPECT_EQ(Json::parse(response.body)["error"]["type"], "rate_limit_error");
  }
  under.engine->refuse_requests(false);
  EXPECT_EQ(client.ask(post("/v1/completions", completion())).status, 200);
}

TEST(Streaming, ReportsAFailureAsAnEventAndNoDone) {
  ServerUnderTest under([](ScriptedEngine::Part& part) {
    part.say("half");
    throw Error(ErrorCode::out_of_memory, "no blocks are left");
  });
  RawClient client(under.port());
  const RawResponse response = client.ask(post("/v1/completions", streaming));
  EXPECT_EQ(response.status, 200);
  EXPECT_TRUE(response.is_whole);
  const auto events = events_of(response.body);
  ASSERT_GE(events.size(), 2u);
  EXPECT_EQ(events.back()["error"]["code"], "out_of_memory");
  EXPECT_EQ(response.body.find("[DONE]"), std::string::npos);
  EXPECT_EQ(response.body.find("\"finish_reason\":\"stop\""), std::string::npos);
  EXPECT_EQ(client.ask(post("/v1/completions", completion())).status, 503);
}

TEST(Streaming, TellsNoSecretsOfAnInternalFailure) {
  ServerUnderTest under([](ScriptedEngine::Part&) {
    throw Error(ErrorCode::internal, "/secret/model.gguf: bad block");
  });
  RawClient client(under.port());
  const RawResponse response = client.ask(post("/v1/completions", completion()));
  EXPECT_EQ(response.status, 500);
  EXPECT_EQ(response.body.find("secret"), std::string::npos);
  EXPECT_NE(response.body.find(response.headers.at("x-request-id")), std::string::npos);
}

TEST(Streaming, SendsHeartbeatsWhileItWaits) {
  ServerOptions options;
  options.heartbeat = 50ms;
  ServerUnderTest under([](ScriptedEngine::Part& part) { part.wait_for_go(); }, options);
  RawClient client(under.port());
  client.send(post("/v1/completions", streaming));
  EXPECT_TRUE(client.wait_for(": waiting\n\n"));
  under.engine->go();
  EXPECT_TRUE(client.read().body.ends_with("data: [DONE]\n\n"));
}

TEST(Streaming, EndsEachOfManyRequestsOnce) {
  ServerUnderTest under([](ScriptedEngine::Part& part) {
    for (int i = 0; i < 20 && !part.cancelled(); ++i) part.say("abc ");
  });
  std::vector<std::thread> clients;
  std::atomic<int> whole{0};
  for (int i = 0; i < 16; ++i) {
    clients.emplace_back([&, i] {
      for (int round = 0; round < 5; ++round) {
        RawClient client(under.port());
        client.send(post("/v1/completions", i % 2 ? streaming : completion()));
        if (i % 4 == 0) continue;  // leaves at once
        whole += client.read().is_whole ? 1 : 0;
      }
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(whole, 12 * 5);
  EXPECT_TRUE(under.engine->wait_until_ended(60)) << "every request has one end";
}

}  // namespace
}  // namespace ridge::server::streaming_test
