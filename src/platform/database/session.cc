#include "platform/database/session.h"

#include <soci/postgresql/soci-postgresql.h>
#include <soci/soci.h>

#include <unordered_map>

namespace ridge::platform {

struct Session::Kept {
  std::unordered_map<std::string, soci::statement> by_text;
};

Session::Session(std::unique_ptr<soci::session> session, DatabaseKind kind)
    : session_(std::move(session)),
      kept_(kind == DatabaseKind::postgresql ? std::make_unique<Kept>() : nullptr) {}

Session::~Session() {
  if (!kept_) return;
  // They go with the connection. SOCI would ask the server to drop each, which may be gone.
  for (auto& [text, statement] : kept_->by_text) {
    static_cast<soci::postgresql_statement_backend*>(statement.get_backend())
        ->statementName_.clear();
  }
}

bool Session::keeps_statements() const { return kept_ != nullptr; }

soci::statement& Session::kept(const std::string& text) {
  const auto known = kept_->by_text.find(text);
  if (known != kept_->by_text.end()) return known->second;
  soci::statement statement(*session_);
  statement.alloc();
  statement.prepare(text, soci::details::st_repeatable_query);
  return kept_->by_text.emplace(text, statement).first->second;
}

}  // namespace ridge::platform
