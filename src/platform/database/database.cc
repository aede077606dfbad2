#include "platform/database/database.h"

#include <fmt/format.h>
#include <soci/soci.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "platform/database/connection.h"
#include "platform/database/deadlines.h"
#include "platform/database/schema.h"

namespace ridge::platform {

namespace {

constexpr int64_t time_holds_us = 5'000'000;

int64_t read_clock_us(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return static_cast<int64_t>(time.tv_sec) * 1'000'000 + time.tv_nsec / 1'000;
}

}  // namespace

struct Database::State {
  DatabaseLocation location;
  DatabaseOptions options;

  Deadlines deadlines;
  // How far the server's clock is ahead of this machine's time since its start, and until when that
  // is believed.
  std::atomic<int64_t> ahead_us = 0, ask_time_at_us = 0;
  // SQLite: how often the disk did not take the log, and after how many of these it was written
  // anew (see write_log_anew).
  std::atomic<int64_t> failed_syncs = 0, made_good = 0;
  std::mutex log_mutex;  // of who writes it anew
  // How far the wall clock was ahead of that when the database was opened.
  int64_t even_ahead_us = 0;

  std::mutex mutex;
  std::condition_variable freed;
  int taken = 0;
  struct Connection {
    std::unique_ptr<Session> session;
    int64_t failed_syncs = 0;  // when it was opened
  };
  std::vector<Connection> idle;
  std::vector<Connection> idle_beside;  // set up for write_beside()

  std::vector<Connection>& idle_for(Access access) {
    return access == Access::write_beside ? idle_beside : idle;
  }

  // For those who are about to wait for the disk.
  void make_good(Session& session) {
    if (failed_syncs == made_good) return;
    const std::lock_guard lock(log_mutex);
    const auto until = std::chrono::steady_clock::now() + options.wait;
    while (true) {
      const int64_t failed = failed_syncs;
      if (failed == made_good) return;  // another one has
      try {
        write_log_anew(session);
        made_good = failed;
        return;
      } catch (const DatabaseError& error) {
        // SQLite waits for readers, but not for another who moves the log.
        const bool may_pass = error.code() == ErrorCode::unavailable;
        if (!may_pass || std::chrono::steady_clock::now() > until) throw;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }

  // Since the machine's start, sleep included.
  int64_t own_us() const { return read_us(CLOCK_BOOTTIME); }
  int64_t read_us(clockid_t clock) const {
    return options.read_clock_us ? options.read_clock_us(clock) : read_clock_us(clock);
  }

  // Empty where one has to be opened. After a failed sync that is each: Linux tells of the failure
  // once at every file that was open then, also where all has been written anew since.
  Connection take(Access access) {
    std::vector<Connection> outdated;  // closed behind the lock, as that may take a while
    std::unique_lock lock(mutex);
    const auto is_free = [&] { return taken < options.connections; };
    if (!freed.wait_for(lock, options.wait, is_free)) {
      throw DatabaseError(ErrorCode::unavailable,
                          fmt::format("all {} connections to the database {} are in use",
                                      options.connections, location.name));
    }
    ++taken;
    const int64_t failed = failed_syncs;
    auto& connections = idle_for(access);
    while (!connections.empty()) {
      Connection connection = std::move(connections.back());
      connections.pop_back();
      if (connection.failed_syncs == failed) return connection;
      outdated.push_back(std::move(connection));
    }
    return {};
  }

  void give_back(Access access, Connection connection) {
    {
      const std::lock_guard lock(mutex);
      --taken;
      if (connection.session) idle_for(access).push_back(std::move(connection));
    }
    freed.notify_one();
  }
};

Database::Database(std::string_view location, const DatabaseOptions& options)
    : state_(std::make_unique<State>()) {
  state_->location = DatabaseLocation::parse(location);
  state_->options = options;
  state_->even_ahead_us = state_->read_us(CLOCK_REALTIME) - state_->own_us();
  state_->ahead_us = state_->even_ahead_us;  // until a server has said otherwise
  const DatabaseKind kind = state_->location.kind;
  // Most starts find nothing to do, and need no lock for it.
  const bool is_current = read([&](soci::session& session) {
    return is_schema_current(session, kind, state_->location.name);
  });
  if (is_current) return;
  const auto update = [&](soci::session& session) {
    update_schema(session, kind, state_->location.name);
  };
  run(Access::write, update, /*most=*/{});
}

Database::~Database() = default;

int64_t Database::now_us(soci::session& session) const {
  ask_time(session);
  return state_->own_us() + state_->ahead_us;
}

int64_t Database::now_ms() const { return (state_->own_us() + state_->ahead_us) / 1'000; }

int64_t Database::least_now_ms() const {
  return (state_->own_us() + std::min<int64_t>(state_->ahead_us, state_->even_ahead_us)) / 1'000;
}

// Now and then, as each time is a way to the server and back. SQLite has no clock of its own.
void Database::ask_time(soci::session& session) const {
  const int64_t own_us = state_->own_us();
  if (state_->location.kind == DatabaseKind::sqlite || own_us < state_->ask_time_at_us) return;
  int64_t server_us = 0;
  session << "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)",
      soci::into(server_us);
  state_->ahead_us = server_us - own_us;
  state_->ask_time_at_us = own_us + time_holds_us;
}

bool Database::can_write_beside() const {
  return state_->location.kind == DatabaseKind::postgresql;
}

bool Database::needs_sync() const { return state_->location.kind == DatabaseKind::sqlite; }

void Database::sync() {
  if (!needs_sync()) return;
  run(Access::sync, [](soci::session&) {});
}

const std::string& Database::name() const { return state_->location.name; }

void Database::run(Access access, const std::function<void(Session&)>& work) {
  run(access, work, state_->options.most);
}

void Database::run(Access access, const std::function<void(Session&)>& work,
                   std::chrono::milliseconds most) {
  struct Lease {
    State& state;
    Access access;
    State::Connection connection;
    ~Lease() { state.give_back(access, std::move(connection)); }
  };
  Lease lease{*state_, access, state_->take(access)};
  std::unique_ptr<Session>& session = lease.connection.session;
  std::optional<Deadlines::Watch> watch;  // of the session's socket, and gone before it
  const DatabaseLocation& location = state_->location;
  const bool is_sqlite = location.kind == DatabaseKind::sqlite;
  // What waits for the disk. SQLite's early writes do not.
  const bool syncs = is_sqlite && (access == Access::write || access == Access::sync);
  // Within one, which ends with `work`.
  const bool is_transaction = access != Access::sync && access != Access::write_beside;
  const auto close = [&] {
    watch.reset();
    session.reset();
  };
  const auto watch_socket = [&] {
    const int socket = most.count() > 0 ? socket_of(*session, location.kind) : -1;
    if (socket >= 0) watch.emplace(state_->deadlines, socket, most + most / 4);
  };
  const auto open = [&] {
    lease.connection.failed_syncs = state_->failed_syncs;
    session = std::make_unique<Session>(connect(location), location.kind);
    watch_socket();
    try {
      set_up(*session, location, {state_->options.wait, state_->options.most});
      if (access == Access::write_beside) set_up_beside(*session);
      if (is_sqlite) watch_checkpoints(*session, state_->failed_syncs);
    } catch (...) {
      close();
      throw;
    }
  };
  const auto begin = [&] {
    // With no BEGIN that would find it out before anything is done.
    if (access == Access::write_beside && session && has_news(*session, location.kind)) close();
    session ? watch_socket() : open();
    if (syncs) state_->make_good(*session);
    switch (access) {
      case Access::read:
        return begin_read(*session, location.kind);
      case Access::write:
        return begin_write(*session, location.kind, Durability::on_return);
      case Access::write_early:
        return begin_write(*session, location.kind, Durability::after_sync);
      case Access::write_beside:
        return;
      case Access::sync:
        return sync_log(*session);
    }
  };
  const auto execute = [&](const char* statement) {
    static_cast<soci::session&>(*session) << statement;
  };
  const auto is_connected = [&] { return static_cast<soci::session&>(*session).is_connected(); };
  const auto has_hung = [&] { return watch && watch->has_passed(); };
  const auto roll_back = [&] {
    if (!session) return;
    if (!is_transaction) return close();
    try {
      execute("ROLLBACK");
    } catch (const soci::soci_error&) {
      close();  // what state it is in nobody knows
    }
  };
  try {
    const bool was_idle = session != nullptr;
    try {
      begin();
    } catch (const soci::soci_error&) {
      // The server may have closed it meanwhile; nothing was done yet, so that a new one can be
      // tried.
      if (!was_idle || !session || has_hung() || is_connected()) throw;
      close();
      begin();
    }
    if (access != Access::sync) ask_time(*session);
    work(*session);
    if (is_transaction) execute("COMMIT");
  } catch (const soci::soci_error& failure) {
    const DatabaseError error =
        has_hung() ? DatabaseError(ErrorCode::unavailable,
                                   fmt::format("the database {} does not answer", location.name))
                   : database_error(failure, location);
    if (syncs && error.code() == ErrorCode::io) ++state_->failed_syncs;
    roll_back();
    throw error;
  } catch (const Error& error) {
    if (access == Access::sync && error.code() == ErrorCode::io) ++state_->failed_syncs;
    roll_back();
    throw;
  } catch (...) {
    roll_back();
    throw;
  }
}

}  // namespace ridge::platform
