#include "server/generation.h"

namespace ridge::server {
namespace {

engine::RequestListener listen(std::shared_ptr<AnswerQueue> queue, int first_choice) {
  engine::RequestListener listener;
  listener.on_prompt = [queue, first_choice](std::vector<engine::TokenInfo>&& tokens) {
    queue->push_prompt(first_choice, std::move(tokens));
  };
  listener.on_embedding = [queue, first_choice](std::vector<float>&& embedding) {
    queue->push_embedding(first_choice, std::move(embedding));
  };
  listener.on_delta = [queue, first_choice](engine::Delta&& delta) {
    const int choice = first_choice + delta.choice;
    queue->push_delta(choice, std::move(delta));
  };
  listener.on_choice_finish = [queue, first_choice](int choice, engine::FinishReason reason) {
    queue->push_choice_finish(first_choice + choice, reason);
  };
  listener.on_finish = [queue](const engine::Finish& finish) { queue->push_finish(finish); };
  return listener;
}

}  // namespace

Generation::Generation(std::shared_ptr<engine::Engine> engine, std::shared_ptr<AnswerQueue> queue,
                       int first_choice)
    : engine_(std::move(engine)), queue_(std::move(queue)), next_choice_(first_choice) {}

void Generation::submit(engine::Request request) {
  const int choices = request.choices;
  ids_.push_back(engine_->submit(std::move(request), listen(queue_, next_choice_)));
  next_choice_ += choices;
}

void Generation::cancel() {
  for (const engine::RequestId id : ids_) engine_->cancel(id);
}

void Generation::cancel(const Error& why) {
  queue_->set_why_cancelled(why);
  cancel();
}

void Generation::end_thinking() {
  for (const engine::RequestId id : ids_) engine_->end_thinking(id);
}

}  // namespace ridge::server
