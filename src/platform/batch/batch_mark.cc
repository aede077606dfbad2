#include "platform/batch/batch_mark.h"

#include "platform/database/kept_statement.h"

namespace ridge::platform {

void insert_mark(Session& session, const BatchMark& mark) {
  int64_t is_ours = 0, is_done = 0;
  run_kept(session, "SELECT COUNT(*) FROM batches WHERE id = :id AND runner = :server",
           soci::use(mark.batch_id), soci::use(mark.server), soci::into(is_ours));
  run_kept(session, "SELECT COUNT(*) FROM batch_lines WHERE batch_id = :id AND line = :line",
           soci::use(mark.batch_id), soci::use(mark.line), soci::into(is_done));
  if (is_ours == 0 || is_done > 0) return;
  const int64_t is_error = mark.is_error ? 1 : 0, is_success = 1 - is_error;
  run_kept(session,
           "INSERT INTO batch_lines (batch_id, line, server, start, bytes, is_error) VALUES (:id, "
           ":line, :server, :start, :bytes, :error)",
           soci::use(mark.batch_id), soci::use(mark.line), soci::use(mark.server),
           soci::use(mark.start), soci::use(mark.bytes), soci::use(is_error));
  run_kept(session,
           "UPDATE batches SET completed = completed + :completed, failed = failed + :failed WHERE "
           "id = :id",
           soci::use(is_success), soci::use(is_error), soci::use(mark.batch_id));
}

}  // namespace ridge::platform
