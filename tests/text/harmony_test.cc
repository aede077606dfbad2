#include "text/harmony.h"

#include <gtest/gtest.h>

#include <iterator>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "format/gguf.h"
#include "text/tokenizer.h"

namespace ridge::text::harmony_test {
namespace {

struct Parsed {
  std::string reasoning;
  std::string content;
  std::vector<std::string> calls;  // "name{…}"
  std::string order;               // r, a and c for each run of reasoning, of content, and each call
  bool operator==(const Parsed&) const = default;
};

void PrintTo(const Parsed& parsed, std::ostream* out) {
  *out << "reasoning \"" << parsed.reasoning << "\", content \"" << parsed.content << "\"";
  for (const std::string& call : parsed.calls) *out << ", call " << call;
  *out << ", in the order " << parsed.order;
}

void note(std::string& order, char kind) {
  if (!order.ends_with(kind)) order += kind;
}

void add(Parsed& parsed, const HarmonyParser::Delta& delta) {
  if (!delta.reasoning.empty()) note(parsed.order, 'r');
  parsed.reasoning += delta.reasoning;
  for (const AnswerPiece& any : delta.pieces) {
    if (const auto* content = std::get_if<std::string>(&any)) {
      EXPECT_NE(*content, "");
      parsed.content += *content;
      note(parsed.order, 'a');
      continue;
    }
    const auto& piece = std::get<ToolCallPiece>(any);
    EXPECT_EQ(piece.begins, piece.index == static_cast<int>(parsed.calls.size()));
    if (piece.begins) {
      parsed.calls.push_back(piece.name);
      parsed.order += 'c';
    }
    EXPECT_EQ(piece.index + 1, static_cast<int>(parsed.calls.size())) << "calls mix";
    parsed.calls.back() += piece.arguments;
  }
}

Parsed parse(const std::vector<std::string_view>& pieces) {
  HarmonyParser parser({"get_weather", "f"});
  Parsed parsed;
  for (const std::string_view piece : pieces) add(parsed, parser.push(piece));
  add(parsed, parser.flush());
  EXPECT_EQ(parser.begun(), static_cast<int>(parsed.calls.size()));
  EXPECT_EQ(parser.ended(), parser.begun());
  return parsed;
}

// Cut in two at each byte, and byte by byte, the text has the parts that it has whole.
Parsed parse_in_all_ways(std::string_view text) {
  const Parsed whole = parse({text});
  Parsed without_order = whole;
  // Within one piece reasoning comes before what is behind it, which is not its order in the text.
  without_order.order.clear();
  const auto expect_same = [&](Parsed cut, const std::string& what) {
    cut.order.clear();
    EXPECT_EQ(cut, without_order) << what;
  };
  for (std::size_t at = 1; at < text.size(); ++at) {
    expect_same(parse({text.substr(0, at), text.substr(at)}), "split at " + std::to_string(at));
  }
  std::vector<std::string_view> bytes;
  for (std::size_t at = 0; at < text.size(); ++at) bytes.push_back(text.substr(at, 1));
  const Parsed by_bytes = parse(bytes);
  expect_same(by_bytes, "byte by byte");
  return by_bytes;
}

TEST(Harmony, SplitsReasoningAndAnswer) {
  const Parsed parsed = parse_in_all_ways(
      "<|channel|>analysis<|message|>They greet < me.<|end|>"
      "<|start|>assistant<|channel|>final<|message|>Hello,\n*you* <b>!<|return|>");
  EXPECT_EQ(parsed, (Parsed{"They greet < me.", "Hello,\n*you* <b>!", {}, "ra"}));
}

// As a stream has it, whose last token ends generation and gives no text.
TEST(Harmony, NeedsNoLastTag) {
  const Parsed parsed = parse_in_all_ways(
      "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Yes");
  EXPECT_EQ(parsed, (Parsed{"Hm.", "Yes", {}, "ra"}));
}

TEST(Harmony, FindsCalls) {
  const Parsed parsed = parse_in_all_ways(
      "<|channel|>analysis<|message|>I need it.<|end|><|start|>assistant<|channel|>commentary "
      "to=functions.get_weather <|constrain|>json<|message|>{\"city\": \"Köln <|\"}<|call|>");
  EXPECT_EQ(parsed, (Parsed{"I need it.", "", {"get_weather{\"city\": \"Köln <|\"}"}, "rc"}));
}

// The recipient may stand with the role, and the type without its tag; arguments may be none.
TEST(Harmony, FindsCallsInOtherForms) {
  EXPECT_EQ(parse_in_all_ways("<|channel|>analysis<|message|>A<|end|><|start|>assistant "
                              "to=functions.f<|channel|>commentary json<|message|>{}"),
            (Parsed{"A", "", {"f{}"}, "rc"}));
  EXPECT_EQ(parse_in_all_ways(" to=functions.f<|channel|>commentary<|message|>{\"a\": 1}<|call|>"),
            (Parsed{"", "", {"f{\"a\": 1}"}, "c"}));
  EXPECT_EQ(parse_in_all_ways("<|channel|>commentary to=f<|message|><|call|>"),
            (Parsed{"", "", {"f{}"}, "c"}));
}

// What is said to the user before a call, and several messages of a kind.
TEST(Harmony, GivesMessagesOfAKindALineEach) {
  const Parsed parsed = parse_in_all_ways(
      "<|channel|>analysis<|message|>One.<|end|><|start|>assistant<|channel|>analysis<|message|>"
      "Two.<|end|><|start|>assistant<|channel|>commentary<|message|>I look.<|end|>"
      "<|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>{}"
      "<|call|><|start|>assistant<|channel|>final<|message|>Done.<|return|>");
  EXPECT_EQ(parsed, (Parsed{"One.\nTwo.", "I look.\nDone.", {"f{}"}, "raca"}));
}

TEST(Harmony, TakesWhatIsToNobodyAsText) {
  EXPECT_EQ(parse_in_all_ways("<|channel|>commentary to=functions.g <|constrain|>json<|message|>{}"),
            (Parsed{"", "{}", {}, "a"}));
  // Tools of its own, which are not there: part of the reasoning.
  EXPECT_EQ(parse_in_all_ways("<|channel|>analysis to=python code<|message|>1 + 1<|call|>"),
            (Parsed{"1 + 1", "", {}, "r"}));
}

TEST(Harmony, BearsMissingTags) {
  EXPECT_EQ(parse_in_all_ways("Hello, plainly."), (Parsed{"", "Hello, plainly.", {}, "a"}));
  EXPECT_EQ(parse_in_all_ways("  < not a tag"), (Parsed{"", "  < not a tag", {}, "a"}));
  EXPECT_EQ(parse_in_all_ways("<|message|>No channel."), (Parsed{"", "No channel.", {}, "a"}));
  EXPECT_EQ(parse_in_all_ways("<|channel|>analysis<|message|>A<|channel|>final<|message|>B"),
            (Parsed{"A", "B", {}, "ra"}));
  EXPECT_EQ(parse_in_all_ways("<|channel|>analysis<|message|>A<|start|>assistant<|channel|>final"
                              "<|start|>assistant<|channel|>final<|message|>B"),
            (Parsed{"A", "B", {}, "ra"}));
  // A head that is cut off says nothing; the beginning of a tag is text if none comes of it.
  EXPECT_EQ(parse_in_all_ways("<|channel|>analysis<|message|>A<|end|><|start|>assistant<|chan"),
            (Parsed{"A", "", {}, "r"}));
  EXPECT_EQ(parse_in_all_ways("<|channel|>final<|message|>A <|en"),
            (Parsed{"", "A <|en", {}, "a"}));
  EXPECT_EQ(parse_in_all_ways(""), Parsed{});
  EXPECT_EQ(parse_in_all_ways("<|channel|>final<|message|>A<|end|> <|return|>"),
            (Parsed{"", "A", {}, "a"}));
}

// Or a model that never says so would be held back for ever.
TEST(Harmony, GivesOutAHeadThatIsTooLong) {
  const std::string noise(1500, 'x');
  for (const std::string tag : {"<|channel|>", "<|start|>"}) {
    const Parsed parsed =
        parse_in_all_ways(tag + noise + "<|message|>B<|end|><|start|>" + noise + "<|channel|>final" +
                          "<|message|>C");
    EXPECT_EQ(parsed.reasoning, "");
    EXPECT_EQ(parsed.content.find(noise), 0u);
    EXPECT_TRUE(parsed.content.ends_with("C")) << parsed.content;
  }
}

// Tags in any order, whole and cut off.
TEST(Harmony, AnyTextHasTheSamePartsHoweverItIsCut) {
  const std::string_view parts[] = {"<|start|>", "<|channel|>", "<|message|>",  "<|end|>",
                                    "<|call|>",  "<|return|>",  "<|constrain|>", "assistant",
                                    "analysis",  "final",       "commentary",   " to=functions.f",
                                    " to=g",     "{}",          " ",            "<|",
                                    "<|chan",    "Hello.",      "\n"};
  std::mt19937 random(7);
  for (int run = 0; run < 300; ++run) {
    std::string text;
    const auto count = 1 + random() % 14;
    for (unsigned i = 0; i < count; ++i) text += parts[random() % std::size(parts)];
    SCOPED_TRACE(text);
    parse_in_all_ways(text);
    if (testing::Test::HasFailure()) return;
  }
}

TEST(Harmony, TellsWhereTheAnswerIs) {
  using Place = HarmonyParser::Place;
  HarmonyParser parser({"f"});
  EXPECT_TRUE(parser.is_fresh());
  parser.push("<|channel|>analysis");
  EXPECT_FALSE(parser.is_fresh());
  EXPECT_EQ(parser.place(), Place::head);
  parser.push("<|message|>A");
  EXPECT_EQ(parser.place(), Place::reasoning);
  parser.push("<|end|>");
  EXPECT_EQ(parser.place(), Place::head);
  parser.push("<|start|>assistant<|channel|>commentary to=functions.f<|message|>{\"a\"");
  EXPECT_EQ(parser.place(), Place::call);
  EXPECT_EQ(parser.open_name(), "f");
  EXPECT_EQ(parser.open_arguments(), "{\"a\"");
  parser.push(": 1}<|call|><|start|>assistant<|channel|>final<|message|>B");
  EXPECT_EQ(parser.ended(), 1);
  EXPECT_EQ(parser.place(), Place::content);
}

TEST(Harmony, IsSpokenWhereTemplateAndVocabularyHaveIt) {
  const auto tokenizer = [](const std::string& name) {
    return Tokenizer::from_gguf(
        format::GgufFile::open(RIDGE_SOURCE_DIR "/tests/goldens/" + name + ".gguf"));
  };
  const std::string_view source = "{{ '<|start|>assistant<|channel|>final<|message|>' }}";
  const auto own = tokenizer("gpt-oss-mxfp4");
  EXPECT_TRUE(speaks_harmony(source, *own));
  EXPECT_FALSE(speaks_harmony("<|start|>assistant", *own));
  EXPECT_FALSE(speaks_harmony(source, *tokenizer("qwen2-f32")));
  // Of its tags those that end the turn end generation, and no other.
  EXPECT_TRUE(own->is_end_of_generation(*own->find(harmony::call)));
  EXPECT_TRUE(own->is_end_of_generation(*own->find(harmony::returns)));
  EXPECT_FALSE(own->is_end_of_generation(*own->find(harmony::end)));
}

}  // namespace
}  // namespace ridge::text::harmony_test
