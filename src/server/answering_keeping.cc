// What is kept of a request and its answer, where the project has chosen that.
#include <chrono>

#include "server/answering.h"

namespace ridge::server {

void Answering::begin_keeping(const api::ServedModel& model, std::string body) {
  const platform::Principal* const principal = exchange_.principal.get();
  const bool keeps = principal != nullptr && principal->keeps_requests;
  if (!keeps || service_.platform.keeper == nullptr) return;
  exchange_.kept = std::make_unique<KeptExchange>(platform::KeptRequest{
      .request_id = exchange_.id,
      .project_id = principal->project_id,
      .key_id = principal->key_id,
      .key = principal->is_session ? principal->user_name : principal->key_name,
      .user_id = principal->user_id,
      .model = model.name,
      .endpoint = std::string(name(exchange_.route)),
      .prompt = std::move(body)});
}

// Once it has ended, however; nobody waits for the database.
void Answering::keep(std::string finish_reason) {
  const auto kept = std::move(exchange_.kept);
  if (!kept || !kept->has_begun()) return;
  platform::KeptRequest request = kept->take(std::move(finish_reason));
  const auto took = service_.clock.now() - exchange_.started_at;
  request.at_ms = service_.platform.database->now_ms() -
                  std::chrono::duration_cast<std::chrono::milliseconds>(took).count();
  service_.platform.keeper->keep(std::move(request));
}

}  // namespace ridge::server
