#include "scripted_engine.h"

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "base/error.h"
#include "base/temporary_folder.h"
#include "format/gguf.h"
#include "longest_wait.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace ridge::server {

using engine::FinishReason;
using namespace std::chrono_literals;

ScriptedEngine::Part::Part(ScriptedEngine& engine, engine::Request request,
                           engine::RequestListener listener)
    : engine_(engine),
      request_(std::move(request)),
      listener_(std::move(listener)),
      reasons_(static_cast<size_t>(request_.choices), FinishReason::cancelled) {
  usage_.prompt_tokens = static_cast<int>(request_.prompt_tokens.size());
}

void ScriptedEngine::Part::say(std::string content, int choice) {
  engine::Delta delta;
  delta.choice = choice;
  delta.pieces.add_content(content);
  delta.token_count = 1;
  ++usage_.completion_tokens;
  listener_.on_delta(std::move(delta));
}

void ScriptedEngine::Part::think(std::string reasoning, int choice) {
  engine::Delta delta;
  delta.choice = choice;
  delta.reasoning = std::move(reasoning);
  delta.token_count = 1;
  ++usage_.completion_tokens;
  ++usage_.reasoning_tokens;
  listener_.on_delta(std::move(delta));
}

void ScriptedEngine::Part::call(int index, std::string name, std::string arguments) {
  engine::Delta delta;
  const bool begins = !name.empty();
  delta.pieces.add_call({index, begins, std::move(name), std::move(arguments)});
  delta.token_count = 1;
  ++usage_.completion_tokens;
  listener_.on_delta(std::move(delta));
}

void ScriptedEngine::Part::embed(std::vector<float> embedding) {
  listener_.on_embedding(std::move(embedding));
}

void ScriptedEngine::Part::score_prompt(std::vector<engine::TokenInfo> tokens) {
  listener_.on_prompt(std::move(tokens));
}

void ScriptedEngine::Part::end_choice(int choice, FinishReason reason) {
  reasons_.at(static_cast<size_t>(choice)) = reason;
  listener_.on_choice_finish(choice, reason);
}

bool ScriptedEngine::Part::wait_for_cancel() {
  std::unique_lock lock(engine_.mutex_);
  return engine_.changed_.wait_for(lock, longest_wait, [&] { return cancelled_.load(); });
}

void ScriptedEngine::Part::wait_for_end_of_thinking() {
  std::unique_lock lock(engine_.mutex_);
  engine_.changed_.wait(lock, [&] { return cancelled_ || thinking_ended_; });
}

void ScriptedEngine::Part::wait_for_go() {
  std::unique_lock lock(engine_.mutex_);
  engine_.changed_.wait(lock, [&] { return cancelled_.load() || engine_.goes_; });
}

ScriptedEngine::ScriptedEngine(Script script) : script_(std::move(script)) {
  info_.architecture = "scripted";
  info_.name = "scripted";
  info_.context_tokens = 1000;
  info_.vocab_size = 1000;
  info_.hidden_size = 2;
  info_.quantization = "Q4_K_M";
  const auto file = format::GgufFile::open(std::filesystem::path(RIDGE_SOURCE_DIR) /
                                           "tests/goldens/llama-f32.gguf");
  tokenizer_ = text::Tokenizer::from_gguf(file);
  // Ends inside the reasoning when a client asks for it, as newer R1 templates always do.
  chat_template_ = text::ChatTemplate::from_source(
      "{% for m in messages %}{{ m.content }}{% endfor %}{% if thinking %}<think>\n{% endif %}", "",
      "");
}

ScriptedEngine::~ScriptedEngine() { drain(0s); }

const text::Tokenizer& ScriptedEngine::tokenizer() const {
  std::unique_lock lock(mutex_);
  if (holds_text_work_) {
    holds_somebody_ = true;
    changed_.notify_all();
    changed_.wait_for(lock, longest_wait, [&] { return !holds_text_work_; });
  }
  return *tokenizer_;
}
const text::ChatTemplate& ScriptedEngine::chat_template() const { return *chat_template_; }

engine::RequestId ScriptedEngine::submit(engine::Request request,
                                         engine::RequestListener listener) {
  if (refuses_) {
    ++refused_;
    throw Error(ErrorCode::queue_full, "256 requests wait already; try again later");
  }
  std::lock_guard lock(mutex_);
  if (draining_) throw Error(ErrorCode::unavailable, "the engine is shutting down");
  const uint64_t id = next_id_++;
  const auto part = std::shared_ptr<Part>(new Part(*this, std::move(request), std::move(listener)));
  parts_[id] = part;
  ++submitted_;
  threads_.emplace_back([this, id, part] { play(id, part); });
  return {id};
}

void ScriptedEngine::play(uint64_t id, std::shared_ptr<Part> part) {
  engine::Finish finish;
  try {
    script_(*part);
    for (size_t choice = 0; choice < part->reasons_.size(); ++choice) {
      const bool ended = part->reasons_[choice] != FinishReason::cancelled;
      if (!ended && !part->cancelled_) part->end_choice(static_cast<int>(choice));
    }
  } catch (const Error& error) {
    finish.error = error;
    part->reasons_.assign(part->reasons_.size(), FinishReason::failed);
  }
  finish.reasons = part->reasons_;
  finish.usage = part->usage_;
  {
    // Whoever hears of the end may take leave of the request at once: that cancels nothing.
    std::lock_guard lock(mutex_);
    part->finishes_ = true;
  }
  part->listener_.on_finish(finish);
  std::lock_guard lock(mutex_);
  parts_.erase(id);
  ++ended_;
  changed_.notify_all();
}

void ScriptedEngine::cancel(engine::RequestId id) {
  std::lock_guard lock(mutex_);
  const auto found = parts_.find(id.value);
  if (found == parts_.end()) return;
  const auto& part = found->second;
  if (!part->cancelled_.exchange(true) && !part->finishes_) ++cancelled_;
  changed_.notify_all();
}

void ScriptedEngine::end_thinking(engine::RequestId id) {
  std::lock_guard lock(mutex_);
  const auto found = parts_.find(id.value);
  if (found == parts_.end()) return;
  found->second->thinking_ended_ = true;
  changed_.notify_all();
}

void ScriptedEngine::keep_loaded(Clock::Duration unused_for, engine::WhoAsks who) {
  std::lock_guard lock(mutex_);
  kept_for_ = unused_for;
  kept_by_ = who;
}

std::optional<engine::WhoAsks> ScriptedEngine::kept_by() const {
  std::lock_guard lock(mutex_);
  return kept_by_;
}

std::optional<Clock::Duration> ScriptedEngine::kept_for() const {
  std::lock_guard lock(mutex_);
  return kept_for_;
}

engine::EngineStats ScriptedEngine::stats() const {
  std::lock_guard lock(mutex_);
  engine::EngineStats stats;
  stats.running = static_cast<int>(parts_.size());
  for (const auto& [id, part] : parts_) stats.foreground += is_foreground(part->request());
  stats.blocks_total = 100;
  stats.blocks_free = 100 - stats.running;
  stats.finished_total = static_cast<uint64_t>(ended_);
  return stats;
}

void ScriptedEngine::drain(Clock::Duration deadline) {
  std::vector<std::jthread> threads;
  {
    std::unique_lock lock(mutex_);
    draining_ = true;
    changed_.wait_for(lock, deadline, [&] { return parts_.empty(); });
    for (const auto& [id, part] : parts_) part->cancelled_ = true;
    changed_.notify_all();
    threads.swap(threads_);
  }
}

void ScriptedEngine::hold_text_work(bool holds) {
  std::lock_guard lock(mutex_);
  holds_text_work_ = holds;
  holds_somebody_ = false;
  changed_.notify_all();
}

void ScriptedEngine::forget_special_tokens() {
  std::ifstream file(std::filesystem::path(RIDGE_SOURCE_DIR) / "tests/goldens/llama-f32.gguf",
                     std::ios::binary);
  std::string bytes(std::istreambuf_iterator<char>(file), {});
  // A key that nobody knows is as good as none.
  constexpr std::string_view prefix = "tokenizer.ggml.";
  char other = 'x';
  for (const char* key : {"bos_token_id", "eos_token_id", "add_bos_token"}) {
    bytes.at(bytes.find(std::string(prefix) + key) + prefix.size()) = other++;
  }
  const TemporaryFolder folder;  // of its own: tests run beside each other
  const std::filesystem::path path = folder / "no-special-tokens.gguf";
  std::ofstream(path, std::ios::binary) << bytes;
  const auto without = format::GgufFile::open(path);
  std::lock_guard lock(mutex_);
  forgotten_ = std::exchange(tokenizer_, text::Tokenizer::from_gguf(without));
}

bool ScriptedEngine::wait_until_held() {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, longest_wait, [&] { return holds_somebody_; });
}

void ScriptedEngine::go() {
  std::lock_guard lock(mutex_);
  goes_ = true;
  changed_.notify_all();
}

bool ScriptedEngine::wait_until_ended(int requests) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, longest_wait, [&] { return submitted_ >= requests && parts_.empty(); }) &&
         ended_ == submitted_;
}

}  // namespace ridge::server
