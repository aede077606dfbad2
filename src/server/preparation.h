#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "api/answer.h"
#include "api/error_body.h"
#include "server/route.h"
#include "server/service.h"

namespace ridge::server {

// A request after the text work; or, where a grammar must be compiled for it, what is left to do.
struct Prepared {
  const api::ServedModel* model = nullptr;
  std::vector<engine::Request> requests;
  std::unique_ptr<api::Answer> answer;
  std::string answer_id;
  std::optional<std::string> document;  // the whole answer, where no engine has to work for it
  // How long the model is to stay in memory from the end of the request on, where that is asked.
  std::optional<Clock::Duration> keep_loaded;
  // What the client has written, where somebody judges that before it is answered.
  std::vector<std::string> client_texts;
  std::function<Prepared()> rest;
};

// What is asked, and by whom.
struct Asked {
  Route route = Route::unknown;
  std::string id;                               // of the request
  std::string group;                            // as engine::Request has it
  const std::vector<api::ServedModel>& models;  // those that may be asked; they outlive the answer
  std::function<bool(const std::string& model)> is_callable;  // whether a name is of any such
};

// Reads the body of a POST, a JSON document, in the format of its route. Belongs on a text thread,
// and `rest` on one for grammars. Throws what is wrong with the body. The service must outlive what
// is returned.
Prepared prepare_body(Service& service, const Asked& asked, const api::Json& document);

// Whose form the errors of a route have; `target` tells it where there is no such route.
api::ErrorStyle error_style_of(Route route, std::string_view target);

}  // namespace ridge::server
