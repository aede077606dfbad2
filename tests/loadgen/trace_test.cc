#include "loadgen/trace.h"

#include <gmock/gmock.h>

#include "base/error.h"

namespace ridge::loadgen::trace_test {
namespace {

using ::testing::HasSubstr;

TEST(Trace, ReadsRequestsInTheOrderOfTheirArrival) {
  const auto entries = parse_trace(
      "{\"arrival_ms\": 1380.5, \"prompt\": \"Repeat this\", \"output_tokens\": 200}\r\n"
      "\n"
      "{\"prompt_tokens\": 230, \"output_tokens\": 64, \"user\": \"ignored\"}",
      "x.jsonl");
  ASSERT_EQ(entries.size(), 2u);
  EXPECT_EQ(entries[0].arrival_ms, 0);
  EXPECT_EQ(entries[0].prompt, "");
  EXPECT_EQ(entries[0].prompt_tokens, 230);
  EXPECT_EQ(entries[0].output_tokens, 64);
  EXPECT_EQ(entries[1].arrival_ms, 1380.5);
  EXPECT_EQ(entries[1].prompt, "Repeat this");
}

std::string refusal_of(const std::string& line) {
  try {
    parse_trace("{\"prompt\":\"p\",\"output_tokens\":1}\n" + line, "x.jsonl");
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_file);
    return std::string(error.message());
  }
  return "nothing was refused";
}

TEST(Trace, NamesTheLineAndWhatIsWrong) {
  EXPECT_THAT(refusal_of("{"), HasSubstr("line 2 of x.jsonl is no JSON object"));
  EXPECT_THAT(refusal_of("[]"), HasSubstr("is no JSON object"));
  EXPECT_THAT(refusal_of(R"({"prompt":"p"})"), HasSubstr("wants 'output_tokens'"));
  EXPECT_THAT(refusal_of(R"({"prompt":"p","output_tokens":0})"), HasSubstr("'output_tokens'"));
  EXPECT_THAT(refusal_of(R"({"prompt":"p","output_tokens":1.5})"), HasSubstr("'output_tokens'"));
  EXPECT_THAT(refusal_of(R"({"output_tokens":1})"), HasSubstr("one of 'prompt'"));
  EXPECT_THAT(refusal_of(R"({"prompt":"p","prompt_tokens":3,"output_tokens":1})"),
              HasSubstr("one of 'prompt'"));
  EXPECT_THAT(refusal_of(R"({"prompt":"","output_tokens":1})"), HasSubstr("no text"));
  EXPECT_THAT(refusal_of(R"({"prompt":7,"output_tokens":1})"), HasSubstr("no text"));
  EXPECT_THAT(refusal_of(R"({"prompt_tokens":-1,"output_tokens":1})"),
              HasSubstr("'prompt_tokens'"));
  EXPECT_THAT(refusal_of(R"({"prompt":"p","output_tokens":1,"arrival_ms":-1})"),
              HasSubstr("'arrival_ms'"));
  EXPECT_THAT(refusal_of(R"({"prompt":"p","output_tokens":1,"arrival_ms":"1"})"),
              HasSubstr("'arrival_ms'"));
}

TEST(Trace, AnEmptyOrAbsentFileIsRefused) {
  EXPECT_THROW(parse_trace(" \n\n", "x"), Error);
  EXPECT_THROW(read_trace("/nowhere/trace.jsonl"), Error);
}

}  // namespace
}  // namespace ridge::loadgen::trace_test
