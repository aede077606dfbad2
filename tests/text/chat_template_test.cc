#include "text/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/sanitizers.h"
#include "vocabularies.h"

namespace ridge::text::chat_template_test {
namespace {

using nlohmann::ordered_json;
using testing::HasSubstr;

constexpr auto r1_name = "deepseek-r1-distill-qwen-7b";

const ordered_json question = {{{"role", "user"}, {"content", "Hi"}}};

// The message of the Error that `action` must throw.
template <typename Action>
std::string failure_of(Action action, ErrorCode code = ErrorCode::invalid_argument) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.message();
    return std::string(error.message());
  }
  ADD_FAILURE() << "nothing was thrown";
  return {};
}

std::shared_ptr<const ChatTemplate> from_source(std::string_view source) {
  return ChatTemplate::from_source(source, "<s>", "</s>");
}

TEST(ChatTemplate, RendersAsTransformersDoes) {
  const ordered_json chats = golden("chats");
  int checked = 0;
  for (const auto& c : chats["cases"]) {
    const auto kind = c["template"].get<std::string>();
    const std::string name = kind + ": " + c["name"].get<std::string>();
    const bool is_r1 = kind.starts_with(r1_name);
    const auto tokenizer = vocabulary(is_r1 ? r1_name : "smollm2");
    const auto chat = ChatTemplate::from_source(chats["sources"][kind].get<std::string>(),
                                                tokenizer->token_bytes(*tokenizer->bos()),
                                                tokenizer->token_bytes(*tokenizer->eos()));
    RenderOptions options{.add_generation_prompt = c["add_generation_prompt"].get<bool>()};
    if (c.contains("tools")) options.tools = &c["tools"];
    if (c.contains("variables")) options.variables = &c["variables"];
    ++checked;
    if (c.contains("error")) {
      EXPECT_EQ(failure_of([&] { chat->render(c["messages"], options); }), c["error"]) << name;
      continue;
    }
    const std::string prompt = chat->render(c["messages"], options);
    EXPECT_EQ(prompt, c["prompt"].get<std::string>()) << name;
    if (c.contains("ids")) {
      EXPECT_EQ(tokenizer->encode(prompt), c["ids"].get<std::vector<int32_t>>()) << name;
    }
  }
  EXPECT_GE(checked, 20);
}

TEST(ChatTemplate, KnowsHowR1BeginsItsAnswers) {
  const auto older = ChatTemplate::from_gguf(vocabulary_file(r1_name), *vocabulary(r1_name));
  EXPECT_TRUE(older->is_from_file());
  EXPECT_TRUE(older->writes_bos());
  EXPECT_FALSE(older->opens_reasoning());
  EXPECT_EQ(older->reasoning_mode(older->render(question)), ReasoningMode::starts_inside);

  const std::string source = golden("chats")["sources"][std::string(r1_name) + ", opening the tag"];
  const auto newer = from_source(source);
  EXPECT_TRUE(newer->opens_reasoning());
  EXPECT_EQ(newer->reasoning_mode(newer->render(question)), ReasoningMode::starts_inside);
}

TEST(ChatTemplate, KnowsModelsThatMayOrDoNotReason) {
  const auto smollm2 = ChatTemplate::from_gguf(vocabulary_file("smollm2"), *vocabulary("smollm2"));
  EXPECT_EQ(smollm2->reasoning_mode(smollm2->render(question)), ReasoningMode::none);
  EXPECT_FALSE(smollm2->writes_bos() && smollm2->opens_reasoning());

  const auto hybrid = from_source(
      "{{ messages[0].content.split('</think>')[-1] }}<|im_start|>assistant\n"
      "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n"
      "{% endif %}");
  EXPECT_EQ(hybrid->reasoning_mode(hybrid->render(question)), ReasoningMode::optional);
  const ordered_json off = {{"enable_thinking", false}};
  EXPECT_EQ(hybrid->reasoning_mode(hybrid->render(question, {.variables = &off})),
            ReasoningMode::none);
}

TEST(ChatTemplate, StandsInWithChatMlWhereTheFileHasNone) {
  const auto chat = ChatTemplate::from_gguf(vocabulary_file("small-bpe"), *vocabulary("small-bpe"));
  EXPECT_FALSE(chat->is_from_file());
  EXPECT_EQ(chat->render(question),
            "<|begin_of_text|><|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(chat->render(question, {.add_generation_prompt = false}),
            "<|begin_of_text|><|im_start|>user\nHi<|im_end|>\n");
}

TEST(ChatTemplate, PutsTheTimeInWhereAsked) {
  const auto chat = from_source("{{ strftime_now('%Y-%m') }}");
  EXPECT_EQ(chat->render(question, {.now_unix_seconds = 1'750'000'000}), "2025-06");
  EXPECT_THAT(chat->render(question), testing::StartsWith("20"));
}

TEST(ChatTemplate, KeepsTheOrderOfKeys) {
  const auto chat = from_source("{{ tools[0] | tojson }}");
  const ordered_json tools = ordered_json::parse(R"([{"z": 1, "a": {"y": "é", "b": []}}])");
  EXPECT_EQ(chat->render(question, {.tools = &tools}), R"({"z": 1, "a": {"y": "é", "b": []}})");
}

TEST(ChatTemplate, RefusesBadMessagesAndVariables) {
  const auto chat = from_source("{{ messages }}");
  EXPECT_THAT(failure_of([&] { chat->render(ordered_json::object()); }), HasSubstr("array"));
  ordered_json deep = 1;
  for (int level = 0; level < 3000; ++level) deep = ordered_json::array({std::move(deep)});
  EXPECT_THAT(failure_of([&] { chat->render(deep); }), HasSubstr("deep"));
  EXPECT_THAT(failure_of([&] { chat->render({{{"content", "\xFF"}}}); }), HasSubstr("UTF-8"));
  const ordered_json reserved = {{"bos_token", "x"}};
  EXPECT_THAT(failure_of([&] { chat->render(question, {.variables = &reserved}); }),
              HasSubstr("reserved"));
}

TEST(ChatTemplate, HostileTemplatesEndWithAnError) {
  failure_of([] { from_source("{% if %}"); }, ErrorCode::invalid_file);
  failure_of([] { from_source(std::string(ChatTemplate::max_source_bytes + 1, 'x')); },
             ErrorCode::invalid_file);
  std::vector<const char*> sources = {
      "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
      "{% set n = namespace(s='x') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
      "{{ raise_exception('no') }}"};
  // These use up all that a template may; what sanitizers see of it are the errors, which are
  // alike.
  if (!is_sanitized) {
    sources.push_back(
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}");
    sources.push_back(
        "{% for a in range(99999) %}{{ 'xxxxxxxxxxxxxxxxxxxxxxx' * 1000 }}{% endfor %}");
  }
  for (const char* source : sources) {
    // The probe at loading survives them; each rendering fails by itself.
    const auto chat = from_source(source);
    EXPECT_FALSE(failure_of([&] { chat->render(question); }).empty()) << source;
  }
}

}  // namespace
}  // namespace ridge::text::chat_template_test
