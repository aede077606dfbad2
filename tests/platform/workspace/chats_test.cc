#include "platform/workspace/chats.h"

#include <gmock/gmock.h>
#include <soci/soci.h>

#include "platform/identity/identity_fixture.h"
#include "platform/throws.h"

namespace ridge::platform::chats_test {
namespace {

class ChatsTest : public IdentityFixture {
 protected:
  void SetUp() override {
    IdentityFixture::SetUp();
    if (!identity_) return;
    ann_ = user("ann");
    ben_ = user("ben");
    chats_ = std::make_unique<Chats>(*database_, [this] { return now_ms_; });
  }
  std::string user(const std::string& name) {
    return identity_->create_user(name, UserKind::person, Role::developer, "", "test").id;
  }
  std::vector<std::string> ids(const std::string& user) {
    std::vector<std::string> ids;
    for (const ChatSummary& chat : chats_->list(user)) ids.push_back(chat.id);
    return ids;
  }
  // Faster than through put().
  void fill(const std::string& user, int64_t count, int64_t bytes) {
    database_->write([&](soci::session& session) {
      for (int64_t i = 0; i < count; ++i) {
        const std::string id = "full-" + std::to_string(i), text = "[]";
        session << "INSERT INTO chats (user_id, id, title, messages, bytes, created_at_ms, "
                   "updated_at_ms) VALUES (:user, :id, :title, :messages, :bytes, 1, 1)",
            soci::use(user), soci::use(id), soci::use(id), soci::use(text), soci::use(bytes);
      }
    });
  }

  std::string ann_, ben_;
  std::unique_ptr<Chats> chats_;
};
INSTANTIATE_ON_BOTH_DATABASES(ChatsTest);

TEST_P(ChatsTest, KeepsAConversationAndTakesItsNextState) {
  const std::string hostile = R"([{"role":"user","content":"'); DROP -- :id \u0000 汉字"}])";
  const ChatSummary made = chats_->put(ann_, "c-1_A", "'; --", hostile);
  EXPECT_EQ(made.created_at_ms, now_ms_);
  EXPECT_EQ(made.bytes, static_cast<int64_t>(hostile.size()));
  now_ms_ += 5;
  const ChatSummary changed = chats_->put(ann_, "c-1_A", "New", "[]");
  EXPECT_EQ(changed.created_at_ms, now_ms_ - 5);
  EXPECT_EQ(changed.updated_at_ms, now_ms_);
  chats_->put(ann_, "c-1_A", "", hostile);
  const Chat chat = chats_->get(ann_, "c-1_A");
  EXPECT_EQ(chat.messages, hostile);
  EXPECT_EQ(chat.title, "");
  EXPECT_EQ(chat.bytes, made.bytes);
  EXPECT_EQ(chat.created_at_ms, now_ms_ - 5);
  ASSERT_EQ(chats_->list(ann_).size(), 1u);
  chats_->remove(ann_, "c-1_A");
  EXPECT_ERROR(chats_->get(ann_, "c-1_A"), not_found, "c-1_A");
  EXPECT_ERROR(chats_->remove(ann_, "c-1_A"), not_found, "c-1_A");
}

TEST_P(ChatsTest, ListsWhatWasChangedLastFirst) {
  for (const char* id : {"a", "b", "c"}) {
    chats_->put(ann_, id, id, "[]");
    ++now_ms_;
  }
  EXPECT_THAT(ids(ann_), testing::ElementsAre("c", "b", "a"));
  chats_->put(ann_, "a", "a", "[]");
  EXPECT_THAT(ids(ann_), testing::ElementsAre("a", "c", "b"));
}

TEST_P(ChatsTest, BelongToOnePersonAlone) {
  chats_->put(ann_, "same", "ann's", "[1]");
  chats_->put(ben_, "same", "ben's", "[2]");
  EXPECT_EQ(chats_->get(ann_, "same").title, "ann's");
  EXPECT_EQ(chats_->get(ben_, "same").messages, "[2]");
  chats_->remove(ben_, "same");
  EXPECT_THAT(ids(ben_), testing::IsEmpty());
  EXPECT_THAT(ids(ann_), testing::ElementsAre("same"));
  EXPECT_ERROR(chats_->get(ben_, "same"), not_found, "of yours");
}

TEST_P(ChatsTest, GoWithTheirOwner) {
  chats_->put(ann_, "a", "", "[]");
  chats_->put(ben_, "b", "", "[]");
  identity_->remove_user("ann", "test");
  EXPECT_THAT(ids(ann_), testing::IsEmpty());
  EXPECT_THAT(ids(ben_), testing::ElementsAre("b"));
  EXPECT_ERROR(chats_->put(ann_, "a", "", "[]"), not_found, "no such user");
}

TEST_P(ChatsTest, AreBounded) {
  EXPECT_ERROR(chats_->put(ann_, "a", "", std::string(Chats::most_messages_bytes + 1, ' ')),
               payload_too_large, "1048577 bytes");
  chats_->put(ann_, "a", "", std::string(Chats::most_messages_bytes, ' '));
  EXPECT_EQ(chats_->get(ann_, "a").messages.size(), Chats::most_messages_bytes);
  fill(ann_, Chats::most_chats - 1, 1);
  EXPECT_ERROR(chats_->put(ann_, "more", "", "[]"), payload_too_large, "500 chats");
  chats_->put(ann_, "a", "still changes", "[]");
  chats_->put(ben_, "more", "", "[]");
}

TEST_P(ChatsTest, AreBoundedTogether) {
  fill(ann_, 2, Chats::most_bytes / 2);
  EXPECT_ERROR(chats_->put(ann_, "a", "", "[]"), payload_too_large, "67108866 bytes");
  chats_->put(ann_, "full-0", "smaller", "[]");
  chats_->put(ann_, "a", "", "[]");
}

TEST_P(ChatsTest, RefuseBadIdsAndTitles) {
  for (const std::string& id : {std::string(), std::string("a b"), std::string("a/b"),
                                std::string("ä"), std::string(65, 'a'), std::string("a\0b", 3)}) {
    EXPECT_ERROR(chats_->put(ann_, id, "", "[]"), invalid_argument, "the id of a chat");
  }
  for (const std::string& title :
       {std::string(201, 'a'), std::string("a\nb"), std::string("a\0b", 3), std::string("\xff")}) {
    EXPECT_ERROR(chats_->put(ann_, "a", title, "[]"), invalid_argument, "the title");
  }
}

}  // namespace
}  // namespace ridge::platform::chats_test
