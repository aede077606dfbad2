#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

struct tk_grammar_environment;  // rust/textkit/include/textkit.h
struct tk_matcher;

namespace ridge::text {

class GrammarChecker;
class Tokenizer;

enum class GrammarKind {
  json_schema,          // a keyword that cannot be enforced is refused, by name
  lenient_json_schema,  // … is ignored
  regex,                // of the whole text
  lark,                 // llguidance's dialect of Lark; begins with `start`
  parts,                // a JSON array of {"name", "lark" | "json_schema" | "regex", "lenient"?}:
                        // the first is the start, and refers to the others as @name
};

// The state of one text under a grammar. One thread at a time. Each call may throw
// Error(invalid_argument), also where a grammar turns out to be too complex as it is followed; the
// matcher is then of no more use.
class GrammarMatcher {
 public:
  GrammarMatcher(GrammarMatcher&& other) noexcept;
  GrammarMatcher& operator=(GrammarMatcher&& other) noexcept;
  ~GrammarMatcher();

  // Bit id % 32 of word id / 32 is set for each token that may come next; the ends of generation
  // where the text is complete. Valid until the next call that is not const.
  std::span<const uint32_t> mask();
  // Moves on by a token of the mask.
  void consume(int32_t id);
  // Moves on by a text that spells no control token, whatever its tokens.
  void consume_text(std::string_view text);
  // How many of the first of `ids` could be consumed one after the other. Moves nothing.
  int count_valid(std::span<const int32_t> ids);
  // Takes the last `tokens` tokens back.
  void rollback(int tokens);
  // A matcher in the same state that goes its own way.
  GrammarMatcher fork() const;

  // Whether the text so far is complete.
  bool is_accepting();
  // Whether nothing may follow any more.
  bool is_stopped() const;

 private:
  friend class Grammar;
  GrammarMatcher(tk_matcher* handle, std::size_t mask_words);
  template <typename Call>
  void timed(Call call);

  tk_matcher* handle_ = nullptr;  // owned
  std::vector<uint32_t> mask_;
  bool mask_is_current_ = false;
  // A grammar that is slow to follow holds every other answer up.
  std::chrono::nanoseconds time_left_;
};

// A compiled grammar. May be used by any number of threads.
class Grammar {
 public:
  Grammar(tk_matcher* fresh, std::size_t mask_words);  // takes ownership
  ~Grammar();
  Grammar(const Grammar&) = delete;
  Grammar& operator=(const Grammar&) = delete;

  // The state before the first token.
  GrammarMatcher start() const;

 private:
  mutable std::mutex mutex_;  // a matcher may be read by one thread at a time
  tk_matcher* fresh_;
  std::size_t mask_words_;
};

// On any of which others wait: each is a process of its own that may take a whole core.
inline constexpr int grammars_compiled_at_once = 3;

struct GrammarCompilerOptions {
  std::chrono::milliseconds limit{5000};  // of one compilation, waiting included
  int max_running = grammars_compiled_at_once;  // others wait
  std::size_t max_kept = 64;  // compiled grammars that are kept for later requests, of all groups
  std::size_t max_kept_bytes = 4u << 20;  // of their sources, and of the groups' names
  // Starts a program in which each grammar is tried first (grammar_checker.h). Empty: none is, and eight
  // that run out of memory or time end the compilation of all others.
  std::vector<std::string> checker;
};

// Compiles grammars for one vocabulary, and keeps those that were used last: each for the group of
// requests (engine::Request::group) that it was compiled for alone, or another could tell by the
// time of an answer what that group asked for. May be called from any number of threads.
class GrammarCompiler {
 public:
  static constexpr std::size_t max_source_bytes = std::size_t{256} << 10;

  // The tokenizer must outlive it. Cheap: the vocabulary is prepared at the first grammar.
  explicit GrammarCompiler(const Tokenizer& tokenizer, GrammarCompilerOptions options = {});
  ~GrammarCompiler();
  GrammarCompiler(const GrammarCompiler&) = delete;
  GrammarCompiler& operator=(const GrammarCompiler&) = delete;

  // Blocks at most as long as the limit says, and a few times as long for what was tried and passed
  // (which takes about as long again): not for a network or an engine thread. Throws
  // Error(invalid_argument) for a grammar that is wrong, cannot be enforced or is too complex, and
  // Error(queue_full) where others took all the time there was.
  std::shared_ptr<const Grammar> compile(std::string_view group, GrammarKind kind,
                                         std::string_view source);
  // The same where it is kept for the group, at once; else null.
  std::shared_ptr<const Grammar> find(std::string_view group, GrammarKind kind,
                                      std::string_view source);

 private:
  struct Entry {
    std::string key;
    std::shared_ptr<const Grammar> grammar;
  };
  class Slot;

  std::shared_ptr<const Grammar> find(const std::string& key);
  void keep(std::string key, std::shared_ptr<const Grammar> grammar);
  tk_grammar_environment* environment();

  const Tokenizer& tokenizer_;
  const GrammarCompilerOptions options_;

  std::once_flag prepared_;
  tk_grammar_environment* environment_ = nullptr;  // owned
  std::unique_ptr<GrammarChecker> checker_;        // or none

  std::mutex mutex_;
  std::condition_variable slot_free_;
  int running_ = 0;
  std::list<Entry> kept_;  // used last comes first
  std::unordered_map<std::string_view, std::list<Entry>::iterator> by_key_;
  std::size_t kept_bytes_ = 0;
};

}  // namespace ridge::text
