#include "platform/database/database.h"

#include <fmt/format.h>
#include <soci/soci.h>

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <vector>

#include "platform/database/connection.h"
#include "platform/database/schema.h"

namespace ridge::platform {

using Session = std::unique_ptr<soci::session>;

struct Database::State {
  DatabaseLocation location;
  DatabaseOptions options;

  std::mutex mutex;
  std::condition_variable freed;
  int taken = 0;
  std::vector<Session> idle;

  // Empty where one has to be opened.
  Session take() {
    std::unique_lock lock(mutex);
    const auto is_free = [&] { return taken < options.connections; };
    if (!freed.wait_for(lock, options.wait, is_free)) {
      throw Error(ErrorCode::unavailable,
                  fmt::format("all {} connections to the database {} are in use",
                              options.connections, location.name));
    }
    ++taken;
    if (idle.empty()) return {};
    Session session = std::move(idle.back());
    idle.pop_back();
    return session;
  }

  void give_back(Session session) {
    {
      const std::lock_guard lock(mutex);
      --taken;
      if (session) idle.push_back(std::move(session));
    }
    freed.notify_one();
  }
};

namespace {

void roll_back(Session& session) {
  try {
    *session << "ROLLBACK";
  } catch (const soci::soci_error&) {
    session.reset();  // what state it is in nobody knows
  }
}

// The wall clock's time at the first call, and what has passed since.
int64_t even_now_us() {
  using std::chrono::duration_cast, std::chrono::microseconds, std::chrono::steady_clock;
  static const auto steady_start = steady_clock::now();
  static const auto wall_start = std::chrono::system_clock::now().time_since_epoch();
  const auto passed = steady_clock::now() - steady_start;
  return duration_cast<microseconds>(wall_start + passed).count();
}

}  // namespace

Database::Database(std::string_view location, const DatabaseOptions& options)
    : state_(std::make_unique<State>()) {
  state_->location = DatabaseLocation::parse(location);
  state_->options = options;
  const DatabaseKind kind = state_->location.kind;
  // Most starts find nothing to do, and need no lock for it.
  const bool is_current = read([&](soci::session& session) {
    return is_schema_current(session, kind, state_->location.name);
  });
  if (is_current) return;
  write([&](soci::session& session) { update_schema(session, kind, state_->location.name); });
}

Database::~Database() = default;

int64_t Database::now_us(soci::session& session) const {
  if (state_->location.kind == DatabaseKind::sqlite) return even_now_us();
  int64_t now_us = 0;
  session << "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)",
      soci::into(now_us);
  return now_us;
}

const std::string& Database::name() const { return state_->location.name; }

void Database::run(Access access, const std::function<void(soci::session&)>& work) {
  struct Lease {
    State& state;
    Session session;
    ~Lease() { state.give_back(std::move(session)); }
  };
  Lease lease{*state_, state_->take()};
  Session& session = lease.session;
  const DatabaseLocation& location = state_->location;
  const auto begin = [&] {
    if (!session) session = connect(location, state_->options.wait);
    access == Access::read ? begin_read(*session, location.kind)
                           : begin_write(*session, location.kind);
  };
  try {
    const bool was_idle = session != nullptr;
    try {
      begin();
    } catch (const soci::soci_error&) {
      // The server may have closed it meanwhile; nothing was done yet, so that a new one can be
      // tried.
      if (!was_idle || session->is_connected()) throw;
      session.reset();
      begin();
    }
    work(*session);
    *session << "COMMIT";
  } catch (const soci::soci_error& failure) {
    const Error error = database_error(failure, location);
    if (session) roll_back(session);
    throw error;
  } catch (...) {
    if (session) roll_back(session);
    throw;
  }
}

}  // namespace ridge::platform
