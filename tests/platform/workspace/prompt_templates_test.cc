#include "platform/workspace/prompt_templates.h"

#include <gmock/gmock.h>
#include <soci/soci.h>

#include "platform/identity/identity_fixture.h"
#include "platform/throws.h"

namespace ridge::platform::prompt_templates_test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::vector<std::string> variables(const std::string& text) {
  return PromptTemplate{.text = text}.variables();
}

TEST(PromptTemplate, NamesItsPlacesOnceAndInOrder) {
  EXPECT_THAT(variables("{{b}} and {{ a }}, {{b}} {{_c3}}"), ElementsAre("b", "a", "_c3"));
  EXPECT_THAT(variables("{{{{name}}}}"), ElementsAre("name"));
  EXPECT_THAT(variables("a {{first}} {{ second"), ElementsAre("first"));
  for (const char* text :
       {"", "{{}}", "{{ }}", "{{3a}}", "{{a b}}", "{{a-b}}", "{ {a}}", "{{a}", "}}{{", "{{ä}}"}) {
    EXPECT_THAT(variables(text), IsEmpty()) << text;
  }
  EXPECT_THAT(variables("{{" + std::string(65, 'a') + "}}"), IsEmpty());
}

class PromptTemplatesTest : public IdentityFixture {
 protected:
  void SetUp() override {
    IdentityFixture::SetUp();
    if (!identity_) return;
    ours_ = identity_->create_project("ours", 1, "test").id;
    theirs_ = identity_->create_project("theirs", 1, "test").id;
    templates_ = std::make_unique<PromptTemplates>(*database_, [this] { return now_ms_; });
  }
  std::vector<std::string> names(const std::string& project) {
    std::vector<std::string> names;
    for (const PromptTemplate& each : templates_->list(project)) names.push_back(each.name);
    return names;
  }

  std::string ours_, theirs_;
  std::unique_ptr<PromptTemplates> templates_;
};
INSTANTIATE_ON_BOTH_DATABASES(PromptTemplatesTest);

TEST_P(PromptTemplatesTest, AreMadeChangedAndTakenAway) {
  const PromptTemplate made = templates_->create(ours_, "sum up", "Sum up:\n{{text}}", "user:ann");
  EXPECT_THAT(made.id, testing::StartsWith("tpl_"));
  now_ms_ += 5;
  const PromptTemplate changed =
      templates_->change(ours_, made.id, "shorten", "'); -- {{text}} 汉字", "user:ann");
  EXPECT_EQ(changed.created_at_ms, now_ms_ - 5);
  ASSERT_EQ(templates_->list(ours_).size(), 1u);
  const PromptTemplate kept = templates_->list(ours_).front();
  EXPECT_EQ(kept.id, made.id);
  EXPECT_EQ(kept.name, "shorten");
  EXPECT_EQ(kept.text, "'); -- {{text}} 汉字");
  EXPECT_EQ(kept.updated_at_ms, now_ms_);
  templates_->remove(ours_, made.id, "user:ann");
  EXPECT_THAT(names(ours_), IsEmpty());
  std::vector<std::string> actions;
  for (const AuditEvent& event : identity_->audit_events(3)) {
    EXPECT_EQ(event.actor, "user:ann");
    EXPECT_EQ(event.subject, made.id);
    EXPECT_EQ(event.details.find("text"), std::string::npos) << "names alone";
    actions.push_back(event.action);
  }
  EXPECT_THAT(actions, ElementsAre("template.delete", "template.change", "template.create"));
}

TEST_P(PromptTemplatesTest, AreOfOneProject) {
  const PromptTemplate made = templates_->create(ours_, "a", "text", "test");
  EXPECT_THAT(names(theirs_), IsEmpty());
  EXPECT_ERROR(templates_->change(theirs_, made.id, "a", "b", "test"), not_found, made.id);
  EXPECT_ERROR(templates_->remove(theirs_, made.id, "test"), not_found, "in this project");
  templates_->create(theirs_, "a", "another", "test");
  EXPECT_EQ(templates_->list(ours_).front().text, "text");
}

TEST_P(PromptTemplatesTest, HaveNamesOfTheirOwn) {
  const PromptTemplate first = templates_->create(ours_, "a", "text", "test");
  const PromptTemplate second = templates_->create(ours_, "b", "text", "test");
  EXPECT_ERROR(templates_->create(ours_, "a", "text", "test"), already_exists, "'a'");
  EXPECT_ERROR(templates_->change(ours_, second.id, "a", "text", "test"), already_exists, "'a'");
  templates_->change(ours_, second.id, "b", "other text", "test");
  EXPECT_THAT(names(ours_), ElementsAre("a", "b"));
}

TEST_P(PromptTemplatesTest, AreBounded) {
  EXPECT_ERROR(templates_->create(ours_, "", "text", "test"), invalid_argument, "a template");
  const std::string most(PromptTemplates::most_text_bytes, 'a');
  for (const std::string& text : {std::string(), most + "a", std::string("a\0b", 3)}) {
    EXPECT_ERROR(templates_->create(ours_, "a", text, "test"), invalid_argument, "the text");
  }
  const std::string id = templates_->create(ours_, "a", most, "test").id;
  EXPECT_ERROR(templates_->change(ours_, id, "a", most + "a", "test"), invalid_argument, "65536");
  database_->write([&](soci::session& session) {  // faster than through create()
    for (int64_t i = 1; i < PromptTemplates::most_of_project; ++i) {
      const std::string name = std::to_string(i);
      session << "INSERT INTO prompt_templates (id, project_id, name, text, created_at_ms, "
                 "updated_at_ms) VALUES (:id, :project, :name, 't', 1, 1)",
          soci::use(name), soci::use(ours_), soci::use(name);
    }
  });
  EXPECT_ERROR(templates_->create(ours_, "more", "t", "test"), payload_too_large, "500");
  templates_->create(theirs_, "more", "t", "test");
}

}  // namespace
}  // namespace ridge::platform::prompt_templates_test
