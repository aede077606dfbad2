#include "cli/conversation.h"

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <utility>

#include "api/chat_request.h"
#include "api/prompt.h"
#include "base/error.h"
#include "cli/interrupt.h"

namespace ridge::cli {
namespace {

constexpr std::chrono::milliseconds interrupt_poll{50};

// Between the engine's thread and this one.
struct Inbox {
  std::mutex mutex;
  std::condition_variable changed;
  std::string reasoning, content;
  std::optional<engine::Finish> finish;

  engine::RequestListener listener() {
    engine::RequestListener listener;
    listener.on_delta = [this](engine::Delta&& delta) {
      const std::lock_guard lock(mutex);
      reasoning += delta.reasoning;
      content += delta.pieces.content();
      changed.notify_one();
    };
    listener.on_choice_finish = [](int, engine::FinishReason) {};
    listener.on_finish = [this](const engine::Finish& end) {
      const std::lock_guard lock(mutex);
      finish = end;
      changed.notify_one();
    };
    return listener;
  }
};

}  // namespace

Conversation::Conversation(api::ServedModel model, api::GenerationFields fields, std::string system)
    : model_(std::move(model)), fields_(std::move(fields)), system_(std::move(system)) {}

void Conversation::set_system(std::string system) { system_ = std::move(system); }

nlohmann::ordered_json Conversation::messages_with(const std::string& question) const {
  auto messages = nlohmann::ordered_json::array();
  if (!system_.empty()) messages.push_back({{"role", "system"}, {"content", system_}});
  for (const auto& turn : turns_) messages.push_back(turn);
  messages.push_back({{"role", "user"}, {"content", question}});
  return messages;
}

engine::Request Conversation::prepare(const std::string& question) const {
  api::ChatRequest request;
  request.generation = fields_;
  request.messages = messages_with(question);
  return api::prepare(request, model_, "run");
}

Conversation::Answer Conversation::ask(const std::string& question, const Listener& listener) {
  Inbox inbox;
  const engine::RequestId id = model_.engine->submit(prepare(question), inbox.listener());
  Answer answer;
  // The inbox must outlive the request: nothing leaves this loop before its end.
  while (true) {
    std::unique_lock lock(inbox.mutex);
    inbox.changed.wait_for(lock, interrupt_poll, [&] {
      return inbox.finish || !inbox.content.empty() || !inbox.reasoning.empty();
    });
    const std::string reasoning = std::exchange(inbox.reasoning, {});
    const std::string content = std::exchange(inbox.content, {});
    const auto finish = inbox.finish;
    lock.unlock();
    if (!reasoning.empty() || !content.empty()) listener(reasoning, content);
    answer.reasoning += reasoning;
    answer.content += content;
    if (InterruptScope::requested()) model_.engine->cancel(id);
    if (!finish) continue;
    if (finish->error) throw *finish->error;
    answer.reason = finish->reasons.at(0);
    answer.usage = finish->usage;
    break;
  }
  turns_.push_back({{"role", "user"}, {"content", question}});
  turns_.push_back({{"role", "assistant"}, {"content", answer.content}});
  return answer;
}

}  // namespace ridge::cli
