#include "api/conversation_beginning.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace ridge::api::conversation_beginning_test {
namespace {

std::shared_ptr<const StoredResponse> find_none(const std::string&) { return nullptr; }

std::string beginning_of(const std::string& body) {
  return conversation_beginning(Json::parse(body), find_none);
}

TEST(ConversationBeginning, IsTheSameInEachTurnAndFormat) {
  const std::string first = beginning_of(
      R"({"messages":[{"role":"system","content":"s"},{"role":"user","content":"hi"}]})");
  for (const char* same : {
           R"({"messages":[{"role":"developer","content":"s"},{"role":"user","content":"hi"},
              {"role":"assistant","content":"so"},{"role":"user","content":"and?"}]})",
           R"({"system":"s","messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}]})",
           R"({"input":[{"role":"system","content":"s"},{"role":"user","content":"hi"}]})",
       }) {
    EXPECT_EQ(beginning_of(same), first) << same;
  }
  for (const char* other : {
           R"({"messages":[{"role":"system","content":"t"},{"role":"user","content":"hi"}]})",
           R"({"messages":[{"role":"system","content":"s"},{"role":"user","content":"ho"}]})",
           R"({"messages":[{"role":"user","content":"s"},{"role":"user","content":"hi"}]})",
       }) {
    EXPECT_NE(beginning_of(other), first) << other;
  }
}

TEST(ConversationBeginning, GoesOnFromAnEarlierResponse) {
  const auto find = [](const std::string& id) -> std::shared_ptr<const StoredResponse> {
    StoredResponse stored;
    stored.conversation = R"([{"role":"user","content":"hi"},{"role":"assistant","content":"so"}])";
    return id == "resp_1" ? std::make_shared<StoredResponse>(stored) : nullptr;
  };
  const auto next = Json::parse(R"({"input":"and?","previous_response_id":"resp_1"})");
  EXPECT_EQ(conversation_beginning(next, find), beginning_of(R"({"input":"hi"})"));
  const auto lost = Json::parse(R"({"input":"and?","previous_response_id":"resp_2"})");
  EXPECT_EQ(conversation_beginning(lost, find), beginning_of(R"({"input":"and?"})"));
}

TEST(ConversationBeginning, OfACompletionIsBounded) {
  const std::string start(1024, 'a');
  EXPECT_EQ(beginning_of(R"({"prompt":")" + start + "b\"}"),
            beginning_of(R"({"prompt":[")" + start + "c\",\"d\"]}"));
  EXPECT_NE(beginning_of(R"({"prompt":"a"})"), beginning_of(R"({"prompt":"b"})"));
  EXPECT_EQ(beginning_of(R"({"prompt":[1,2,3]})"), beginning_of(R"({"prompt":[[1,2,3],[4]]})"));
  EXPECT_NE(beginning_of(R"({"prompt":[1,2,3]})"), beginning_of(R"({"prompt":[1,2]})"));
}

TEST(ConversationBeginning, TakesWhatIsNotWellFormed) {
  for (const char* body :
       {"{}", "[]", "1", R"({"messages":1})", R"({"messages":[1,{"role":1},{"content":[1]}]})",
        R"({"prompt":[]})", R"({"prompt":[[]]})", R"({"prompt":{"a":1}})", R"({"input":null})",
        R"({"system":[1],"messages":[]})", R"({"input":[],"previous_response_id":7})"}) {
    EXPECT_NO_THROW(beginning_of(body)) << body;
  }
}

}  // namespace
}  // namespace ridge::api::conversation_beginning_test
