#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "platform/database/database.h"
#include "platform/identity/identity.h"

namespace ridge::platform {

// A prompt with places to fill in: "{{name}}", spaces within the braces do not count.
struct PromptTemplate {
  std::string id;  // "tpl_..."
  std::string name, text;
  int64_t created_at_ms = 0, updated_at_ms = 0;

  // The names of its places, each once, in the order in which they first stand there. A name is a
  // letter or '_' and up to 63 more of those and digits; what else is in braces is text.
  std::vector<std::string> variables() const;
};

// The prompt templates of projects. Beyond Database's errors, they throw as said; changes are
// recorded in the audit log under `actor`.
class PromptTemplates {
 public:
  static constexpr std::size_t most_text_bytes = 64u << 10;
  static constexpr int64_t most_of_project = 500;

  explicit PromptTemplates(Database& database, Identity::NowMs now_ms = {});

  std::vector<PromptTemplate> list(const std::string& project_id);  // by name
  // Throws invalid_argument for a bad name or text, already_exists, and payload_too_large where the
  // project has as many as may be.
  PromptTemplate create(const std::string& project_id, const std::string& name,
                        const std::string& text, std::string_view actor);
  // Throws the same, and not_found.
  PromptTemplate change(const std::string& project_id, const std::string& id,
                        const std::string& name, const std::string& text, std::string_view actor);
  // Throws not_found.
  void remove(const std::string& project_id, const std::string& id, std::string_view actor);

 private:
  Database& database_;
  Identity::NowMs now_ms_;
};

}  // namespace ridge::platform
