#pragma once

#include <soci/soci.h>

#include <string>
#include <utility>

#include "platform/database/session.h"

// Statements of which each request needs some. PostgreSQL gets a text once for each connection, and
// from then on only its values.
namespace ridge::platform {

namespace kept {

// Calls `work` with a statement that is bound to the elements.
template <typename Work, typename... Elements>
auto with_statement(Session& session, const std::string& text, Work work, Elements&&... elements) {
  if (!session.keeps_statements()) {
    soci::statement once(session);
    (once.exchange(std::forward<Elements>(elements)), ...);
    once.alloc();
    once.prepare(text, soci::details::st_one_time_query);
    once.define_and_bind();
    return work(once);
  }
  struct Bound {
    soci::statement& statement;
    ~Bound() { statement.bind_clean_up(); }  // the elements end with the caller
  };
  const Bound bound{session.kept(text)};
  (bound.statement.exchange(std::forward<Elements>(elements)), ...);
  bound.statement.define_and_bind();
  return work(bound.statement);
}

}  // namespace kept

// As `session << text, elements...`: with soci::use and soci::into. Whether it gave a row.
template <typename... Elements>
bool run_kept(Session& session, const std::string& text, Elements&&... elements) {
  const auto run = [](soci::statement& statement) { return statement.execute(true); };
  return kept::with_statement(session, text, run, std::forward<Elements>(elements)...);
}

// Calls `take` for each row, once it is in the elements.
template <typename Take, typename... Elements>
void each_kept(Session& session, const std::string& text, Take take, Elements&&... elements) {
  const auto run = [&](soci::statement& statement) {
    statement.execute();
    while (statement.fetch()) take();
  };
  kept::with_statement(session, text, run, std::forward<Elements>(elements)...);
}

}  // namespace ridge::platform
