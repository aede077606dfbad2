#include "text/grammar.h"

#include <fmt/format.h>

#include <time.h>

#include <algorithm>
#include <utility>

#include "text/grammar_checker.h"
#include "text/textkit_call.h"
#include "text/tokenizer.h"

namespace ridge::text {
namespace {

// What following a grammar may take: a share for each token, and some for tokens that are harder.
constexpr std::chrono::nanoseconds time_at_start = std::chrono::seconds(1);
constexpr std::chrono::nanoseconds time_for_each_token = std::chrono::milliseconds(5);

int32_t kind_number(GrammarKind kind) {
  switch (kind) {
    case GrammarKind::json_schema:
      return TK_GRAMMAR_JSON_SCHEMA;
    case GrammarKind::lenient_json_schema:
      return TK_GRAMMAR_LENIENT_JSON_SCHEMA;
    case GrammarKind::regex:
      return TK_GRAMMAR_REGEX;
    case GrammarKind::lark:
      return TK_GRAMMAR_LARK;
    case GrammarKind::parts:
      return TK_GRAMMAR_PARTS;
  }
  RIDGE_ASSERT(false && "every kind has a number");
  return -1;
}

// Of a processor, so that a busy machine does not make a grammar slow.
std::chrono::nanoseconds thread_time() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

std::string key_of(std::string_view group, GrammarKind kind, std::string_view source) {
  // With its length, so that no group's name can go on as another's grammar.
  return fmt::format("{}:{}:{}{}", kind_number(kind), group.size(), group, source);
}

std::size_t mask_words(const Tokenizer& tokenizer) {
  return (static_cast<std::size_t>(tokenizer.vocab_size()) + 31) / 32;
}

tk_matcher* fork_of(const tk_matcher* matcher) {
  tk_matcher* fork = nullptr;
  TextkitBuffer error;
  check_textkit(tk_matcher_fork(matcher, &fork, error.out()), error);
  return fork;
}

}  // namespace

GrammarMatcher::GrammarMatcher(tk_matcher* handle, std::size_t mask_words)
    : handle_(handle), mask_(mask_words), time_left_(time_at_start) {}

GrammarMatcher::GrammarMatcher(GrammarMatcher&& other) noexcept
    : handle_(std::exchange(other.handle_, nullptr)),
      mask_(std::move(other.mask_)),
      mask_is_current_(other.mask_is_current_),
      time_left_(other.time_left_) {}

GrammarMatcher& GrammarMatcher::operator=(GrammarMatcher&& other) noexcept {
  std::swap(handle_, other.handle_);
  std::swap(mask_, other.mask_);
  std::swap(mask_is_current_, other.mask_is_current_);
  std::swap(time_left_, other.time_left_);
  return *this;
}

GrammarMatcher::~GrammarMatcher() { tk_matcher_free(handle_); }

template <typename Call>
void GrammarMatcher::timed(Call call) {
  const std::chrono::nanoseconds start = thread_time();
  TextkitBuffer error;
  const int32_t status = call(error.out());
  time_left_ -= thread_time() - start;
  check_textkit(status, error);
  if (time_left_.count() >= 0) return;
  throw Error(ErrorCode::invalid_argument,
              "the grammar is too complex: following it takes too long");
}

std::span<const uint32_t> GrammarMatcher::mask() {
  if (!mask_is_current_) {
    timed([&](tk_buffer* error) {
      return tk_matcher_mask(handle_, mask_.data(), mask_.size(), error);
    });
    mask_is_current_ = true;
  }
  return mask_;
}

void GrammarMatcher::consume(int32_t id) {
  mask_is_current_ = false;
  time_left_ += time_for_each_token;
  timed([&](tk_buffer* error) { return tk_matcher_consume(handle_, id, error); });
}

void GrammarMatcher::consume_text(std::string_view text) {
  if (text.empty()) return;
  mask_is_current_ = false;
  timed([&](tk_buffer* error) { return tk_matcher_consume_text(handle_, to_slice(text), error); });
}

int GrammarMatcher::count_valid(std::span<const int32_t> ids) {
  std::size_t count = 0;
  timed([&](tk_buffer* error) {
    return tk_matcher_count_valid(handle_, ids.data(), ids.size(), &count, error);
  });
  return static_cast<int>(count);
}

void GrammarMatcher::rollback(int tokens) {
  mask_is_current_ = false;
  timed([&](tk_buffer* error) {
    return tk_matcher_rollback(handle_, static_cast<std::size_t>(tokens), error);
  });
}

GrammarMatcher GrammarMatcher::fork() const {
  GrammarMatcher fork(fork_of(handle_), mask_.size());
  fork.time_left_ = time_left_;
  return fork;
}

bool GrammarMatcher::is_accepting() {
  bool accepting = false;
  timed([&](tk_buffer* error) { return tk_matcher_is_accepting(handle_, &accepting, error); });
  return accepting;
}

bool GrammarMatcher::is_stopped() const {
  bool stopped = false;
  TextkitBuffer error;
  check_textkit(tk_matcher_is_stopped(handle_, &stopped, error.out()), error);
  return stopped;
}

Grammar::Grammar(tk_matcher* fresh, std::size_t mask_words)
    : fresh_(fresh), mask_words_(mask_words) {}

Grammar::~Grammar() { tk_matcher_free(fresh_); }

GrammarMatcher Grammar::start() const {
  std::lock_guard lock(mutex_);
  return {fork_of(fresh_), mask_words_};
}

// A place among the compilations that run.
class GrammarCompiler::Slot {
 public:
  Slot(GrammarCompiler& compiler, std::chrono::steady_clock::time_point deadline)
      : compiler_(compiler) {
    std::unique_lock lock(compiler.mutex_);
    const auto is_free = [&] { return compiler.running_ < compiler.options_.max_running; };
    if (!compiler.slot_free_.wait_until(lock, deadline, is_free)) {
      throw Error(ErrorCode::queue_full,
                  "too many grammars of other requests are being compiled; try again soon");
    }
    ++compiler.running_;
  }
  ~Slot() {
    {
      std::lock_guard lock(compiler_.mutex_);
      --compiler_.running_;
    }
    compiler_.slot_free_.notify_one();
  }
  Slot(const Slot&) = delete;
  Slot& operator=(const Slot&) = delete;

 private:
  GrammarCompiler& compiler_;
};

GrammarCompiler::GrammarCompiler(const Tokenizer& tokenizer, GrammarCompilerOptions options)
    : tokenizer_(tokenizer), options_(std::move(options)) {}

GrammarCompiler::~GrammarCompiler() { tk_grammar_environment_free(environment_); }

tk_grammar_environment* GrammarCompiler::environment() {
  std::call_once(prepared_, [&] {
    const auto ends = tokenizer_.end_of_generation_ids();
    TextkitBuffer error;
    check_textkit(tk_grammar_environment_new(tokenizer_.handle(), ends.data(), ends.size(),
                                             &environment_, error.out()),
                  error);
    if (options_.checker.empty()) return;
    TextkitBuffer words, failure;
    check_textkit(tk_grammar_environment_words(environment_, words.out(), failure.out()), failure);
    checker_ = std::make_unique<GrammarChecker>(options_.checker, std::string(words.view()));
  });
  return environment_;
}

std::shared_ptr<const Grammar> GrammarCompiler::compile(std::string_view group, GrammarKind kind,
                                                        std::string_view source) {
  if (source.size() > max_source_bytes) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("the grammar has {} bytes; at most {} are allowed", source.size(),
                            max_source_bytes));
  }
  const auto deadline = std::chrono::steady_clock::now() + options_.limit;
  std::string key = key_of(group, kind, source);
  if (auto known = find(key)) return known;
  const Slot slot(*this, deadline);
  if (auto known = find(key)) return known;  // another of its requests compiled it meanwhile
  tk_grammar_environment* prepared = environment();
  if (checker_) checker_->check(kind_number(kind), source, deadline);
  // What was tried has shown that it ends, and has to: here it could not be taken back.
  const auto left = checker_ ? 4 * options_.limit
                             : std::chrono::duration_cast<std::chrono::milliseconds>(
                                   deadline - std::chrono::steady_clock::now());
  tk_matcher* fresh = nullptr;
  TextkitBuffer error;
  check_textkit(tk_matcher_new(prepared, kind_number(kind), to_slice(source),
                               static_cast<uint64_t>(std::max<int64_t>(left.count(), 1)), &fresh,
                               error.out()),
                error);
  auto grammar = std::make_shared<const Grammar>(fresh, mask_words(tokenizer_));
  keep(std::move(key), grammar);
  return grammar;
}

std::shared_ptr<const Grammar> GrammarCompiler::find(std::string_view group, GrammarKind kind,
                                                     std::string_view source) {
  return find(key_of(group, kind, source));
}

std::shared_ptr<const Grammar> GrammarCompiler::find(const std::string& key) {
  std::lock_guard lock(mutex_);
  const auto found = by_key_.find(key);
  if (found == by_key_.end()) return nullptr;
  kept_.splice(kept_.begin(), kept_, found->second);
  return found->second->grammar;
}

void GrammarCompiler::keep(std::string key, std::shared_ptr<const Grammar> grammar) {
  std::lock_guard lock(mutex_);
  if (by_key_.contains(key)) return;
  kept_bytes_ += key.size();
  kept_.push_front({std::move(key), std::move(grammar)});
  by_key_[kept_.front().key] = kept_.begin();
  while (kept_.size() > options_.max_kept || kept_bytes_ > options_.max_kept_bytes) {
    kept_bytes_ -= kept_.back().key.size();
    by_key_.erase(kept_.back().key);
    kept_.pop_back();
  }
}

}  // namespace ridge::text
